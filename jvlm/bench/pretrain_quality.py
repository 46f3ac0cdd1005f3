"""The same model trained by our loop and by transformers' Trainer on the same rows, in order, with the same optimizer
and schedule, from the same weights: what either has learned, in bits per character of held-out text.

Trainer gets the dense block-diagonal mask, with which it computes the same loss.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from jvlm.bench import pretrain_trainer
from jvlm.bench.contestant import Spans, Spec
from jvlm.bench.pretrain_data import SEED
from jvlm.files import read_json
from jvlm.infer.likelihood import bits_per_character
from jvlm.model.directory import Loaded, load_directory, write_model_files
from jvlm.text.shards import TokenShards
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.engine import parameter_groups
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.schedule import learning_rate_factor
from jvlm.train.source import PackedRows, TokenDocuments


def compare(spec: Spec) -> dict[str, float]:
    """Bits per character after `span_steps` steps of `settings.rows` rows, in float32, and before them."""
    texts = read_json(Path(spec.work) / "held_out.json")
    trained = {"start": load_directory(Path(spec.work) / spec.size), "ours": _ours(spec), "trainer": _trainer(spec)}
    figures = {
        f"bpc_{name}": bits_per_character(loaded.model.eval(), loaded.processor, texts)
        for name, loaded in trained.items()
    }
    return figures | {
        "bpc_ours_minus_trainer": figures["bpc_ours"] - figures["bpc_trainer"],
        "tokens": spec.span_steps * spec.settings.rows * spec.row_length,
        "held_out_characters": sum(map(len, texts)),
    }


def _ours(spec: Spec) -> Loaded:
    loaded = load_directory(Path(spec.work) / spec.size)
    documents = TokenDocuments(TokenShards(Path(spec.work) / "tokens"), loaded.processor)
    rows = PackedRows(documents, spec.row_length, SEED, loaded.processor.pad)
    objective = NextToken(loaded.model, rows, PackingConfig(row_length=spec.row_length, rows=spec.settings.rows))
    config = LoopConfig(steps=spec.span_steps, optimizer=OptimizerConfig(**spec.optimizer))
    files = partial(write_model_files, loaded.model, loaded.processor)
    train(objective, config, Path(spec.folder) / "ours", lambda line: print(line, file=sys.stderr), files)
    return loaded


def _trainer(spec: Spec) -> Loaded:
    spec = replace(spec, kind="packed", folder=str(Path(spec.folder) / "trainer"))
    model, config = pretrain_trainer.load_model(spec), OptimizerConfig(**spec.optimizer)
    _, groups = parameter_groups(dict(model.named_parameters()), config, {})
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)
    plan = (spec.span_steps, config.warmup, config.schedule, config.final, config.decay)
    trainer = Trainer(
        model=model,
        args=pretrain_trainer.arguments(spec, max_steps=spec.span_steps, train_sampling_strategy="sequential"),
        optimizers=(optimizer, LambdaLR(optimizer, lambda step: learning_rate_factor(step, *plan))),
        **pretrain_trainer.data(spec),
    )
    trainer.train()
    loaded = load_directory(Path(spec.work) / spec.size)
    loaded.model.load_state_dict(model.state_dict())
    return loaded


if __name__ == "__main__":
    spec = Spec.read(Path(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    spans = Spans(1, 1)
    spans.tell(compare(spec))
