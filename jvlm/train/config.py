"""Settings of the training loop, shared by every stage."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from jvlm.config import Config
from jvlm.train.schedule import Schedule
from jvlm.train.trackers import TrackerName


class OptimizerConfig(Config):
    """Muon and AdamW, every hyperparameter written out: a wrong epsilon has cost others trillions of tokens."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    muon: bool = True
    """Muon, not AdamW, for the matrices of the language model's blocks and of the projector; updates are as large."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW: decay of the running mean and of the running square of the gradient."""
    eps: float = Field(1e-8, gt=0)
    """AdamW: added to the root of the running square."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay of matrices; norms, biases and embeddings are not decayed."""
    clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    warmup: int = Field(20, ge=0)
    """Steps of linear warm-up."""
    schedule: Schedule = "wsd"
    """`wsd` (warm-up, stable, linear decay) or `cosine`."""
    final: float = Field(0.05, ge=0, le=1)
    """Learning rate at the end, as a share of the peak."""
    decay: float = Field(0.3, gt=0, le=1)
    """Share of the steps over which `wsd` decays."""


Resume = Literal["auto", "never", "must"]
Overlong = Literal["error", "drop", "fewer_tiles"]


class EngineConfig(Config):
    """What computes the steps. A checkpoint of any engine is continued by any other."""

    zero: int | None = Field(None, ge=0, le=3)
    """DeepSpeed's ZeRO stage: what is sharded over processes, from 1 (optimizer state) to 3 (weights too). Plain torch
    when left out. ZeRO shards matrices by rows, so it goes with `muon: false`."""
    offload: bool = False
    """ZeRO keeps optimizer state in main memory, not on the GPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products (autocast); weights, sums of gradients and optimizer state are always float32."""
    compile: bool = False
    """Compile the decoder blocks: half a minute at the start, then faster steps. Where that fails it is said, and the
    training goes on uncompiled."""
    recompute: bool = False
    """Keep only what enters each decoder block and compute the rest again on the way back: less memory, a third more
    operations."""


class LoopConfig(Config):
    """Length of a stage, its checkpoints and its optimizer."""

    steps: int = Field(100, ge=1)
    """Optimizer steps."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer and its schedule."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept."""
    keep_every: int | None = Field(None, ge=1)
    """Checkpoints of every so many steps are kept for ever, to evaluate or to branch from."""
    resume: Resume = "auto"
    """`auto`: go on from the last good checkpoint when there is one; `must`: an error when there is none; `never`: an
    error when there is one."""
    branch_from: Path | None = None
    """A checkpoint folder of another run of the same model: its weights, optimizer state and step are where this one
    begins. A schedule's decay, or a last mixture of data, can so be tried on a stable stretch trained once."""
    time_limit: float | None = Field(None, gt=0)
    """Minutes after which the training is saved and ends, to be gone on with later."""
    go_back: int = Field(0, ge=0)
    """How often a loss or a gradient that is not finite is answered by going back to the last checkpoint and leaving
    out the steps since; once more and the training ends."""
    engine: EngineConfig = EngineConfig()
    """Plain torch or DeepSpeed, and the precision."""
    workers: int | None = Field(None, ge=0)
    """Threads that prepare the next batches while a step is computed: by default four beside a GPU, and none on a
    processor, which they would only share."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of metrics.jsonl."""
    log_to: list[TrackerName] = Field(default=[])
    """Where the same figures go besides: `tensorboard`, `wandb` (its files stay here unless WANDB_MODE is set)."""
    undecoded: float = Field(0.05, ge=0, le=1)
    """Share of the samples seen whose pictures may fail to decode; each is masked and written to errors.jsonl. More,
    and more than five, are an error."""

    def workers_on(self, device: str) -> int:
        """The number of threads beside a device of this type."""
        return self.workers if self.workers is not None else 4 * (device == "cuda")


class PackingConfig(Config):
    """Rows of a step for packed token batches."""

    row_length: int = Field(512, ge=16)
    """Tokens in a row."""
    rows: int = Field(4, ge=1)
    """Rows in a global batch."""
    accumulation: int = Field(1, ge=1)
    """Micro-batches a global batch is computed in, over all processes; the result is the same, the memory smaller."""
    overlong: Overlong = "error"
    """A sample with images that is longer than a row: `error` names it, `fewer_tiles` gives up tiles of its images
    until it fits (an error where that does not help), `drop` leaves it out and writes its id to overlong.jsonl. An
    image is never cut."""


class TextPhase(Config):
    """A stretch of pretraining with its own mixture of the corpus's sources."""

    from_token: int = Field(0, ge=0)
    """Tokens of training after which it begins, to the nearest step."""
    sources: dict[str, float] = Field(default={})
    """How often each source is seen in one epoch of this phase, beside its weight in the corpus; a source not named is
    left out. Empty: the corpus as it is."""
