"""lm-evaluation-harness on local files, run in an environment that has it: one JSON object in, one line of JSON out.

Its own task definitions are used, pointed at local files in place of those of its hub.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Input: the path of a JSON object with

    model: a Hugging Face folder. task: a name of lm-evaluation-harness. train, questions: JSON lines in the task's own
    columns. shots: the first so many of `train` are examples. batch_sizes: to try on the first `trial` questions; the
    fastest asks them all. begin: whether the begin token stands before a prompt. threads.
    """
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": spec["work"]}
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(spec["threads"])
    trials = {}
    for size in spec["batch_sizes"] if len(spec["batch_sizes"]) > 1 else []:
        trials[size] = _run(lm_eval, HFLM, spec, size, spec["trial"])["seconds"]
    best = min(trials, key=lambda size: trials[size]) if trials else spec["batch_sizes"][0]
    found = _run(lm_eval, HFLM, spec, best, None)
    print(json.dumps(found | {"batch_size": best, "trials": trials, "version": lm_eval.__version__}))


def _run(lm_eval: Any, reader: Any, spec: dict[str, Any], batch_size: int, limit: int | None) -> dict[str, Any]:
    """Seconds from the built task to its figures, accuracy, and the log-likelihoods of each question's choices."""
    files = {"train": spec["train"], "validation": spec["questions"]}
    overrides = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    task = {"task": spec["task"], "num_fewshot": spec["shots"], "fewshot_config": {"sampler": "first_n"}} | overrides
    model = reader(
        pretrained=spec["model"], device="cpu", dtype="float32", batch_size=batch_size, add_bos_token=spec["begin"]
    )
    manager = lm_eval.tasks.TaskManager()
    tasks = lm_eval.tasks.get_task_dict([task], manager)
    begun = time.perf_counter()
    results = lm_eval.evaluate(model, tasks, limit=limit, bootstrap_iters=0, log_samples=True)
    seconds = time.perf_counter() - begun
    samples = sorted(results["samples"][spec["task"]], key=lambda sample: sample["doc_id"])
    scores = [[float(one[0]) for one in sample["filtered_resps"]] for sample in samples]
    return {"seconds": seconds, "accuracy": results["results"][spec["task"]]["acc,none"], "scores": scores}


if __name__ == "__main__":
    main()
