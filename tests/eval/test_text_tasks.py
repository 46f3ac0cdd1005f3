"""Text benchmarks: what is known in advance of every one of them, prompts, few-shot examples, records, resumption."""

import dataclasses
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from made_tasks import EXAMS, SETS, build_all
from players import Player, constant, oracle, random

from jvlm.datasets import convert_named
from jvlm.errors import DataError, JvlmError, UsageError
from jvlm.eval import text_tasks
from jvlm.eval.answers import read_answer, right_answer, words
from jvlm.eval.lm_eval_layout import write_layout
from jvlm.eval.metrics import METRICS, blind, candidates, char_f1, figure, measure, similarity, word_recall
from jvlm.eval.task import load_suite, load_task, prepare, render, task_names
from jvlm.eval.text_table import judged_table, text_table
from jvlm.eval.text_tasks import evaluate_task
from jvlm.files import read_json, read_json_lines
from jvlm.infer.types import Generation, Likelihood

NAMES = task_names()
SCORED = [name for name in NAMES if load_task(name).metrics]
SEEDS = 100
RUNS = ("whole", "killed")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return build_all(tmp_path_factory.mktemp("made"))


def _play(task, items, choose):
    """{metric: value} of a player whose answers are read from what it says, without records."""
    answers = [choose(item) for item in items]
    if task.request == "generate":
        said = [words(task, item, answer) for item, answer in zip(items, answers, strict=True)]
        answers = [read_answer(task, item, text) for item, text in zip(items, said, strict=True)]
    return {name: figure(name, task, items, answers) for name in _metrics(task)}


def _metrics(task):
    return ["accuracy"] if task.request == "choices" else task.metrics


@pytest.mark.parametrize("name", SCORED)
def test_an_oracle_is_wholly_right(data, tmp_path, name):
    task = load_task(name)
    items, shots = prepare(task, data)
    result = evaluate_task(Player(task, items, oracle(task)), task, data, tmp_path, name="oracle")
    assert {metric: figure["value"] for metric, figure in result["metrics"].items()} == pytest.approx(
        dict.fromkeys(result["metrics"], 1.0)
    )
    assert (result["parse_failures"], result["ties"], result["not_asked"]) == (0.0, 0, {})
    assert len(shots) == task.shots.count


@pytest.mark.parametrize("name", SCORED)
def test_the_best_constant_played_gives_the_printed_figure(data, name):
    task = load_task(name)
    items, _ = prepare(task, data)
    played = [_play(task, items, constant(answer)) for answer in candidates(task, items)]
    for metric in _metrics(task):
        assert max(values[metric] for values in played) == pytest.approx(blind(metric, task, items)[1], abs=1e-12)


@pytest.mark.parametrize("name", SCORED)
def test_a_random_player_comes_to_chance(data, name):
    task = load_task(name)
    _check_random(task, prepare(task, data)[0])


@pytest.mark.shared
def test_on_the_real_sets(data_root, tmp_path):
    """Oracle, best constant and chance on the first real questions of every set that is there."""
    found = 0
    for name in SETS[:-1]:
        source = data_root / "evals" / name
        source = source / "swallow" if name == "ja_mt_bench" else source
        if source.is_dir():
            convert_named(name, source, tmp_path / name)
    for name in SCORED:
        task = load_task(name)
        if not (tmp_path / task.set / task.file.format(split=task.split)).is_file():
            continue
        items, _ = prepare(task, tmp_path, 60)
        played = _play(task, items, oracle(task))
        assert {metric: value for metric, value in played.items() if metric != "ign_f1"} == pytest.approx(
            {metric: 1.0 for metric in played if metric != "ign_f1"}
        ), name
        _check_random(task.model_copy(update={"metrics": tuple(m for m in task.metrics if m != "ign_f1")}), items[:30])
        found += 1
    assert found >= 15


def _check_random(task, items):
    figures = [_play(task, items, random(task, items, seed)) for seed in range(SEEDS)]
    for metric in figures[0]:
        values = np.array([values[metric] for values in figures])
        error = values.std(ddof=1) / np.sqrt(SEEDS)
        assert abs(values.mean() - blind(metric, task, items)[2]) <= 3 * error + 1e-9, metric


