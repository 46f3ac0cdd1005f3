import pytest
from exam_items import make_item, multi, numeric

from jvlm.eval.baselines import ConstantModel, best_constant, best_constant_marks, chance, exam_chance, split_marks
from jvlm.eval.exam import choose, is_correct
from jvlm.eval.items import exam_sample
from jvlm.sample import Message, Sample


def equal(answer: str, gold: str) -> bool:
    return answer == gold


def test_best_constant_and_chance() -> None:
    golds = ["赤"] * 5 + ["青"] * 3 + ["緑"] * 2
    assert best_constant(golds, equal) == ("赤", 0.5)
    assert chance(golds, equal) == pytest.approx(1 / 3)
    assert best_constant(["青", "赤"], equal) == ("赤", 0.5)  # a tie: the first in order, always the same
    assert best_constant([], equal) == ("", 0.0)
    assert chance([], equal) is None


def test_chance_counts_different_answers_not_spellings() -> None:
    def by_number(answer: str, gold: str) -> bool:
        return answer.translate(str.maketrans("一二", "12")) == gold.translate(str.maketrans("一二", "12"))

    assert chance(["1", "一", "2", "二"], by_number) == 0.5


def test_exam_chance_counts_the_ways_to_mark() -> None:
    assert exam_chance([make_item("s")]) == 0.2
    assert exam_chance([multi("m", "ab")]) == 0.1
    assert exam_chance([multi("m", "ab", "cd")]) == 0.2
    assert exam_chance([numeric("n", "12")]) == 0.0
    assert exam_chance([make_item("s"), multi("m", "ab")]) == pytest.approx(0.15)
    assert exam_chance([]) is None


def test_playing_the_best_marks_gives_the_printed_figure() -> None:
    items = [make_item(f"s{i}", accept=[["abcde"[i % 3]]]) for i in range(10)]
    items += [multi("m1", "bd"), multi("m2", "bd"), multi("m3", "ae"), numeric("n1", "7"), numeric("n2", "9")]
    constants, printed = best_constant_marks(items)
    assert constants == {"mcq_single": "a", "mcq_multi": "bd", "numeric": "7"}
    played = [is_correct(item, split_marks(item, constants[item.answer_type])) for item in items]
    assert printed == sum(played) / len(played) == 7 / 15
    model = ConstantModel(constants)
    for item in items:
        sample = exam_sample(item)
        if item.answer_type == "numeric":
            assert model.generate([sample])[0].text == "7"
        else:
            scores = model.choice_log_likelihoods([sample], [[option.text for option in item.options]])[0]
            assert choose(scores, item.labels, item.n_select) == (list(constants[item.answer_type]), False)


def test_constant_model_answers_by_kind_and_prefers_its_text() -> None:
    model = ConstantModel({"colour": "赤"})
    colour = Sample("1", [Message("user", ["何色ですか。"])], meta={"kind": "colour"})
    other = Sample("2", [Message("user", ["いくつですか。"])], meta={"kind": "count"})
    assert [generation.text for generation in model.generate([colour, other])] == ["赤", ""]
    assert model.choice_log_likelihoods([colour], [["青", "赤"]]) == [[-1.0, 0.0]]
