"""The queue in front of an engine: order, limits, cancelling, faults; with the real engine the same answers."""

import threading
import time

import pytest
from echo import BAD_ADMISSION, BAD_PROMPT, BAD_STEP, Echo, request
from tiny import ask, make_model, samples

from jvlm.errors import DataError, JvlmError
from jvlm.infer.generate import VisionLanguageModel
from jvlm.infer.service import Busy, Cancelled, Failed, Service
from jvlm.infer.types import Request


@pytest.fixture
def service():
    """Makes services and closes them."""
    made = []

    def make(model, **options):
        made.append(Service(model, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
        assert not one.alive


@pytest.fixture
def paced(service):
    """A service whose engine steps only when it is told to: (service, model, tell)."""
    pace = threading.Semaphore(0)
    model = Echo(pace)

    def tell(steps):
        before = sum(len(engine.steps) for engine in model.engines)
        pace.release(steps)
        until(lambda: sum(len(engine.steps) for engine in model.engines) >= before + steps)

    made = []

    def make(**options):
        made.append(service(model, **options))
        return made[-1], model, tell

    yield make
    pace.release(10_000)


def until(condition, seconds=10.0):
    """Waits for what another thread will do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


def test_an_answer_comes_in_pieces_and_whole(service):
    asked = service(Echo())
    answer = asked.submit(request("空は青い。"))
    assert "".join(answer) == "空は青い。"
    assert list(answer) == []  # there is one reader
    generation = answer.result(5)
    assert (generation.text, generation.finish_reason, generation.num_tokens) == ("空は青い。", "stop", 5)
    assert asked.submit(request("長い文", max_new_tokens=2)).result(5).finish_reason == "length"
    assert "".join(asked.submit(request("もう一つ"))) == "もう一つ"
    counters = asked.counters
    assert (counters.received, counters.answered, counters.prompt_tokens) == (3, 3, 21)
    assert counters.generated_tokens == 5 + 2 + 4
    assert counters.answer_seconds > 0


def test_who_comes_first_is_served_first(paced):
    asked, model, tell = paced(rows=2, capacity=10)
    answers = [asked.submit(request(name * 3)) for name in "abcdef"]
    until(lambda: asked.running == 2)
    assert [answer.position for answer in answers] == [0, 0, 1, 2, 3, 4]
    assert asked.waiting == 4
    tell(9)
    assert [answer.result(5).text for answer in answers] == ["aaa", "bbb", "ccc", "ddd", "eee", "fff"]
    assert model.newest.admitted == ["aaa", "bbb", "ccc", "ddd", "eee", "fff"]
    assert model.newest.steps[:4] == [["aaa", "bbb"]] * 3 + [["ccc", "ddd"]]
    assert [answer.position for answer in answers] == [0] * 6


def test_a_full_queue_refuses_and_takes_again(paced):
    asked, model, tell = paced(rows=2, capacity=3)
    answers = [asked.submit(request("aa")) for _ in range(5)]
    prompts = len(model.requests)
    for _ in range(3):
        with pytest.raises(Busy, match="too many requests"):
            asked.submit(request("b"))
    assert len(model.requests) == prompts  # a refused one costs nothing
    assert (asked.counters.received, asked.counters.refused) == (8, 3)
    tell(2)
    for answer in answers[:2]:
        answer.result(5)
    asked.check_room()
    late = asked.submit(request("c"))
    tell(4)
    assert late.result(5).text == "c"


def test_a_cancelled_answer_leaves_its_row_before_the_next_step(paced):
    asked, model, tell = paced(rows=1, capacity=5)
    first, second, third = (asked.submit(request(name * 50)) for name in "abc")
    tell(3)
    until(lambda: len(first._text) == 3)
    second.cancel()  # still in the queue
    assert third.position == 1
    first.cancel()
    assert first.done
    assert second.done
    steps = len(model.newest.steps)
    tell(2)  # one may have been under way
    assert model.newest.steps[steps + 1] == ["c" * 50]
    assert "b" * 50 not in model.newest.admitted
    for answer in (first, second):
        with pytest.raises(Cancelled):
            answer.result(5)
        answer.cancel()  # once more does nothing
    assert asked.counters.cancelled == 2
    assert list(first._text) == ["a"] * 3


def test_leaving_the_loop_cancels(paced):
    asked, _, tell = paced(rows=1)
    answer = asked.submit(request("x" * 100))
    tell(1)
    for _ in answer:
        break
    assert answer.done
    assert (asked.running, asked.counters.cancelled) == (0, 1)


def test_what_cannot_be_asked_is_refused_to_the_asker(service):
    asked = service(Echo())
    with pytest.raises(DataError, match="the prompt is bad"):
        asked.submit(request(BAD_PROMPT))
    assert (asked.running, asked.waiting, asked.counters.received) == (0, 0, 0)
    assert asked.submit(request("ok")).result(5).text == "ok"


def test_an_error_reaches_only_its_own_request(service, caplog):
    """Those in the same batch are computed again; what had been given out of them is not given twice."""
    model = Echo()
    asked = service(model, rows=4, capacity=20)
    texts = ["first answer", BAD_STEP, "second", BAD_ADMISSION, "third one", BAD_STEP, "fourth"]
    answers = [asked.submit(request(text)) for text in texts]
    for text, answer in zip(texts, answers, strict=True):
        if text in (BAD_STEP, BAD_ADMISSION):
            with pytest.raises(Failed, match="the answer failed") as caught:
                answer.result(10)
            assert "secret" not in str(caught.value)
        else:
            assert "".join(answer) == text
            assert answer.result(10).text == text
    assert "secret of the engine" in caplog.text
    assert (asked.counters.failed, asked.counters.answered) == (3, 4)
    assert len(model.engines) > 2  # none goes on after a fault
    assert asked.submit(request("after")).result(5).text == "after"


def test_an_engine_that_cannot_be_made_fails_requests_and_not_the_service(service):
    model = Echo()
    model.engine, engine = (lambda rows: 1 / 0), model.engine
    asked = service(model)
    with pytest.raises(Failed):
        asked.submit(request("x")).result(5)
    model.engine = engine
    assert asked.submit(request("y")).result(5).text == "y"


def test_a_reader_that_cannot_be_told_does_not_stop_the_engine(service, caplog):
    asked = service(Echo())
    answer = asked.submit(request("xyz"), notify=lambda: 1 / 0)
    assert answer.result(5).text == "xyz"
    assert "cannot be told" in caplog.text
    assert asked.submit(request("x")).result(5).text == "x"


def test_closing_ends_every_answer(paced):
    asked, model, tell = paced(rows=1)
    answers = [asked.submit(request("a" * 9)) for _ in range(3)]
    tell(1)
    closing = threading.Thread(target=asked.close)
    closing.start()
    model.pace.release()  # of the step that may be under way
    closing.join(10)
    for answer in answers:
        with pytest.raises(Cancelled):
            answer.result(5)
    with pytest.raises(JvlmError, match="closed"):
        asked.submit(request("b"))


def test_waiting_can_be_limited(paced):
    asked, *_ = paced(rows=1)
    with pytest.raises(TimeoutError):
        asked.submit(request("a")).result(0.01)


def test_many_threads_each_get_their_own(service):
    asked = service(Echo(), rows=4, capacity=200)
    wrong = []

    def client(number):
        for turn in range(10):
            text = f"<{number}:{turn}:{'x' * (number % 7)}>"
            pieces = "".join(asked.submit(request(text)))
            if pieces != text:
                wrong.append((text, pieces))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert asked.counters.answered == 200


# --- with the real engine ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tokenizer, processor):
    return VisionLanguageModel(make_model(tokenizer), processor)


def test_answers_are_those_of_the_model_alone(service, model):
    prompts = [
        ask("text", "空は何色ですか。"),
        ask("one", "色は。", [1]),
        ask("two", "1枚目と2枚目で、図形が多いのはどちらですか。", [2, 3]),
        *samples("preference_pool", 3),
    ]
    asked = service(model, rows=3)
    requests = [Request(sample, 4 + 3 * number) for number, sample in enumerate(prompts)] * 2
    answers = [asked.submit(one) for one in requests]
    texts = set()
    for one, answer in zip(requests, answers, strict=True):
        (alone,) = model.generate([one.sample], max_new_tokens=one.max_new_tokens)
        assert answer.result(30) == alone
        assert answer._text == alone.text
        texts.add(alone.text)
        assert answer.prompt_tokens == len(model.processor.encode_sample(one.sample, generation_prompt=True).ids)
    assert len(texts) > 3


def test_a_choice_comes_with_the_share_of_each(service, model):
    sample, choices = ask("q", "色は。", [1]), ("赤", "青い三角", "はい")
    answer = service(model).submit(Request(sample, choices=choices))
    assert answer.result(30).text in choices
    expected = model.choice_probabilities(sample.images, "色は。", choices)
    assert answer.choice_probabilities == pytest.approx(expected)


def test_a_bad_image_and_a_prompt_too_long_are_refused(service, model):
    asked = service(model)
    broken = ask("q", "色は。", [1])
    broken.images[0] = type(broken.images[0])(data=b"no image")
    for sample in (broken, ask("long", "あ" * 1000)):
        with pytest.raises(DataError):
            asked.submit(Request(sample))
        with pytest.raises(DataError):
            asked.submit(Request(sample, choices=("赤",)))
    assert asked.submit(Request(ask("q", "丸"), 3)).result(30).num_tokens <= 3
