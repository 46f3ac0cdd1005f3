"""`jvlm eval judge-check`: judges whose agreement is known beforehand, published judgments, and a tiny model."""

import json
import re
import sys

import numpy as np
import pytest
from made_tasks import THINGS, build_all
from tiny import LANGUAGE, make_language

from jvlm import cli
from jvlm.datasets import convert_named
from jvlm.errors import EXIT_BAD_DATA, EXIT_USAGE, DataError
from jvlm.eval.judge_check import check_judge, load_judgments
from jvlm.eval.judge_prompts import load_protocol, read_rating, read_verdict
from jvlm.files import read_json
from jvlm.infer.types import Generation
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build_all(tmp_path_factory.mktemp("made"))


class Replay:
    """Says what `say` makes of a question's id and arm, told by its text."""

    def __init__(self, say, name="replay"):
        self.say, self.name, self.about = say, name, {"id": "replay", "kind": "made"}

    def answer(self, questions, max_new_tokens):
        return [Generation(self.say(question), "stop", 1) for question in questions]


def knows(question):
    """GPT-4 as the made judgments have it."""
    text = question.messages[-1].text
    if "甲の答え" in text:
        number = int(re.search(r"甲の答え(\d+)", text)[1])
        first = text.index("甲の答え") < text.index("乙の答え")
        won = [("1", "1"), ("2", "2"), ("C", "C"), ("1", "2")][number % 4][not first]
        return f"[[{won if won == 'C' else ('A' if (won == '1') == first else 'B')}]]"
    return f"[[{1 + int(question.id.split()[0]) % 10}]]"


def test_a_judge_that_says_the_same_agrees_wholly(data, tmp_path):
    results = check_judge(Replay(knows), data, tmp_path)
    bench, pairs = results["ja_mt_bench"], results["ja_vicuna_qa"]
    assert (bench["n"], bench["failures"], bench["against"]) == (2 * len(THINGS), 0, ["gpt-4"])
    for figure in ("pearson", "spearman", "kendall", "equal"):
        assert bench["ratings"]["turn 1"][figure]["value"] == pytest.approx(1)
    assert set(pairs["verdicts"]) == {"order 1", "order 2", "both"}
    for figures in pairs["verdicts"].values():
        assert (figures["n"], figures["exact"]["value"], figures["kappa"]["value"]) == (13, 1.0, pytest.approx(1))


def test_one_that_says_the_opposite_or_nothing_or_draws(data, tmp_path):
    def turned(question):
        said = knows(question)
        return {"[[A]]": "[[B]]", "[[B]]": "[[A]]"}.get(said) or f"[[{11 - (read_rating(said) or 5.5):g}]]"

    results = check_judge(Replay(turned, "turned"), data, tmp_path)
    assert results["ja_mt_bench"]["ratings"]["turn 1"]["pearson"]["value"] == pytest.approx(-1)
    assert results["ja_vicuna_qa"]["verdicts"]["order 1"]["kappa"]["value"] < 0
    assert results["ja_vicuna_qa"]["failures"] == 6  # its ties are no verdict
    silent = check_judge(Replay(lambda question: "……", "silent"), data, tmp_path)
    assert silent["ja_mt_bench"]["failures"] == silent["ja_mt_bench"]["asked"] == 26
    nothing = {"value": None, "interval": None}
    ratings = {"n": 0, "pearson": nothing, "spearman": nothing, "kendall": nothing, "equal": nothing}
    assert silent["ja_mt_bench"]["ratings"]["turn 1"] == ratings
    kappas = []
    for seed in range(30):
        draw = np.random.default_rng(seed)
        chance = check_judge(Replay(lambda q, d=draw: f"[[{'ABC'[d.integers(3)]}]]", f"{seed}"), data, tmp_path)
        kappas.append(chance["ja_vicuna_qa"]["verdicts"]["order 1"]["kappa"]["value"])
    assert abs(np.mean(kappas)) <= 3 * np.std(kappas, ddof=1) / np.sqrt(len(kappas))


def test_the_judge_is_never_shown_the_verdict(data, tmp_path):
    seen = []

    def listen(question):
        seen.append(question.messages[-1].text)
        return "[[5]]"

    check_judge(Replay(listen), data, tmp_path, limit=4)
    assert len(seen) == 4 + 8
    assert not any(re.search(r"評価：\[\[\d+\]\](?!\")", text) or "winner" in text for text in seen)


