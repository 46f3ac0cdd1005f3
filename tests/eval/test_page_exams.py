"""The page of an evaluation with every arm: what was found stands there, and nothing that a model wrote is markup."""

from pathlib import Path

from exam_folder import exam_items, write_exam
from examinees import Oracle
from page_tags import HOSTILE, Tags

from jvlm.eval.contamination import leaks, question_text
from jvlm.eval.exam_arms import ARMS
from jvlm.eval.exams import evaluate_exam_set, summary
from jvlm.eval.items import load_items
from jvlm.eval.page_exams import exam_audits_section, published_exams_section
from jvlm.eval.paired import Said, compare_exams


def test_every_audit_stands_on_the_page(tmp_path: Path) -> None:
    folder = write_exam(tmp_path / "made", exam_items("112", 180))
    items = load_items(folder / "items.jsonl")
    questions = [(item.id, question_text(item)) for item in items]
    leaked = leaks(questions, [("d", text * 2) for _, text in questions[:9]])
    results = {}
    for name, model in (("instruct", Oracle(items, ignorant=[i.id for i in items[::2]])), ("medical", Oracle(items))):
        found = evaluate_exam_set(model, folder, tmp_path / "out", name=name, arms=ARMS, leaked=leaked)
        results[name] = {f"112{HOSTILE}": found["112"]}
    page = published_exams_section(results) + exam_audits_section(results)
    parsed = Tags(page)
    assert parsed.open == []
    assert HOSTILE in parsed.text
    assert HOSTILE not in page
    for said in (
        "合格 passed", "不合格 failed", "was the picture used", "order of the options", "wording of the prompt",
        "questions in the training text", "calibration", "unreadable", "ask-v1", "科1", "mcq_multi", "≤ 3",
        "another&#x27;s image", "blank image", "95", "≥ ",
    ):  # fmt: skip
        assert said in page, said
    assert "9 / 180" in page
    assert "<svg" in page
    rows = summary(results["medical"])
    cells = {row[0]: row[1] for row in rows}
    assert (cells["right"], cells["passed"], cells["parse failures"]) == ("100.0%", "yes", "0 (0.0%)")

    medical, instruct = Said(tmp_path / "out", "medical"), Said(tmp_path / "out", "instruct")
    pair = compare_exams(folder, medical, instruct)["112"]
    assert (pair["only_second"], pair["first"]) == (0, 1.0)
    assert pair["difference"] == pair["only_first"] / pair["n"] > 0.4
    assert pair["mcnemar_p"] < 1e-9
    assert pair["interval"][0] > 0.3


def test_a_page_without_exams_says_so() -> None:
    assert "n/a" in published_exams_section(None)
    assert "n/a" in exam_audits_section({})
