"""The vision-language benchmark: both sides compute the same loss on the same targets, the arithmetic is right, a
miniature runs."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from PIL import Image
from tiny import flop_counter, shake
from typer.testing import CliRunner

from jvlm.bench import train_vl, train_vl_data, train_vl_llava, train_vl_ours
from jvlm.bench.contestant import Settings, Spec
from jvlm.bench.race import OPTIMIZER, Trial
from jvlm.cli import app
from jvlm.files import read_json
from jvlm.model.directory import load_directory, save_model
from jvlm.model.packed import Example, pack
from jvlm.model.processor import IGNORED
from jvlm.train.config import PackingConfig
from jvlm.train.objectives.next_token import NextToken, train_only
from jvlm.train.source import Mixture, PackedRows

ROW = 96
WORDS = ["血液", "検査", "東京", "山", "です", "を", "した", "患者", "の", "は", "見た", "大きい", "川", "に", "行く"]
LANGUAGE = {"tiny": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}}
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "feature_norm": False}
PICTURES = {
    "images/grocery_store": lambda n: {"text": f"店で撮影した{WORDS[n % 5]}の写真"},
    "images/photos": lambda n: {"text": f"{WORDS[n % 7]}{n}{WORDS[n % 4]}の写真"},
    "medical_images/bccd": lambda n: {"label": {"WBC": n % 4, "RBC": 9}, "caption_ja": f"白血球{n % 4}個。"},
}


def write_root(root: Path) -> None:
    """A folder of real data in small."""
    rng = np.random.default_rng(1)
    for folder in ("text", "en_text", "medical_text"):
        texts = ["".join(rng.choice(WORDS, int(rng.integers(4, 150)))) for _ in range(60)]
        (root / folder).mkdir(parents=True)
        rows = "\n".join(json.dumps({"text": text}) for text in texts)
        (root / folder / f"{folder}_made.jsonl.zst").write_bytes(zstandard.compress(rows.encode()))
    for name, row in PICTURES.items():
        (root / name).mkdir(parents=True)
        lines = []
        for number in range(40):
            file = BytesIO()
            Image.fromarray(rng.integers(0, 256, (20 + number, 40, 3), np.uint8)).save(file, "PNG")
            (root / name / f"{number}.png").write_bytes(file.getvalue())
            lines.append(json.dumps({"image": f"{Path(name).name}/{number}.png"} | row(number)))
        (root / f"{name}.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both contestants read, of a tiny size; `other` is the same model with every weight moved."""
    folder = tmp_path_factory.mktemp("train-vl")
    write_root(folder / "root")
    spec = train_vl_data.DataSpec(
        root=str(folder / "root"),
        work=str(folder),
        sizes=LANGUAGE,
        vision=VISION,
        vocab_size=480,
        row_length=ROW,
        source_chars=10**5,
        text_chars=1_500,
        threads=1,
    )
    train_vl_data.write_spec(spec, folder / "data_spec.json")
    train_vl_data.prepare(spec)
    loaded = load_directory(folder / "tiny")
    shake(loaded.model)
    with torch.no_grad():  # the marks begin as rows of the table, and one table is all that LLaVA has
        table = loaded.model.language.get_input_embeddings().weight
        table[list(loaded.processor.image_ids.marks)] = loaded.model.markers.weight
    save_model(folder / "other", loaded.model, loaded.processor)
    train_vl_data.save_llava(folder / "other", folder / "other-llava")
    return folder


@pytest.fixture(scope="module")
def mix(work: Path) -> Mixture:
    return train_vl_data.open_mix(work, train_vl_data.open_processor(work, "tiny"), ROW)


def one_of_each_set(mix: Mixture) -> list[Example]:
    """Samples of every set, three each."""
    return [mix.example(int(start) + n) for start in mix.starts[:-1] for n in range(3)]


def padded(work: Path, examples: list[Example]) -> dict[str, torch.Tensor]:
    processor = train_vl_data.open_processor(work, "tiny")
    assert processor.vision is not None
    return train_vl_llava.collate(examples, processor.pad, processor.vision)


def test_the_mix_is_pictures_conversations_and_text(work: Path, mix: Mixture) -> None:
    found = read_json(work / "data.json")
    assert list(found["samples"]) == [*train_vl_data.IMAGE_SETS, "text"]
    assert all(count > 2 for count in found["samples"].values())
    assert sum(found["samples"].values()) == len(mix.lengths) == sum(found["length_histogram"].values())
    assert sum(found["tokens"].values()) == mix.lengths.sum()
    assert found["pictures"] == len(mix.lengths) - found["samples"]["text"]
    assert 0.5 < found["packing_fill"] <= 1


