"""Several checkpoints of one architecture as one model, tensor by tensor, without a step of training.

`linear` is the weighted mean (model soups, Wortsman et al. 2022), `task_arithmetic` adds to a base what each model has
learned since (Ilharco et al. 2023). Two formulas over named tensors, and they hold for whole vision-language models,
which the merging toolkits, made for plain transformers architectures, do not know.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Size, Tensor

from jvlm.cards import carry_card
from jvlm.errors import UsageError
from jvlm.files import MANIFEST, new_folder, read_json, sha256_file, verify_folder, write_bytes, write_json
from jvlm.model.directory import WEIGHTS
from jvlm.model.experts import stack_experts
from jvlm.model.tensors import TensorFolder, plan_files, write_tensors
from jvlm.text.tokenizer import Tokenizer

Method = Literal["linear", "task_arithmetic"]
RECORD = "combined.json"
_NO_ARCHITECTURE = ("transformers_version", "use_cache", "router_aux_loss_coef", "router_z_loss_coef")


def combine(
    models: Sequence[tuple[Path, float]], out: Path, method: Method = "linear", base: Path | None = None
) -> dict[str, Any]:
    """Write the combination of these (model directory, weight) to `out`; returns the record of it in ``combined.json``.

    `linear`: Σ wᵢ modelᵢ / Σ wᵢ. `task_arithmetic`: base + Σ wᵢ (modelᵢ − base). Computed in float64, written in
    float32; of large models no more than one tensor of each is held. Raises UsageError for weights that cannot be, a
    base that is missing or too much, and models that differ in more than their weights, naming the first difference.
    """
    total = sum(weight for _, weight in models)
    if not models or (method == "linear" and total <= 0):
        raise UsageError("the weights of a mean must come to more than 0", where="weights")
    if (base is None) == (method == "task_arithmetic"):
        fix = "name what the models were trained from" if base is None else "leave it out"
        raise UsageError(f"{method} takes {'a' if base is None else 'no'} base", where="base", fix=fix)
    folders = [*([base] if base else []), *(folder for folder, _ in models)]
    for folder in folders:
        verify_folder(folder)
    tokenizers = [Tokenizer.load(folder) for folder in folders]
    for folder, tokenizer in zip(folders[1:], tokenizers[1:], strict=True):
        _refuse_other_tokenizer(tokenizers[0], tokenizer, (folders[0], folder))
        _refuse_other_architecture(folders[0], folder)
    tensors = _tensors(folders)
    weights = [weight / total if method == "linear" else weight for _, weight in models]
    weights = [*([1 - sum(weights)] if base else []), *weights]  # base + Σ wᵢ (modelᵢ − base), multiplied out
    named = [(folder, weight) for folder, weight in models]
    record = {"method": method, "base": _named(base) if base else None, "models": [_named(*model) for model in named]}
    with new_folder(out) as new:
        tokenizers[0].save(new)
        for name in ("config.json", "chat_template.jinja"):
            if (folders[0] / name).is_file():
                write_bytes(new / name, (folders[0] / name).read_bytes())
        write_json(new / RECORD, record)
        plan = plan_files(WEIGHTS, _shapes(tensors[0]))
        write_tensors(new, WEIGHTS, _combined(tensors, weights), plan)
    carry_card(folders, out, f"Combined by `jvlm combine`, {method}; see {RECORD}.")
    return record


def _combined(tensors: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    for name in tensors[0]:
        # what counts for nothing cannot turn a -0.0 or pass on a NaN
        first, *others = (of[name].double() * weight for of, weight in zip(tensors, weights, strict=True) if weight)
        for other in others:
            first += other
        yield name, first.float()


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Size]:
    return tensors.shapes if isinstance(tensors, TensorFolder) else {name: t.shape for name, t in tensors.items()}


def _tensors(folders: Sequence[Path]) -> list[Mapping[str, Tensor]]:
    """Of each folder by one set of names. Raises UsageError for the first that another has not, or in another shape."""
    tensors: list[Mapping[str, Tensor]] = [TensorFolder(folder, WEIGHTS) for folder in folders]
    if len({frozenset(of) for of in tensors}) > 1:  # experts are stacked in a stage's model, and apart in an export
        tensors = [stack_experts(of) for of in tensors]
    shapes = [_shapes(of) for of in tensors]
    for folder, found in zip(folders[1:], shapes[1:], strict=True):
        for name in sorted(shapes[0].keys() | found.keys()):
            one, two = (tuple(of[name]) if name in of else None for of in (shapes[0], found))
            if one != two:
                raise _differ((folders[0], folder), f"the tensor {name} has shape {one} and {two}")
    return tensors


def _refuse_other_architecture(first: Path, second: Path) -> None:
    one, two = (dict(_flat(read_json(folder / "config.json"))) for folder in (first, second))
    for key in sorted(one.keys() | two.keys()):
        if one.get(key) != two.get(key) and key.rpartition(".")[2] not in _NO_ARCHITECTURE:
            raise _differ((first, second), f"{key} is {one.get(key)} and {two.get(key)}")


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """A record's values by their dotted keys."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{key}.{name}" if key else name)


def _refuse_other_tokenizer(one: Tokenizer, two: Tokenizer, folders: tuple[Path, Path]) -> None:
    if one.fingerprint == two.fingerprint and one.special == two.special:
        return
    for number in range(max(one.vocab_size, two.vocab_size)):
        mine, other = one.piece(number), two.piece(number)
        if mine != other:
            raise _differ(folders, f"token {number} is {mine!r} and {other!r}")
    raise _differ(folders, "their tokenizers cut text differently")


def _differ(folders: tuple[Path, Path], how: str) -> UsageError:
    fix = "combine checkpoints of one architecture and tokenizer"
    return UsageError(f"{folders[1]} is no checkpoint of the same model: {how}", where=folders[0], fix=fix)


def _named(folder: Path, weight: float | None = None) -> dict[str, Any]:
    """What says which model it was, wherever it lies later: the hash of its list of hashes."""
    told = {"path": str(folder), "hashes": sha256_file(folder / MANIFEST)}
    return told | ({} if weight is None else {"weight": weight})
