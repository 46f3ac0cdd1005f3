import json
import pickle
from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest
from jvlm_data.toyworld.general import (
    LOOK_UPS,
    SET_NAMES,
    TURNS,
    VQA_KINDS,
    captions,
    make,
    preference_pool,
    vqa,
)
from jvlm_data.toyworld.judge import answer_is_right, answer_value, caption_is_exact, parse_caption
from jvlm_data.toyworld.questions import GOLDS, NO, YES
from jvlm_data.toyworld.scene import canonical, split_of
from jvlm_data.toyworld.world import HELD_OUT_PAIRS

from jvlm.errors import UsageError
from jvlm.sample import Sample


def fingerprint(sample: Sample) -> tuple[str, list[bytes | None]]:
    return json.dumps(sample.to_record(), ensure_ascii=False), [image.data for image in sample.images]


@pytest.mark.parametrize("set_name", SET_NAMES)
def test_make_is_pure_and_depends_on_seed_and_index(set_name: str) -> None:
    function = pickle.loads(pickle.dumps(partial(make, set_name, 7)))
    for index in range(4):
        sample = make(set_name, 7, index)
        assert fingerprint(sample) == fingerprint(function(index))
        assert fingerprint(sample) != fingerprint(make(set_name, 8, index))
        assert fingerprint(sample)[1] != fingerprint(make(set_name, 7, index + 100))[1]
        assert sample.meta["set"] == set_name
        assert Sample.from_record(json.loads(json.dumps(sample.to_record())), sample.images) == sample


def test_text_is_the_same_at_every_size() -> None:
    for index in range(8):
        small, large = make("instruct_train", 1, index, 64), make("instruct_train", 1, index, 128)
        assert small.messages == large.messages
        assert small.images != large.images


@pytest.mark.parametrize("split", ["train", "test", "compositional"])
def test_caption_sets(split: str) -> None:
    samples = list(captions(3, split, 60))
    assert len({sample.id for sample in samples}) == 60
    assert Counter(len(sample.meta["truth"]) for sample in samples) == {1: 20, 2: 20, 3: 20}
    for sample in samples:
        user, assistant = sample.messages
        assert (user.role, user.content[0], assistant.role) == ("user", 0, "assistant")
        assert assistant.text == sample.meta["caption"]
        assert caption_is_exact(assistant.text, sample.meta["truth"])
        assert sample.meta["kind"] == "caption"
        assert split_of(sample.meta["truth"]) == split


def test_question_sets_are_balanced_and_right() -> None:
    samples = list(vqa(3, "test", 36))
    assert Counter(sample.meta["kind"] for sample in samples) == dict.fromkeys(VQA_KINDS, 36)
    for kind, golds in GOLDS.items():
        counts = Counter(sample.meta["gold"] for sample in samples if sample.meta["kind"] == kind)
        assert max(counts.values()) - min(counts[gold] for gold in golds) <= 1
    for sample in samples:
        user, assistant = sample.messages
        assert user.content[0] == 0
        assert answer_is_right(sample.meta["kind"], assistant.text, sample.meta["gold"])
        assert split_of(sample.meta["truth"]) == "test"


def test_preference_pool_asks_and_does_not_answer() -> None:
    for sample in preference_pool(3, 12):
        assert [message.role for message in sample.messages] == ["user"]
        assert split_of(sample.meta["truth"]) == "train"
    pool = {sample.images[0].data for sample in preference_pool(3, 30)}
    assert not pool & {sample.images[0].data for sample in captions(3, "train", 30)}


def test_look_ups_ask_for_any_object_its_size_among_two_and_the_sign_once() -> None:
    again = told = places = sizes = alike = 0
    sign_turns = set()
    for index in range(400):
        sample = make("look_ups_train", 5, index, 32)
        (truth,) = sample.meta["truths"]
        assert len(truth) >= 2
        alike += any(len({triple[i] for triple in truth}) == 1 for i in (1, 2))
        where = {(colour, shape): position for position, colour, shape in truth}
        named, signs = [], 0
        turns = list(zip(sample.messages[::2], sample.messages[1::2], strict=True))
        for turn, (question, answer) in enumerate(turns):
            if "看板" in question.text:
                assert answer_value("reading", answer.text)
                sign_turns.add(turn)
                signs += 1
            pairs = [(colour, shape) for _, colour, shape in parse_caption(question.text) if colour and shape]
            if len(pairs) == 1:
                again += pairs[0] in named
                told += bool(named)
                named.append(pairs[0])
                assert answer_is_right("position", answer.text, where[pairs[0]])
            elif pairs:
                assert len(pairs) == 2
                assert set(pairs) <= set(where)
                assert answer_value("comparison", answer.text) in (YES, NO)
                sizes += 1
        assert signs == bool(index % 3)
        assert len(turns) == LOOK_UPS + signs
        places += len(named)
    assert 0.25 < places / (400 * LOOK_UPS) < 0.6
    assert 0.1 < sizes / (400 * LOOK_UPS) < 0.3
    assert again / told > 0.35  # that an object was asked for before must not tell that it is not asked for now
    assert 0.25 < alike / 400 < 0.55
    assert sign_turns == set(range(LOOK_UPS + 1))


