"""The arms of the audits, one by one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from exam_folder import exam_items, write_exam
from exam_items import make_item, numeric

from jvlm.eval.arms import GREY, blank, mismatched, other_pictures, shuffled
from jvlm.eval.exam_prompts import PLAIN, load_exam_prompts
from jvlm.eval.items import ExamItem, Option, exam_sample, load_items
from jvlm.images.load import load_image
from jvlm.sample import Sample


def pictured(folder: Path) -> list[ExamItem]:
    items = load_items(write_exam(folder / "made", exam_items("112") + exam_items("113")) / "items.jsonl")
    return [item for item in items if item.pictures]


def asked(sample: Sample) -> str:
    return sample.messages[0].text


def test_a_blank_image_has_the_size_of_the_real_one_and_shows_nothing(tmp_path: Path) -> None:
    for item in pictured(tmp_path)[:3]:
        sample = exam_sample(item)
        grey = blank(sample)
        assert grey.messages == sample.messages
        for old, new in zip(sample.images, grey.images, strict=True):
            assert load_image(new).size == load_image(old).size
            assert load_image(new).getcolors() == [(load_image(old).width * load_image(old).height, GREY)]


def test_the_other_picture_is_of_the_same_exam_and_another_case_and_looks_otherwise(tmp_path: Path) -> None:
    items = pictured(tmp_path)
    others = other_pictures(items)
    assert set(others) == {item.id for item in items}
    assert others == other_pictures(items[::-1])  # drawn by ids, not by place
    for item in items:
        (old,), (new,) = item.pictures, others[item.id]
        assert Path(old).read_bytes() != Path(new).read_bytes()
        sample = mismatched(item, others[item.id])
        assert (sample.messages, len(sample.images)) == (exam_sample(item).messages, 1)
    same = [replace(item, images=items[0].images) for item in items]
    assert other_pictures(same) == {}


def test_removed_and_plain_differ_in_the_image_alone(tmp_path: Path) -> None:
    item = pictured(tmp_path)[0]
    with_image, without = exam_sample(item), exam_sample(item, with_image=False)
    assert asked(with_image) == asked(without)
    assert (len(with_image.images), without.images) == (1, [])
    assert all(isinstance(part, str) for part in without.messages[0].content)


def test_a_shuffled_item_has_the_same_contents_and_its_key_moved_with_them() -> None:
    item = make_item("x", accept=[["a"], ["d"]], kinki=["e"])
    text = {option.label: option.text for option in item.options}
    orders = set()
    for seed in range(40):
        moved = shuffled(item, seed)
        now = {option.label: option.text for option in moved.options}
        assert list(now) == item.labels
        assert sorted(now.values()) == sorted(text.values())
        assert [[now[label] for label in answer] for answer in moved.accept] == [["所見a"], ["所見d"]]
        assert [now[label] for label in moved.kinki] == ["所見e"]
        orders.add(tuple(now.values()))
    assert len(orders) > 30
    assert shuffled(item, 1) == shuffled(item, 1)
    places = Counter(shuffled(make_item(f"q{i}"), 1).accept[0][0] for i in range(500))
    assert all(60 < places[label] < 140 for label in "abcde")


def test_what_has_no_order_stays_as_it_is() -> None:
    number = numeric("n", "12")
    assert shuffled(number, 1) is number
    table = make_item("t", options=[Option("a", "a"), Option("b", "b")])
    assert shuffled(table, 1) is table


def test_prompts_hold_the_question_and_say_how_many_from_the_question() -> None:
    item = make_item("x", shared_text="架空の患者。", n_select=2, answer_type="mcq_multi", accept=[["b", "d"]])
    plain = asked(exam_sample(item))
    assert plain == "架空の患者。架空の所見はどれか。\n" + "\n".join(f"{label} 所見{label}" for label in "abcde")
    for name, prompt in load_exam_prompts().items():
        text = asked(exam_sample(item, prompt=prompt))
        assert item.shared_text + item.stem in text, name
        assert all(option.text in text for option in item.options)
        assert "{" not in text
        assert text != plain
        assert text == asked(exam_sample(replace(item, accept=[["a", "c"]]), prompt=prompt)), "the key does not leak"
    assert asked(exam_sample(numeric("n", "12"), prompt=PLAIN)) == "架空の所見はどれか。\n"
