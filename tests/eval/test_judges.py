"""Judges of open answers: what is read of them, figures known beforehand, records, and an address that misbehaves."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from jvlm.errors import DataError, JvlmError, UsageError
from jvlm.eval.judge_prompts import load_protocol, read_rating, read_scores, read_verdict
from jvlm.eval.judges import KEY, LocalJudge, UrlJudge
from jvlm.eval.judging import Case, judge_cases, score_verdicts
from jvlm.files import read_json_lines
from jvlm.infer.types import Generation
from jvlm.sample import Message, Sample

RATINGS = [
    ("良い。評価：[[5]]", 5.0),
    ("Rating: [[7.5]]", 7.5),
    ("[[10]]", 10.0),
    ("[8]", 8.0),
    ("[1] には誤り。[[3]]", 3.0),  # double brackets first
    ("[[5]] いや [[6]]", 5.0),
    ("<think>[[9]]</think>[[2]]", 2.0),
    ("<think>まだ [[9]]", None),
    ("[[9]] だろうか</think>[[2]]", 2.0),  # the mark that opens stands in the template of some models
    ("[[0]]", None),
    ("[[11]]", None),
    ("評価：5", None),
    ("[[rating]]", None),
    ("", None),
]
VERDICTS = [("Aが良い。[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "C"), ("[[A]] [[A]]", "A"), ("[[A]] [[B]]", None)]
VERDICTS += [("[A]", None), ("<think>[[B]]</think> [[A]]", "A"), ("", None)]
SCORES = [
    ('```json\n{"score_gpt": 8, "score": 5}\n```', (5.0, 8.0)),
    ('{"score": "7", "score_gpt": 9}', (7.0, 9.0)),
    ('{"a": 1} {"score": 1, "score_gpt": 10}', (1.0, 10.0)),
    ('{"score": 0, "score_gpt": 9}', None),
    ('{"score": 5}', None),
    ('{"score": [5], "score_gpt": 1}', None),
    ("score: 5", None),
]


@pytest.mark.parametrize(("said", "read"), RATINGS)
def test_ratings_are_read(said, read):
    assert read_rating(said) == read


@pytest.mark.parametrize(("said", "read"), VERDICTS)
def test_verdicts_are_read(said, read):
    assert read_verdict(said) == read


@pytest.mark.parametrize(("said", "read"), SCORES)
def test_pairs_of_scores_are_read(said, read):
    assert read_scores(said) == read


class Made:
    """A judge that says what `choose` makes of the user's turn."""

    def __init__(self, choose, name="made"):
        self.choose, self.name, self.asked = choose, name, []
        self.about = {"id": "made", "kind": "made"}

    def answer(self, questions, max_new_tokens):
        self.asked += [question.messages[-1].text for question in questions]
        said = [self.choose(question) for question in questions]
        return [Generation(one, "stop", 1) if not one.startswith("!") else one[1:] for one in said]


def talks(count=12, kinds=("writing", "math"), turns=2):
    return [
        Case(
            str(i),
            str(i),
            kinds[i % len(kinds)],
            [f"問{i}-{t}" for t in range(turns)],
            [f"答{i}-{t}" for t in range(turns)],
            [f"模範{i}-{t}" for t in range(turns)],
            f"相手{i}",
            f"絵{i}",
        )
        for i in range(count)
    ]


def judged(judge, protocol, cases, folder):
    how = load_protocol(protocol)
    return score_verdicts(judge, protocol, how, judge_cases(judge, how, cases, folder, "t"))


def test_ratings_are_averaged_by_turn_and_kind_and_failures_left_out(tmp_path):
    def choose(question):
        text = question.messages[-1].text
        if "答3-" in text and "答3-1" not in text:
            return "わかりません"
        return "[[8]]" if "答" + question.id + "-1" in text else "[[4]]"

    judge = Made(choose)
    result = judged(judge, "mt_bench", talks(), tmp_path)
    assert (result["asked"], result["failures"], result["n_answers"]) == (24, 1, 12)
    assert result["failure_rate"] == pytest.approx(1 / 24)
    assert result["turns"]["turn 1"] == {"value": 4.0, "interval": [4.0, 4.0], "n": 11}
    assert result["turns"]["turn 2"]["value"] == 8.0
    assert result["score"]["value"] == pytest.approx((11 * 4 + 12 * 8) / 23)
    low, high = result["score"]["interval"]
    assert low < result["score"]["value"] <= high
    assert result["kinds"]["math"]["value"] == pytest.approx((5 * 4 + 6 * 8) / 11)
    assert (result["judge"]["id"], result["version"]) == ("made", "swallow-1")
    assert result["prompt_sha256"] == load_protocol("mt_bench").sha256


