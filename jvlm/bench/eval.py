"""JCommonsenseQA's test asked by us and by lm-evaluation-harness: the same model, the same words, the same questions.

Both are timed from the question files to the figures. The other harness uses the batch size that was fastest on the
first questions. Ours is timed before and after it, and the slower time counts.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from jvlm.assets import asset
from jvlm.bench import eval_rival
from jvlm.datasets import convert_named
from jvlm.errors import JvlmError, UsageError
from jvlm.eval.task import Task, load_task, prepare
from jvlm.eval.task_items import TaskItem
from jvlm.eval.text_tasks import evaluate_task
from jvlm.files import read_json, read_json_lines
from jvlm.infer.causal import CausalModel, load_causal_model
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import save_model
from jvlm.model.export import export
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.text.tokenizer import train_tokenizer

BATCH_SIZES, TRIAL = (8, 16, 32, 64, 128), 100
SEED = 7
TARGET = 3.0


def run(root: Path, threads: int, model: Path | None, rival_python: Path, limit: int | None = None) -> dict[str, Any]:
    """Seconds of both, `ratios.over_lm_eval`, and how far the log-likelihoods of the two lie apart.

    Args:
        root: the folder of real data, with ``evals/jglue``. model: a model directory, of which the language model is
            asked; None: random weights of the shape of real-small, which takes as long.
        rival_python: a Python that has lm-evaluation-harness. limit: only the first questions.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        convert_named("jglue", root / "evals" / "jglue", work / "data" / "jglue")
        task = load_task("jcommonsenseqa@lm-eval-1.0")
        task = task.model_copy(update={"shots": task.shots.model_copy(update={"count": 0})})
        items, _ = prepare(task, work / "data", limit)
        language = _language_model(model, work)
        reader = load_causal_model(language, begin=False)
        before, scores = _ours(reader, task, work, "before", limit)
        theirs = _theirs(language, items, work, threads, rival_python)
        after, _ = _ours(reader, task, work, "after", limit)
        apart = max(
            abs(a - b) for x, y in zip(scores, theirs["scores"], strict=True) for a, b in zip(x, y, strict=True)
        )
        ours = max(before, after, key=lambda times: times["seconds"])
        return {
            "model": "random weights of real-small's shape" if model is None else str(model),
            "parameters": sum(p.numel() for p in reader.model.parameters()),
            "questions": len(items),
            "choices": sum(len(item.choices) for item in items),
            "ours": ours | {"runs": [before, after], "batch_tokens": reader.batch_tokens},
            "lm_eval": {key: theirs[key] for key in ("version", "seconds", "cpu_seconds", "batch_size", "trials")},
            "largest_difference": apart,
            "ratios": {
                "over_lm_eval": theirs["seconds"] / ours["seconds"],
                "over_lm_eval_cpu": theirs["cpu_seconds"] / ours["cpu_seconds"],  # tells more on a busy machine
            },
            "targets": {"over_lm_eval": TARGET},
        }


def _ours(
    reader: CausalModel, task: Task, work: Path, name: str, limit: int | None
) -> tuple[dict[str, float], list[list[float]]]:
    begun, busy = time.perf_counter(), time.process_time()
    result = evaluate_task(reader, task, work / "data", work / name, name=name, limit=limit)
    times = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - busy}
    records = read_json_lines(work / name / result["records"] / "samples.jsonl")
    return times, [record["scores"] for record in records]


def _theirs(model: Path, items: list[TaskItem], work: Path, threads: int, python: Path) -> dict[str, Any]:
    rows = [
        {"question": item.fields["question"], "label": item.right}
        | {f"choice{i}": choice for i, choice in enumerate(item.choices)}
        for item in items
    ]
    questions = work / "questions.json"
    questions.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    spec = {
        "model": str(model),
        "task": "ja_leaderboard_jcommonsenseqa",
        "train": str(questions),
        "questions": str(questions),
        "shots": 0,
        "batch_sizes": BATCH_SIZES,
        "trial": TRIAL,
        "begin": False,
        "threads": threads,
        "work": str(work / "hub"),
    }
    (work / "runs.json").write_text(json.dumps([spec]), encoding="utf-8")
    done = subprocess.run([python, eval_rival.__file__, work / "runs.json"], capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:]
        fix = "install the extra `rivals`, or name a Python that has lm_eval with --lm-eval-python"
        raise JvlmError(f"lm-evaluation-harness failed: {' '.join(told)}", where=python, fix=fix)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])[0]
    return found


def _language_model(model: Path | None, work: Path) -> Path:
    """A plain folder of the language model alone."""
    if model is None:
        stages = yaml.safe_load(asset("configs", "real-small.yaml").read_text(encoding="utf-8"))["stages"]
        language = LanguageConfig(**stages["pretrain"]["language"])
        return _random(work, language, int(str(stages["tokenizer"]["vocab_size"]).replace("_", "")))
    if not (model / "config.json").is_file():
        raise UsageError("not a model directory", where=model)
    if read_json(model / "config.json").get("model_type") != "jvlm":
        return model
    export(model, work / "model", "hf")
    return work / "model"


def _random(work: Path, config: LanguageConfig, vocab_size: int) -> Path:
    rows = [row for path in sorted((work / "data" / "jglue").glob("js*.jsonl")) for row in read_json_lines(path)]
    texts = dict.fromkeys(text for row in rows for text in row["fields"].values())
    tokenizer = train_tokenizer(texts, vocab_size, work / "tokenizer", seed=SEED)
    torch.manual_seed(SEED)
    special = tokenizer.special
    ids = special["<pad>"], special["<s>"], special["</s>"]
    save_model(work / "model", build_language_model(config, tokenizer.vocab_size, *ids), Processor(tokenizer))
    return work / "model"