@pytest.mark.parametrize("name", NAMES)
def test_no_prompt_holds_its_answer(data, name):
    """The same question with another right answer is put in the very same words and under the same limits."""
    for prompt in load_task(name).prompts:
        task = load_task(f"{name}@{prompt}")
        items, shots = prepare(task, data)
        for item in items:
            other = dataclasses.replace(
                item,
                right=None if item.right is None else (item.right + 1) % len(item.choices),
                answers=[*task.labels][-1:] if task.labels else ["9 X 9"] * len(item.answers),
            )
            fields = {"draft": "下書き"}
            assert render(task, item, shots, fields) == render(task, other, shots, fields)
        assert not {render(task, item, [], {"draft": ""}) for item in items} & {
            render(task, shot, [], {"draft": ""}) for shot in shots
        }


@pytest.mark.parametrize("name", NAMES)
def test_what_is_asked_does_not_change_unnoticed(data, name):
    """Snapshots of a prompt of every task: a changed wording is another version."""
    task = load_task(name)
    items, shots = prepare(task, data)
    snapshots = read_json(Path(__file__).parent / "prompt_snapshots.json")
    assert render(task, items[0], shots, {"draft": "下書き"}) == snapshots[task.version]


def test_few_shot_examples_are_fixed_by_the_seed_and_never_asked(data):
    task = load_task("jmmlu")
    items, shots = prepare(task, data)
    assert prepare(task, data) == (items, shots)
    assert not {item.id for item in items} & {shot.id for shot in shots}
    assert len(items) + len(shots) == 26
    other = task.model_copy(update={"shots": task.shots.model_copy(update={"seed": 1})})
    assert prepare(other, data)[1] != shots
    labels = [shot.answers[0] for shot in prepare(load_task("jnli"), data)[1]]
    assert sorted(labels) == ["contradiction", "entailment", "neutral"] or len(set(labels)) == 2  # two labels are made


def test_a_question_that_stands_among_the_examples_is_not_one(data, tmp_path):
    """Published train and test files share questions."""
    task = load_task("jcommonsenseqa").model_copy(update={"set": "own"})
    lines = (data / "jglue" / "jcommonsenseqa-test.jsonl").read_text().splitlines()
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "jcommonsenseqa-test.jsonl").write_text("\n".join(lines[:6]) + "\n")
    (folder / "jcommonsenseqa-train.jsonl").write_text("\n".join(lines[3:9]) + "\n")
    _, shots = prepare(task, tmp_path)
    assert {shot.id for shot in shots} == {json.loads(line)["id"] for line in lines[6:9]}
    (folder / "jcommonsenseqa-train.jsonl").write_text("\n".join(lines[3:8]) + "\n")
    with pytest.raises(DataError, match="2 questions for 3 examples"):
        prepare(task, tmp_path)


def test_answers_stand_in_the_ledger_and_are_not_asked_for_again(data, tmp_path):
    task = load_task("jnli")
    items, _ = prepare(task, data)
    first = Player(task, items, oracle(task))
    result = evaluate_task(first, task, data, tmp_path, name="m")
    path = tmp_path / result["records"] / "samples.jsonl"
    records = read_json_lines(path)
    assert [record["id"] for record in records] == [item.id for item in items]
    assert records[0]["choices"] == ["含意", "矛盾", "中立"]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]) + lines[5][:20])  # killed while writing the sixth
    again = Player(task, items, oracle(task))
    assert evaluate_task(again, task, data, tmp_path, name="m") == result
    assert len(again.prompts) == len(items) - 5
    assert sorted(path.read_text().splitlines()) == sorted("".join(lines).splitlines())
    silent = Player(task, items, lambda item: pytest.fail("asked again"))
    assert evaluate_task(silent, task, data, tmp_path, name="m") == result
    other = task.model_copy(update={"prompt": "lm-eval-1.0"})
    assert (
        evaluate_task(Player(other, items, oracle(other)), other, data, tmp_path, name="m")["records"]
        != result["records"]
    )


