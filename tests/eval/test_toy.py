import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from jvlm_data.toyworld.exam import exam_test, exam_twohop_unseen
from jvlm_data.toyworld.general import VQA_KINDS, captions, vqa

from jvlm.assets import asset
from jvlm.errors import DataError, JvlmError
from jvlm.eval.baselines import ConstantModel
from jvlm.eval.requests import BATCH_SIZE
from jvlm.eval.toy import ToyConfig, evaluate_exam, evaluate_general, load_toy_config
from jvlm.files import read_json_lines
from jvlm.images.shards import write_shards
from jvlm.infer.types import Generation
from jvlm.sample import Sample


class Oracle:
    """Knows the truth from the meta data; checks that nothing else could tell it."""

    asked = 0
    asked_without_image = 0

    def generate(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> list[Generation]:
        self._check(samples)
        return [Generation(self.say(sample), "stop", 3) for sample in samples]

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        self._check(samples)
        golds = [str(sample.meta["gold"]).split("、") for sample in samples]
        return [[float(text in gold) for text in texts] for gold, texts in zip(golds, choices, strict=True)]

    def say(self, sample: Sample) -> str:
        if sample.meta["kind"] != "caption":
            return str(sample.meta["gold"])
        return "".join(f"{position}に{colour}の{shape}があります。" for position, colour, shape in sample.meta["truth"])

    def _check(self, samples: Sequence[Sample]) -> None:
        assert 0 < len(samples) <= BATCH_SIZE
        self.asked += len(samples)
        for sample in samples:
            assert sample.messages[-1].role == "user"
            assert all(message.role != "assistant" for message in sample.messages)
            indices = [part for message in sample.messages for part in message.content if isinstance(part, int)]
            assert indices == list(range(len(sample.images)))
            self.asked_without_image += not indices


class Blind(Oracle):
    """Answers from the question alone."""

    def say(self, sample: Sample) -> str:
        return "赤" if len(sample.messages[-1].text) % 2 else "はい"

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        return [[float(sum(map(ord, text)) % 7) for text in texts] for texts in choices]


class Dies(Oracle):
    def _check(self, samples: Sequence[Sample]) -> None:
        if self.asked >= 2 * BATCH_SIZE:
            raise KeyboardInterrupt
        super()._check(samples)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_shards(captions(0, "test", 40), folder / "captions_test")
    write_shards(captions(0, "compositional", 12), folder / "captions_compositional")
    write_shards(vqa(0, "test", 9), folder / "vqa_test")
    (folder / "images").mkdir()
    for name, entries in (("test", exam_test(0, 60)), ("twohop", exam_twohop_unseen(0, 8))):
        lines = [json.dumps(item, ensure_ascii=False) for item, _ in entries]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        for _, images in entries:
            for image, data in images.items():
                (folder / image).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def config() -> ToyConfig:
    return load_toy_config(asset("evals", "toy.yaml"))


def test_an_oracle_gets_everything(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    general = evaluate_general(Oracle(), world, config, tmp_path)
    for name, n in (("captions_test", 40), ("captions_compositional", 12)):
        assert (general[name]["exact"]["value"], general[name]["exact"]["n"]) == (1.0, n)
        assert general[name]["hallucination"]["value"] == 0.0
        assert general[name]["exact"]["interval"][0] < 1.0
    assert set(general["vqa_test"]["kinds"]) == set(VQA_KINDS)
    assert len(VQA_KINDS) == 8
    assert general["vqa_test"]["value"] == 1.0
    assert general["vqa_test"]["n"] == 72
    exam = evaluate_exam(Oracle(), world, config, tmp_path)
    assert exam["exam_image"]["image"]["value"] == exam["exam_twohop"]["image"]["value"] == 1.0
    assert exam["exam_image"]["image"]["chance"] == pytest.approx(0.2)
    sheet = exam["exam_paper"]["sheet"]
    assert sheet["passed"]
    assert sheet["points"] == sheet["total"] > sheet["n"] == 60
    assert exam["exam_paper"]["image"]["parse_failures"] == 0


def test_removed_means_no_image_at_all(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    model = Oracle()
    assert evaluate_general(model, world, config, tmp_path)["vqa_test"]["removed"]["n"] == 72
    assert model.asked_without_image == 72
    model = Oracle()
    removed = evaluate_exam(model, world, config, tmp_path)["exam_image"]["removed"]["n"]
    text_only = sum(not json.loads(line)["images"] for line in (world / "test.jsonl").read_text().splitlines())
    assert removed == 45
    assert model.asked_without_image == removed + text_only
    assert model.asked == 60 + 8 + removed  # the paper's image questions were asked by then, and not again


def test_playing_the_constants_gives_exactly_the_printed_figures(
    world: Path, config: ToyConfig, tmp_path: Path
) -> None:
    printed = evaluate_general(Oracle(), world, config, tmp_path / "oracle")["vqa_test"]
    constants = {kind: score["constant"] for kind, score in printed["kinds"].items()}
    played = evaluate_general(ConstantModel(constants), world, config, tmp_path / "constant")["vqa_test"]
    for kind, score in played["kinds"].items():
        assert score["value"] == score["best_constant"] == printed["kinds"][kind]["best_constant"]
    assert played["value"] == played["best_constant"]
    assert played["removed"]["over_constant"] == played["removed"]["over_constant_max"] == 0.0

    exam = evaluate_exam(Oracle(), world, config, tmp_path / "oracle")
    paper = exam["exam_paper"]["image"]
    for task, constants in (("exam_image", exam["exam_image"]["image"]["constant"]), ("exam_paper", paper["constant"])):
        scores = evaluate_exam(ConstantModel(constants), world, config, tmp_path / task)[task]["image"]
        assert scores["value"] == scores["best_constant"] < 0.5


def test_a_blind_model_shows_no_effect_of_the_image(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    audits = [
        evaluate_general(Blind(), world, config, tmp_path)["vqa_test"]["audit"],
        evaluate_exam(Blind(), world, config, tmp_path)["exam_image"]["audit"],
    ]
    for audit in audits:
        assert audit["net_effect"] == audit["gain"] == audit["harm"] == 0.0
        assert (audit["retention"], audit["mcnemar_p"]) == (1.0, 1.0)
        assert audit["transitions"]["persistent"] > 0


def test_absent_objects_are_counted(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    class Adds(Oracle):
        def say(self, sample: Sample) -> str:
            if int(sample.id[-6:]) % 4:
                return super().say(sample)
            shown = {(colour, shape) for _, colour, shape in sample.meta["truth"]}
            return super().say(sample) + ("中央に赤の丸。" if ("赤", "丸") not in shown else "中央に白の星。")

    only_captions = config.model_copy(update={"tasks": config.tasks[:1]})
    scores = evaluate_general(Adds(), world, only_captions, tmp_path)["captions_test"]
    assert scores["hallucination"]["value"] == 0.25
    assert scores["exact"]["value"] == 0.75
    with_absent = [record for record in read_json_lines(tmp_path / "samples.jsonl") if record["absent"]]
    assert len(with_absent) == 10
    assert not any(record["correct"] for record in with_absent)


def test_interrupted_evaluation_asks_only_what_is_missing(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    whole = Oracle()
    expected = evaluate_general(whole, world, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate_general(Dies(), world, config, tmp_path / "part")
    done = len(read_json_lines(tmp_path / "part" / "samples.jsonl"))
    assert 0 < done < whole.asked
    rest = Oracle()
    assert evaluate_general(rest, world, config, tmp_path / "part") == expected
    assert rest.asked == whole.asked - done
    again = Oracle()
    assert evaluate_general(again, world, config, tmp_path / "part") == expected
    assert again.asked == 0


def test_records_of_another_prompt_or_model_do_not_count(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    first = config.model_copy(update={"tasks": config.tasks[:1]})
    evaluate_general(Oracle(), world, first, tmp_path)
    prompted = first.tasks[0].model_copy(update={"prompt": "何が見えますか。"})
    for changed, name, asked in (
        (first, "model", 0),
        (first, "other", 40),
        (first.model_copy(update={"tasks": (prompted,)}), "model", 40),
        (first.limited(5), "model", 0),
    ):
        model = Oracle()
        evaluate_general(model, world, changed, tmp_path, name=name)
        assert model.asked == asked
    assert {r["question"] for r in read_json_lines(tmp_path / "samples.jsonl")} > {"何が見えますか。"}


def test_figures_are_recomputed_from_the_records(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    before = evaluate_exam(Oracle(), world, config, tmp_path)
    path = tmp_path / "samples.jsonl"
    records = read_json_lines(path)
    spoiled = next(r for r in records if r["task"] == "exam_twohop")
    spoiled["scores"] = [-score for score in spoiled["scores"]]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    model = Oracle()
    after = evaluate_exam(model, world, config, tmp_path)
    assert model.asked == 0
    assert before["exam_twohop"]["image"]["value"] == 1.0
    assert after["exam_twohop"]["image"]["value"] == 7 / 8


def test_unreadable_numbers_are_counted_not_guessed(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    class Mumbles(Oracle):
        def say(self, sample: Sample) -> str:
            return "たくさん"

    paper = evaluate_exam(Mumbles(), world, config, tmp_path)["exam_paper"]
    assert paper["image"]["parse_failures"] == paper["sheet"]["parse_failures"] == 3
    assert paper["sheet"]["by_kind"]["numeric"]["correct"] == 0


def test_thumbnails_are_the_first_twelve_images_by_id(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    evaluate_general(Blind(), world, config, tmp_path)
    names = sorted(path.stem for path in (tmp_path / "images").iterdir())
    assert names == [f"vqa_test-{i:06d}" for i in range(12)]
    assert (tmp_path / "images" / f"{names[0]}.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_skips_questions_and_a_set_without_truth(world: Path, config: ToyConfig, tmp_path: Path) -> None:
    class Skips(Oracle):
        def say(self, sample: Sample) -> str:
            return ""

        def generate(self, samples: Sequence[Sample], **options: object) -> list[Generation]:  # type: ignore[override]
            return super().generate(samples)[:-1]

    with pytest.raises(JvlmError, match="answered 39 of 40"):
        evaluate_general(Skips(), world, config, tmp_path)
    bare = [Sample(s.id, s.messages, s.images, None, {"kind": "caption"}) for s in captions(0, "test", 2)]
    write_shards(bare, tmp_path / "bare" / "captions_test")
    with pytest.raises(DataError, match="meta lacks truth"):
        evaluate_general(Oracle(), tmp_path / "bare", config, tmp_path)
