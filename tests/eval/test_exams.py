"""Published exams as papers, by a model whose likelihoods are known."""

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest
from exam_items import make_item, multi, numeric
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.eval import exams
from jvlm.eval.exam import score_exam
from jvlm.eval.exams import COLUMNS, evaluate_exam_set, summary
from jvlm.eval.items import ExamItem
from jvlm.infer.types import Generation

MARKS = """
version: made
general:
  first: {points: 3, total: 5}
"""


class Knows:
    """Prefers option a, or b where it is shown a picture; writes 42; has no room for the item `long`."""

    def check(self, sample, answers):
        if sample.id == "long":
            raise DataError("prompt and answer take 9 of 8 tokens", where=sample.id)

    def generate(self, samples, *, max_new_tokens=64, temperature=0.0, seed=0):
        return [Generation("42", "stop", 1) for _ in samples]

    def choice_log_likelihoods(self, samples, choices):
        return [
            [-float((text != "所見b") if sample.images else ord(text[-1])) for text in texts]
            for sample, texts in zip(samples, choices, strict=True)
        ]


def write_exam(folder: Path, items: list[ExamItem]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "p.png").write_bytes(encoded_image(1))
    rows = [json.dumps(asdict(item), ensure_ascii=False) for item in items]
    (folder / "items.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "marks.yaml").write_text(MARKS)
    monkeypatch.setattr(exams, "asset", lambda *parts: tmp_path / "marks.yaml")
    items = [
        make_item("right", exam="first"),
        make_item("wrong", exam="first", accept=[["c"]]),
        make_item("seen", exam="first", accept=[["b"]], images=["images/p.png"]),
        multi("two", "ab", exam="first"),
        numeric("number", "42", exam="first"),
        make_item("long", exam="first"),
        make_item("must", exam="first", required=True, section="B", points=3),
        make_item("other", exam="second", accept=[["d"]]),
    ]
    return write_exam(tmp_path / "made", items)


def test_every_exam_is_a_paper_of_its_own(folder, tmp_path):
    results = evaluate_exam_set(Knows(), folder, tmp_path / "out", name="m")
    assert set(results) == {"first", "second"}
    first, second = results["first"], results["second"]
    assert first["not_asked"] == {"long": "prompt and answer take 9 of 8 tokens"}
    assert (first["all"]["value"], first["all"]["n"]) == (pytest.approx(5 / 6), 6)  # the long one was never put
    assert (first["image"]["value"], first["removed"]["value"], first["image"]["n"]) == (1.0, 0.0, 1)
    assert first["audit"]["transitions"]["gain"] == 1
    sheet = first["sheet"]
    assert (sheet["general"]["points"], sheet["general"]["total"]) == (4, 6)  # … but stands on the paper
    assert (sheet["required_share"], sheet["unanswered"], sheet["points_missing"]) == (1.0, 1, -1)
    assert sheet["passed"]  # 4 of 6 where 3 of 5 are needed
    assert (second["all"]["value"], second["not_asked"]) == (0.0, {})
    assert "sheet" not in second  # no passing mark is published
    assert "image" not in second


def test_the_line_of_the_table(folder, tmp_path):
    results = evaluate_exam_set(Knows(), folder, tmp_path / "out", name="m")
    line = dict(zip(COLUMNS, summary("first", results["first"]), strict=True))
    assert (line["n"], line["必修"], line["passed"], line["not asked"]) == ("6", "100.0%", "yes", "1")
    assert line["points"] == "7 / 9 (-1 absent)"
    assert line["with image"].startswith("100.0% [")
    assert line["removed"].startswith("0.0% [")
    bare = dict(zip(COLUMNS, summary("second", results["second"]), strict=True))
    assert (bare["points"], bare["passed"], bare["with image"]) == ("–", "–", "–")


def test_exactly_the_passing_mark_is_enough():
    items = [make_item(f"A{i}") for i in range(299)]

    def passes(right: int) -> bool:
        answers = {item.id: ["a"] if i < right else ["b"] for i, item in enumerate(items)}
        return score_exam(items, answers, Fraction(208, 299)).general_passed

    assert passes(208)
    assert not passes(207)


def test_missing_records_say_how_to_make_them(tmp_path):
    with pytest.raises(DataError, match="jvlm data build igakuqa119") as caught:
        evaluate_exam_set(Knows(), tmp_path / "igakuqa119", tmp_path / "out", name="m")
    assert "items.jsonl" in str(caught.value)


def test_the_shipped_marks_are_read():
    marks = exams.load_config(exams.Marks, exams.asset("evals", "exams.yaml"))
    assert (marks.general["112"].points, marks.general["112"].total) == (208, 299)