def test_killed_at_twenty_moments_nothing_is_lost_or_doubled(data, tmp_path, monkeypatch):
    """kill -9 of a child that evaluates, then on again, until it is through."""
    monkeypatch.setattr(text_tasks, "CHUNK", 1)
    task = load_task("jmmlu")
    items, _ = prepare(task, data)
    whole = evaluate_task(Player(task, items, oracle(task)), task, data, tmp_path / "whole", name="m")

    class Slow(Player):
        def choice_likelihoods(self, samples, choices):
            time.sleep(0.002)
            return super().choice_likelihoods(samples, choices)

    context, generator = multiprocessing.get_context("fork"), np.random.default_rng(5)
    for _ in range(20):
        arguments = (Slow(task, items, oracle(task)), task, data, tmp_path / "killed")
        child = context.Process(target=evaluate_task, args=arguments, kwargs={"name": "m"})
        child.start()
        time.sleep(float(generator.uniform(0.0, 0.03)))
        child.kill()
        child.join()
    result = evaluate_task(Player(task, items, oracle(task)), task, data, tmp_path / "killed", name="m")
    assert result == whole
    found = [sorted((tmp_path / run / whole["records"] / "samples.jsonl").read_text().splitlines()) for run in RUNS]
    assert found[0] == found[1]
    assert len(found[0]) == len(items) == len(set(found[0]))


def test_figures_come_from_the_records(data, tmp_path):
    """Another record, another figure: nothing is remembered."""
    task = load_task("niilc")
    items, _ = prepare(task, data)
    result = evaluate_task(Player(task, items, oracle(task)), task, data, tmp_path, name="m")
    path = tmp_path / result["records"] / "samples.jsonl"
    records = read_json_lines(path)
    records[0]["output"], records[1]["output"], records[2]["finish_reason"] = "ちがう", " ", "length"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    result = evaluate_task(Player(task, items, oracle(task)), task, data, tmp_path, name="m")
    n = len(items)
    assert result["metrics"]["exact_match"]["value"] == pytest.approx((n - 2) / n)
    assert (result["parse_failures"], result["cut_off"]) == pytest.approx((1 / n, 1 / n))


def test_a_draft_is_asked_for_first_and_shown(data, tmp_path):
    task = load_task("jemhopqa_self")
    items, _ = prepare(task, data)
    player = Player(task, items, oracle(task))
    evaluate_task(player, task, data, tmp_path, name="m")
    drafts, answers = player.prompts[: len(items)], player.prompts[len(items) :]
    assert player.stops == [("\n\n",), load_task("jemhopqa_gold").stop]  # an answer ends alike with every knowledge
    assert all("三つ組（主語, 関係, 目的語）で一行に一つずつ" in prompt for prompt in drafts)
    for item, prompt in zip(items, answers, strict=True):
        assert prompt.endswith(f"質問：{item.fields['question']}\n知識：\n{item.answers[0]}\n\n### 応答:\n")


def test_a_conversation_has_its_second_turn_after_the_first_answer(data, tmp_path):
    task = load_task("ja_mt_bench")
    items, _ = prepare(task, data)
    player = Player(task, items, constant("ね"))
    result = evaluate_task(player, task, data, tmp_path, name="m")
    assert "metrics" not in result
    rows = read_json_lines(tmp_path / result["records"] / "samples.jsonl")
    assert [(row["arm"], row["question"][-1]) for row in rows[::13]] == [("turn 1", "0"), ("turn 2", "1")]


def test_a_turn_that_does_not_fit_ends_the_conversation_before_it(data, tmp_path):
    task = load_task("ja_mt_bench")
    items, _ = prepare(task, data)
    player = Player(task, items, constant("ね"))
    full = {"3"}  # at its second turn
    player.refusals = lambda samples, choices: [
        "full" if s.id in full and len(s.messages) > 1 else None for s in samples
    ]
    result = evaluate_task(player, task, data, tmp_path, name="m", judge=FIVES)
    assert result["not_asked"] == {"3": "full"}
    assert (result["judged"]["n_answers"], result["judged"]["asked"]) == (13, 2 * 13 - 1)
    assert result["judged"]["turns"]["turn 1"]["n"] == 13


