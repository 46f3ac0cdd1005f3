"""The vision-language model: tower → projector → image tokens of the language model."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jvlm.model.attention import Documents
from jvlm.model.config import ProjectorConfig, VisionConfig
from jvlm.model.language import LanguageModel
from jvlm.model.processor import PADDING_GREY, ImageIds
from jvlm.model.projector import build_projector
from jvlm.model.vision import VisionTower


class JvlmModel(nn.Module):
    """An open_clip tower, a projector and a language model. Image tokens in `input_ids` are replaced by features.

    The marks around an image and behind its rows of tiles have embeddings of their own, `markers`, which begin as the
    language model's: they learn with the projector while the language model, whose table is not touched, is frozen.
    """

    def __init__(
        self, language: LanguageModel, tower: VisionTower, projector_config: ProjectorConfig, image_ids: ImageIds
    ) -> None:
        super().__init__()
        self.language = language
        self.tower = tower
        self.projector = build_projector(projector_config, tower.config, language.config.hidden_size)
        self.projector_config = projector_config
        self.image_ids = image_ids
        rows = language.model.embed_tokens.weight[list(image_ids.marks)]
        self.markers = nn.Embedding.from_pretrained(rows.detach().clone(), freeze=False)
        self.mark_ids: Tensor
        self.register_buffer("mark_ids", torch.tensor(image_ids.marks), persistent=False)

    @property
    def vision_config(self) -> VisionConfig:
        return self.tower.config

    def image_features(self, pixels: Tensor) -> Tensor:
        """uint8 ``[N, 3, S, S]`` → ``[N, num_image_tokens, hidden]``, a row for each view."""
        features: Tensor = self.projector(self.tower(pixels))
        return features

    def embed(self, input_ids: Tensor, features: Tensor | None) -> Tensor:
        """Token embeddings with image features scattered in.

        Args:
            input_ids: ``[B, T]`` with exactly ``num_image_tokens`` image tokens for each view of an image.
            features: ``[N, num_image_tokens, hidden]``, views in reading order of the batch; None without images.

        Returns:
            ``[B, T, hidden]``. Raises ValueError when image tokens and features differ in number.
        """
        embeddings = self.embed_tokens(input_ids)
        places = input_ids == self.image_ids.image
        num_features = 0 if features is None else features.shape[0] * features.shape[1]
        if int(places.sum()) != num_features:
            raise ValueError(f"{int(places.sum())} image tokens for {num_features} image features")
        if features is None:
            return embeddings
        return embeddings.masked_scatter(places.unsqueeze(-1), features.to(embeddings.dtype))

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        """``[B, T]`` → ``[B, T, hidden]``: the language model's embeddings, and the marks' own."""
        embeddings: Tensor = self.language.get_input_embeddings()(input_ids)
        marks = input_ids.unsqueeze(-1) == self.mark_ids  # [B, T, 3]
        places = marks.any(-1)
        # looked up even where there is none: every process uses every part, or sharded weights never meet
        own = self.markers(marks[places].int().argmax(-1))
        return embeddings.masked_scatter(places.unsqueeze(-1), own.to(embeddings.dtype))

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        doc_lens: Sequence[int],
        pixels: Tensor | None = None,
    ) -> Tensor:
        """Hidden states ``[B, T, hidden]`` of packed rows, before the language-model head."""
        if pixels is not None:
            embeddings = self.embed(input_ids, self.image_features(pixels))
        elif self.training and dist.is_initialized():
            # another process may have pictures: every process uses every part in the same order, the tower first, or
            # sharded weights never meet
            nothing = self._features_of_nothing(input_ids.device)
            embeddings = self.embed(input_ids, None) + 0 * nothing.sum()
        else:
            embeddings = self.embed(input_ids, None)
        return hidden_states(self.language, embeddings, position_ids, doc_lens)

    def _features_of_nothing(self, device: torch.device) -> Tensor:
        side = self.vision_config.image_size
        return self.image_features(torch.full((1, 3, side, side), PADDING_GREY, dtype=torch.uint8, device=device))


def hidden_states(language: LanguageModel, embeddings: Tensor, position_ids: Tensor, doc_lens: Sequence[int]) -> Tensor:
    """Decoder output ``[B, T, hidden]`` for packed rows.

    `use_cache=False`: with a cache transformers stops honouring packed positions, without a word. The mask of one
    element keeps transformers from building a ``[T, T]`` mask that packed attention never reads.
    """
    return language.model(
        inputs_embeds=embeddings,
        attention_mask=embeddings.new_zeros(1, 1, 1, 1),
        position_ids=position_ids,
        documents=Documents(doc_lens),
        use_cache=False,
    ).last_hidden_state
