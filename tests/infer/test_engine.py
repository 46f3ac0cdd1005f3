"""The engine: what it writes for one request does not depend on what else it is asked, or when."""

import random
import threading
from collections import defaultdict, deque
from dataclasses import replace
from time import sleep

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SIDE, ask, make_model, samples

from jvlm.errors import DataError, UsageError
from jvlm.images.load import load_image
from jvlm.infer.engine import WORTH_SHARING, Engine
from jvlm.infer.types import Request
from jvlm.sample import ImageRef, Message, Sample


@pytest.fixture(scope="module")
def model(tokenizer):
    """Its end mark is likelier than it would be, so that answers end at different lengths."""
    model = make_model(tokenizer)
    raised = torch.zeros(tokenizer.vocab_size)
    raised[tokenizer.special["<|end|>"]] = 2.5
    model.language.lm_head.register_forward_hook(lambda module, inputs, output: output + raised)
    return model


@pytest.fixture(scope="module")
def requests():
    """Ragged in prompt, images, tiles, caps and ways to choose."""
    film = [(2 * SIDE, SIDE)] * 4
    system = Message("system", ["短く答えてください。"])
    one = ask("one", "色は。", [1])
    return [
        Request(ask("text", "空は何色ですか。"), 12),
        Request(one, 12),
        Request(replace(one, messages=[system, *one.messages]), 3),
        Request(ask("wide", "色は。", [1], sizes=[(3 * SIDE, 2 * SIDE)]), 9),
        Request(ask("film", "何が起こりますか。", [2, 3, 4, 5], sizes=film), 14, temperature=1.0, seed=5),
        Request(ask("two", "図形が多いのはどちらですか。", [7, 8], sizes=[(40, 150), (SIDE, SIDE)]), 1),
        Request(ask("drawn", "丸", [4]), 20, temperature=1.0, top_p=0.6, seed=1),
        Request(ask("same", "丸", [4]), 20, temperature=1.0, top_p=0.6, seed=2),
        Request(ask("choice", "はいかいいえで。", [6]), choices=("はい", "いいえ", "わかりません")),
        Request(ask("choices", "数は。"), choices=("1個", "2個", "12個"), temperature=3.0, seed=3),
        *(Request(sample, 8, stop=("。", "の")) for sample in samples("preference_pool", 2)),
    ]


@pytest.fixture(scope="module")
def alone(model, tiled, requests):
    """Each answer from an engine that has nothing else to do."""
    return [next(Engine(model, tiled, 1).answers([request]))[1] for request in requests]


def drain(engine, found=None):
    """Events until nothing is left to do: the pieces and the answer of every key."""
    found = defaultdict(list) if found is None else found
    while engine.busy:
        for event in engine.step():
            found[event.key].append(event)
    return found


def test_the_requests_are_ragged(alone):
    assert {answer.finish_reason for answer in alone} == {"stop", "length"}
    assert len({answer.num_tokens for answer in alone}) > 5
    assert len({answer.text for answer in alone}) > 9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**9), rows=st.sampled_from([1, 2, 3, 5, 16]), pieces=st.booleans())
def test_an_answer_does_not_depend_on_the_others(model, tiled, requests, alone, seed, rows, pieces):
    """Requests in any order, at any time, some of them cancelled, in any number of rows."""
    draw, engine = random.Random(seed), Engine(model, tiled, rows, pieces=pieces)
    todo = draw.choices(range(len(requests)), k=14)
    found, cancelled = defaultdict(list), set()
    for key, number in enumerate(todo):
        engine.admit(requests[number], key)
        for _ in range(draw.randrange(3)):
            for event in engine.step():
                assert event.key not in cancelled
                found[event.key].append(event)
        if draw.random() < 0.15:
            engine.cancel(gone := draw.randrange(key + 1))
            cancelled.add(gone)
    drain(engine, found)
    for key, number in enumerate(todo):
        answers = [event.generation for event in found[key] if event.generation]
        assert answers == [alone[number]] or (key in cancelled and not answers)
        if answers:
            assert "".join(event.text for event in found[key]) == alone[number].text
            assert found[key][-1].generation


