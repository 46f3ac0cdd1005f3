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

COUNT = 12
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


CASES = [("jcommonsenseqa", 0, False), ("jcommonsenseqa", 3, True), ("jnli", 0, True), ("jnli", 3, False)]


class Case:
    """One task on a dozen questions of ours, and what the other harness needs to ask the same."""

    def __init__(self, work: Path, folder: Path, root: Path | None, name: str, shots: int, begin: bool) -> None:
        self.work, self.folder, self.name, self.begin, self.shots = work, folder, name, begin, shots
        self.rows = {split: _published(root, name, split, COUNT) for split in ("valid", "test")}
        for split, records in self.rows.items():
            write_lines(work / f"jglue/datasets/{name}-v1.3/{split}-v1.3.json", records)
        convert_named("jglue", work / "jglue", work / "data" / "jglue")
        task = load_task(f"{name}@lm-eval-1.0")
        shots_of = task.shots.model_copy(update={"count": shots, "split": "valid"})
        self.task = task.model_copy(update={"shots": shots_of})
        self.items, self.examples = prepare(self.task, work / "data")

    def spec(self) -> dict:
        return {
            "model": str(self.folder),
            "task": f"ja_leaderboard_{self.name}",
            "train": str(self._theirs("valid", self.examples)),
            "questions": str(self._theirs("test", self.items)),
            "shots": self.shots,
            "batch_sizes": [4],
            "trial": None,
            "begin": self.begin,
            "threads": 1,
            "work": str(self.work / "hub"),
        }

    def ours(self) -> tuple[float, list[list[float]]]:
        """Accuracy and the log-likelihoods of each question's choices."""
        reader = load_causal_model(self.folder, begin=self.begin)
        result = evaluate_task(reader, self.task, self.work / "data", self.work / "out", name="m")
        records = read_json_lines(self.work / "out" / result["records"] / "samples.jsonl")
        return result["metrics"]["accuracy"]["value"], [record["scores"] for record in records]

    def _theirs(self, split: str, wanted: list) -> Path:
        """The rows of our items, in our order, with labels as numbers."""
        key = "q_id" if self.name == "jcommonsenseqa" else "sentence_pair_id"
        by_id = {str(row[key]): row for row in self.rows[split]}
        found = [by_id[item.id] for item in wanted] or self.rows[split][:1]
        rows = [row | {"label": row["label"] if key == "q_id" else LABELS.index(row["label"])} for row in found]
        write_lines(self.work / f"their-{split}.json", rows)
        return self.work / f"their-{split}.json"


@pytest.mark.slow
def test_parity_of_log_likelihoods_and_accuracy(rival, folder, tmp_path):
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("JVLM_DATA_ROOT", beside))
    cases = [Case(tmp_path / str(i), folder, root if root.is_dir() else None, *case) for i, case in enumerate(CASES)]
    (tmp_path / "runs.json").write_text(json.dumps([case.spec() for case in cases]))
    command = [rival, eval_rival.__file__, str(tmp_path / "runs.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    for case, theirs in zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True):
        accuracy, scores = case.ours()
        assert len(scores) == len(theirs["scores"]) == COUNT
        for ours, others in zip(scores, theirs["scores"], strict=True):
            assert ours == pytest.approx(others, abs=1e-4)
        assert accuracy == pytest.approx(theirs["accuracy"], abs=1e-4)
        assert len({round(score, 2) for row in scores for score in row}) > COUNT  # not all the same


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
