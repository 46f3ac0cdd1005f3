import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from jvlm_data.toyworld.judge import answer_is_right, answer_value, parse_caption
from jvlm_data.toyworld.questions import GOLDS, NO, YES, ask, attribute, near_misses, questions, side_of
from jvlm_data.toyworld.scene import Scene, Thing, sample_split_scene
from jvlm_data.toyworld.world import HELD_OUT_PAIRS, QUESTION_KINDS, TRAIN_PAIRS

SCENE = Scene(
    (
        Thing("左上", "赤", "星", "大", "無地"),
        Thing("右上", "青", "丸", "小", "縞"),
        Thing("右", "白", "輪", "大", "水玉"),
    ),
    background=0,
    sign="ア3",
    sign_row=2,
)


def test_answers_are_judged_right_and_others_wrong() -> None:
    rng = np.random.default_rng(1)
    seen = Counter[str]()
    by_kind: dict[str, dict[str, str]] = defaultdict(dict)  # gold → an answer
    for index in range(500):
        scene = sample_split_scene(rng, "train", sign=index % 3 == 0)
        for question in questions(scene, rng):
            seen[question.kind] += 1
            assert answer_is_right(question.kind, question.answer, question.gold), question
            for gold, answer in list(by_kind[question.kind].items())[:12]:
                assert answer_is_right(question.kind, answer, question.gold) == (gold == question.gold)
            by_kind[question.kind][question.gold] = question.answer
    assert set(seen) == set(QUESTION_KINDS)
    for kind, golds in GOLDS.items():
        assert set(by_kind[kind]) == set(golds)


def test_known_scene() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        by_kind = {question.kind: question for question in questions(SCENE, rng)}
        colour, shape, position = by_kind["colour"], by_kind["shape"], by_kind["position"]
        for thing in SCENE.things:
            if colour.text.startswith(thing.position + "に") or colour.text.startswith(thing.position + "の"):
                assert colour.gold == thing.colour
            if shape.text.startswith(thing.position + "に") or shape.text.startswith(thing.position + "の"):
                assert shape.gold == thing.shape
            if thing.shape in position.text:
                assert position.gold == thing.position
        assert by_kind["count"].gold == "3"
        assert by_kind["reading"].gold == "ア3"
        assert by_kind["description"].gold == "左上/赤/星|右上/青/丸|右/白/輪"
        comparison = by_kind["comparison"]
        named = [thing for thing in SCENE.things if thing.shape in comparison.text]
        first, second = sorted(named, key=lambda thing: comparison.text.index(thing.shape))
        assert {first.size, second.size} == {"大", "小"}
        assert comparison.gold == (YES if (first.size == "小") == ("小さい" in comparison.text) else NO)
        size = {"大": "大きい", "小": "小さい"}[first.size]
        assert re.match(rf".*{first.shape}は{size}ほうなので、", comparison.answer)
        if "relation" in by_kind:  # a sign's scene may skip what shares a row
            relation = by_kind["relation"]
            places = {relation.text.index(thing.shape): thing for thing in SCENE.things if thing.shape in relation.text}
            first, second = (places[place] for place in sorted(places))
            assert relation.gold == side_of(first, second)
            where = rf".*{first.shape}は{first.position}、.*{second.shape}は{second.position}なので、"
            assert re.match(where, relation.answer)


def test_an_attribute_is_asked_for_by_the_other_where_that_names_one_thing_and_needs_a_look() -> None:
    rng = np.random.default_rng(5)
    kinds = Counter[str]()
    for _ in range(2000):
        scene = sample_split_scene(rng, "train", count=3)
        question = attribute(scene, rng)
        if question is None:
            continue
        kinds[question.kind] += 1
        given = "shape" if question.kind == "colour" else "colour"
        value = answer_value(given, question.answer)
        assert question.answer.split("図形")[0].split("は")[0] in question.text
        things = [thing for thing in scene.things if getattr(thing, given) == value]
        assert [getattr(thing, question.kind) for thing in things] == [question.gold], (question, scene)
        assert len({getattr(thing, question.kind) for thing in scene.things}) > 1
        assert answer_is_right(question.kind, question.answer, question.gold)
    assert 0.8 < kinds["colour"] / kinds["shape"] < 1.25
    alike = Scene((Thing("左", "赤", "星", "大", "無地"), Thing("右", "赤", "星", "大", "無地")), 0, None, None)
    assert attribute(alike, rng) is None


