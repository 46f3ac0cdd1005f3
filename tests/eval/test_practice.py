import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from jvlm.errors import DataError
from jvlm.eval.items import ExamItem, Option
from jvlm.eval.practice import Calibrated, load_calibration, load_papers, opinion, sheet_of

ITEM = ExamItem(
    id="1", exam="made", section="A", number=1, group_id="1", stem="どれか。", shared_text="",
    options=[Option(label, f"選択肢{label}") for label in "abcde"], images=[], answer_type="mcq_single", n_select=1,
    accept=[["b"]], excluded="none", points=1, required=False, kinki=[], source="made", sha256="0", tags=[],
)  # fmt: skip


SHARES = [0.6364, 0.2341, 0.0861, 0.0317, 0.0117]  # the softmax of 0, -1, -2, -3, -4


def test_the_likeliest_choice_is_marked() -> None:
    found = opinion(ITEM, SHARES, None)
    assert found.probabilities == SHARES
    assert (found.marks, found.confidence, found.abstains) == (["a"], None, None)


@pytest.mark.parametrize(("threshold", "abstains"), [(0.7, True), (0.6, False), (None, None)])
def test_it_abstains_below_the_threshold(threshold: float | None, abstains: bool | None) -> None:
    found = opinion(ITEM, SHARES, Calibrated(2.0, threshold))
    assert found.abstains is abstains
    assert found.confidence == pytest.approx(0.429, abs=1e-3)  # at temperature 2


def test_questions_for_two_marks_get_two_and_no_confidence() -> None:
    two = replace(ITEM, answer_type="mcq_multi", n_select=2, accept=[["a", "b"]])
    found = opinion(two, [0.1, 0.6, 0.0, 0.3, 0.0], Calibrated(1.0, 0.5))
    assert (found.marks, found.confidence, found.abstains) == (["b", "d"], None, None)


def test_papers_of_a_folder_come_by_name_in_order(tmp_path: Path) -> None:
    rows = [replace(ITEM, id=str(n), number=n) for n in (2, 1)] + [replace(ITEM, id="3", exam="other")]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    papers = load_papers(tmp_path)
    assert {exam: [item.number for item in items] for exam, items in papers.items()} == {"made": [1, 2], "other": [1]}
    with pytest.raises(DataError, match="no exam"):
        load_papers(tmp_path / "nothing")


def test_calibration_comes_from_results_and_may_be_absent(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert load_calibration(results, "made") is None
    said = {"temperature": 1.5, "abstention": {"threshold": None}}
    results.write_text(json.dumps({"made": {"calibration": said}, "small": {"calibration": None}, "general": {}}))
    assert load_calibration(results, "made") == Calibrated(1.5, None)
    assert [load_calibration(results, exam) for exam in ("small", "general", "else")] == [None] * 3


def test_a_sheet_counts_unanswered_questions_as_wrong() -> None:
    items = [replace(ITEM, id=str(n), number=n) for n in range(5)]
    assert not sheet_of(items, {"0": ["b"], "1": ["b"]}).passed
    assert sheet_of(items, {"0": ["b"], "1": ["b"], "2": ["b"]}).passed  # 60 % is the toy paper's mark
