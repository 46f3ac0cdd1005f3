"""The loss a pretraining is going to end at: from a ladder of one's own, or from a published law."""

from dataclasses import dataclass
from math import exp, log
from pathlib import Path

from jvlm.errors import DataError
from jvlm.files import read_json

PUBLISHED = "Hoffmann et al. 2022 (arXiv:2203.15556), fit 3: nats a token of their tokenizer on English web text"
# L(N, D) = E + A / N^α + B / D^β
_E, _A, _B, _ALPHA, _BETA = 1.69, 406.4, 410.7, 0.34, 0.28


@dataclass(frozen=True)
class Forecast:
    """`source` says whose law it is; losses of two units or tokenizers cannot be compared."""

    loss: float
    unit: str
    source: str


def published_loss(parameters: int, tokens: int) -> Forecast:
    """By the law of Hoffmann et al., for orientation: another language, tokenizer and corpus have another."""
    return Forecast(_E + _A / parameters**_ALPHA + _B / tokens**_BETA, "nats a token", PUBLISHED)


def ladder_loss(file: Path, parameters: int, tokens: int) -> Forecast:
    """By the law of a ladder of one's own (`jvlm scale`).

    The ladder was trained on a fixed number of tokens a parameter; for another number the published law says by how
    much the loss differs, as a ratio. Raises DataError for a file that is no ladder's.
    """
    record = read_json(file)
    try:
        law, budget = record["law"], record["tokens_per_parameter"]
        here = law["floor"] + exp(law["log_scale"] - law["exponent"] * log(parameters))
        unit = record["unit"]
    except (KeyError, TypeError):
        raise DataError("not the ladder.json of `jvlm scale`", where=file) from None
    was = published_loss(parameters, round(budget * parameters)).loss
    ratio = published_loss(parameters, tokens).loss / was
    source = f"the ladder of {file}"
    if abs(ratio - 1) > 0.01:
        source += f", times {ratio:.3f} for {tokens / parameters:.0f} tokens a parameter in place of {budget:g}"
    return Forecast(here * ratio, unit, source)