@pytest.mark.parametrize("name", [name for name in NAMES if load_task(name).judge])
def test_open_answers_are_judged_or_said_not_to_be(data, tmp_path, name):
    task = load_task(name)
    items, _ = prepare(task, data)
    player = Player(task, items, constant("ね"))
    told = evaluate_task(player, task, data, tmp_path, name="m")["judged"]
    assert (told["judge"], told["status"], told["n_answers"]) == (None, "not judged", 13)
    asked = len(player.prompts)
    result = evaluate_task(player, task, data, tmp_path, name="m", judge=FIVES)
    assert len(player.prompts) == asked  # nothing is said anew
    judged = result["judged"]
    assert (judged["judge"]["id"], judged["failures"], judged["refused"]) == ("fives", 0, {})
    wanted = {"ja_mt_bench": 5.0, "ja_vicuna_qa": 0.5, "heron_bench": 100 * 5 / 8}[name]
    assert judged["score"]["value"] == pytest.approx(wanted)
    table = judged_table({"one": {name: result}, "other": {}})
    assert table[1][:3] == [name, "fives", "13"]
    assert table[1][3].startswith(f"{wanted * (100 if name == 'ja_vicuna_qa' else 1):.2f} (")
    assert judged_table({"one": {name: {"judged": told}}})[1][3] == "not judged"


def test_pictures_of_a_question_stand_before_it(data, tmp_path):
    task = load_task("heron_bench")
    items, _ = prepare(task, data)
    player, seen = Player(task, items, constant("ね")), []
    player.refusals = lambda samples, choices: seen.extend(samples) or [None] * len(samples)
    evaluate_task(player, task, data, tmp_path, name="m")
    assert [sample.messages[0].content for sample in seen[:1]] == [[0, "りんごは写っていますか？"]]
    assert seen[0].images[0].read() == (data / "heron_bench" / "images" / "000.png").read_bytes()


def _removed(task, items, data, out, seen, blind):
    """What a model that says `seen` with its picture and `blind` without it is told to have said."""
    player = Player(task, items, constant(""))
    player.generate = lambda samples, **_: [
        Generation((seen if s.images else blind)(player.items[s.id]), "stop", 1) for s in samples
    ]
    return evaluate_task(player, task, data, out, name="m")


@pytest.mark.parametrize("name", ["vqa_rad", "vqa_rad_disjoint"])
def test_questions_with_pictures_are_asked_without_them_too(data, tmp_path, name):
    task = load_task(name)
    items, _ = prepare(task, data)
    assert {item.kind for item in items} == {"CLOSED", "OPEN"}
    assert len({item.group_id for item in items}) == len({item.images[0].read() for item in items}) < len(items)
    looks = _removed(task, items, data, tmp_path / "looks", lambda i: i.answers[0] + ".", lambda i: "I cannot see it")
    assert (looks["metrics"]["exact_match"]["value"], looks["removed"]["metrics"]["exact_match"]["value"]) == (1, 0)
    assert (looks["removed"]["audit"]["net_effect"], looks["removed"]["audit"]["retention"]) == (1.0, 0.0)
    assert looks["removed"]["audit"]["n"] == len(items)
    rows = read_json_lines(tmp_path / "looks" / looks["records"] / "samples.jsonl")
    assert [row["arm"] for row in rows] == ["answer"] * len(items) + ["removed"] * len(items)
    blind = _removed(task, items, data, tmp_path / "blind", lambda i: i.answers[0], lambda i: i.answers[0])
    assert (blind["removed"]["audit"]["net_effect"], blind["removed"]["audit"]["retention"]) == (0.0, 1.0)


def test_a_model_that_takes_no_pictures_is_asked_without_them(data, tmp_path):
    task = load_task("vqa_rad")
    items, _ = prepare(task, data)
    player = Player(task, items, oracle(task))
    player.refusals = lambda samples, choices: ["no pictures" if s.images else None for s in samples]
    result = evaluate_task(player, task, data, tmp_path, name="m")
    assert len(result["not_asked"]) == len(items)
    assert result["metrics"]["exact_match"]["value"] == 0.0
    assert result["removed"]["metrics"]["exact_match"]["value"] == 1.0
    assert result["removed"]["audit"] is None


def test_figures_are_told_apart_by_kind(data, tmp_path):
    task = load_task("vqa_rad")
    items, _ = prepare(task, data)
    result = evaluate_task(Player(task, items, constant("Yes")), task, data, tmp_path, name="m")
    yes = [item.answers == ["Yes"] for item in items if item.kind == "CLOSED"]
    assert result["kinds"]["CLOSED"]["exact_match"]["value"] == pytest.approx(sum(yes) / len(yes))
    assert result["kinds"]["OPEN"]["exact_match"]["value"] == 0.0
    assert result["kinds"]["OPEN"]["word_recall"]["n"] == len(items) - len(yes)
    jmmlu = load_task("jmmlu")
    items, _ = prepare(jmmlu, data)
    kinds = evaluate_task(Player(jmmlu, items, oracle(jmmlu)), jmmlu, data, tmp_path, name="m")["kinds"]
    assert set(kinds) == {"anatomy", "logic"}
    assert sum(kind["accuracy"]["n"] for kind in kinds.values()) == len(items)


