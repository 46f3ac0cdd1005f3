"""lm-evaluation-harness on local files, run in an environment that has it: a JSON list in, one line of JSON out.

Its own task definitions are used, pointed at local files in place of those of its hub.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Input: the path of a list of JSON objects with

    model: a Hugging Face folder. task: a name of lm-evaluation-harness. train, questions: JSON lines in the task's own
    columns. shots: the first so many of `train` are examples. batch_sizes: to try on the first `trial` questions; the
    fastest asks them all. begin: whether the begin token stands before a prompt. threads. work: a folder for its cache.
    """
    runs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": runs[0]["work"]}
    print(json.dumps([_best(run) for run in runs]))


def _best(run: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(run["threads"])
    sizes, trials = run["batch_sizes"], {}
    for size in sizes if len(sizes) > 1 else []:
        trials[size] = _run(run, size, run["trial"])["seconds"]
    best = min(trials, key=lambda size: trials[size]) if trials else sizes[0]
    return _run(run, best, None) | {"batch_size": best, "trials": trials}


def _run(spec: dict[str, Any], batch_size: int, limit: int | None) -> dict[str, Any]:
    """Seconds from the built task to its figures, accuracy, and the log-likelihoods of each question's choices."""
    import lm_eval
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict
    from lm_eval.tasks._yaml_loader import load_yaml

    files = {"train": spec["train"], "validation": spec["questions"]}
    path = Path(lm_eval.__file__).parent / "tasks" / "japanese_leaderboard" / f"{spec['task']}.yaml"
    task = load_yaml(path, resolve_func=True) | {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "num_fewshot": spec["shots"],
        "fewshot_config": {"sampler": "first_n"},
    }
    model = HFLM(
        pretrained=spec["model"], device="cpu", dtype="float32", batch_size=batch_size, add_bos_token=spec["begin"]
    )
    tasks = get_task_dict([task], TaskManager())
    begun, busy = time.perf_counter(), time.process_time()
    results = evaluate(model, tasks, limit=limit, bootstrap_iters=0, log_samples=True)
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    samples = sorted(results["samples"][spec["task"]], key=lambda sample: sample["doc_id"])
    scores = [[float(one[0]) for one in sample["filtered_resps"]] for sample in samples]
    accuracy = results["results"][spec["task"]]["acc,none"]
    times = {"seconds": seconds, "cpu_seconds": busy}
    return times | {"accuracy": accuracy, "scores": scores, "version": lm_eval.__version__}


if __name__ == "__main__":
    main()