def test_a_tiny_model_judges_from_the_command_line(data, tmp_path, tokenizer, monkeypatch, capsys):
    model = make_language(tokenizer, LANGUAGE.model_copy(update={"max_length": 2048}))
    save_model(tmp_path / "judge", model, Processor(tokenizer))
    protocol = load_protocol("mt_bench_ja")
    monkeypatch.setattr("jvlm.eval.judge_prompts.Protocol.question", _short(protocol))  # it writes to the cap

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jvlm", "eval", "judge-check", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    arguments = ("--data", data, "--out", tmp_path / "out", "--limit", 2)
    code, out, _ = run(*arguments, "--judge", tmp_path / "judge", "--json")
    assert code == 0
    results = json.loads(out)
    assert read_json(tmp_path / "out" / "judge-check.json") == results
    assert set(results) == {"ja_mt_bench", "ja_vicuna_qa"}
    for result in results.values():
        assert result["judge"]["kind"] == "local"
        assert result["judge"]["id"].startswith("judge ")
        assert result["prompt_sha256"]
        assert result["asked"] in (2, 4)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("samples.jsonl")}
    code, out, _ = run(*arguments, "--judge", tmp_path / "judge")
    assert "kappa" in out
    assert "verdicts could not be read" in out
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("samples.jsonl")} == before
    assert run(*arguments)[0] == EXIT_USAGE
    assert run(*arguments, "--judge", tmp_path / "nowhere")[0] == EXIT_USAGE
    code, _, errors = run("--data", tmp_path, "--out", tmp_path / "o", "--judge", tmp_path / "judge")
    assert code == EXIT_BAD_DATA
    assert "no published judgments" in errors


def _short(protocol):
    whole = type(protocol).question

    def question(self, *arguments):
        object.__setattr__(self, "max_new_tokens", 4)
        return whole(self, *arguments)

    return question


def test_a_broken_file_of_judgments_is_told_with_its_line(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "judgments.jsonl").write_text('{"case": {}}\n')
    with pytest.raises(DataError, match=r"judgments.jsonl:1: not a judgment"):
        check_judge(Replay(knows), tmp_path, tmp_path)


@pytest.mark.shared
def test_the_published_judgments_of_gpt_4(data_root, tmp_path):
    """Read by our rules, what GPT-4 wrote gives what was published: every score, every winner; prompts are the same."""
    bench = data_root / "evals" / "ja_mt_bench" / "stability"
    pairs = data_root / "evals" / "ja_vicuna_qa"
    if not bench.is_dir() or not pairs.is_dir():
        pytest.skip(f"{bench} or {pairs} does not exist")
    assert convert_named("ja_mt_bench", bench, tmp_path / "ja_mt_bench")["judgments"] == 560
    assert convert_named("ja_vicuna_qa", pairs, tmp_path / "ja_vicuna_qa")["judgments"] == 480
    published = [json.loads(line) for line in next(bench.rglob("gpt-4_single.jsonl")).open(encoding="utf-8")]
    rows = list({(row["question_id"], row["model"]): row for row in reversed(published)}.values())[::-1]
    rows.sort(key=published.index)  # the first of those judged more than once
    how, same = load_protocol("mt_bench_ja"), 0
    said = {}
    for row, judgment in zip(rows, load_judgments(tmp_path / "ja_mt_bench" / "judgments.jsonl"), strict=True):
        case = judgment.case
        text = how.question(case.id, case.kind, 0, case.fields).messages[-1].text
        same += text == row["user_prompt"]
        said[case.id] = row["judgment"]
        assert judgment.given == {"turn 1": row["score"]}
        assert read_rating(row["judgment"]) == row["score"]
    assert same == 240  # those judged in the later of two wordings
    for path in pairs.rglob("model_judgment/pairwise/gpt-4/*.jsonl"):
        for row in map(json.loads, path.open(encoding="utf-8")):
            for arm, letters in (("g1", "AB"), ("g2", "BA")):
                named = dict(zip((*letters, "C"), ("model_1", "model_2", "tie"), strict=True))
                assert named[read_verdict(row[f"{arm}_judgment"])] == row[f"{arm}_winner"]
            identity = f"{row['question_id']} {row['model_1']} against {row['model_2']}"
            said[identity] = iter([row["g1_judgment"], row["g2_judgment"]])  # one order after the other

    def replay(question):
        found = said[question.id]
        return found if isinstance(found, str) else next(found)

    results = check_judge(Replay(replay), tmp_path, tmp_path / "out")
    assert results["ja_mt_bench"]["ratings"]["turn 1"]["equal"]["value"] == 1.0
    assert (results["ja_mt_bench"]["failures"], results["ja_vicuna_qa"]["failures"]) == (0, 0)
    for figures in results["ja_vicuna_qa"]["verdicts"].values():
        assert (figures["exact"]["value"], figures["n"]) == (1.0, 480)