def test_the_table_has_a_row_without_pictures(data, tmp_path):
    task = load_task("vqa_rad")
    items, _ = prepare(task, data)
    looks = _removed(task, items, data, tmp_path, lambda i: i.answers[0], lambda i: "")
    _, row, without = text_table({"looks": {"vqa_rad": looks}, "other": {}})
    assert (row[0], row[5][:6], row[6]) == ("vqa_rad", "100.0%", "–")
    assert (without[0], without[5][:5], without[6]) == ("vqa_rad, no picture", "0.0% ", "–")
    assert without[5].endswith(", 100.0% unread")


@pytest.mark.shared
def test_the_real_questions_about_pictures(data_root, tmp_path):
    """Official test questions of the shared copy, in the published layout."""
    folder = data_root / "medical_images"
    rows = [row for row in read_json_lines(folder / "vqa_rad.jsonl") if row["split"] == "test"][:60]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "VQA_RAD Image Folder").symlink_to(folder / "vqa_rad")
    rows = [
        row | {"qid": number, "image_name": Path(row["image"]).name, "phrase_type": "test_freeform"}
        for number, row in enumerate(rows)
    ]
    (tmp_path / "in" / "VQA_RAD Dataset Public.json").write_text(json.dumps(rows))
    assert convert_named("vqa_rad", tmp_path / "in", tmp_path / "vqa_rad")["errors"] == 0
    task = load_task("vqa_rad")
    items, _ = prepare(task, tmp_path)
    result = evaluate_task(Player(task, items, oracle(task)), task, tmp_path, tmp_path / "out", name="m")
    assert (len(items), {f["value"] for f in result["metrics"].values()}) == (60, {1.0})
    assert set(result["kinds"]) == {"CLOSED", "OPEN"}


class _Fives:
    """A judge that says the same of everything."""

    def __init__(self):
        self.name, self.about = "fives", {"id": "fives", "kind": "made"}

    def answer(self, questions, max_new_tokens):
        return [Generation('[[5]] {"score": 5, "score_gpt": 8} [[C]]', "stop", 1) for _ in questions]


FIVES = _Fives()


def test_too_long_a_question_is_wrong_and_listed(data, tmp_path):
    task = load_task("jcommonsenseqa")
    items, _ = prepare(task, data)
    player = Player(task, items, oracle(task))
    player.refusals = lambda samples, choices: ["too long" if s.id == items[0].id else None for s in samples]
    result = evaluate_task(player, task, data, tmp_path, name="m")
    assert result["not_asked"] == {items[0].id: "too long"}
    assert result["metrics"]["accuracy"]["value"] == pytest.approx(1 - 1 / len(items))


def test_the_three_norms_differ_as_they_should(data, tmp_path):
    """Sum prefers the short, the others weigh by length."""
    task = load_task("jcommonsenseqa")
    items, _ = prepare(task, data)
    player = Player(task, items, oracle(task))
    player.choice_likelihoods = lambda samples, choices: [
        [Likelihood(-1.0 * len(text) - 0.5 * (i == 0), 1 + 9 * (i == 4)) for i, text in enumerate(texts)]
        for texts in choices
    ]
    evaluate_task(player, task, data, tmp_path, name="m")
    rows = read_json_lines(next(tmp_path.rglob("samples.jsonl")))
    for item, row in zip(items, rows, strict=True):
        lengths = [len(choice) for choice in item.choices]
        assert row["answer"] == item.choices[int(np.argmax(row["scores"]))]
        assert row["tokens"] == [1, 1, 1, 1, 10]
        assert np.argmax(np.array(row["scores"]) / lengths) != 0