def test_sides() -> None:
    star, circle, ring = SCENE.things
    assert (side_of(star, circle), side_of(circle, star)) == ("左", "右")
    assert (side_of(circle, ring), side_of(ring, circle)) == ("上", "下")
    assert side_of(star, ring) is None


@pytest.mark.parametrize("kind", ["existence", "comparison", "relation", "count", "position"])
def test_answers_are_balanced_in_training(kind: str) -> None:
    rng = np.random.default_rng(3)
    golds = Counter[str]()
    while golds.total() < 2000:
        question = ask(kind, sample_split_scene(rng, "train", sign=bool(rng.random() < 0.35)), rng)
        if question is not None:
            golds[question.gold] += 1
    expected = golds.total() / len(GOLDS[kind])
    deviation = sum((golds[gold] - expected) ** 2 / expected for gold in GOLDS[kind])
    # The 99.99 % point of chi-square with 8 degrees of freedom is 31.8; the drawn worlds are not exactly uniform.
    assert deviation < 32, golds


def test_existence_does_not_leak_through_the_pair_or_the_wording() -> None:
    rng = np.random.default_rng(4)
    counts: dict[str, Counter[str]] = {YES: Counter(), NO: Counter()}
    wordings: dict[str, Counter[str]] = {YES: Counter(), NO: Counter()}
    for _ in range(4000):
        scene = sample_split_scene(rng, "train")
        question = ask("existence", scene, rng)
        assert question is not None
        ((_, colour, shape),) = parse_caption(question.text)
        assert (colour, shape) in TRAIN_PAIRS
        assert ((colour, shape) in scene.pairs) == (question.gold == YES)
        shown, _, verdict = question.answer.partition("があり、")
        assert parse_caption(shown) == frozenset(scene.truth)
        name, _, verdict = verdict.partition("は")
        assert question.text.removeprefix("画像の中に").startswith(name)
        assert verdict == ("あります。" if question.gold == YES else "ありません。")
        counts[question.gold].update([colour, shape])
        wordings[question.gold][question.text[-8:]] += 1
    for tables in (counts, wordings):
        for word in tables[YES] | tables[NO]:
            yes, no = tables[YES][word], tables[NO][word]
            if yes + no >= 100:
                assert abs(yes - no) < 4.5 * (yes + no) ** 0.5, word


def test_near_misses_are_near_absent_and_of_the_same_kind() -> None:
    rng = np.random.default_rng(5)
    for split in ("train", "compositional"):
        for _ in range(200):
            scene = sample_split_scene(rng, split)
            for pair in scene.pairs:
                for colour, shape in near_misses(pair, scene):
                    assert (colour, shape) not in scene.pairs
                    assert (colour == pair[0]) != (shape == pair[1])
                    assert ((colour, shape) in HELD_OUT_PAIRS) == (pair in HELD_OUT_PAIRS)


def test_a_wanted_answer_is_given_or_the_question_refused() -> None:
    rng = np.random.default_rng(6)
    for kind, golds in GOLDS.items():
        for gold in golds:
            question = ask(kind, SCENE, rng, gold)
            assert question is None or question.gold == gold
    assert ask("position", SCENE, rng, "左下") is None
    assert ask("relation", SCENE, rng, "上") is not None
    lone = Scene(SCENE.things[:1], 0)
    assert ask("comparison", lone, rng) is None
    assert ask("relation", lone, rng) is None
    assert ask("reading", lone, rng) is None


def test_each_kind_has_several_wordings() -> None:
    rng = np.random.default_rng(7)
    scene = Scene((Thing("上", "赤", "星", "大", "無地"), Thing("中央", "青", "丸", "小", "無地")), 0, "7", 2)
    texts = defaultdict(set)
    for _ in range(300):
        for question in questions(scene, rng):
            texts[question.kind].add(question.text)
    assert all(len(texts[kind]) >= 2 for kind in QUESTION_KINDS)
