"""Examinees whose scores are known beforehand: chance, the best constant, an oracle, one that does not look."""

import json
import math
from pathlib import Path

import pytest
from exam_folder import exam_items, write_exam
from examinees import Oracle, Random
from jvlm_data.clinical_lab.convert import convert as clinical_lab
from jvlm_data.igakuqa.convert import convert as igakuqa
from jvlm_data.igakuqa119.convert import convert as igakuqa119
from jvlm_data.toyworld.exam import exam_test, exam_twohop_unseen
from made_tasks import EXAMS, build_exam

from jvlm.eval.baselines import ConstantModel, best_constant_marks, exam_chance, split_marks
from jvlm.eval.exam import choose, is_correct, score_exam
from jvlm.eval.exams import evaluate_exam_set
from jvlm.eval.items import ExamItem, Option, exam_sample, load_items
from jvlm.eval.pass_rules import load_pass_rules, physicians

SEEDS = 100
REAL = {"igakuqa": igakuqa, "igakuqa119": igakuqa119, "clinical_lab": clinical_lab}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exam(tmp_path_factory.mktemp("exam") / "made", exam_items("112") + exam_items("clinical_lab-58"))


def toy_items(make) -> list[ExamItem]:
    rows = [row for row, _ in make(0, 40, 16)]
    return [ExamItem(**row | {"options": [Option(**option) for option in row["options"]]}) for row in rows]


def check_players(items: list[ExamItem]) -> None:
    """The mean of a random model over 100 seeds is chance; constants give their figure; an oracle passes."""
    kept = [item for item in items if item.excluded != "all"]
    samples = {item.id: exam_sample(item) for item in kept}
    shares = [exam_chance([item]) for item in kept]
    right = 0
    for seed in range(SEEDS):
        for item in kept:
            if item.options:
                (scores,) = Random(seed).choice_log_likelihoods([samples[item.id]], [item.labels])
                right += is_correct(item, choose(scores, item.labels, item.n_select)[0])
    error = math.sqrt(sum(p * (1 - p) for p in shares) / SEEDS) / len(kept)
    assert abs(right / SEEDS / len(kept) - exam_chance(kept)) <= 3 * error

    constants, printed = best_constant_marks(kept)
    model, hits = ConstantModel(constants), 0
    for item in kept:
        sample = samples[item.id]
        if not item.options:
            marks = split_marks(item, model.generate([sample])[0].text)
        else:
            (scores,) = model.choice_log_likelihoods([sample], [[option.words for option in item.options]])
            marks = choose(scores, item.labels, item.n_select)[0]
        hits += is_correct(item, marks)
    assert hits / len(kept) == printed

    for exam in {item.exam for item in items}:
        own = [item for item in items if item.exam == exam]
        sheet = score_exam(
            own, {item.id: item.accept[0] for item in own}, load_pass_rules().of(exam) or physicians(0.6)
        )
        assert sheet.passed
        assert sheet.all.points == sheet.all.total
        assert not score_exam(own, {item.id: None for item in own}, sheet.rule).passed


def test_the_made_exams(folder: Path) -> None:
    check_players(load_items(folder / "items.jsonl"))


@pytest.mark.parametrize("name", EXAMS)
def test_the_made_samples_of_published_exams(name: str, tmp_path: Path) -> None:
    items = load_items(build_exam(name, tmp_path) / "items.jsonl")
    for exam in sorted({item.exam for item in items}):
        check_players([item for item in items if item.exam == exam])


@pytest.mark.parametrize("make", [exam_test, exam_twohop_unseen])
def test_the_toy_exams(make) -> None:
    check_players(toy_items(make))


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_every_published_exam(name: str, data_root: Path, tmp_path: Path) -> None:
    source = data_root / "evals" / name
    if not source.is_dir():
        pytest.skip(f"{source} does not exist")
    REAL[name](source, tmp_path / "out")
    items = load_items(tmp_path / "out" / "items.jsonl")
    for exam in sorted({item.exam for item in items}):
        check_players([item for item in items if item.exam == exam])


def test_an_oracle_gets_everything_and_passes(folder: Path, tmp_path: Path) -> None:
    results = evaluate_exam_set(Oracle(load_items(folder / "items.jsonl")), folder, tmp_path, name="oracle")
    for result in results.values():
        assert {result[kind]["value"] for kind in ("all", "text", "image", "removed")} == {1.0}
        assert all(score["value"] == 1.0 for part in ("kinds", "fields") for score in result[part].values())
        assert (result["sheet"]["passed"], result["sheet"]["points"]) == (True, result["sheet"]["total"])
        assert result["all"]["parse_failure_rate"] == 0.0


