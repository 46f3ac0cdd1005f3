"""Next-token prediction over packed rows: pretraining, alignment, instruction and medical training alike.

The stages differ in their data and in which parts of the model learn, not in what is computed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import MixtralConfig

from jvlm.errors import UsageError
from jvlm.model.experts import balance_loss, router_scores
from jvlm.model.flops import Flops
from jvlm.model.jvlm import JvlmModel, hidden_states
from jvlm.model.language import LanguageModel
from jvlm.model.lora import is_adapter, part_of
from jvlm.model.loss import cross_entropy_sum
from jvlm.model.packed import PackedBatch
from jvlm.model.processor import IGNORED
from jvlm.train.config import PackingConfig
from jvlm.train.curriculum import Curriculum
from jvlm.train.monitor import LossBySource
from jvlm.train.routers import RouterLoad
from jvlm.train.source import PackedRows
from jvlm.train.world import ONE_PROCESS, World


class NextToken:
    """Sum of the cross-entropy over trained tokens. `model` is a LanguageModel or a JvlmModel."""

    unit = "tokens"

    def __init__(
        self,
        model: nn.Module,
        rows: PackedRows | Curriculum,
        packing: PackingConfig,
        rate_scale: dict[str, float] | None = None,
    ) -> None:
        self.model: nn.Module = model
        self.rows, self.packing = rows, packing
        self.rate_scale = rate_scale or {}
        self.by_source, self.routers = LossBySource(), RouterLoad()
        self.flops = Flops(model)

    def micro_batches(self, step: int, world: World = ONE_PROCESS) -> list[PackedBatch]:
        """Raises UsageError when the rows cannot be dealt out evenly."""
        rows, accumulation = self.packing.rows, self.packing.accumulation
        pieces = max(1, accumulation // world.size)
        if rows % (world.size * pieces):
            text = f"{rows} rows cannot be split into {pieces} micro-batches on each of {world.size} processes"
            raise UsageError(text, where="packing", fix="change rows or accumulation")
        own = world.share(range(step * rows, (step + 1) * rows))
        each = len(own) // pieces
        return [self.rows.batch(own[m * each : (m + 1) * each]) for m in range(pieces)]

    def largest_batch(self, world: World = ONE_PROCESS) -> PackedBatch:
        """Rows have one shape; what is seen differs, and the step with the most views in the first epoch is taken."""
        views = self.rows.views()
        steps = len(views) // self.packing.rows
        by_step = views[: steps * self.packing.rows].reshape(steps, self.packing.rows).sum(1)
        batches = self.micro_batches(int(by_step.argmax()) if steps else 0, world)
        return max(batches, key=lambda batch: 0 if batch.pixels is None else len(batch.pixels))

    def loss_sum(self, batch: PackedBatch) -> Tensor:
        """Of a mixture of experts with the loss that keeps them in balance, as often as there are trained tokens."""
        language = language_model(self.model)
        with router_scores(language) as scores:
            hidden = packed_hidden(self.model, batch)
        loss, losses = cross_entropy_sum(hidden, batch.labels, language.lm_head)
        documents = torch.arange(len(batch.doc_lens)).repeat_interleave(torch.tensor(batch.doc_lens))
        trained = (batch.labels != IGNORED).flatten()
        self.by_source.add(batch.sources, documents.to(losses.device)[trained], losses)
        if scores and batch.weight:
            loss = loss + batch.weight * experts_loss(language, scores, batch.input_ids, self.routers)
        return loss

    def fingerprint(self) -> str:
        return f"{self.rows.fingerprint} {self.packing.row_length}x{self.packing.rows}"


def experts_loss(language: LanguageModel, scores: list[Tensor], input_ids: Tensor, routers: RouterLoad) -> Tensor:
    """`balance_loss` of a mixture whose routers gave `scores` for `input_ids` ``[B, T]``; `routers` gets their load."""
    config = language.config
    assert isinstance(config, MixtralConfig)
    assert config.pad_token_id is not None
    real = input_ids.ne(config.pad_token_id)
    routers.add(scores, real, config.num_experts_per_tok)
    return balance_loss(config, scores, real)


def packed_hidden(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Hidden states ``[B, T, hidden]`` of a packed batch, for a language model with or without images."""
    if isinstance(model, JvlmModel):
        return model(batch.input_ids, batch.position_ids, batch.doc_lens, batch.pixels)
    embeddings = model.get_input_embeddings()(batch.input_ids)  # type: ignore[operator]
    return hidden_states(model, embeddings, batch.position_ids, batch.doc_lens)  # type: ignore[arg-type]


def language_model(model: nn.Module) -> LanguageModel:
    """The language model inside, whichever kind of model it is."""
    return model.language if isinstance(model, JvlmModel) else model  # type: ignore[return-value]


def train_only(model: nn.Module, parts: Sequence[str], tower_layers: int | None = None) -> None:
    """Freeze everything but `parts`: tower, projector, language; a language model alone is all `language`.

    An image's marks go with the projector. Of a part that has adapters these alone learn. Of a tower that learns, only
    the top `tower_layers` blocks, when a number is given. Raises UsageError for an unknown part.
    """
    whole = isinstance(model, JvlmModel)
    known = ("tower", "projector", "language") if whole else ("language",)
    for part in parts:
        if part not in known:
            raise UsageError(f"'{part}' is no part of the model", fix=f"parts: {', '.join(known)}")
    parameters = dict(model.named_parameters())
    adapted = {part_of(model, name) for name in parameters if is_adapter(name)}
    for name, parameter in parameters.items():
        part = part_of(model, name)
        parameter.requires_grad_(part in parts and (part not in adapted or is_adapter(name)))
    if tower_layers is not None and "tower" in parts and isinstance(model, JvlmModel):
        model.tower.learn_only_top(tower_layers)
