"""A mixture of experts through the stages of a recipe, and the shipped recipes with experts in them."""

import json
import subprocess
import sys

import pytest
from tiny import corpus_texts

from jvlm.assets import asset
from jvlm.config import load_config
from jvlm.datasets import build_rows
from jvlm.files import read_json, read_json_lines, write_text
from jvlm.model.directory import load_directory
from jvlm.plan import language_parameters
from jvlm.recipe import Recipe, load_recipe
from jvlm.stages import vision_language
from jvlm.stages.context import StageContext
from jvlm.stages.prefer import prefer
from jvlm.stages.pretrain import pretrain

LOOP = {"steps": 6, "checkpoint_every": 3, "log_every": 3, "optimizer": {"learning_rate": 3e-3, "warmup": 1}}
PACKING = {"row_length": 96, "rows": 4}
SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 24, "num_experts": 4}
EXPERTS = ("stages.pretrain.language.num_experts=4", "stages.pretrain.language.intermediate_size=80")


def test_pretrained_instructed_and_preferred(tokenizer, tmp_path):
    run, texts = tmp_path / "run", corpus_texts(30)
    tokenizer.save(run / "tokenizer" / "model")
    for name, part in (("train", texts[:24]), ("held_out", texts[24:])):
        rows = [json.dumps({"id": f"{name}{i}", "text": text, "source": "s"}) for i, text in enumerate(part)]
        write_text(run / "corpus" / "text" / f"{name}.jsonl", "\n".join(rows) + "\n")
    turns = [
        [{"role": "user", "content": f"{n}番は。"}, {"role": "assistant", "content": "赤です。"}] for n in range(8)
    ]
    rows = {
        "chat": [{"messages": messages} for messages in turns],
        "pairs": [{"prompt": f"{n}番は。", "chosen": "赤です。", "rejected": "青です。"} for n in range(6)],
    }
    for name, found in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in found))
        build_rows(tmp_path / f"{name}.jsonl", tmp_path / "sets" / name)
    phase = {"data": [{"shards": str(tmp_path / "sets" / "chat")}], "train": ["language"], "loop": LOOP}
    stages = {
        "pretrain": {"language": SHAPE, "loop": LOOP, "packing": PACKING, "ngram_order": None},
        "instruct": {"phases": {"chat": phase | {"packing": PACKING}}},
        "prefer": {"shards": str(tmp_path / "sets" / "pairs"), "train": ["language"], "pairs": 3, "loop": LOOP},
    }
    recipe = load_config(Recipe, None, [], {"name": "t", "stages": stages})
    figures = pretrain(StageContext(run, "pretrain", recipe))
    assert figures["parameters"] == language_parameters(recipe.stages.pretrain.shape, tokenizer.vocab_size)
    vision_language.instruct(StageContext(run, "instruct", recipe))
    prefer(StageContext(run, "prefer", recipe))
    for stage in ("pretrain", "instruct/1-chat", "prefer"):
        for record in read_json_lines(run / stage / "metrics.jsonl"):
            assert len(record["routers"]["entropy"]) == 2, stage
    loaded = load_directory(run / "prefer" / "model")
    assert loaded.kind == "mixtral"
    assert loaded.model.config.router_aux_loss_coef == recipe.stages.pretrain.shape.balance > 0


def test_shipped_mixtures_are_what_they_say():
    dense, mixture = (load_recipe(asset("configs", "sizes", f"{name}10m.yaml"), []) for name in ("", "moe-"))
    shape, vocab = mixture.stages.pretrain.shape, mixture.stages.tokenizer.vocab_size
    idle = 1 - shape.experts_per_token / shape.num_experts
    experts = 3 * shape.hidden_size * shape.intermediate_size * shape.num_experts * shape.num_layers
    total = language_parameters(shape, vocab)
    assert total == pytest.approx(26e6, rel=0.02)
    assert total - idle * experts == pytest.approx(language_parameters(dense.stages.pretrain.shape, vocab), rel=0.01)
    assert (mixture.stages.pretrain.packing, mixture.stages.pretrain.loop.steps) == (
        dense.stages.pretrain.packing,
        dense.stages.pretrain.loop.steps,
    )
    large = load_recipe(asset("configs", "sizes", "moe-8x1.8b.yaml"), [])
    loop, packing = large.stages.pretrain.loop, large.stages.pretrain.packing
    assert loop.engine.zero == 3
    assert not loop.optimizer.muon
    assert packing.rows % (large.processes * (packing.accumulation // large.processes)) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["text", "minute"])
def test_a_whole_recipe_with_experts(tmp_path, name):
    command = (sys.executable, "-c", "from jvlm.cli import main; main()", "run", f"{name}.yaml", *EXPERTS)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = tmp_path / "runs" / name
    config = read_json(run / "model" / "config.json")
    assert config.get("language", config)["num_local_experts"] == 4
    records = read_json_lines(run / "pretrain" / "metrics.jsonl")
    assert records[-1]["loss"] < records[0]["loss"]
    assert min(records[-1]["routers"]["entropy"]) > 0.8