def test_the_best_constant_played_gives_the_printed_figure(folder: Path, tmp_path: Path) -> None:
    for exam, result in evaluate_exam_set(Random(0), folder, tmp_path / "first", name="random").items():
        constants, printed = result["all"]["constant"], result["all"]["best_constant"]
        assert set(constants) == {"mcq_single", "mcq_multi", "mcq_multi_3", "numeric"}
        played = evaluate_exam_set(ConstantModel(constants), folder, tmp_path / exam, name="constant")[exam]
        assert played["all"]["value"] == played["all"]["best_constant"] == printed


def test_an_oracle_that_does_not_look_shows_no_effect_in_any_arm(folder: Path, tmp_path: Path) -> None:
    items = load_items(folder / "items.jsonl")
    half = [item.id for item in items if item.number % 2 or int(item.id[-3:]) % 4 == 1]
    arms = ("removed", "blank", "other_image")
    results = evaluate_exam_set(Oracle(items, ignorant=half), folder, tmp_path, name="blind", arms=arms)
    for result in results.values():
        assert set(result["audits"]) == set(arms)
        for audit in result["audits"].values():
            assert audit["transitions"]["persistent"] > 0 or audit["retention"] is None
            assert audit["net_effect"] == audit["gain"] == audit["harm"] == audit["changed"] == 0.0
            assert audit["mcnemar_p"] == 1.0
    knowing = evaluate_exam_set(Oracle(items), folder, tmp_path, name="knowing", arms=arms)
    assert all(a["retention"] == 1.0 and a["net_effect"] == 0.0 for r in knowing.values() for a in r["audits"].values())


def test_an_oracle_that_needs_its_own_picture_loses_it_in_every_arm(folder: Path, tmp_path: Path) -> None:
    items = load_items(folder / "items.jsonl")
    arms = ("removed", "blank", "other_image")
    model = Oracle(items, needs_image=True)
    result = evaluate_exam_set(model, folder, tmp_path, name="looks", arms=arms)["112"]
    assert (result["image"]["value"], result["text"]["value"]) == (1.0, 1.0)
    for arm in arms:
        audit = result["audits"][arm]
        assert (audit["net_effect"], audit["retention"], audit["gain"]) == (1.0, 0.0, 1.0)
        assert audit["n"] == result[arm]["n"] == result["image"]["n"]
        assert audit["mcnemar_p"] < 0.001
    records = [json.loads(line) for line in (tmp_path / "samples.jsonl").open(encoding="utf-8")]
    assert {r["arm"] for r in records} == {"image", *arms}


def test_written_answers_are_parsed_and_what_cannot_be_read_is_wrong_and_counted(folder: Path, tmp_path: Path) -> None:
    items = load_items(folder / "items.jsonl")
    knows = evaluate_exam_set(Oracle(items), folder, tmp_path, name="oracle", arms=("written",))["112"]["written"]
    assert (knows["value"], knows["parse_failures"], knows["cut_off"]) == (1.0, 0, 0.0)
    mute = evaluate_exam_set(Random(0), folder, tmp_path, name="mute", arms=("written",))["112"]["written"]
    assert (mute["value"], mute["parse_failure_rate"]) == (0.0, 1.0)


def test_the_order_of_the_options_and_the_prompts(folder: Path, tmp_path: Path) -> None:
    items = load_items(folder / "items.jsonl")
    arms = ("order", "prompts")
    knows = evaluate_exam_set(Oracle(items), folder, tmp_path, name="oracle", arms=arms)["112"]
    assert (knows["order"]["agreement"], knows["order"]["always_right"], knows["order"]["value"]) == (1.0, 1.0, 1.0)
    first = evaluate_exam_set(ConstantModel({"mcq_single": "a"}), folder, tmp_path, name="first", arms=arms)["112"]
    order = first["order"]
    assert order["agreement"] < 0.2  # the same label is another option in another order
    assert order["value"] == pytest.approx(sum(order["orders"]) / 4)
    assert len(set(order["orders"])) > 1
    assert order["interval"][0] < order["value"] < order["interval"][1]
    assert set(first["prompts"]) == {"ask-v1", "exam-v1", "alpaca-v1"}
    for score in first["prompts"].values():  # what reads nothing owes nothing to the wording
        assert score["value"] == first["all"]["value"]
        assert (score["against_plain"]["difference"], score["against_plain"]["mcnemar_p"]) == (0.0, 1.0)