def test_a_choice_is_the_best_at_every_token(model, tiled, requests, alone):
    """Against plain forwards of everything that was written so far."""
    number = next(n for n, request in enumerate(requests) if request.sample.id == "choice")
    sample = requests[number].sample
    prompt = tiled.encode_sample(sample, generation_prompt=True)
    pixels = torch.from_numpy(tiled.pixels(load_image(sample.images[0])))
    left = [[*tiled.tokenizer.encode(text), tiled.end] for text in requests[number].choices]
    written = []
    with torch.no_grad():
        features = model.image_features(pixels)
        while len(left) > 1:
            embeddings = model.embed(torch.tensor([prompt.ids + written]), features)
            logits = model.language(inputs_embeds=embeddings, use_cache=False).logits[0, -1]
            written.append(max({choice[len(written)] for choice in left}, key=lambda token: float(logits[token])))
            left = [choice for choice in left if choice[: len(written)] == written]
    assert alone[number].text == tiled.tokenizer.decode(left[0])
    assert alone[number].finish_reason == "stop"


def test_rows_are_refilled_and_none_is_kept(model, tiled):
    """Answers of 1 to 30 tokens in 4 rows take about their sum over 4, not the longest of each batch."""
    caps = [30, 1, 2, 3] * 6
    asked = [Request(ask(f"{n}", "色は。", [n]), choices=("あ" * (cap - 1),)) for n, cap in enumerate(caps)]
    engine = Engine(model, tiled, 4)
    for key, request in enumerate(asked):
        engine.admit(request, key)
    steps = 0
    while engine.busy:
        engine.step()
        steps += 1
        assert len(engine._running) <= 4
    tokens = sum(len(tiled.tokenizer.encode(request.choices[0])) + 1 for request in asked)
    longest = max(len(tiled.tokenizer.encode(request.choices[0])) + 1 for request in asked)
    # a prompt that is read gives a token of its own in the same step
    assert (tokens - len(asked)) / 4 <= steps < tokens / 4 + 2 * longest < 6 * longest
    assert engine._decoder.rows == len(engine._running) == 0


def test_images_of_several_requests_go_through_the_tower_together(model, tiled, monkeypatch):
    seen = []
    features = model.image_features
    monkeypatch.setattr(model, "image_features", lambda pixels: seen.append(len(pixels)) or features(pixels))
    engine = Engine(model, tiled, 8)
    for key in range(3):
        engine.admit(Request(ask("tiles", "色は。", [key], sizes=[(3 * SIDE, 2 * SIDE)]), 2), key)
    engine.admit(Request(ask("text", "色は。"), 2), 3)
    drain(engine)
    assert seen == [3 * 7]


def test_what_prompts_begin_with_is_read_once(model, tiled, monkeypatch):
    system = Message("system", ["あなたは画像について答える助手です。日本語で、短く、正しく答えてください。"])
    asked = [
        Request(Sample(str(n), [system, *ask("", "色は。" * n, [n]).messages], ask("", "", [n]).images), 4)
        for n in range(1, 13)
    ]
    single = [next(Engine(model, tiled, 1).answers([request]))[1] for request in asked]
    begin = tiled.encode([system, Message("user", [""])]).ids.index(tiled.tokenizer.special["<|user|>"])
    assert begin >= WORTH_SHARING
    engine, places = Engine(model, tiled, 4), []
    read = engine._decoder.read
    monkeypatch.setattr(
        engine._decoder, "read", lambda e, lengths, *start: places.append(e.shape[:2]) or read(e, lengths, *start)
    )
    answers = dict(engine.answers(asked))
    assert [answers[n] for n in range(12)] == single
    # the user's mark and that of an image go with it
    assert [shape for shape in places if shape[0] == 1 and shape[1] == begin + 2] == [(1, begin + 2)]
    lengths = [len(tiled.encode_sample(request.sample, generation_prompt=True).ids) for request in asked]
    assert sum(rows * width for rows, width in places) < 0.7 * sum(lengths)


