"""The plan beside a training that is really run, on this machine's processor: its time and its memory."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys, tempfile
from functools import partial
from pathlib import Path
import torch
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import write_model_files
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.text.tokenizer import train_tokenizer
from jvlm.train.config import LoopConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments
from jvlm_data.toyworld import corpus

layers, width, ffn, rows, length, steps, threads = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(1)
folder = Path(tempfile.mkdtemp())
texts = [corpus.document(7, i)["text"] for i in range(400)]
tokenizer = train_tokenizer(texts, 640, folder / "tokenizer", seed=7, threads=1)
write_token_shards([Document(f"d{i}", "".join(texts[i::40]), "toy") for i in range(40)], tokenizer, folder / "tokens")
processor = Processor(tokenizer)
shape = LanguageConfig(hidden_size=width, num_layers=layers, num_heads=width // 32, intermediate_size=ffn)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
model = build_language_model(shape, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
stream = PackedRows(TokenDocuments(TokenShards(folder / "tokens"), processor), length, 7, processor.pad)
packing = PackingConfig(row_length=length, rows=rows)
config = LoopConfig(steps=steps, checkpoint_every=steps, log_every=max(1, steps // 2))
files = partial(write_model_files, model, processor)
train(NextToken(model, stream, packing), config, folder / "out", lambda text: None, files)
lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
from jvlm.train.ceiling import measured
print(json.dumps({"vocab": tokenizer.vocab_size, "seconds": sum(l["seconds"] for l in lines), "bytes": peak() - before,
    "ceiling": measured("float32", threads), "mfu": lines[-1]["mfu"], "tokens_per_s": lines[-1]["tokens_per_s"]}))
"""


@pytest.mark.long
def test_a_training_on_this_processor_takes_what_is_planned(capsys):
    from jvlm.model.config import LanguageConfig
    from jvlm.plan.gpus import Gpu
    from jvlm.plan.memory import memory
    from jvlm.plan.parameters import language_parameters
    from jvlm.plan.time import DEFAULT_MFU, cost
    from jvlm.plan.work import Work

    layers, width, ffn, rows, length, steps, threads = 8, 256, 704, 8, 512, 20, 1
    arguments = [str(number) for number in (layers, width, ffn, rows, length, steps, threads)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    shape = LanguageConfig(hidden_size=width, num_layers=layers, num_heads=width // 32, intermediate_size=ffn)
    parts = {"language": language_parameters(shape, seen["vocab"])}
    given = {"language": shape, "vocab_size": seen["vocab"], "muon": True}
    work = Work("pretrain", parts, {"language": 1.0}, steps, rows, length, **given)
    machine = Gpu("processor", 0.0, seen["ceiling"] / 1e12, 1.0, 0.0, 0.0, "measured here")
    by_default, by_its_own = (cost(work, machine, 1, mfu).seconds for mfu in (DEFAULT_MFU, seen["mfu"]))
    planned = memory(work, 1, None, "cpu").peak
    with capsys.disabled():
        print(
            f"\n{parts['language']:,} parameters: {seen['seconds']:.1f} s; planned {by_default:.1f} s at "
            f"{DEFAULT_MFU:.0%}, {by_its_own:.1f} s at its own {seen['mfu']:.0%} of "
            f"{seen['ceiling'] / 1e9:.0f} GFLOP/s; "
            f"{seen['bytes'] / 2**20:.0f} MiB, planned {planned / 2**20:.0f}"
        )
    assert by_its_own == pytest.approx(seen["seconds"], rel=0.15)
    assert by_default == pytest.approx(seen["seconds"], rel=0.75)
    # tensors are planned (test_plan_memory.py holds their peak to it); a process holds what its allocator keeps as well
    assert 0.9 * planned < seen["bytes"] < 2.2 * planned