def test_padded_samples_have_the_targets_that_packed_ones_have(work: Path, mix: Mixture) -> None:
    examples = one_of_each_set(mix)
    batch = padded(work, examples)
    packed = pack([examples], sum(len(example.inputs) for example in examples), 3)
    assert (batch["labels"][:, 0] == IGNORED).all()
    for row, example in enumerate(examples):
        length = len(example.inputs)
        assert batch["labels"][row, 1 : length + 1].tolist() == list(example.labels)
        assert batch["input_ids"][row, :length].tolist() == list(example.inputs)
        assert batch["attention_mask"][row, : length + 1].all()
        assert not batch["attention_mask"][row, length + 1 :].any()
        assert (batch["labels"][row, length + 1 :] == IGNORED).all()
        trained = [label for label in example.labels if label != IGNORED]
        assert trained == batch["labels"][row][batch["labels"][row] != IGNORED].tolist() != []
    assert int((batch["labels"] != IGNORED).sum()) == packed.weight
    assert packed.pixels is not None
    assert len(batch["pixel_values"]) == len(packed.pixels) == 15
    work_done = train_vl_llava.work_of(batch)
    assert work_done["tokens"] == sum(len(example.inputs) for example in examples)
    assert work_done["computed"] == batch["input_ids"].numel()
    undecoded = examples[0]._replace(labels=[IGNORED] * len(examples[0].labels), error="torn")
    assert int((padded(work, [undecoded])["labels"] != IGNORED).sum()) == 0
    assert "pixel_values" not in padded(work, examples[-1:])


def test_both_compute_the_same_loss_and_gradients(work: Path, mix: Mixture) -> None:
    examples = one_of_each_set(mix)
    model = load_directory(work / "other").model
    train_only(model, train_vl_ours.TRAINED)
    objective = NextToken(model, PackedRows(mix, ROW, 7, 3), PackingConfig(row_length=ROW, rows=1))
    batch = pack([examples], sum(len(example.inputs) for example in examples), 3)
    loss = objective.loss_sum(batch) / batch.weight
    rival = train_vl_llava.load_model(work / "other-llava")
    inputs = padded(work, examples)
    theirs = rival(**inputs, num_items_in_batch=torch.tensor(batch.weight)).loss
    torch.testing.assert_close(loss, theirs, atol=1e-4, rtol=0)
    loss.backward()
    theirs.backward()
    ours, rivals = model.language.model.layers, rival.model.language_model.layers
    pairs = {
        "projector": (model.projector.linear_1, rival.model.multi_modal_projector.linear_1),
        "first": (ours[0].mlp.up_proj, rivals[0].mlp.up_proj),
        "last": (ours[1].self_attn.q_proj, rivals[1].self_attn.q_proj),
    }
    for name, (own, other) in pairs.items():
        torch.testing.assert_close(own.weight.grad, other.weight.grad, atol=1e-5, rtol=1e-3, msg=name)
    assert not any(p.requires_grad for p in [*model.tower.parameters(), *rival.model.vision_tower.parameters()])
    # the pictures count: in another order the loss is another
    turned = inputs | {"pixel_values": inputs["pixel_values"].flip(0)}
    with torch.no_grad():
        assert abs(float(rival(**turned, num_items_in_batch=torch.tensor(batch.weight)).loss - theirs)) > 1e-3
    # both train the same weights, but for our marks
    trained, by_rival = (sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (model, rival))
    assert trained == by_rival + model.markers.weight.numel()


def test_operations_are_those_of_the_samples_alone(work: Path, mix: Mixture) -> None:
    model = load_directory(work / "tiny").model
    train_only(model, train_vl_ours.TRAINED)
    rows = PackedRows(mix, ROW, 7, 3)
    objective = NextToken(model, rows, PackingConfig(row_length=ROW, rows=4))
    batch = rows.batch(range(24))
    padding = [n for n, source in zip(batch.doc_lens, batch.sources, strict=True) if not source]
    assert padding
    found = train_vl_ours.work_of(objective.flops, batch)
    assert found["tokens"] == 24 * ROW - sum(padding)
    assert found["computed"] == 24 * ROW
    wasted = objective.flops.per_token * sum(padding) + objective.flops.per_pair * sum(n * n for n in padding)
    assert found["gflop"] * 1e9 == pytest.approx(objective.flops(batch) - wasted)
    # torch's own count of the step, less the decoder's attention, of which it does not know that half is masked
    model.train()  # as in the loop; else the tower's attention is one kernel, which is not counted
    with flop_counter() as tower:
        model.tower(batch.pixels)
    with flop_counter() as step:
        objective.loss_sum(batch).backward()
    of_tower, of_step = (counter.get_flop_counts()["Global"] for counter in (tower, step))
    expected = sum(n for name, n in of_step.items() if "attention" not in str(name))
    expected += sum(n for name, n in of_tower.items() if "attention" in str(name))
    # the projector counts as if its first layer took a gradient of its input, which nobody needs
    layer = model.projector.linear_1
    expected += 2 * layer.in_features * layer.out_features * model.vision_config.grid**2 * len(batch.pixels)
    ours = objective.flops(batch) - objective.flops.per_pair * sum(n * n for n in batch.doc_lens)
    assert ours == pytest.approx(expected, rel=1e-6)


