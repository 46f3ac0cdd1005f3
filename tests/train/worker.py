"""One process of a distributed training, started by torchrun: ``worker.py JOBS.json``.

Each job is ``{"folder", "engine", "settings", "optimizer", "packing", "from", "fault", "shape", "one_expert"}``: train
a small language model in `folder`, from a copy of the checkpoint `from` when there is one; `shape` changes its shape,
and with `one_expert` each process sends all tokens to one expert, another one on each. With ``images`` (a folder of
shards) the model sees, and of every two rows one has pictures and the other none. With ``"clip": {"loss",
"accumulation"}`` a small CLIP is trained instead.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from jvlm.errors import JvlmError
from jvlm.images.shards import ShardReader
from jvlm.model.config import LanguageConfig, ProjectorConfig, TilesConfig, VisionConfig
from jvlm.model.directory import write_model_files
from jvlm.model.experts import Router
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import build_language_model
from jvlm.model.packed import PackedBatch, pack
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip, build_tower
from jvlm.text.shards import TokenShards
from jvlm.text.tokenizer import Tokenizer
from jvlm.train.config import EngineConfig, LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.contrastive import Contrastive
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import ImageSamples, PackedRows, TokenDocuments
from jvlm.train.world import join_world

SHAPE = LanguageConfig(
    hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=64, max_length=64, tie_embeddings=True
)
VISION = VisionConfig(image_size=16, patch_size=4, width=32, layers=2, head_width=16, embed_dim=16)
PROJECTOR, TILES = ProjectorConfig(shuffle=2), TilesConfig(per_image=4)


class EveryOther:
    """Rows of two streams in turn: of two processes one gets all of the first, the other all of the second."""

    def __init__(self, first: PackedRows, second: PackedRows) -> None:
        self.streams, self.fingerprint = (first, second), f"{first.fingerprint} and {second.fingerprint}"

    def views(self) -> np.ndarray:
        return np.zeros(0, np.int64)

    def batch(self, numbers: Sequence[int]) -> PackedBatch:
        examples = [self.streams[number % 2].examples(number // 2) for number in numbers]
        return pack(examples, self.streams[0].row_length, self.streams[0].pad_id)


CLIP = VisionConfig(
    image_size=32, patch_size=8, width=32, layers=2, head_width=16, embed_dim=16, text_width=32, text_layers=1
)


def loop_config(job: dict[str, Any]) -> LoopConfig:
    """Steps, engine and optimizer of a job."""
    settings: dict[str, Any] = {"steps": 10, "checkpoint_every": 5, "log_every": 1} | job.get("settings", {})
    optimizer = {"muon": False, "learning_rate": 1e-2, "warmup": 2} | job.get("optimizer", {})
    return LoopConfig(**settings, engine=EngineConfig(**job["engine"]), optimizer=OptimizerConfig(**optimizer))


def contrastive(settings: dict[str, Any], tokenizer: Tokenizer, data: Path) -> Contrastive:
    """A small CLIP on the captions, seven pairs a step."""
    processor = Processor(tokenizer, CLIP)
    torch.manual_seed(7)
    sigmoid = settings["loss"] == "sigmoid"
    model = build_clip(CLIP, tokenizer.vocab_size, processor.pad, processor.end, sigmoid)
    pieces = settings.get("accumulation", 1)
    return Contrastive(model, CLIP, processor, ShardReader(data / "captions"), 7, 7, pieces)


def run(job: dict[str, Any], data: Path) -> None:
    """Train as `job` says."""
    tokenizer = Tokenizer.load(data / "tokenizer")
    folder = Path(job["folder"])
    if "clip" in job:
        objective: Any = contrastive(job["clip"], tokenizer, data)
        train(objective, loop_config(job), folder, print, lambda new: None)
        return
    processor = Processor(tokenizer)
    torch.manual_seed(7)
    shape = SHAPE.model_copy(update=job.get("shape", {}))
    model: nn.Module = build_language_model(shape, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
    for router in (module for module in model.modules() if isinstance(module, Router) and job.get("one_expert")):
        router.register_forward_hook(lambda _, __, out: (*out[:2], torch.full_like(out[2], join_world().rank)))
    if "from" in job and join_world().is_first:
        source = Path(job["from"])
        shutil.copytree(source, folder / "checkpoints" / source.name)
    rows: Any = PackedRows(TokenDocuments(TokenShards(data / "tokens"), processor), 64, 7, processor.pad)
    if "images" in job:
        processor = Processor(tokenizer, VISION, PROJECTOR, TILES)
        model = JvlmModel(model, build_tower(VISION), PROJECTOR, processor.image_ids)  # type: ignore[arg-type]
        pictures = ImageSamples(ShardReader(Path(job["images"])), processor, 64, "fewer_tiles")
        rows = EveryOther(PackedRows(pictures, 64, 7, processor.pad), rows)
    objective = NextToken(model, rows, PackingConfig(row_length=64, rows=8, **job.get("packing", {})))
    fault = job.get("fault")
    if fault:
        compute = objective.loss_sum
        calls = 0

        def faulty(batch: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == fault["call"] and join_world().rank == fault["rank"]:
                if fault["kind"] == "nan":
                    return compute(batch) * float("nan")
                os.kill(os.getpid(), 9)
            return compute(batch)

        objective.loss_sum = faulty  # type: ignore[method-assign]
    train(objective, loop_config(job), folder, print, lambda new: write_model_files(model, processor, new))


def main(path: Path) -> int:
    """All jobs, one after the other."""
    torch.set_num_threads(1)
    for job in json.loads(path.read_text()):
        try:
            run(job, path.parent / "data")
        except JvlmError as error:
            if join_world().is_first:
                print(f"{type(error).__name__}: {error}", flush=True)
            return error.exit_code
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
