import json

import pytest
from exam_items import make_item, multi, numeric

from jvlm.errors import DataError, JvlmError
from jvlm.eval.exam import choose, is_correct, score_exam


def paper() -> list:
    """必修: 10 questions of 1 point, 10 of 3 points (40); general: 20 of 1 point."""
    required = [make_item(f"B{i}", section="B", required=True, points=1 if i < 10 else 3) for i in range(20)]
    return required + [make_item(f"A{i}", section="A") for i in range(20)]


def answers(items: list, wrong: set[str]) -> dict:
    return {item.id: ["b"] if item.id in wrong else ["a"] for item in items}


def test_points_and_both_cutoffs() -> None:
    items = paper()
    sheet = score_exam(items, answers(items, {"B0", "B1", "B10", "B11"}), 0.6)
    assert (sheet.required.points, sheet.required.total) == (32, 40)  # exactly 80 %
    assert (sheet.all.points, sheet.all.total) == (52, 60)
    assert sheet.required_passed
    assert sheet.passed
    below = score_exam(items, answers(items, {"B0", "B1", "B2", "B10", "B11"}), 0.6)
    assert below.required.share == 31 / 40
    assert not below.required_passed
    assert not below.passed
    eight_wrong = {f"A{i}" for i in range(8)}
    assert score_exam(items, answers(items, eight_wrong), 0.6).passed  # 12 of 20 is 60 %
    nine = score_exam(items, answers(items, eight_wrong | {"A8"}), 0.6)
    assert nine.required_passed
    assert not nine.general_passed
    assert not nine.passed


def test_cutoff_is_exact_where_floats_are_not() -> None:
    items = [make_item(f"A{i}") for i in range(100)]
    right = answers(items, {f"A{i}" for i in range(71)})
    assert score_exam(items, right, 0.29).general_passed  # 0.29 * 100 > 29 in floating point


def test_taboo_allows_three_questions() -> None:
    items = [make_item(f"A{i}", kinki=["e", "d"]) for i in range(100)]
    for count, passed in ((3, True), (4, False)):
        marks = {item.id: ["e"] if i < count else ["a"] for i, item in enumerate(items)}
        sheet = score_exam(items, marks, 0.6)
        assert (sheet.taboo_count, sheet.taboo_passed, sheet.passed) == (count, passed, passed)
    two_in_one = multi("m", "ab", kinki=["d", "e"])
    assert score_exam([two_in_one], {"m": ["d", "e"]}, 0.0).taboo_count == 1  # questions count, not options


def test_several_answers_are_all_or_nothing() -> None:
    item = multi("m", "ac")
    assert is_correct(item, ["c", "a"])
    assert not any(is_correct(item, marks) for marks in (["a"], ["a", "b"], ["a", "b", "c"], ["a", "a"], [], None))


def test_accepted_alternatives() -> None:
    single = make_item("s", accept=[["a"], ["d"]])
    assert [is_correct(single, [label]) for label in "abcd"] == [True, False, False, True]
    assert is_correct(multi("m", "ab", "de"), ["e", "d"])
    assert not is_correct(multi("m", "ab", "de"), ["a", "d"])


def test_numbers_are_compared_as_numbers() -> None:
    assert is_correct(numeric("n", "12"), ["12.0"])
    assert not is_correct(numeric("n", "12"), ["21"])
    assert not is_correct(numeric("n", "12"), ["十二"])


def test_removed_for_everybody_and_removed_if_wrong() -> None:
    items = [
        make_item("B1", required=True, points=3, excluded="if_wrong"),
        make_item("B2", required=True, points=1),
        make_item("A1", excluded="all", kinki=["b"]),
        make_item("A2"),
    ]
    right = score_exam(items, {item.id: ["a"] for item in items}, 0.5)
    assert (right.required.points, right.required.total, right.all.total) == (4, 4, 5)
    wrong = score_exam(items, {"B1": ["b"], "B2": ["a"], "A1": ["b"], "A2": ["a"]}, 0.5)
    assert (wrong.required.points, wrong.required.total) == (1, 1)  # total - points(removed items answered wrong)
    assert wrong.removed == ["B1", "A1"]
    assert wrong.taboo_count == 0
    assert wrong.passed


def test_breakdown_and_unreadable_answers() -> None:
    items = [make_item("A1", images=["i.png"]), numeric("B1", "7", section="B", required=True), multi("A2", "ab")]
    sheet = score_exam(items, {"A1": ["a"], "B1": None}, 0.0)
    assert (sheet.parse_failures, sheet.unanswered) == (1, 1)
    record = json.loads(json.dumps(sheet.to_record()))
    assert record["by_section"]["A"] == {"points": 1, "total": 2, "correct": 1, "n": 2}
    assert set(record["by_kind"]) == {"mcq_single", "mcq_multi", "numeric", "image", "text"}
    assert record["by_kind"]["image"]["points"] == 1
    assert record["required_share"] == 0.0
    assert record["passed"] is False
    with pytest.raises(DataError, match="not on the paper, such as 'Z9'"):
        score_exam(items, {"Z9": ["a"]}, 0.0)


def test_choosing_from_log_likelihoods() -> None:
    assert choose([-3.0, -1.0, -2.0], "abc", 1) == (["b"], False)
    assert choose([-3.0, -1.0, -2.0], "abc", 2) == (["b", "c"], False)
    assert choose([-1.0, -2.0, -1.0], "abc", 1) == (["a"], True)  # the earlier label, and it is said
    assert choose([-1.0, -2.0, -1.0], "abc", 2) == (["a", "c"], False)  # equal, but both are chosen
    assert choose([-1.0, float("-inf")], "ab", 1) == (["a"], False)
    with pytest.raises(JvlmError, match="not a number"):
        choose([float("nan"), -1.0], "ab", 1)