def test_the_reference_is_shown_where_the_kind_wants_it_and_nowhere_else(tmp_path):
    judge = Made(lambda question: "[[5]]")
    judged(judge, "mt_bench", talks(4), tmp_path)
    for text in judge.asked:
        number = next(n for n in range(4) if f"問{n}-0" in text)
        assert (f"模範{number}-0" in text) == bool(number % 2)
        second = f"問{number}-1" in text
        assert (f"答{number}-1" in text) == second
        assert (f"模範{number}-1" in text) == (second and bool(number % 2))
    missing = [Case("1", "1", "math", ["問"], ["答"])]
    with pytest.raises(DataError, match="reference_1 is needed"):
        judged(judge, "mt_bench", missing, tmp_path)


def side(question):
    """The letter under which the answer of the model stands."""
    text = question.messages[-1].text
    return "A" if text.index(f"答{question.id}-0") < text.index(f"相手{question.id}") else "B"


def test_a_pair_is_asked_in_both_orders_and_disagreement_is_a_tie(tmp_path):
    def choose(question):
        number = int(question.id)
        mine = side(question)
        other = "AB"[mine == "A"]
        return {0: f"[[{mine}]]", 1: f"[[{other}]]", 2: "[[C]]", 3: "[[A]]", 4: "?"}[number % 5]

    result = judged(Made(choose), "vicuna", talks(10, ("generic",), 1), tmp_path)
    assert result["outcomes"] == {"won": 2, "tie": 4, "lost": 2}
    assert (result["disagreements"], result["failures"]) == (2, 4)
    assert (result["score"]["value"], result["score"]["n"]) == (0.5, 8)
    # of the decided verdicts, those of 3 and 8 are for the first twice, the others once each
    assert result["first_preferred"] == pytest.approx((4 + 2 + 2) / 12)


def test_a_judge_that_always_prefers_the_first_gives_nothing_but_ties(tmp_path):
    result = judged(Made(lambda question: "[[A]]"), "vicuna", talks(6, ("generic",), 1), tmp_path)
    assert (result["score"]["value"], result["first_preferred"], result["disagreements"]) == (0.5, 1.0, 6)


def test_relative_ratings_by_hand(tmp_path):
    def choose(question):
        number = int(question.id)
        return "nein" if number == 5 else json.dumps({"score": 2 + number % 3, "score_gpt": 8})

    result = judged(Made(choose), "heron", talks(6, ("conv", "detail", "complex"), 1), tmp_path)
    assert result["failures"] == 1
    assert {kind: figure["value"] for kind, figure in result["kinds"].items()} == {
        "conv": pytest.approx(25),
        "detail": pytest.approx(37.5),
        "complex": pytest.approx(50),
    }
    assert result["score"]["value"] == pytest.approx((25 + 37.5 + 50) / 3)
    assert result["rating"]["value"] == pytest.approx((2 + 3 + 4 + 2 + 3) / 5)
    text = Made(choose)
    judged(text, "heron", talks(1, ("conv",), 1), tmp_path / "b")
    assert all(part in text.asked[0] for part in ("絵0", "問0-0", "模範0-0", "答0-0"))


@pytest.mark.parametrize("protocol", ["mt_bench", "vicuna", "heron"])
def test_players_in_the_judges_chair(protocol, tmp_path):
    """A judge that draws comes to chance, one that praises (or always decides) alike to its best."""
    cases = talks(8, {"mt_bench": ("writing",), "vicuna": ("generic",), "heron": ("conv",)}[protocol], 1)

    def praise(question):
        mine = side(question) if protocol == "vicuna" else ""
        return {"mt_bench": "[[10]]", "vicuna": f"[[{mine}]]", "heron": '{"score": 10, "score_gpt": 10}'}[protocol]

    best = judged(Made(praise, "praise"), protocol, cases, tmp_path)["score"]
    top = {"mt_bench": 10.0, "vicuna": 1.0, "heron": 100.0}[protocol]
    assert (best["value"], best["interval"]) == (top, [top, top])
    values = []
    for seed in range(100):
        draw = np.random.default_rng(seed)

        def choose(question, draw=draw):
            one = draw.integers(1, 11)
            said = {"mt_bench": f"[[{one}]]", "vicuna": f"[[{'ABC'[one % 3]}]]"}
            return said.get(protocol, json.dumps({"score": int(one), "score_gpt": 5}))

        values.append(judged(Made(choose, f"random {seed}"), protocol, cases, tmp_path)["score"]["value"])
    chance = {"mt_bench": 5.5, "vicuna": 0.5, "heron": 110.0}[protocol]
    assert abs(np.mean(values) - chance) <= 3 * np.std(values, ddof=1) / 10


