"""Exam papers and training items: balanced, consistent with the rules of the exam, and kept apart from each other."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from jvlm_data.toyworld import exam
from jvlm_data.toyworld.exam_questions import Question, option_split
from jvlm_data.toyworld.exam_training import training_item
from jvlm_data.toyworld.exam_wordings import (
    IMAGE_KINDS,
    TEST_CASES,
    TEST_OPENINGS,
    TEST_STEMS,
    TRAIN_CASES,
    TRAIN_OPENINGS,
    TRAIN_STEMS,
)
from jvlm_data.toyworld.medicine import CORE, FICTION, TEXTBOOK_ONLY, facts, textbook

from jvlm.eval.items import ExamItem, exam_answer, exam_sample, load_items

SEED = 0
FACTS = {fact.finding: fact for fact in facts(SEED)}
PAPER = exam.exam_test(SEED, 480, 32)
ITEMS = [item for item, _ in PAPER]
TWOHOP = [item for item, _ in exam.exam_twohop_unseen(SEED, 72, 32)]
IMAGE_SINGLE = [item for item in ITEMS if item["images"] and item["answer_type"] == "mcq_single"]
TRAINING = [training_item(SEED, index, 32) for index in range(600)]


def _tag(item: dict, name: str) -> str:
    return next(tag.removeprefix(f"{name}=") for tag in item["tags"] if tag.startswith(f"{name}="))


def _asked(item: dict) -> str:
    return _tag(item, "kind").rsplit("_", 1)[-1]


def _right(item: dict) -> list[str]:
    return [option["text"] for option in item["options"] if option["label"] in item["accept"][0]]


def test_a_paper_is_a_function_of_its_seed() -> None:
    assert exam.exam_test(SEED, 40, 32) == exam.exam_test(SEED, 40, 32)
    assert exam.exam_test(1, 40, 32) != exam.exam_test(SEED, 40, 32)


def test_the_paper_is_balanced() -> None:
    assert len(ITEMS) == 480
    assert len(IMAGE_SINGLE) == 360
    assert set(Counter(_asked(item) for item in IMAGE_SINGLE).values()) == {90}
    assert set(Counter(_tag(item, "finding") for item in IMAGE_SINGLE).values()) == {20}
    assert set(Counter(item["accept"][0][0] for item in IMAGE_SINGLE).values()) == {72}
    assert set(Counter((_asked(item), _right(item)[0]) for item in IMAGE_SINGLE).values()) == {5}
    numbers = Counter(item["accept"][0][0] for item in ITEMS if item["answer_type"] == "numeric")
    assert set(numbers) == set("345678")
    assert max(numbers.values()) - min(numbers.values()) <= 1


@pytest.mark.parametrize("count", [36, 100, 420])
def test_other_sizes_are_nearly_balanced(count: int) -> None:
    items = [item for item, _ in exam.exam_test(SEED, count, 32)]
    assert len(items) == count
    single = [item for item in items if item["images"] and item["answer_type"] == "mcq_single"]
    labels = Counter(item["accept"][0][0] for item in single)
    assert max(labels.values()) - min(labels.values()) <= 1
    kinds = Counter(_asked(item) for item in single)
    assert max(kinds.values()) - min(kinds.values()) <= 1


def test_blocks_points_and_numbers_follow_the_rules() -> None:
    sizes = Counter(item["section"] for item in ITEMS)
    assert sizes == {"A": 90, "B": 60, "C": 90, "D": 90, "E": 60, "F": 90}
    for item in ITEMS:
        required = item["section"] in "BE"
        assert item["required"] == required
        assert item["points"] == (3 if required and item["number"] > 30 else 1)
    for section in sizes:
        assert [i["number"] for i in ITEMS if i["section"] == section] == list(range(1, sizes[section] + 1))
    assert len({item["id"] for item in ITEMS}) == len(ITEMS)


def test_linked_cases_share_text_image_and_block() -> None:
    groups: dict[str, list[dict]] = {}
    for item in ITEMS:
        groups.setdefault(item["group_id"], []).append(item)
    cases = [group for group in groups.values() if len(group) > 1]
    assert len(cases) >= 8
    for case in cases:
        assert 2 <= len(case) <= 3
        assert len({(i["shared_text"], *i["images"], i["section"], _tag(i, "finding")) for i in case}) == 1
        assert case[0]["shared_text"]
        assert len({_asked(item) for item in case}) == len(case)
    assert all(not group[0]["shared_text"] for group in groups.values() if len(group) == 1)


def test_keys_are_the_facts() -> None:
    fields = {"diagnosis": "disease"}
    for item in ITEMS + TWOHOP:
        fact, asked = FACTS[_tag(item, "finding")], _asked(item)
        if item["answer_type"] == "mcq_single":
            assert _right(item) == [getattr(fact, fields.get(asked, asked))]
        elif item["answer_type"] == "mcq_multi":
            assert item["n_select"] == 2
            own = [o for o in item["options"] if any(getattr(fact, field) in o["text"] for field in CORE)]
            assert [option["label"] for option in own] == item["accept"][0]
        assert len({option["text"] for option in item["options"]}) in (0, 5)


def test_taboo_options_are_the_forbidden_drugs_and_tell_nothing() -> None:
    shown = [i for i in IMAGE_SINGLE if _asked(i) == "treatment" and any(o["text"][-1] == "液" for o in i["options"])]
    assert len(shown) > 15
    assert 0.05 < sum(bool(item["kinki"]) for item in shown) / len(shown) < 0.6
    for item in ITEMS:
        fact = FACTS[_tag(item, "finding")]
        taboo = [option["text"] for option in item["options"] if option["label"] in item["kinki"]]
        assert taboo in ([], [fact.forbidden])
        assert not set(item["kinki"]) & set(item["accept"][0])
        is_shown = any(option["text"] == fact.forbidden for option in item["options"])
        assert bool(taboo) == (is_shown and _asked(item) == "treatment")
    assert any(item["kinki"] for item in ITEMS if not item["images"])


def test_image_questions_give_nothing_away() -> None:
    for item in ITEMS + TWOHOP:
        if not item["images"]:
            continue
        text = item["shared_text"] + item["stem"]
        names = [getattr(fact, field) for fact in FACTS.values() for field in (*CORE, *TEXTBOOK_ONLY)]
        assert not [name for name in names if name in text]
        assert FICTION in text
        modality = _tag(item, "modality")
        own = [fact for fact in FACTS.values() if fact.modality == modality]
        values = [getattr(fact, field) for fact in own for field in (*CORE, *TEXTBOOK_ONLY)]
        assert all(any(value in option["text"] for value in values) for option in item["options"])


def test_every_fact_asked_stands_in_the_textbook() -> None:
    texts = [record["text"] for record in textbook(SEED)]
    for item in ITEMS + TWOHOP:
        if item["answer_type"] == "mcq_single":
            fact = FACTS[_tag(item, "finding")]
            assert any(fact.disease in text and _right(item)[0] in text for text in texts)
            assert any(fact.disease in text and fact.finding in text for text in texts)


def test_training_and_test_share_no_wording_and_no_options() -> None:
    train = {stem for stems in TRAIN_STEMS.values() for stem in stems}
    test = {stem for stems in TEST_STEMS.values() for stem in stems}
    assert not train & test
    assert not (set(TRAIN_OPENINGS) & set(TEST_OPENINGS)) - {""}
    assert not set(TRAIN_CASES) & set(TEST_CASES)
    asked = {sample.messages[0].text.split("\n")[0] for sample in TRAINING}
    assert not asked & {item["shared_text"] + item["stem"] for item in ITEMS}
    for item in ITEMS + TWOHOP:
        if item["options"]:
            assert option_split([option["text"] for option in item["options"]]) == "test"
    for sample in TRAINING:
        lines = sample.messages[0].text.split("\n")[1:]
        if len(lines) == 5:
            assert option_split([line[2:] for line in lines]) == "train"


def test_training_and_test_share_no_image() -> None:
    used = {hashlib.sha256(image.read()).hexdigest() for sample in TRAINING for image in sample.images}
    asked = {hashlib.sha256(data).hexdigest() for _, images in PAPER for data in images.values()}
    assert len(asked) == len({name for _, images in PAPER for name in images})
    assert not used & asked


def test_two_hop_facts_are_in_no_training_item() -> None:
    text = "\n".join(message.text for sample in TRAINING for message in sample.messages)
    assert not [fact for fact in FACTS.values() if fact.cause in text or fact.gland in text]
    assert set(Counter((_tag(item, "kind"), _tag(item, "finding")) for item in TWOHOP).values()) == {2}


def test_training_items_answer_by_the_facts() -> None:
    kinds = Counter(sample.meta["kind"] for sample in TRAINING)
    assert set(IMAGE_KINDS) < set(kinds)
    assert {"two", "numeric", "text_treatment", "chat_finding", "chat_explain", "case_treatment"} < set(kinds)
    for sample in TRAINING:
        question, answer = sample.messages
        assert (question.role, answer.role, answer.text) == ("user", "assistant", sample.meta["gold"])
        assert FICTION in question.text
        fact = FACTS[sample.meta["finding"]]
        others = [f for f in FACTS.values() if f != fact]
        assert not any(getattr(f, field) in answer.text for f in others for field in CORE)
        assert question.content[:-1] == list(range(len(sample.images)))
        if sample.meta["kind"].startswith("text_"):
            assert not sample.images
        elif sample.images:
            assert not any(getattr(fact, field) in question.text.split("\n")[0] for field in CORE)


def test_training_items_are_a_function_of_seed_and_index() -> None:
    assert training_item(SEED, 5, 32) == TRAINING[5]
    assert all(training_item(SEED, i, 48).messages == TRAINING[i].messages for i in range(40))
    assert training_item(1, 5, 32) != TRAINING[5]


def test_training_prompts_are_what_the_evaluation_asks(tmp_path: Path) -> None:
    """The paper loads as exam items, and a question built from its parts reads exactly as the evaluation puts it."""
    (tmp_path / "images").mkdir()
    for name, data in {name: data for _, images in PAPER[:60] for name, data in images.items()}.items():
        (tmp_path / name).write_bytes(data)
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS[:60]), encoding="utf-8")
    for item in load_items(path):
        question = _question(item)
        sample = exam_sample(item)
        assert sample.messages[0].content[-1] == item.shared_text + question.prompt
        assert exam_answer(item) == question.answer


def test_hashes_differ_and_follow_from_the_content() -> None:
    assert len({item["sha256"] for item in ITEMS}) == len(ITEMS)
    smaller = exam.exam_test(SEED, 40, 32)
    larger = exam.exam_test(SEED, 40, 48)
    for (small, _), (large, _) in zip(smaller, larger, strict=True):
        assert (small["stem"], small["options"]) == (large["stem"], large["options"])
        assert (small["sha256"] != large["sha256"]) == bool(small["images"])


def _question(item: ExamItem) -> Question:
    options = tuple(option.text for option in item.options)
    if item.answer_type == "numeric":
        return Question("numeric", item.stem, "numeric", number=item.accept[0][0])
    correct = tuple(item.labels.index(label) for label in item.accept[0])
    return Question("any", item.stem, item.answer_type, options, correct)
