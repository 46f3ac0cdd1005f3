"""What the exam converters share: reading a question's form from its text."""

import pytest
from jvlm_data.exam_records import linked_cases, physician_points, select_count

from jvlm.eval.pass_rules import load_pass_rules


@pytest.mark.parametrize(
    ("question", "count"),
    [
        ("正しいのはどれか。", 1),
        ("正しいのはどれか。2つ選べ。", 2),
        ("正しいのはどれか。２つ選べ。", 2),
        ("正しいのはどれか。 3 つ選べ", 3),
        ("正しいのはどれか。３つを選べ。", 3),
        ("正しいのはどれか。二つ選べ。", 2),
        ("3つの選択肢を示す。正しいのはどれか。", 1),
        ("薬を2つ飲み、選んだ2つを示す。正しいのはどれか。", 1),
        ("2つ選ぶなら。正しいのはどれか。3つ選べ。", 3),
    ],
)
def test_how_many_to_mark_is_read_from_the_question(question, count):
    assert select_count(question) == count


def test_the_second_half_of_a_required_block_counts_three():
    assert [physician_points(*place) for place in (("B", 25), ("B", 26), ("E", 50), ("A", 75))] == [1, 3, 3, 1]


@pytest.mark.parametrize("span", ["2、3", "2，3", "2〜3", "2～3", "２、３"])
def test_a_case_that_names_its_questions(span):
    if "，" in span:
        span = span.replace("，", ",")
    head = f"次の文を読み、{span}の問いに答えよ。架空の人。主訴はない。考えられるのはどれか。"
    cases = linked_cases(
        [("1", 1, "一つ目はどれか。"), ("2", 2, head), ("3", 3, "次はどれか。"), ("4", 4, "別のはどれか。")]
    )
    assert set(cases) == {"2", "3"}
    assert cases["2"] == cases["3"]
    assert cases["3"].first_id == "2"
    assert head == cases["2"].text + "考えられるのはどれか。"


def test_a_case_that_does_not_say_how_far_it_goes():
    head = "次の文を読み、以下の問いに答えよ。架空の人。どれか。"
    block = [("a", 1, head), ("b", 2, "どれか。"), ("c", 3, head), ("d", 4, "どれか。"), ("e", 5, "求めよ。")]
    assert {name: case.first_id for name, case in linked_cases(block).items()} == {
        "a": "a",
        "b": "a",
        "c": "c",
        "d": "c",
    }
    assert linked_cases(block[:2]) == {}, "one case alone: how long it is cannot be seen"


def test_a_table_after_the_question_stays_with_the_question():
    head = "次の文により 7、8 の問いに答えよ。\n架空の人。値はどれか。\nａ\n1\nｂ\n2"
    case = linked_cases([("7", 7, head), ("8", 8, "どれか。")])["8"]
    assert case.text == "次の文により 7、8 の問いに答えよ。\n架空の人。"


def test_passing_marks_are_shares_of_the_papers():
    rules = load_pass_rules().papers
    assert {str(number) for number in range(112, 120)} | {"clinical_lab"} <= set(rules)
    for exam, rule in rules.items():
        for need in rule.needs.values():
            points, _, of = need.partition("/")
            assert not of or 0.35 < int(points) / int(of) < 0.81, exam
