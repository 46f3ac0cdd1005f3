"""Published exams as papers, by a model whose likelihoods are known."""

import gc
import json
import re
import shutil
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest
from exam_items import make_item, multi, numeric
from tiny import encoded_image, make_model

from jvlm import cli
from jvlm.errors import EXIT_ITEM_ERRORS, DataError
from jvlm.eval import pass_rules
from jvlm.eval.exam import score_exam
from jvlm.eval.exams import evaluate_exam_set, summary
from jvlm.eval.items import ExamItem, Option
from jvlm.infer.types import Generation

ARMS = ("image", "removed")
MARKS = """
version: made
papers:
  first: {paper: 12, needs: {required: 80%, general: 3/5}, max_taboo: 3}
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
            [-float((text not in ("所見b", "b")) if sample.images else ord(text[-1])) for text in texts]
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
    monkeypatch.setattr(pass_rules, "asset", lambda *parts: tmp_path / "marks.yaml")
    drawn = [Option("a", "", "images/p.png"), Option("b", "", "images/p.png")]
    items = [
        make_item("right", exam="first"),
        make_item("wrong", exam="first", accept=[["c"]]),
        make_item("seen", exam="first", accept=[["b"]], images=["images/p.png"]),
        multi("two", "ab", exam="first"),
        numeric("number", "42", exam="first"),
        make_item("long", exam="first", accept=[["e"]], images=["images/p.png"]),
        make_item("must", exam="first", required=True, section="B", points=3),
        make_item("drawn", exam="first", accept=[["b"]], options=drawn),
        make_item("other", exam="second", accept=[["d"]]),
    ]
    return write_exam(tmp_path / "made", items)


def test_every_exam_is_a_paper_of_its_own(folder, tmp_path):
    results = evaluate_exam_set(Knows(), folder, tmp_path / "out", name="m")
    assert set(results) == {"first", "second"}
    first, second = results["first"], results["second"]
    assert first["not_asked"] == {"long": "prompt and answer take 9 of 8 tokens"}
    assert (first["all"]["value"], first["all"]["n"]) == (pytest.approx(6 / 8), 8)  # the long one is wrong
    assert (first["image"]["n"], first["removed"]["n"]) == (3, 3)  # with the question whose choices are pictures
    assert (first["image"]["value"], first["removed"]["value"]) == (pytest.approx(2 / 3), 0.0)
    assert first["audits"]["removed"]["transitions"]["gain"] == 2
    assert first["all"]["parse_failures"] == 0
    sheet = first["sheet"]
    assert (sheet["general"]["points"], sheet["general"]["total"], sheet["general_needed"]) == (5, 7, 5)
    assert (sheet["required_share"], sheet["required_needed"], sheet["unanswered"]) == (1.0, 3, 1)
    assert (sheet["points_missing"], sheet["taboo_known"]) == (2, False)
    assert sheet["passed"]  # 5 of 7 where 3 of 5 are needed
    assert (second["all"]["value"], second["not_asked"]) == (0.0, {})
    assert "sheet" not in second  # no passing mark is published
    assert "image" not in second


def test_a_number_that_is_calculated_first_is_not_cut_off(folder, tmp_path):
    """A model of a token a character, which shows its working."""
    working = "体重60kgに1kgあたり0.7mLを掛けると60×0.7＝42となるので、答えは42mLです。"

    class Calculates(Knows):
        def generate(self, samples, *, max_new_tokens=64, temperature=0.0, seed=0):
            said = working[:max_new_tokens]
            return [Generation(said, "length" if len(said) < len(working) else "stop", len(said)) for _ in samples]

    results = evaluate_exam_set(Calculates(), folder, tmp_path / "out", name="m", arms=())
    plain = evaluate_exam_set(Knows(), folder, tmp_path / "plain", name="m", arms=())
    assert results["first"]["all"]["value"] == plain["first"]["all"]["value"]
    records = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").open(encoding="utf-8")]
    (number,) = [record for record in records if record["id"] == "number"]
    assert (number["output"], number["finish_reason"], number["correct"]) == (working, "stop", True)


def test_a_question_that_cannot_be_asked_is_written_down(folder, tmp_path):
    evaluate_exam_set(Knows(), folder, tmp_path / "out", name="m")
    records = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").open(encoding="utf-8")]
    said = {(r["id"], r["arm"]): (r["error"], r["answer"], r["correct"]) for r in records if "error" in r}
    assert said == {("long", arm): ("prompt and answer take 9 of 8 tokens", None, False) for arm in ARMS}

    class Wider(Knows):
        def check(self, sample, answers): ...

    again = evaluate_exam_set(Wider(), folder, tmp_path / "out", name="m")
    assert (again["first"]["not_asked"], again["first"]["sheet"]["unanswered"]) == ({}, 0)  # asked after all


def test_choices_that_are_pictures_are_chosen_by_their_labels(folder, tmp_path):
    evaluate_exam_set(Knows(), folder, tmp_path / "out", name="m")
    records = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").open(encoding="utf-8")]
    (drawn,) = [r for r in records if r["id"] == "drawn" and r["arm"] == "image"]
    assert (drawn["output"], drawn["tied"], drawn["gold"]) == ("b", False, "b")


def test_the_table_has_a_column_per_exam(folder, tmp_path):
    (head, *rows) = summary(evaluate_exam_set(Knows(), folder, tmp_path / "out", name="m"))
    assert head == ["", "first", "second"]
    first, second = ({row[0]: row[column] for row in rows} for column in (1, 2))
    assert (first["questions"], first["not asked, so wrong"], first["passed"]) == ("8", "1", "yes")
    assert (first["必修 points"], first["必修 needed"], first["必修 share"]) == ("3 / 3", "3", "100.0%")
    assert (first["general points"], first["general needed"], first["points absent"]) == ("5 / 7", "5", "2")
    assert first["taboo chosen"] == "–"  # no choice of this paper is known to be taboo
    assert (first["right"], first["image questions"], first["without image"]) == ("75.0%", "66.7%", "0.0%")
    assert first["right, 95 %"].startswith("40.9%")  # Wilson's interval of 6 in 8
    assert (second["general points"], second["passed"], second["image questions"]) == ("–", "–", "–")


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
    rule = pass_rules.load_pass_rules().of("112")
    assert rule is not None
    assert (rule.needs, rule.max_taboo) == ({"required": "80%", "general": "208/299"}, 3)


def test_the_command_prints_the_table_and_tells_of_questions_not_asked(
    folder, tmp_path, tokenizer, processor, monkeypatch, capsys
):
    from jvlm.model.directory import save_model

    save_model(tmp_path / "run" / "model", make_model(tokenizer), processor)
    shutil.copytree(folder, tmp_path / "run" / "data" / "exam" / "made")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jvlm", "eval", str(tmp_path / "run" / "model"), "--tasks", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        gc.enable()  # a command counts on its process to end
        return left.value.code, capsys.readouterr().out

    code, printed = run("made")
    assert code in (None, 0)
    assert max(map(len, printed.splitlines())) <= 80
    assert re.search(r"passed\W+(yes|no)\W+–", printed)
    rows = tmp_path / "run" / "data" / "exam" / "made" / "items.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace("所見a", "所見" * 400, 1), encoding="utf-8")
    code, printed = run("made", "--json")
    assert code == EXIT_ITEM_ERRORS
    assert list(json.loads(printed)["first"]["not_asked"]) == ["right"]
