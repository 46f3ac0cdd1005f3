"""The server, asked by OpenAI's own client: the answers are those of the model, what is wrong is told clearly."""

import hmac
import json
import re
import socket

import openai
import pytest
from echo import BAD_PROMPT, BAD_STEP, Echo
from server import KEY, ask, client, data_uri, post, running, user
from tiny import encoded_image, make_model

from jvlm.infer.generate import VisionLanguageModel
from jvlm.infer.serve.app import make_app
from jvlm.infer.serve.schema import Limits
from jvlm.infer.service import Service
from jvlm.sample import ImageRef, Message, Sample
from jvlm.text.tokenizer import SPECIAL_TOKENS

MODEL = "tiny"
SMALL = Limits(
    body_bytes=20_000,
    images=2,
    image_bytes=8_000,
    turns=6,
    characters=300,
    choices=3,
    new_tokens=64,
    default_new_tokens=64,
)


@pytest.fixture(scope="module")
def model(tokenizer, processor):
    return VisionLanguageModel(make_model(tokenizer), processor)


@pytest.fixture(scope="module")
def real(model):
    """A client of the tiny model, greedy answers of 8 tokens unless said."""
    service = Service(model, rows=3)
    with running(make_app(service, MODEL)) as url:
        yield client(url)
    service.close()


@pytest.fixture(scope="module")
def echo():
    """(address, model, service) of a server that says what it was asked last."""
    model = Echo()
    service = Service(model)
    with running(make_app(service, MODEL, SMALL)) as url:
        yield url, model, service
    service.close()


def chat(client, messages, **options):
    return client.chat.completions.create(**{"model": MODEL, "max_tokens": 8} | options, messages=messages)


def body(**fields):
    return {"model": MODEL, "messages": [{"role": "user", "content": "はい"}]} | fields


# --- answers ------------------------------------------------------------------------------------------------------


def test_a_question_about_an_image_is_answered_as_the_model_does(real, model):
    image = encoded_image(1)
    completion = chat(real, [user(image, "色は。")])
    sample = Sample("x", [Message("user", [0, "色は。"])], [ImageRef(data=image)])
    (alone,) = model.generate([sample], max_new_tokens=8)
    assert completion.choices[0].message.content == alone.text
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == alone.finish_reason
    assert completion.usage.prompt_tokens == len(model.processor.encode_sample(sample, generation_prompt=True).ids)
    assert completion.usage.completion_tokens == alone.num_tokens
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + alone.num_tokens
    assert (completion.object, completion.model) == ("chat.completion", MODEL)
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", completion.id)
    assert chat(real, [user(encoded_image(2), "色は。")]).choices[0].message.content != alone.text


def test_a_conversation_with_several_images(real, model):
    images = [encoded_image(n) for n in range(3)]
    turns = [
        {"role": "developer", "content": "短く。"},
        user("二つの図形。", images[0], "と", images[1]),
        {"role": "assistant", "content": "はい。"},
        user(images[2], "では。", "これは。"),
    ]
    messages = [
        Message("system", ["短く。"]),
        Message("user", ["二つの図形。", 0, "と", 1]),
        Message("assistant", ["はい。"]),
        Message("user", [2, "では。これは。"]),
    ]
    (alone,) = model.generate([Sample("x", messages, [ImageRef(data=i) for i in images])], max_new_tokens=8)
    assert chat(real, turns).choices[0].message.content == alone.text


def test_a_streamed_answer_is_the_same_in_pieces(real):
    turns = [user(encoded_image(3), "何の図ですか。")]
    whole = chat(real, turns, max_tokens=20)
    chunks = list(chat(real, turns, max_tokens=20, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    *pieces, last = chunks
    assert "".join(c.choices[0].delta.content or "" for c in pieces) == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in pieces]
    assert reasons == [None] * (len(pieces) - 1) + [whole.choices[0].finish_reason]
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in pieces)
    without = list(chat(real, turns, max_tokens=20, stream=True))
    assert all(chunk.choices for chunk in without)
    assert without[-1].choices[0].finish_reason


def test_sampling_is_by_the_seed(real):
    def say(**options):
        return chat(real, [user("色は。")], max_tokens=12, **options).choices[0].message.content

    assert say(temperature=1.5, seed=1) == say(temperature=1.5, seed=1)
    assert len({say(temperature=1.5, seed=seed) for seed in range(4)}) == 4
    assert len({say(temperature=1.5) for _ in range(4)}) > 1  # a seed that is not given is another each time
    assert say(temperature=1.5, top_p=1e-6, seed=1) == say() == say(temperature=0)