@pytest.mark.parametrize("place", [0, 1])
def test_a_likelihood_that_is_no_number_is_an_error_and_no_answer(data, tmp_path, place):
    task = load_task("jnli")
    items, _ = prepare(task, data)
    player = Player(task, items, oracle(task))
    broken = [Likelihood(float("nan") if i == place else -1.0, 1) for i in range(3)]
    player.choice_likelihoods = lambda samples, choices: [broken for _ in samples]
    with pytest.raises(JvlmError, match="not a number"):
        evaluate_task(player, task, data, tmp_path, name="m")
    assert not list(tmp_path.rglob("samples.jsonl"))


def test_the_layout_of_the_other_harness(data, tmp_path):
    results = {}
    for name in ("jcommonsenseqa", "jsquad", "jemhopqa_self", "vqa_rad"):
        task = load_task(name)
        items, _ = prepare(task, data)
        results[name] = evaluate_task(Player(task, items, oracle(task)), task, data, tmp_path / "t", name="m")
    write_layout(results, tmp_path / "t", tmp_path / "lm", "runs/demo/model")
    whole = read_json(tmp_path / "lm" / "results.json")
    assert whole["results"]["jcommonsenseqa@sh-0.2.1"]["acc,none"] == 1.0
    assert {"acc_norm,none", "acc_stderr,none", "alias"} <= whole["results"]["jcommonsenseqa@sh-0.2.1"].keys()
    assert whole["results"]["jsquad@sh-1.2-0.2"]["exact_match,none"] == 1.0
    assert {name.partition("@")[0]: n for name, n in whole["n-shot"].items()} == {
        "jcommonsenseqa": 3, "jsquad": 2, "jemhopqa_self": 4, "vqa_rad": 0
    }  # fmt: skip
    for result in results.values():  # neither drafts nor what was asked without its picture
        assert len(read_json_lines(tmp_path / "lm" / f"samples_{result['version']}.jsonl")) == result["n"]
    rows = read_json_lines(tmp_path / "lm" / "samples_jcommonsenseqa@sh-0.2.1.jsonl")
    assert len(rows) == 12
    assert rows[0]["arguments"]["gen_args_0"]["arg_1"] == "りんご"
    assert rows[0]["filtered_resps"][0] == [0.0, False]


def test_a_table_of_several_models(data, tmp_path):
    task = load_task("jnli")
    items, _ = prepare(task, data)
    results = {
        model: {"jnli": evaluate_task(Player(task, items, choose), task, data, tmp_path, name=model)}
        for model, choose in (("oracle", oracle(task)), ("fixed", constant(1)))
    }
    head, row = text_table(results)
    assert head == ["task", "figure", "n", "chance", "constant", "oracle", "fixed"]
    assert row[:4] == ["jnli", "accuracy, log-likelihood", "12", "33.3%"]
    assert row[5].startswith("100.0% (")
    assert row[6].startswith(row[4] + " (")  # contradiction is the commonest
    results["fixed"]["jnli"]["parse_failures"] = 0.25
    assert text_table(results)[1][6].endswith(", 25.0% unread")


def test_unknown_names_are_told():
    with pytest.raises(UsageError, match="no task 'jqqq'"):
        load_task("jqqq")
    with pytest.raises(UsageError, match="prompt 'x' is none of"):
        load_task("jnli@x")
    with pytest.raises(UsageError, match="no suite"):
        load_suite("nonesuch")
    with pytest.raises(DataError, match="jvlm data build jglue"):
        prepare(load_task("jnli"), Path("nowhere"))


def test_suites_name_what_there_is():
    exams = {"toyworld", "igakuqa", "igakuqa119", "clinical_lab", *EXAMS}
    known = ("toy", "jglue", "japanese", "knowledge_graph", "medical", "exams", "more_exams", "judged", "pictures")
    for suite in known:
        assert set(load_suite(suite)) <= {*NAMES, *exams}


ANSWERS = [
    ("jcommonsenseqa_number", "3", 3),
    ("jcommonsenseqa_number", "３", 3),
    ("jcommonsenseqa_number", "7", None),
    ("jcommonsenseqa_number", "わかりません", None),
    ("jmmlu_written", "B", 1),
    ("jmmlu_written", "Ｂ。", 1),
    ("jmmlu_written", "答えはCです", 2),
    ("jmmlu_written", "AとB", None),
    ("jsts", "3.5", 3.5),
    ("jsts", "３．５です", 3.5),
    ("jsts", "似ている", None),
    ("jacred", "0 Country 1\n0 PlaceOfBirth 2", frozenset({"0 Country 1", "0 PlaceOfBirth 2"})),
    ("jacred", "なし", None),
    ("jmed_nrner", "発熱\n・頭痛、咳\n- 嘔吐\n", frozenset({"発熱", "頭痛、咳", "嘔吐"})),
    ("niilc", "<think>えーと</think>\n青森県", "青森県"),
    ("niilc", "えーと</think>\n青森県", "青森県"),  # the mark that opens stands in the template of some models
    ("niilc", "  ", None),
]