def test_batches_of_like_length_hold_every_sample_once(mix: Mixture, tmp_path: Path) -> None:
    spec = Spec("llava", "", "tiny", str(tmp_path), Settings(rows=4, group=True), OPTIMIZER, ROW, 1, 1, 3)
    samples = train_vl_llava.Samples(mix)
    trainer = train_vl_llava._LlavaMeasured(
        model=torch.nn.Linear(1, 1), args=train_vl_llava.arguments(spec), train_dataset=samples
    )
    order = list(trainer._get_train_sampler())
    assert len(order) == len(samples) // 4 * 4
    assert len(set(order)) == len(order)
    batches = np.array(samples.lengths)[np.array(order).reshape(-1, 4)]
    waste = 1 - batches.sum() / (batches.max(1).sum() * 4)
    shuffled = np.random.default_rng(0).permutation(samples.lengths)[: len(order)].reshape(-1, 4)
    assert waste < 0.1 < 1 - shuffled.sum() / (shuffled.max(1).sum() * 4)


def test_ratios_are_of_medians() -> None:
    spans = {
        "ours": [{"seconds": 2.0, "targets": t, "gflop": 100.0} for t in (20, 60, 40)],
        "llava": [{"seconds": 1.0, "targets": t} for t in (10, 8, 100)],
    }
    assert train_vl.ratios(spans, [100.0, 125.0, 400.0]) == {"of_gemm_ceiling": 0.4, "over_padded_llava": 2.0}
    assert train_vl.ratios({"ours": spans["ours"]}, [50.0]) == {"of_gemm_ceiling": 1.0}
    assert train_vl.fill([{"tokens": 90, "computed": 100}, {"tokens": 10, "computed": 100}]) == 0.5


def test_settings_are_searched_one_after_another(monkeypatch) -> None:
    plan = train_vl.Plan(LANGUAGE, vision=VISION, rows=(8, 4), samples=(16, 32), again=2)
    bench = train_vl._Bench(Path(), 1, lambda text: None, plan)

    def probe(who, size, settings, data):
        rate = 100 + settings.rows - 50 * (settings.precision == "bfloat16") + 30 * settings.compile
        rate *= (1 if settings.group else 0.5) * (0.8 if settings.workers else 1)
        return Trial(settings, rate, 1.0)

    monkeypatch.setattr(bench, "probe", probe)
    tried = bench.search("llava", "small", {}, [])
    assert [trial.settings for trial in tried] == [
        Settings("float32", False, 16, True),
        Settings("bfloat16", False, 16, True),
        Settings("float32", False, 32, True),
        Settings("float32", False, 32, False),
        Settings("float32", False, 32, True, 1),
        Settings("float32", True, 32, True),
    ]
    again = bench.search("llava", "large", {}, tried)
    assert [trial.settings for trial in again] == [tried[5].settings, tried[2].settings]
    ours = bench.search("ours", "small", {}, [])
    assert not any(trial.settings.group for trial in ours)
    assert [trial.settings.rows for trial in ours] == [8, 8, 4, 8, 8]


def test_settings_and_spec_come_back_as_they_were_written(tmp_path: Path) -> None:
    spec = Spec("ours", "w", "tiny", "f", Settings(rows=4, workers=2), dict(OPTIMIZER), ROW, 1, 1, 3)
    spec = replace(spec, optimizer=spec.optimizer | {"betas": [0.9, 0.95]})  # JSON has no tuples
    spec.write(tmp_path / "spec.json")
    assert Spec.read(tmp_path / "spec.json") == spec


@pytest.mark.long
def test_a_miniature_from_end_to_end(tmp_path: Path, monkeypatch) -> None:
    write_root(tmp_path / "root")
    small = train_vl.Plan(
        LANGUAGE,
        vision=VISION,
        vocab_size=480,
        row_length=ROW,
        source_chars=10**5,
        text_chars=1_500,
        precisions=("float32",),
        compiled=False,
        rows=(2,),
        samples=(4,),
        workers=(),
        span_rows=4,
        probe_rows=2,
        rounds=2,
    )
    monkeypatch.setattr(train_vl, "FULL", small)
    command = ["bench", "train-vl", "--json", "--threads", "1", "--data-root", str(tmp_path / "root")]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert set(result["ratios"]) == {"over_padded_llava", "of_gemm_ceiling"}
    assert 0.5 < result["packing_fill"] <= 1
    size = result["sizes"]["tiny"]
    assert {who: len(rates) for who, rates in size["targets_per_s_of_rounds"].items()} == {"ours": 2, "llava": 2}
    assert all(trial["error"] is None for trials in size["tried"].values() for trial in trials)
    assert all(0.3 < share <= 1 for share in size["fill"].values())
    assert all(50 < peak < 5000 for peak in size["peak_mib"].values())
    assert "round 2" in found.stderr