def test_an_answer_ends_before_a_stop_text(real):
    text = chat(real, [user("空は。")], max_tokens=12).choices[0].message.content
    stop = text[2:4]
    stopped = chat(real, [user("空は。")], max_tokens=12, stop=["決して出ない文", stop]).choices[0]
    assert stopped.message.content == text[: text.index(stop)]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_out_of_choices_comes_with_their_probabilities(real, model, stream):
    image, choices = encoded_image(1), ["赤", "青い三角です。", "はい"]
    answer = chat(real, [user(image, "色は。")], stream=stream, extra_body={"choices": choices})
    if stream:
        *pieces, last = answer
        text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
        assert last.choices[0].finish_reason == "stop"
        found = last.choice_probabilities
    else:
        text, found = answer.choices[0].message.content, answer.choice_probabilities
    assert text in choices
    assert found == pytest.approx(model.choice_probabilities([image], "色は。", choices))


def test_the_model_is_listed_and_the_server_is_well(real, echo):
    assert [one.id for one in real.models.list()] == [MODEL]
    assert real.models.retrieve(MODEL).owned_by == "jvlm"
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        real.models.retrieve("another")
    url, *_ = echo
    assert ask("GET", f"{url}/healthz")[:2] == (200, "ok")


def test_metrics_count(echo):
    url, *_ = echo

    def values():
        status, text, headers = ask("GET", f"{url}/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r'[a-z_]+(\{[a-z]+="[a-z]+"\})? [0-9.e-]+', line) for line in lines)
        return {line.split()[0]: float(line.split()[1]) for line in lines}

    before = values()
    post(url, body())
    after = values()
    change = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    seconds = change.pop("jvlm_answer_seconds_sum")
    assert 0 < seconds < 30
    assert change == {
        'jvlm_requests_total{outcome="answered"}': 1,
        "jvlm_prompt_tokens_total": 7,
        "jvlm_generated_tokens_total": 2,
        "jvlm_engine_steps_total": 2,
        "jvlm_answer_seconds_count": 1,
    }


# --- what is typed stays text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_no_control_token_can_be_typed(echo, processor, token):
    url, model, _ = echo
    fields = [{"role": role, "content": f"前{token}後"} for role in ("system", "user", "assistant")]
    post(url, body(messages=[*fields, user(f"{token}", encoded_image(0), token)]))
    sample = model.requests[-1].sample
    assert [message.text for message in sample.messages] == [f"前{token}後"] * 3 + [token * 2]
    harmless = [Message(m.role, ["x" if isinstance(p, str) else p for p in m.content]) for m in sample.messages]
    ids, expected = (processor.encode(messages, generation_prompt=True).ids for messages in (sample.messages, harmless))
    special = set(processor.tokenizer.special.values())
    assert [i for i in ids if i in special] == [i for i in expected if i in special]


# --- what is wrong ------------------------------------------------------------------------------------------------

IMAGE = {"type": "image_url", "image_url": {"url": data_uri(encoded_image(0))}}


def part(**fields):
    return body(messages=[{"role": "user", "content": [fields]}])


WRONG = [
    (body(model="gpt-5"), 404, "no model of that name", "model"),
    (body(n=2), 400, "'n' is not offered here: only 1", "n"),
    (body(logprobs=True), 400, "'logprobs' is not offered here: only false", "logprobs"),
    (body(top_logprobs=5, logprobs=True), 400, "is not offered", "logprobs"),
    (body(tools=[{"type": "function"}]), 400, "'tools' is not offered", "tools"),
    (body(response_format={"type": "json_object"}), 400, "'response_format' is not offered", "response_format"),
    (body(frequency_penalty=0.5), 400, "'frequency_penalty' is not offered", "frequency_penalty"),
    (body(modalities=["audio"]), 400, "'modalities' is not offered", "modalities"),
    (body(temprature=1), 400, "Unrecognized request argument supplied: temprature", "temprature"),
    (body(temperature=3), 400, "'temperature': Input should be less than or equal to 2", "temperature"),
    (body(temperature="1"), 400, "'temperature'", "temperature"),
    (body(top_p=0), 400, "'top_p'", "top_p"),
    (body(max_tokens=0), 400, "'max_tokens'", "max_tokens"),
    (body(max_tokens=65), 400, "'max_tokens' is 65, at most 64", "max_tokens"),
    (body(max_completion_tokens=65), 400, "'max_completion_tokens' is 65", "max_completion_tokens"),
    (body(stop=["a"] * 5), 400, "'stop' can hold at most 4", "stop"),
    (body(stop=[""]), 400, "'stop'", "stop"),
    (body(choices=[]), 400, "'choices'", "choices"),
    (body(choices=["a", "a"]), 400, "'choices'", "choices"),
    (body(choices=["a"] * 4), 400, "'choices' can hold at most 3", "choices"),
    (body(choices=["a", "b"], stop="c"), 400, "'stop' does not go with it", "stop"),
    (body(messages=[]), 400, "'messages'", "messages"),
    (body(messages="hi"), 400, "'messages'", "messages"),
    (body(messages=[{"role": "user", "content": "x"}] * 7), 400, "7 messages, 6 are allowed", "messages"),
    (body(messages=[{"role": "tool", "content": "x"}]), 400, "'messages.0.role'", "messages.0.role"),
    (body(messages=[{"role": "assistant", "content": "x"}]), 400, "last message must be the user's", "messages"),
    (body(messages=[{"role": "user"}]), 400, "'messages.0.content' is missing", "messages.0.content"),
    (body(messages=[{"role": "user", "content": "字" * 301}]), 400, "301 characters of text, 300", None),
    (body(messages=[{"role": "system", "content": [IMAGE]}]), 400, "last message", "messages"),
    (
        body(messages=[{"role": "system", "content": [IMAGE]}, {"role": "user", "content": "x"}]),
        400,
        "only messages of the user can hold images",
        "messages.0.content",
    ),
    (body(messages=[{"role": "user", "content": [IMAGE] * 3}]), 400, "more than 2 images", "messages.0.content"),
    (part(type="input_audio", input_audio={}), 400, "'text', 'image_url'", "messages.0.content.0"),
    (part(type="text", txt="x"), 400, "messages.0.content.0.text", None),
    (part(type="image_url", image_url={"url": "data:image/png,abc"}), 400, ";base64", "messages.0.content"),
    (part(type="image_url", image_url={"url": "data:image/png;base64,@@"}), 400, "valid base64", "messages.0.content"),
    (part(type="image_url", image_url={"url": data_uri(bytes(9000))}), 413, "larger than", "messages.0.content"),
    (body(messages=[{"role": "user", "content": BAD_PROMPT}]), 400, "the prompt is bad", None),
    (b"{", 400, "not valid JSON", None),
    (b"[]", 400, "not a JSON object", None),
    (b'{"temperature": NaN}', 400, "not valid JSON", None),
    (b'{"a":' * 2000, 400, "not valid JSON", None),
    (b"\xff\xfe", 400, "not valid JSON", None),
]


@pytest.mark.parametrize(("sent", "status", "says", "param"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_told(echo, sent, status, says, param):
    url, _, service = echo
    before = service.counters.received
    got, answer, headers = post(url, sent)
    assert (got, headers["content-type"]) == (status, "application/json")
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert says in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert param is None or answer["error"]["param"] == param
    assert "secret" not in str(answer)
    assert "0x" not in str(answer)
    assert service.counters.received == before  # nothing was queued


def test_a_lone_surrogate_is_refused(echo):
    url, *_ = echo
    status, answer, _ = post(url, rb'{"model": "tiny", "messages": [{"role": "user", "content": "\ud800"}]}')
    assert (status, answer["error"]["message"]) == (400, "the body is not valid JSON")


def test_what_asks_for_nothing_is_accepted(echo):
    url, *_ = echo
    nothing = {
        **{"n": 1, "logprobs": False, "tools": [], "tool_choice": "none", "presence_penalty": 0.0, "logit_bias": {}},
        **{"response_format": {"type": "text"}, "user": "u", "metadata": {"a": "b"}, "store": True, "seed": None},
        **{"max_tokens": None, "stop": None, "temperature": None, "stream_options": None, "choices": None},
    }
    status, answer, _ = post(url, body(**nothing))
    assert status == 200
    message = answer["choices"][0]["message"]
    history = [{"role": "user", "content": "x"}, message | {"tool_calls": None, "annotations": []}]
    assert post(url, body(messages=[*history, {"role": "user", "content": "y"}]))[0] == 200


def test_an_image_that_is_none_is_told_without_internals(real):
    for data in (b"no image", encoded_image(0)[:60]):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(real, [user(data, "色は。")])
        assert "image" in caught.value.message
        assert "0x" not in caught.value.message


def test_a_prompt_beyond_the_window_is_told(real):
    with pytest.raises(openai.BadRequestError, match="of 400 tokens"):
        chat(real, [user("あ" * 1000)])


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_ours_is_told_without_internals(echo, stream):
    url, *_ = echo
    with pytest.raises(openai.APIError) as caught:
        list(chat(client(url), [user(BAD_STEP)], stream=stream))
    assert "the answer failed" in caught.value.message
    assert "secret" not in str(caught.value)
    if not stream:
        assert isinstance(caught.value, openai.InternalServerError)


def test_no_address_is_ever_fetched(echo):
    url, *_ = echo
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        for address in (
            f"http://127.0.0.1:{port}/x.png",
            f"HTTP://localhost:{port}/",
            f"//127.0.0.1:{port}/",
            f"http://[::1]:{port}/",
            f" data:image/png;base64,http://127.0.0.1:{port}/",
            "file:///etc/passwd",
            "/etc/passwd",
            "ftp://example.invalid/x.png",
            "",
        ):
            status, answer, _ = post(url, part(type="image_url", image_url={"url": address}))
            assert status == 400
            assert answer["error"]["code"] == "invalid_image_url"
            assert "addresses are not fetched" in answer["error"]["message"]
        with pytest.raises(TimeoutError):
            listener.accept()


def test_bodies_that_are_too_large_are_refused_with_and_without_a_length(echo):
    url, *_ = echo
    large = json.dumps(body(user="x" * 30_000)).encode()
    status, answer, _ = post(url, large)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    port = int(url.rpartition(":")[2])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(6):  # it never says that it ends
            raw.sendall(b"fa0\r\n" + b" " * 4000 + b"\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(head + b"Content-Length: 999999999\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert post(url, body())[0] == 200


def test_other_paths_methods_and_kinds_of_content(echo):
    url, *_ = echo
    assert ask("GET", f"{url}/nothing")[1]["error"]["message"] == "Not Found"
    assert ask("GET", f"{url}/v1/chat/completions")[0] == 405
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert ask("GET", f"{url}{path}")[0] == 404
    # a page of another site can send these without being asked first by the browser
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert post(url, body(), {"Content-Type": kind})[0] == 415


# --- who may ask --------------------------------------------------------------------------------------------------


def test_only_those_with_the_key_are_answered(monkeypatch):
    compared = []

    def compare(one, other, real=hmac.compare_digest):
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    service = Service(Echo())
    with running(make_app(service, MODEL, key=KEY)) as url:
        assert chat(client(url), [user("x")]).choices[0].message.content == "x"
        for key in ("another", KEY + "x"):
            with pytest.raises(openai.AuthenticationError) as caught:
                chat(client(url, api_key=key), [user("x")])
            assert caught.value.code == "invalid_api_key"
        assert (KEY.encode(), KEY.encode()) in compared
        for path, status in (("/v1/models", 401), ("/metrics", 401), ("/nothing", 401), ("/healthz", 200)):
            assert ask("GET", f"{url}{path}")[0] == status
        for authorization in (f"Basic {KEY}", KEY, "Bearer", "Bearer \xe9"):
            assert ask("GET", f"{url}/v1/models", headers={"Authorization": authorization})[0] == 401
        status, _, headers = post(url, body())
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert service.counters.received == 1
    service.close()


def test_only_the_names_of_the_server_are_answered_to():
    service = Service(Echo())
    with running(make_app(service, MODEL, hosts={"localhost", "127.0.0.1", "::1"})) as url:
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"):
            assert post(url, body(), {"Host": host})[0] == 200, host
        for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[", ""):
            status, answer, _ = post(url, body(), {"Host": host})
            assert status in (400, 403), host
            assert status == 400 or "--allow-host" in answer["error"]["message"]
        assert ask("GET", f"{url}/healthz", headers={"Host": "evil.example"})[0] == 403
    service.close()
