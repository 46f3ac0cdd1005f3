"""Many clients at once, and clients that go away."""

import json
import socket
import threading
import time
import weakref

import openai
import pytest
from echo import Echo
from server import ask, client, running, user

from jvlm.infer.serve.app import make_app
from jvlm.infer.serve.schema import read_chat
from jvlm.infer.service import Service

MODEL = "tiny"


def test_clients_get_their_own_answers_in_order():
    clients_and_turns(10, 5)


@pytest.mark.long
def test_fifty_clients_with_twenty_requests_each():
    clients_and_turns(50, 20)


def clients_and_turns(clients, turns):
    """Each asks one after the other, every second time as a stream; who is told to come again does."""
    service = Service(Echo(), rows=4, capacity=clients // 3)
    wrong, refused, order = [], [], {number: [] for number in range(clients)}

    def talk(number, url):
        with client(url) as mine:
            for turn in range(turns):
                canary = f"canary-{number}-{turn}-{'x' * (number % 5)}"
                while True:
                    try:
                        answer = mine.chat.completions.create(
                            model=MODEL, messages=[user(canary)], stream=bool(turn % 2)
                        )
                        break
                    except openai.RateLimitError as error:
                        refused.append((error.code, error.response.headers["retry-after"]))
                        time.sleep(0.02)
                if turn % 2:
                    text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
                else:
                    text = answer.choices[0].message.content
                order[number].append(turn)
                if text != canary:
                    wrong.append((canary, text))

    with running(make_app(service, MODEL)) as url:
        threads = [threading.Thread(target=talk, args=(number, url)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(500)
        assert ask("GET", f"{url}/healthz")[:2] == (200, "ok")
    counters = service.counters
    service.close()
    assert wrong == []
    assert order == {number: list(range(turns)) for number in range(clients)}
    assert counters.answered == clients * turns
    assert counters.failed == counters.cancelled == 0
    assert set(refused) <= {("busy", "1")}
    assert counters.refused == len(refused)


@pytest.fixture
def slow():
    """(address, service, model) of one row, whose engine steps when it is told to, and one place to wait."""
    pace = threading.Semaphore(0)
    model = Echo(pace)
    service = Service(model, rows=1, capacity=1)
    with running(make_app(service, MODEL)) as url:
        yield url, service, model
        pace.release(10_000)
    service.close()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


def send(url, text, stream):
    """A connection on which the question was asked, and nothing is read."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": stream}).encode()
    raw = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)
    raw.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return raw


def test_overload_is_answered_with_when_to_come_again(slow):
    url, service, _ = slow
    with send(url, "a" * 50, False), send(url, "b" * 50, True):
        until(lambda: (service.running, service.waiting) == (1, 1))
        with pytest.raises(openai.RateLimitError) as caught:
            client(url).chat.completions.create(model=MODEL, messages=[user("c")])
        assert caught.value.response.headers["retry-after"] == "1"
        assert caught.value.type == "rate_limit_error"
    until(lambda: service.counters.cancelled == 2)


def test_bodies_that_wait_to_be_read_are_bounded_too(monkeypatch):
    """Each may hold many pictures: they must not pile up before the queue, where nothing counts them."""
    monkeypatch.setattr("jvlm.infer.serve.app.BODIES", 2)
    model, gate, inside = Echo(), threading.Event(), []
    tokens = model.prompt_tokens

    def slow_tokens(request):
        inside.append(request)
        assert gate.wait(20)
        return tokens(request)

    model.prompt_tokens = slow_tokens
    service = Service(model)
    with running(make_app(service, MODEL)) as url, send(url, "a", False), send(url, "b", False):
        until(lambda: len(inside) == 2)
        with pytest.raises(openai.RateLimitError):
            client(url, timeout=5).chat.completions.create(model=MODEL, messages=[user("c")])
        gate.set()
        until(lambda: service.counters.answered == 2)
    service.close()


def test_what_was_sent_is_not_kept_while_it_is_answered(slow, monkeypatch):
    url, service, _ = slow
    seen = []

    def read(body):
        chat = read_chat(body)
        seen.append(weakref.ref(chat))
        return chat

    monkeypatch.setattr("jvlm.infer.serve.app.read_chat", read)
    with send(url, "a" * 50, False), send(url, "b" * 50, True):
        until(lambda: (service.running, service.waiting) == (1, 1))
        until(lambda: [reference() for reference in seen] == [None, None])


def test_a_stream_comes_while_the_answer_is_written(slow):
    url, service, model = slow
    stream = client(url).chat.completions.create(model=MODEL, messages=[user("abcdef")], stream=True)
    text = ""
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if len(text) < 6:
            assert service.running + service.waiting == 1
            model.pace.release()  # the next character is written once this one is here
    assert text == "abcdef"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_row_within_one_token(slow, stream):
    url, service, model = slow
    leaver = send(url, "a" * 1000, stream)
    until(lambda: service.running == 1)
    with send(url, "b" * 30, False) as stayer:
        until(lambda: service.waiting == 1)
        model.pace.release(5)
        until(lambda: len(model.newest.steps) == 5)
        leaver.close()
        until(lambda: service.counters.cancelled == 1)
        model.pace.release(100)
        reply = b""
        while b'"b' not in reply and b"bbb" not in reply:
            reply += stayer.recv(10_000)
    served = [step[0][0] for step in model.newest.steps]
    assert served[:5] == ["a"] * 5
    assert served.count("a") <= 6  # the token under way when it went, and none more
    assert served.count("b") == 30


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_while_it_waits_leaves_the_queue(slow, stream):
    url, service, model = slow
    with send(url, "a" * 10, False):
        until(lambda: service.running == 1)
        leaver = send(url, "b" * 10, stream)
        until(lambda: service.waiting == 1)
        leaver.close()
        until(lambda: service.waiting == 0)
    assert not any("b" * 10 in step for step in model.newest.steps)


def test_a_client_that_goes_away_before_its_body_has_come_does_no_harm(slow):
    url, service, model = slow
    raw = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)
    raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    raw.sendall(b"Content-Length: 100\r\n\r\n{")
    time.sleep(0.05)
    raw.close()
    model.pace.release(100)
    assert client(url).chat.completions.create(model=MODEL, messages=[user("ok")]).choices[0].message.content == "ok"
    assert service.counters.received == 1