def test_a_cancelled_answer_leaves_its_row_at_the_next_step(model, tiled):
    engine = Engine(model, tiled, 1)
    engine.admit(Request(ask("long", "色は。", [1]), choices=("あ" * 60,)), "long")
    engine.admit(Request(ask("next", "色は。", [2]), choices=("い" * 20,)), "next")
    engine.admit(Request(ask("never", "色は。", [3])), "never")
    assert {event.key for _ in range(4) for event in engine.step()} <= {"long"}
    engine.cancel("long")
    engine.cancel("never")
    engine.cancel("unknown")
    assert {event.key for event in engine.step()} <= {"next"}
    assert [answer.key for answer in engine._running] == ["next"]
    assert {*drain(engine)} == {"next"}


def test_pieces_come_while_the_answer_is_written(model, tiled):
    engine = Engine(model, tiled, 2)
    engine.admit(Request(ask("a", "色は。"), choices=("赤い丸が左上にあります。",)), "a")
    found = drain(engine)["a"]
    assert len(found) > 4
    assert all(event.text and not event.generation for event in found[:-1])
    assert "".join(event.text for event in found) == found[-1].generation.text == "赤い丸が左上にあります。"


def test_what_cannot_be_asked_is_named(model, tiled):
    engine = Engine(model, tiled, 2)
    with pytest.raises(DataError, match="not a readable"):
        engine.admit(Request(replace(ask("bad", "色は。", [1]), images=[ImageRef(b"no")])), 0)
    with pytest.raises(DataError, match=r"endless: the prompt takes .* of 400 tokens"):
        engine.admit(Request(ask("endless", "長い話です。" * 300)), 0)
    with pytest.raises(DataError, match=r"and the longest choice .* of 400 tokens"):
        engine.admit(Request(ask("choice", "色は。"), choices=("はい", "長い話です。" * 300)), 0)
    assert not engine.busy
    sample = ask("x", "色は。")
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"stop": ("",)}):
        with pytest.raises(UsageError, match=next(iter(wrong)).replace("stop", "stop text")):
            Request(sample, **wrong)


def test_what_is_prepared_beside_the_model_changes_neither_order_nor_company(model, tiled, requests, monkeypatch):
    """The same prompts are read together, in the same order, as if each were prepared when there is room for it."""
    read, groups, asked = Engine._read, [], [requests[n] for n in (2, 0, 1, 8, 3, 6, 5, 4, 7, 1, 9)]
    prepared = Engine._prepared
    monkeypatch.setattr(Engine, "_read", lambda e, group: groups.append([a.key for a in group]) or read(e, group))
    monkeypatch.setattr(Engine, "_prepared", lambda *given: sleep(0.002) or prepared(*given))
    found = dict(Engine(model, tiled, 3).answers(asked))
    beside, groups = groups.copy(), groups.clear() or groups
    engine, todo, wanted = Engine(model, tiled, 3), deque(enumerate(asked)), {}
    while todo or engine.busy:
        while todo and engine.waiting < 3:
            number, request = todo.popleft()
            engine.admit(request, number)
        wanted |= {event.key: event.generation for event in engine.step() if event.generation}
    assert found == wanted
    assert beside == groups
    assert len(groups) > 4


def test_requests_are_taken_as_there_is_room_and_what_is_wrong_with_one_is_raised(model, tiled):
    taken, bad = [], replace(ask("bad", "色は。", [1]), images=[ImageRef(b"no")])
    asked = (taken.append(n) or Request(ask(f"{n}", "色は。", [n]) if n != 40 else bad, 2) for n in range(1000))
    answers = Engine(model, tiled, 4).answers(asked)
    next(answers)
    assert len(taken) <= 4 * 4
    with pytest.raises(DataError, match="not a readable"):
        for _ in answers:
            pass
    assert 40 <= len(taken) <= 40 + 4 * 4
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def resident():
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def _grown(model, processor, count):
    """How much memory has grown over `count` answers, once a quarter of them is written."""
    pictures = [ask(f"{n}", "色は。", [n]) for n in range(40)]
    asked = (Request(pictures[n % 40], 1 + n % 7) for n in range(count))
    before = 0
    for done, _ in enumerate(Engine(model, processor, 32, pieces=False).answers(asked)):
        if done == count // 4:
            before = resident()
    return resident() / before


def test_memory_does_not_grow(model, processor):
    assert _grown(model, processor, 800) < 1.05


@pytest.mark.long
def test_memory_does_not_grow_over_20_000_answers(model, processor):
    assert _grown(model, processor, 20_000) < 1.05