@pytest.mark.parametrize(("name", "said", "wanted"), ANSWERS)
def test_answers_are_read(data, name, said, wanted):
    task = load_task(name)
    assert read_answer(task, prepare(task, data)[0][0], said) == wanted


def test_labels_that_hold_one_another(data):
    task = load_task("janli").model_copy(update={"request": "generate", "parser": "choice"})
    item = prepare(task, data)[0][0]
    said = ("non-entailment", "Entailment.", "neutral", "It is Non-entailment", "entailment or non-entailment")
    assert [read_answer(task, item, one) for one in said] == [1, 0, None, 1, None]
    task = load_task("pubmedqa").model_copy(update={"request": "generate", "parser": "choice"})
    item = prepare(task, data)[0][0]
    said = ("No, it does not.", "I do not know", "maybe", "nothing", "yes and no")
    assert [read_answer(task, item, one) for one in said] == [1, None, 2, None, None]


def test_yes_and_no_are_taken_in_japanese(data):
    task = load_task("jemhopqa")
    items = [item for item in prepare(task, data)[0] if item.answers == ["YES"]]
    assert measure("exact_match", task, items, ["はい"] * len(items))["value"] == 1.0
    assert measure("exact_match", task, items, ["いいえ"] * len(items))["value"] == 0.0


def test_figures_of_texts_by_hand():
    assert char_f1("青森県", ["青森"]) == pytest.approx(2 * 2 / 5)
    assert char_f1("", ["青森"]) == 0.0
    assert similarity("b a", "a b") == 1.0
    assert similarity("abcd", "abxd") == 0.75
    assert similarity("", "a") == 0.0
    assert word_recall("In the LEFT lobe.", ["left upper lobe"]) == pytest.approx(2 / 3)
    assert word_recall("left", ["upper", "left"]) == 1.0
    assert (word_recall("+", ["+"]), word_recall("-", ["+"]), word_recall("", ["left"])) == (1.0, 0.0, 0.0)


def test_no_text_right_is_not_known_for_certain(data):
    """0 of n and n of n have an interval too."""
    task = load_task("niilc")
    items, _ = prepare(task, data)
    for answers in (["x"] * len(items), [item.answers[0] for item in items]):
        low, high = measure("exact_match", task, items, answers)["interval"]
        assert high - low > 0.1


def test_correlation_and_f1_against_numpy(data):
    task = load_task("jsts")
    items, _ = prepare(task, data)
    generator = np.random.default_rng(3)
    said = [round(float(x), 1) for x in generator.uniform(0, 5, len(items))]
    gold = [right_answer(task, item) for item in items]
    assert measure("pearson", task, items, said)["value"] == pytest.approx(np.corrcoef(said, gold)[0, 1])
    assert measure("pearson", task, items, [None] * len(items))["value"] < -0.7
    ranks = [[sum(b < a for b in xs) + (sum(b == a for b in xs) + 1) / 2 for a in xs] for xs in (said, gold)]
    assert measure("spearman", task, items, said)["value"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    jacred = load_task("jacred")
    documents, _ = prepare(jacred, data)
    first = [frozenset(item.answers[:1]) for item in documents]
    wanted, hits = sum(len(item.answers) for item in documents), len(documents)
    assert measure("f1", jacred, documents, first)["value"] == pytest.approx(2 * hits / (hits + wanted))
    # every fact of Country stands in training with the same names, those of PlaceOfBirth do not
    ign = measure("ign_f1", jacred, documents, [frozenset(item.answers) for item in documents])["value"]
    assert ign == pytest.approx(1.0)
    unknown = [dataclasses.replace(item, kind="") for item in documents]
    assert measure("ign_f1", jacred, unknown, first)["value"] is None


def test_every_metric_is_of_some_task():
    assert {m for name in NAMES for m in load_task(name).metrics} == METRICS.keys()
