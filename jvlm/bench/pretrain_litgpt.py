"""litgpt's own pretraining as a contestant, run by the Python of an environment that has it.

`litgpt.pretrain.setup` does all the work, on the same rows: ``[T + 1]`` tokens of which the last T are targets, causal
without a document mask. It always compiles; without, torch.compile is replaced by nothing. Its optimizer is not fused
on a CPU, by its own rule. bfloat16 is `bf16-mixed`: as ours, autocast.
"""

import json
import sys
from pathlib import Path
from typing import Any

import litgpt.pretrain
import numpy as np
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data import DataModule
from torch import Tensor
from torch.utils.data import DataLoader

from jvlm.bench.contestant import ENDLESS, Spans, Spec


class Loader(DataLoader[Tensor]):
    """Tells the spans of every batch; its state, which a checkpoint holds, is the number of batches seen."""

    def __init__(self, rows: Tensor, batch_size: int, spans: Spans) -> None:
        super().__init__(rows, batch_size, shuffle=True, collate_fn=self._collate)  # type: ignore[arg-type]
        self.spans, self.step = spans, 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]

    def _collate(self, rows: list[Tensor]) -> Tensor:
        self.spans.begin(self.step)
        self.step += 1
        batch = torch.stack(rows)
        self.spans.add(targets=batch[:, 1:].numel())
        return batch


class Rows(DataModule):
    """Rows of `rows.npz` in litgpt's layout."""

    def __init__(self, spec: Spec, spans: Spans) -> None:
        super().__init__()
        with np.load(Path(spec.work) / "rows.npz") as file:
            self.rows = torch.from_numpy(np.concatenate([file["input_ids"], file["labels"][:, -1:]], 1))
        self.spans = spans

    def connect(self, tokenizer: Any = None, batch_size: int = 1, max_seq_length: int | None = None, **_: Any) -> None:
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return Loader(self.rows, self.batch_size, self.spans)

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows[: self.batch_size], self.batch_size)  # type: ignore[arg-type]


def run(spec: Spec, spans: Spans) -> None:
    """Train until the parent has seen enough."""
    settings, optimizer = spec.settings, spec.optimizer
    if not settings.compile:
        torch.compile = lambda model: model  # type: ignore[assignment]
    sys.argv = ["pretrain", "jvlm"]  # every checkpoint records the command line, which litgpt parses for it
    adamw = {name: optimizer[name] for name in ("betas", "eps", "weight_decay")}
    litgpt.pretrain.setup(
        "jvlm",
        model_config=_config(spec),
        out_dir=Path(spec.folder),
        precision={"float32": "32-true", "bfloat16": "bf16-mixed"}[settings.precision],
        data=Rows(spec, spans),
        train=TrainArgs(
            save_interval=spec.span_steps,
            log_interval=spec.span_steps,
            global_batch_size=settings.rows,
            micro_batch_size=settings.rows,
            lr_warmup_steps=0,
            max_tokens=ENDLESS * settings.rows * spec.row_length,
            tie_embeddings=True,
            max_norm=optimizer["clip"],
            min_lr=optimizer["learning_rate"],
        ),
        eval=EvalArgs(interval=ENDLESS, final_validation=False),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": adamw | {"lr": optimizer["learning_rate"]}},
        devices=1,
        logger_name="csv",
    )


def _config(spec: Spec) -> Config:
    """The shape of the model directory, in litgpt's words."""
    shape = json.loads((Path(spec.work) / spec.size / "config.json").read_text(encoding="utf-8"))
    return Config(
        name="jvlm",
        block_size=spec.row_length,
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_query_groups=shape["num_key_value_heads"],
        n_embd=shape["hidden_size"],
        vocab_size=shape["vocab_size"],
        padded_vocab_size=shape["vocab_size"],
        intermediate_size=shape["intermediate_size"],
        rotary_percentage=1.0,
        rope_base=int(shape["rope_theta"]),
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=shape["rms_norm_eps"],
        mlp_class_name="LLaMAMLP",
    )


if __name__ == "__main__":
    spec = Spec.read(Path(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    run(spec, Spans(spec.warmup_steps, spec.span_steps))
