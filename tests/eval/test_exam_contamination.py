"""Which questions stood in training: found where they were put, and nowhere else."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exam_folder import exam_items, write_exam
from examinees import Oracle
from made_tasks import build_all
from players import Player

from jvlm.errors import DataError
from jvlm.eval.contamination import RUN, leaks, question_text, training_documents
from jvlm.eval.exams import evaluate_exam_set
from jvlm.eval.items import ExamItem, load_items
from jvlm.eval.task import load_task, prepare
from jvlm.eval.task_items import write_task_items
from jvlm.eval.text_tasks import evaluate_task
from jvlm.images.shards import write_shards
from jvlm.sample import Message, Sample
from jvlm.text.raw import Document
from jvlm.text.shards import write_token_shards

FILLER = "".join(chr(0x4E00 + (i * 37) % 5000) for i in range(400))
QUESTION = FILLER[:120]


def test_a_run_of_fifty_characters_is_found_whatever_its_form() -> None:
    spaced = "　".join(QUESTION[30:90]) + "\n"
    assert leaks([("q", QUESTION)], [("d", "前" * 60 + spaced)])["q"].found == 60 - RUN + 1
    wide = "ＡＢＣ１２３" + QUESTION[:60]
    assert leaks([("q", wide)], [("d", "ABC123" + QUESTION[:60])])["q"].documents == ["d"]


def test_forty_nine_characters_are_not() -> None:
    one = leaks([("q", QUESTION)], [("d", "前" * 60 + QUESTION[10 : 10 + RUN - 1] + "後" * 60)])["q"]
    assert (one.found, one.documents) == (0, [])
    assert one.runs == 120 - RUN + 1
    assert leaks([("q", QUESTION)], [("d", QUESTION[10 : 10 + RUN])])["q"].found == 1


def test_shared_text_short_questions_and_the_first_documents() -> None:
    questions = [("first", QUESTION), ("second", QUESTION[:70] + "別" * 40), ("short", "正しいのはどれか。")]
    found = leaks(questions, [(f"d{i}", QUESTION[:60] + str(i)) for i in range(5)])
    assert found["first"].found == found["second"].found == 11
    assert found["first"].documents == ["d0", "d1", "d2"]
    assert (found["short"].runs, found["short"].found) == (0, 0)
    assert leaks([], [("d", QUESTION)]) == {}


class Characters:
    """A tokenizer of characters."""

    vocab_size, fingerprint = 70_000, "characters"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(map(ord, text)) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def test_raw_text_sample_shards_and_token_shards_are_read(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text(json.dumps({"text": QUESTION, "id": "r"}) + "\n")
    messages = [Message("user", ["何ですか。"]), Message("assistant", [QUESTION])]
    write_shards([Sample("s", messages, [])], tmp_path / "samples")
    tokenizer: Any = Characters()
    write_token_shards([Document("t", QUESTION, "made", "", "f", 1)], tokenizer, tmp_path / "tokens")
    paths = [tmp_path / "raw.jsonl", tmp_path / "samples", tmp_path / "tokens"]
    assert leaks([("q", QUESTION)], training_documents(paths, tokenizer))["q"].documents == ["r", "s", "t"]
    with pytest.raises(DataError, match="need their tokenizer"):
        list(training_documents(paths))
    (tmp_path / "raw.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="rows cannot be read"):
        list(training_documents(paths[:1]))


def test_clean_scores_stand_beside_all(tmp_path: Path) -> None:
    long = [item if n % 3 else _longer(item, n) for n, item in enumerate(exam_items("112", 30))]
    folder = write_exam(tmp_path / "made", long)
    leaked = [item for n, item in enumerate(load_items(folder / "items.jsonl")) if n % 6 == 0]
    training = [(f"d{item.id}", f"前置き。{question_text(item)}") for item in leaked]
    model = Oracle(load_items(folder / "items.jsonl"), ignorant=[item.id for item in leaked])
    found = leaks([(item.id, question_text(item)) for item in long], training)
    result = evaluate_exam_set(model, folder, tmp_path / "out", name="m", leaked=found)["112"]
    told = result["contamination"]
    assert set(told["flagged"]) == {item.id for item in leaked}
    assert all(flag["found"] == flag["runs"] and flag["documents"] for flag in told["flagged"].values())
    assert told["too_short"] == sum(len(question_text(item)) < RUN for item in long) > 0
    assert (result["clean"]["value"], result["clean"]["n"]) == (1.0, result["all"]["n"] - 5)
    assert result["all"]["value"] < 1.0


def test_clean_figures_of_a_text_benchmark(tmp_path: Path) -> None:
    data = build_all(tmp_path)
    task = load_task("jnli")
    items, _ = prepare(task, data)
    items = [replace(item, fields={k: v * 4 for k, v in item.fields.items()}) for item in items]  # long enough
    write_task_items(data / "jglue" / "jnli-test.jsonl", items)
    found = leaks([(i.id, question_text(i)) for i in items], [("d", f"前{question_text(i)}後") for i in items[:3]])
    leaked = {item.id for item in items[:3]}
    player = Player(task, items, lambda item: (task.right(item) + (item.id in leaked)) % 3)  # type: ignore[operator]
    result = evaluate_task(player, task, data, tmp_path / "out", name="m", leaked=found)
    assert set(result["contamination"]["flagged"]) == leaked
    assert (result["contamination"]["n"], result["contamination"]["too_short"]) == (len(items), 0)
    assert (result["clean"]["accuracy"]["value"], result["clean"]["accuracy"]["n"]) == (1.0, len(items) - 3)
    assert result["metrics"]["accuracy"]["value"] < 1.0


def _longer(item: ExamItem, n: int) -> ExamItem:
    return replace(item, shared_text="".join(chr(0x4E00 + (i * 41 + n * 997) % 9000) for i in range(80)))