def test_verdicts_are_kept_and_not_asked_for_again(tmp_path):
    cases = talks(5)
    first = Made(lambda question: "[[6]]")
    result = judged(first, "mt_bench", cases, tmp_path)
    assert len(first.asked) == 10
    (path,) = tmp_path.rglob("samples.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:7]) + lines[7][:9])  # killed while writing
    again = Made(lambda question: "[[6]]")
    assert judged(again, "mt_bench", cases, tmp_path) == result
    assert len(again.asked) == 3
    assert sorted(path.read_text().splitlines()) == sorted("".join(lines).splitlines())
    changed = [*cases[:-1], Case("4", "4", "writing", ["問4-0", "問4-1"], ["ちがう答", "答4-1"])]
    judged(again, "mt_bench", changed, tmp_path)
    assert len(again.asked) == 5  # another answer is judged anew, in both turns
    other = Made(lambda question: "[[1]]", "another judge")
    assert judged(other, "mt_bench", cases, tmp_path)["score"]["value"] == 1.0
    assert len(other.asked) == 10


def test_nothing_said_is_the_lowest_without_a_question(tmp_path):
    silent = [Case("0", "0", "generic", ["問"], [" "], [], "相手"), Case("1", "1", "generic", ["問"], ["\n"], [], "")]
    judge = Made(lambda question: "[[5]]")
    assert judged(judge, "vicuna", silent, tmp_path)["outcomes"] == {"won": 0, "tie": 1, "lost": 1}
    assert judged(judge, "mt_bench", silent, tmp_path)["score"]["value"] == 1.0
    assert judge.asked == []
    generous = Made(lambda question: '{"score": 9, "score_gpt": 8}')
    case = Case("0", "0", "conv", ["問"], [""], ["模範"], None, "絵")
    assert judged(generous, "heron", [case], tmp_path)["rating"]["value"] == 1.0


def test_what_the_judge_refuses_is_told(tmp_path):
    judge = Made(lambda question: "!too long" if question.id == "2" else "[[5]]")
    result = judged(judge, "mt_bench", talks(4, turns=1), tmp_path)
    assert result["refused"] == {"2, turn 1": "too long"}
    assert (result["asked"], result["failures"], result["score"]["n"]) == (4, 1, 3)


def test_a_local_model_is_asked_what_fits_it():
    class Short:
        def __init__(self):
            self.settings = {"template": "chat"}

        def refusals(self, samples, choices):
            return ["too long" if len(sample.messages[-1].text) > 3 else None for sample in samples]

        def generate(self, samples, *, max_new_tokens=64, stop=()):
            return [Generation(sample.messages[-1].text * 2, "stop", max_new_tokens) for sample in samples]

    questions = [Sample("q", [Message("user", [text])]) for text in ("abcd", "ab", "abcde", "c")]
    judge = LocalJudge(Short(), "short 123")
    assert judge.answer(questions, 7) == [
        "too long",
        Generation("abab", "stop", 7),
        "too long",
        Generation("cc", "stop", 7),
    ]
    assert judge.about == {"id": "short 123", "kind": "local", "settings": {"template": "chat"}}


QUESTION = [Sample("q", [Message("system", ["きびしく"]), Message("user", ["どう？"])])]


@pytest.fixture
def server():
    """Answers with the next of `replies`: (status, body, headers); the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append((self.path, dict(self.headers), json.loads(seen)))
            status, body, headers = self.server.replies[min(len(self.server.seen), len(self.server.replies)) - 1]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.seen, made.replies = [], []
    threading.Thread(target=made.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{made.server_port}/v1"
    yield made
    made.shutdown()
    made.server_close()


def reply(text="[[5]]", finish="stop"):
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"completion_tokens": 3}}, {}


def test_an_address_is_asked_as_openai_s_is_and_the_key_goes_nowhere_else(server, monkeypatch, tmp_path):
    monkeypatch.setenv(KEY, "sk-geheim")
    server.replies = [reply("よい。[[7]]", "length")]
    judge = UrlJudge(server.url + "/", "gpt-x", pytest.fail)
    assert judge.answer(QUESTION, 33) == [Generation("よい。[[7]]", "length", 3)]
    ((path, headers, body),) = server.seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-geheim"
    assert body == {
        "model": "gpt-x",
        "temperature": 0,
        "max_tokens": 33,
        "messages": [{"role": "system", "content": "きびしく"}, {"role": "user", "content": "どう？"}],
    }
    result = judged(judge, "mt_bench", talks(2), tmp_path)
    assert result["judge"]["id"] == f"gpt-x at {server.url}"
    assert "geheim" not in json.dumps(result)
    assert "geheim" not in "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    monkeypatch.delenv(KEY)
    judge.answer(QUESTION, 33)
    assert "Authorization" not in server.seen[-1][1]


def test_a_busy_server_is_asked_again_after_a_while(server):
    server.replies = [(429, {}, {"Retry-After": "7"}), (503, {}, {}), (500, {}, {}), reply("[[2]]")]
    pauses = []
    assert UrlJudge(server.url, "m", pauses.append).answer(QUESTION, 9)[0].text == "[[2]]"
    assert pauses == [7.0, 2.0, 4.0]


def test_a_server_that_never_answers_ends_the_work_and_what_was_said_stays(server, tmp_path):
    server.replies = [reply(), reply(), (500, b"down", {})]
    judge = UrlJudge(server.url, "m", lambda seconds: None)
    cases = talks(3, turns=1)
    judged(judge, "mt_bench", cases[:1], tmp_path)
    judged(judge, "mt_bench", cases[:2], tmp_path)
    with pytest.raises(JvlmError, match=r"does not answer: status 500: down.*go on"):
        judged(judge, "mt_bench", cases, tmp_path)
    assert len(server.seen) == 2 + 5
    assert sum(len(read_json_lines(path)) for path in tmp_path.rglob("samples.jsonl")) == 2
    server.shutdown()
    server.server_close()
    with pytest.raises(JvlmError, match="does not answer"):
        UrlJudge(server.url, "m", lambda seconds: None).answer(QUESTION, 9)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_is_told_at_once(server, status):
    server.replies = [(status, {"error": {"message": "no such key"}}, {})]
    with pytest.raises(JvlmError, match="no such key"):
        UrlJudge(server.url, "m", pytest.fail).answer(QUESTION, 9)
    assert len(server.seen) == 1


def test_a_question_that_is_too_long_is_refused_alone(server):
    server.replies = [(400, {"error": {"message": "maximum context length"}}, {})]
    (refused,) = UrlJudge(server.url, "m", pytest.fail).answer(QUESTION, 9)
    assert isinstance(refused, str)
    assert "maximum context length" in refused


def test_a_key_is_not_carried_to_another_address(server, monkeypatch):
    monkeypatch.setenv(KEY, "sk-geheim")
    server.replies = [(302, {}, {"Location": server.url + "/elsewhere"}), reply()]
    with pytest.raises(JvlmError, match="status 302"):
        UrlJudge(server.url, "m", pytest.fail).answer(QUESTION, 9)
    assert len(server.seen) == 1


@pytest.mark.parametrize("body", [b"<html>", {"choices": []}, {"choices": [{"message": {"content": None}}]}, []])
def test_what_is_no_completion_is_no_verdict(server, body):
    server.replies = [(200, body, {})]
    (said,) = UrlJudge(server.url, "m", pytest.fail).answer(QUESTION, 9)
    assert isinstance(said, str)


@pytest.mark.parametrize("url", ["ftp://a/v1", "https://", "http://me:key@host/v1", "https://host/v1?key=1"])
def test_addresses_that_are_none(url):
    with pytest.raises(UsageError):
        UrlJudge(url, "m")
    with pytest.raises(UsageError, match="--judge-model"):
        UrlJudge("https://host/v1", None)