def test_singles_caption_one_object() -> None:
    for index in range(60):
        sample = make("singles_train", 5, index, 32)
        assert len(sample.meta["truth"]) == 1
        assert caption_is_exact(sample.messages[-1].text, sample.meta["truth"])


def test_attributes_ask_for_a_colour_or_a_shape_and_never_for_a_place() -> None:
    for index in range(100):
        sample = make("attributes_train", 5, index, 32)
        (truth,) = sample.meta["truths"]
        assert len(sample.messages) == 2 * LOOK_UPS
        for question, answer in zip(sample.messages[::2], sample.messages[1::2], strict=True):
            assert not any(position in question.text + answer.text for position, _, _ in truth)
            values = {kind: answer_value(kind, answer.text) for kind in ("colour", "shape")}
            assert [values["colour"], values["shape"]] in [triple[1:] for triple in truth]


def test_instruct_mix() -> None:
    samples = [make("instruct_train", 5, index, 32) for index in range(400)]
    kinds = Counter(sample.meta["kind"] for sample in samples)
    assert 8 <= kinds["two_images"] <= 48
    assert 4 <= kinds["page"] <= 36
    asked = Counter(kind for sample in samples for kind in sample.meta.get("kinds", []))
    assert set(asked) == {*VQA_KINDS, "description"}
    assert min(asked[kind] for kind in VQA_KINDS) > 40
    assert asked["description"] > 10
    with_caption, things = 0, list[int]()
    for sample in samples:
        roles = [message.role for message in sample.messages]
        if sample.meta["kind"] == "page":
            assert roles == ["document"]
            assert [part for part in sample.messages[0].content if isinstance(part, int)] == [0, 1]
            continue
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        images = [part for part in sample.messages[0].content if isinstance(part, int)]
        assert images == list(range(len(sample.images)))
        assert all(isinstance(part, str) for message in sample.messages[1:] for part in message.content)
        if sample.meta["kind"] == "dialogue":
            turns = len(roles) // 2
            with_caption += turns > len(sample.meta["kinds"])
            assert 4 <= len(sample.meta["kinds"]) <= TURNS[1]
            things += [len(sample.meta["truths"][0])]
    assert 0.1 < things.count(1) / len(things) < 0.3  # one object leaves nothing to look up
    assert 0.1 < with_caption / kinds["dialogue"] < 0.2


def test_two_image_answers_agree_with_the_truths() -> None:
    checked = Counter[str]()
    for index in range(400):
        sample = make("instruct_train", 6, index, 32)
        if sample.meta["kind"] != "two_images":
            continue
        truths = sample.meta["truths"]
        for question, answer in zip(sample.messages[::2], sample.messages[1::2], strict=True):
            text = question.text
            if "何色" in text:
                (named,) = [t for t in truths[int(text[0]) - 1] if f"枚目の{t[0]}の" in text]
                assert answer_is_right("colour", answer.text, named[1])
                checked["colour"] += 1
                continue
            which = int(answer.text[0]) - 1
            if "図形が" in text:
                more = len(truths[which]) > len(truths[1 - which])
                assert len(truths[0]) != len(truths[1])
                assert more == ("多い" in text)
                checked["count"] += 1
            else:
                assert [has(text, truth) for truth in truths] == [which == 0, which == 1]
                checked["existence"] += 1
    assert min(checked[kind] for kind in ("colour", "count", "existence")) > 4


def has(text: str, truth: Sequence[Sequence[str]]) -> bool:
    ((_, colour, shape),) = parse_caption(text.split("が")[0])
    return any((colour, shape) == (c, s) for _, c, s in truth)


def test_training_sets_never_show_or_name_a_held_out_pair_or_a_test_truth() -> None:
    tested = {canonical(make("captions_test", 1, index, 32).meta["truth"]) for index in range(150)}
    looked_up = ("singles_train", "attributes_train", "look_ups_train")
    names = ("captions_train", *looked_up, "instruct_train", "vqa_train", "preference_pool")
    for index in range(150):
        for name in names:
            sample = make(name, 1, index, 32)
            truths = sample.meta.get("truths") or [sample.meta["truth"]]
            assert not {canonical(truth) for truth in truths} & tested
            for truth in truths:
                assert not {(c, s) for _, c, s in truth} & set(HELD_OUT_PAIRS)
            for message in sample.messages:
                assert not {(c, s) for _, c, s in parse_caption(message.text)} & set(HELD_OUT_PAIRS), message


def test_unknown_set() -> None:
    with pytest.raises(UsageError, match="unknown set"):
        make("captions_dev", 0, 0)
