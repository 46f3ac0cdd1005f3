"""Results of text benchmarks in the layout of lm-evaluation-harness, for the tools that read it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jvlm.eval.ledger import FILE, Record
from jvlm.eval.text_tasks import DRAFT, REMOVED
from jvlm.files import read_json_lines, sha256_bytes, write_json, write_text

NAMES = {
    "accuracy": "acc",
    "accuracy_per_character": "acc_norm",
    "accuracy_per_token": "acc_per_token",
    "exact_match": "exact_match",
}
"""Our metrics: theirs, where they have one of the same meaning; the others keep their names."""

Z = 1.959964


def write_layout(results: Mapping[str, Record], records: Path, out: Path, model: str) -> None:
    """``out/results.json`` and ``out/samples_TASK.jsonl`` of the tasks in `results`.

    Args:
        records: the folder below which the records of a task lie. model: what the model is called.
    """
    tasks = {result["version"]: result for result in results.values() if "version" in result and "records" in result}
    write_json(
        out / "results.json",
        {
            "results": {name: _figures(name, result) for name, result in tasks.items()},
            "group_subtasks": {name: [] for name in tasks},
            "configs": {name: _config(result) for name, result in tasks.items()},
            "versions": {name: result["settings"]["prompt_sha256"] for name, result in tasks.items()},
            "n-shot": {name: len(result["settings"]["shots"]["ids"]) for name, result in tasks.items()},
            "higher_is_better": {n: dict.fromkeys(map(_name, _metrics(r)), True) for n, r in tasks.items()},
            "n-samples": {name: {"original": result["n"], "effective": result["n"]} for name, result in tasks.items()},
            "config": {"model": "jvlm", "model_args": model, "bootstrap_iters": 0},
        },
    )
    for name, result in tasks.items():
        kept = read_json_lines(records / result["records"] / FILE)
        rows = [row for row in kept if row["arm"] not in (DRAFT, REMOVED)]
        lines = [_sample(number, row) for number, row in enumerate(rows)]
        write_text(out / f"samples_{name}.jsonl", "".join(json.dumps(li, ensure_ascii=False) + "\n" for li in lines))


def _metrics(result: Record) -> dict[str, Any]:
    return {name: figure for name, figure in result.get("metrics", {}).items() if figure["value"] is not None}


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def _figures(task: str, result: Record) -> Record:
    """Values with standard errors, which are our interval's width in theirs."""
    figures: Record = {"alias": task}
    for metric, figure in _metrics(result).items():
        low, high = figure["interval"]
        figures[f"{_name(metric)},none"] = figure["value"]
        figures[f"{_name(metric)}_stderr,none"] = (high - low) / (2 * Z)
    return figures


def _config(result: Record) -> Record:
    settings = result["settings"]
    kinds = {"choices": "multiple_choice", "generate": "generate_until"}
    return {
        "task": result["version"],
        "output_type": kinds[settings["request"]],
        "test_split": result["split"],
        "num_fewshot": len(settings["shots"]["ids"]),
        "metadata": {"version": settings["prompt_sha256"], "settings": settings},
    }


def _sample(number: int, row: Record) -> Record:
    asked = {"arg_0": row["question"]}
    if "scores" in row:
        requests = {f"gen_args_{i}": asked | {"arg_1": choice} for i, choice in enumerate(row["choices"])}
        said: list[Any] = [[[score, False]] for score in row["scores"]]
    else:
        requests, said = {"gen_args_0": asked}, [[row.get("output", "")]]
    return {
        "doc_id": number,
        "doc": {"id": row["id"]},
        "target": row.get("gold"),
        "arguments": requests,
        "resps": said,
        "filtered_resps": [one[0] for one in said],
        "filter": "none",
        "prompt_hash": sha256_bytes(row["question"].encode()),
        "target_hash": sha256_bytes(str(row.get("gold")).encode()),
    }
