"""Can a judge be trusted? Its verdicts beside those that were published, on the same answers and in the same prompts.

A set's converter writes what was judged and how to ``judgments.jsonl``; the judge sees the answers, never the verdicts.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.eval.agreement import agreement_of_ratings, agreement_of_verdicts
from jvlm.eval.judge_prompts import load_protocol
from jvlm.eval.judges import Judge
from jvlm.eval.judging import Case, Verdicts, judge_cases, outcome
from jvlm.eval.ledger import Record

FILE = "judgments.jsonl"


@dataclass(frozen=True)
class Judgment:
    """A published verdict.

    Attributes:
        case: what was judged. protocol: the wording in which, as `evals/judge_prompts.yaml` names it.
        judge: who judged. given: by arm (`turn 1`, `order 1`, `order 2`) a rating, or won, lost, tie of the case's
            answer.
    """

    case: Case
    protocol: str
    judge: str
    given: dict[str, float | str]


def write_judgments(path: Path, judgments: Sequence[Judgment]) -> None:
    """One JSON line per judgment."""
    path.write_text("".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in judgments), encoding="utf-8")


def load_judgments(path: Path) -> list[Judgment]:
    """Judgments of a JSONL file. Raises DataError with file:line for a broken line."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                found.append(Judgment(Case(**row["case"]), row["protocol"], row["judge"], dict(row["given"])))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"not a judgment: {error}", where=f"{path}:{number}", fix="build the set again"
                ) from None
    return found


def check_judge(judge: Judge, data: Path, out: Path, *, limit: int | None = None, seed: int = 0) -> dict[str, Record]:
    """{SET: how far the judge agrees with what was published} of every built set below `data` that has judgments.

    Args:
        out: folder of the records, continued. limit: only the first judgments of each set.

    Raises DataError when no set has judgments.
    """
    files = sorted(data.glob(f"*/{FILE}"))
    if not files:
        fix = "build ja_mt_bench or ja_vicuna_qa from a clone that holds model_judgment/: `jvlm data build NAME`"
        raise DataError("no published judgments", where=data / "*" / FILE, fix=fix)
    results: dict[str, Record] = {}
    for path in files:
        judgments = load_judgments(path)[:limit]
        for protocol in sorted({one.protocol for one in judgments}):
            own = [one for one in judgments if one.protocol == protocol]
            name = path.parent.name
            results[name] = _check(judge, protocol, own, out / "judge-check" / name, seed)
    return results


def _check(judge: Judge, protocol: str, judgments: Sequence[Judgment], out: Path, seed: int) -> Record:
    how = load_protocol(protocol)
    verdicts = judge_cases(judge, how, [one.case for one in judgments], out, f"judge-check {protocol}")
    result: Record = {
        "judge": judge.about,
        "against": sorted({one.judge for one in judgments}),
        "protocol": protocol,
        "version": how.version,
        "prompt_sha256": how.sha256,
        "n": len(judgments),
        "asked": verdicts.asked,
        "failures": verdicts.failures,
        "refused": verdicts.refused,
    }
    if how.kind == "pair":
        return result | {"verdicts": _verdicts(judgments, verdicts, seed)}
    return result | {"ratings": _ratings(judgments, verdicts, seed)}


def _ratings(judgments: Sequence[Judgment], verdicts: Verdicts, seed: int) -> Record:
    """Of each turn that was judged and whose verdict can be read."""
    found = {}
    for arm, values in verdicts.arms.items():
        pairs = [(i, value, judgments[i].given[arm]) for i, value in values.items() if arm in judgments[i].given]
        read = [(i, float(value), float(given)) for i, value, given in pairs if isinstance(value, float)]
        own, published = [value for _, value, _ in read], [given for _, _, given in read]
        found[arm] = agreement_of_ratings(own, published, [judgments[i].case.group_id for i, _, _ in read], seed)
    return found


def _verdicts(judgments: Sequence[Judgment], verdicts: Verdicts, seed: int) -> Record:
    """Of each order of the answers, and of what both together say (`both`: a tie where the orders disagree)."""
    orders = list(verdicts.arms)
    own: dict[str, dict[int, Any]] = dict(verdicts.arms)
    own["both"] = {i: outcome([verdicts.arms[arm][i] for arm in orders]) for i in range(len(judgments))}
    found = {}
    for arm, values in own.items():
        given = [
            outcome([one.given.get(order) for order in orders]) if arm == "both" else one.given.get(arm)
            for one in judgments
        ]
        read = [i for i, value in values.items() if value is not None and given[i] is not None]
        groups = [judgments[i].case.group_id for i in read]
        found[arm] = agreement_of_verdicts([str(values[i]) for i in read], [str(given[i]) for i in read], groups, seed)
    return found


def rows(results: dict[str, Record]) -> list[list[str]]:
    """A table, its head first: one line per set and arm."""
    table = [["set", "asked about", "n", "figure", "value", "95 %"]]
    for name, result in results.items():
        for arm, figures in (result.get("ratings") or result["verdicts"]).items():
            for figure, found in figures.items():
                if figure != "n":
                    interval = found["interval"]
                    shown = "–" if interval is None else "{:.3f} – {:.3f}".format(*interval)
                    value = "–" if found["value"] is None else f"{found['value']:.3f}"
                    table.append([name, arm, str(figures["n"]), figure, value, shown])
    return table
