"""The benchmark of generation: both sides write the same captions, and the figures are of what was told."""

import json
from typing import ClassVar

import pytest
from tiny import make_model

from jvlm.bench import generate, generate_child
from jvlm.bench.child import Failed
from jvlm.bench.generate_child import Job, ours, pictures, theirs
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import save_model


def job(kind, **changes):
    settings = {"kind": kind, "model": "", "work": "", "folder": "", "threads": 1, "images": 7, "rows": 3, "most": 12}
    return Job(**settings | {"weights": "full", "compile": False, "capped": True} | changes)


@pytest.mark.parametrize("capped", [True, False])
@pytest.mark.parametrize("cache", generate.CACHES)
def test_both_sides_write_the_same_captions(tokenizer, processor, cache, capped):
    samples, captions = pictures(7, processor.vision.image_size)
    caps = [min(12, 1 + len(tokenizer.encode(text)) // (1 + n)) for n, text in enumerate(captions)]
    caps = caps if capped else [9] * 7
    assert len({*caps}) > 3 or not capped
    mine = ours(VisionLanguageModel(make_model(tokenizer), processor), job("ours"), samples, caps)
    other = VisionLanguageModel(make_model(tokenizer), processor)
    other.model.language.set_attn_implementation("sdpa")
    assert theirs(other, job(cache, capped=capped), samples, caps) == mine
    assert len({answer.text for answer in mine}) > 2


class Player:
    """A contestant that tells what it is told to."""

    speed: ClassVar = {"ours": 300.0, "dynamic": 60.0, "static": 50.0}
    share: ClassVar = {"full": 1.0, "int8": 0.5, "int4": 0.25}

    def __init__(self, python, module, started):
        self.job, self.log = started, generate.Path(started.folder) / "log.txt"
        assert module == "generate_child"
        assert (generate.Path(generate_child.__file__).parent / f"{module}.py").is_file()
        self.log.parent.mkdir(parents=True)
        texts = ["赤", "青"] if started.weights != "int8" else ["赤", "緑"]
        self.log.with_name(generate.TEXTS).write_text(json.dumps(texts))

    def ready(self):
        pass

    def span(self):
        rate = self.speed[self.job.kind] / (1 + abs(self.job.rows - 32) / 100) * self.share[self.job.weights]
        rate *= (1.1 if self.job.kind == "ours" else 0.9) ** self.job.compile
        kib = 1024 * (100 if self.job.kind == "ours" else 200)
        return {"images": 10, "seconds": 10 / rate, "tokens": 80, "peak_kib": kib, "cpu_seconds": 0.0}

    def end(self):
        pass


def test_each_takes_part_with_its_best_settings(monkeypatch, tmp_path):
    monkeypatch.setattr(generate, "Child", Player)
    said = []
    plan = generate.Plan(images=10, rows=(16, 32), batches=(32, 64), rounds=3)
    found = generate._Bench(tmp_path, tmp_path / "model", True, 2, said.append, plan).run()
    assert found["settings"] == {"ours": "rows 32, compiled", "rival": "dynamic cache, batch 32"}
    ratios = {"over_transformers_generate": 5.5, "int8_over_full": 0.5, "int4_over_full": 0.25}
    assert found["ratios"] == pytest.approx(ratios)
    assert found["tried_images_per_s"]["rival"]["static cache, batch 32, compiled"] == pytest.approx(45)
    assert (found["memory_of_rival"], found["tokens_per_image"]) == (0.5, 8)
    assert found["same_texts"] == {"rival": 1.0, "int8": 0.5, "int4": 1.0}
    assert len(said) == 2 + 1 + 4 + 1
    assert found["targets"] == {"over_transformers_generate": 3.0}


def test_compiling_must_be_worth_it():
    plain, compiled = generate.Settings("ours", 8), generate.Settings("ours", 8, compile=True)
    assert generate._best({plain: 100.0, compiled: 104.0}) == plain
    assert generate._best({plain: 100.0, compiled: 106.0}) == compiled


def test_a_model_with_its_data_beside_it_is_scored(tokenizer, processor, tmp_path):
    from jvlm_data.toyworld import general

    from jvlm.images.shards import write_shards

    save_model(tmp_path / "model", make_model(tokenizer), processor)
    for name in ("captions_test", "vqa_test"):
        write_shards([general.make(name, 7, n, 32) for n in range(8)], tmp_path / "data" / "shards" / name)
    found = generate.scores(tmp_path / "model", tmp_path / "data" / "shards", tmp_path / "out", 6)
    assert {*found["points_lost"]} == {"int8", "int4"}
    for lost in found["points_lost"].values():
        assert lost.keys() == {"captions_exact", "questions"}
    assert 1.1 < found["times_smaller"]["int8"] < found["times_smaller"]["int4"] < 8


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_benchmark_of_random_weights(tmp_path):
    plan = generate.Plan(images=12, rows=(4,), batches=(4,), rounds=1, most=16)
    found = generate.run(None, 1, print, plan)
    assert found["same_texts"]["rival"] == 1.0
    assert found["ratios"]["over_transformers_generate"] > 0
    with pytest.raises(Failed):
        generate._Bench(tmp_path, tmp_path / "none", True, 1, print, plan).run()
