"""The same questions by lm-evaluation-harness, with its own definitions of the tasks, and by us.

It is run by the Python named by JVLM_LM_EVAL_PYTHON, else by this one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_tasks import jcommonsenseqa, pairs, write_lines
from tiny import LANGUAGE, make_language

from jvlm.bench import eval_rival
from jvlm.datasets import convert_named
from jvlm.eval.task import load_task, prepare
from jvlm.eval.text_tasks import evaluate_task
from jvlm.files import read_json_lines
from jvlm.infer.causal import load_causal_model
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor

LABELS = ["entailment", "contradiction", "neutral"]
PYTHON = os.environ.get("JVLM_LM_EVAL_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def rival() -> str:
    """A Python that has lm-evaluation-harness."""
    try:
        found = subprocess.run([PYTHON, "-c", "import lm_eval.models.huggingface"], capture_output=True, timeout=300)
    except OSError as error:
        pytest.skip(f"JVLM_LM_EVAL_PYTHON: {error}")
    if found.returncode:
        pytest.skip("lm_eval is not installed (extra `rivals`), and JVLM_LM_EVAL_PYTHON names no Python that has it")
    return PYTHON


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    """A small model with room for three examples spelled in bytes."""
    path = tmp_path_factory.mktemp("parity") / "model"
    config = LANGUAGE.model_copy(update={"max_length": 4096})
    save_model(path, make_language(tokenizer, config), Processor(tokenizer))
    return path


def _published(root: Path | None, name: str, split: str, count: int) -> list[dict]:
    """The first questions of the real set, or made ones where it is not there."""
    path = root / f"evals/jglue/datasets/{name}-v1.3/{split}-v1.3.json" if root else None
    if path is None or not path.is_file():
        return {"jcommonsenseqa": jcommonsenseqa, "jnli": pairs}[name](split, count)
    with open(path, encoding="utf-8") as file:
        return [json.loads(next(file)) for _ in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize(("name", "shots"), [("jcommonsenseqa", 0), ("jcommonsenseqa", 3), ("jnli", 0), ("jnli", 3)])
def test_parity_of_log_likelihoods_and_accuracy(rival, folder, tmp_path, name, shots, begin):
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("JVLM_DATA_ROOT", beside))
    rows = {split: _published(root if root.is_dir() else None, name, split, 12) for split in ("valid", "test")}
    for split, records in rows.items():
        write_lines(tmp_path / f"jglue/datasets/{name}-v1.3/{split}-v1.3.json", records)
    convert_named("jglue", tmp_path / "jglue", tmp_path / "data" / "jglue")
    task = load_task(f"{name}@lm-eval-1.0")
    task = task.model_copy(update={"shots": task.shots.model_copy(update={"count": shots, "split": "valid"})})
    items, examples = prepare(task, tmp_path / "data")
    ours = evaluate_task(load_causal_model(folder, begin=begin), task, tmp_path / "data", tmp_path / "out", name="m")
    records = read_json_lines(tmp_path / "out" / ours["records"] / "samples.jsonl")

    def theirs(split: str, wanted: list) -> Path:
        """The rows of our items, in our order, with labels as numbers."""
        key = "q_id" if name == "jcommonsenseqa" else "sentence_pair_id"
        by_id = {str(row[key]): row for row in rows[split]}
        found = [by_id[item.id] for item in wanted] or rows[split][:1]
        number = [row | {"label": row["label"] if key == "q_id" else LABELS.index(row["label"])} for row in found]
        write_lines(tmp_path / f"their-{split}.json", number)
        return tmp_path / f"their-{split}.json"

    spec = {
        "model": str(folder),
        "task": f"ja_leaderboard_{name}",
        "train": str(theirs("valid", examples)),
        "questions": str(theirs("test", items)),
        "shots": shots,
        "batch_sizes": [4],
        "trial": None,
        "begin": begin,
        "threads": 1,
        "work": str(tmp_path / "hub"),
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [rival, eval_rival.__file__, str(tmp_path / "spec.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["scores"]) == len(records) == 12
    for record, scores in zip(records, found["scores"], strict=True):
        assert record["scores"] == pytest.approx(scores, abs=1e-4)
    assert ours["metrics"]["accuracy"]["value"] == pytest.approx(found["accuracy"], abs=1e-4)
    assert len({round(score, 2) for record in records for score in record["scores"]}) > 12  # not all the same


@pytest.mark.parametrize("name", ["jcommonsenseqa", "jnli"])
def test_parity_of_the_words(rival, name):
    """Our wording is theirs, as their files have it: a change on either side is seen without running a model."""
    where = "import lm_eval, pathlib; print(pathlib.Path(lm_eval.__file__).parent)"
    found = subprocess.run([rival, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    path = Path(found) / f"tasks/japanese_leaderboard/ja_leaderboard_{name}.yaml"
    text = "\n".join(line for line in path.read_text().splitlines() if "!function" not in line)
    theirs, ours = yaml.safe_load(text), load_task(f"{name}@lm-eval-1.0").wording
    assert (ours.description, ours.delimiter) == (theirs["description"], theirs["target_delimiter"])
    line = "{% for choice in choices %}- {{ choice }}\n{% endfor %}"
    body = theirs["doc_to_text"].replace(line, "{choices}").replace("{{ ", "{").replace(" }}", "}")
    assert ours.item == body
