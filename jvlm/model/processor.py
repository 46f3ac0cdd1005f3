"""From a `Sample` to token ids, labels and pixels: template, image-token geometry and image resizing live here.

The template yields `(token ids, trained?)` segments. Control tokens and image tokens are put in by id; the text
of a message is encoded by itself with control tokens off. So labels are known without looking at text again, and
nothing a user types can become a control token.

    conversation   <s> <|user|> … <|end|> <|assistant|> answer <|end|> …        trained: answer <|end|>
    document       <s> text </s>                                                 trained: text </s>
    image          <|image_start|> <|image|> × num_image_tokens <|image_end|>    never trained
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from jvlm.errors import DataError
from jvlm.model.config import ProjectorConfig, VisionConfig, num_image_tokens
from jvlm.sample import Message, Part, Sample
from jvlm.text.tokenizer import Tokenizer

IGNORED = -100
PADDING_GREY = 127


class Segment(NamedTuple):
    """Consecutive token ids that are all trained on, or all not."""

    ids: list[int]
    trained: bool


@dataclass(frozen=True)
class Encoded:
    """A sample as numbers: `ids` and, for each of them, whether it is a target; `images` in order of appearance."""

    ids: list[int]
    trained: list[bool]
    images: list[int]

    def shifted(self, sample_id: str) -> tuple[list[int], list[int]]:
        """Inputs and next-token labels, both one shorter than `ids`. Raises DataError when nothing is trained."""
        labels = [token if trained else IGNORED for token, trained in zip(self.ids[1:], self.trained[1:], strict=True)]
        if all(label == IGNORED for label in labels):
            raise DataError("the sample has no assistant or document text to train on", where=sample_id)
        return self.ids[:-1], labels


class Processor:
    """Template, geometry and pixels of one model. `vision` is None for a language model alone."""

    def __init__(
        self, tokenizer: Tokenizer, vision: VisionConfig | None = None, projector: ProjectorConfig | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.vision = vision
        special = tokenizer.special
        self.bos, self.eos, self.pad, self.end = (special[t] for t in ("<s>", "</s>", "<pad>", "<|end|>"))
        self.image_token = special["<|image|>"]
        self.num_image_tokens = num_image_tokens(vision, projector) if vision and projector else 0
        self._image = [
            special["<|image_start|>"],
            *[self.image_token] * self.num_image_tokens,
            special["<|image_end|>"],
        ]

    def segments(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Segment]:
        """The template. With `generation_prompt` it ends where the assistant's answer would begin."""
        special = self.tokenizer.special
        out = [Segment([self.bos], False)]
        for message in messages:
            is_document = message.role == "document"
            trained = message.role in ("assistant", "document")
            if not is_document:
                out.append(Segment([special[f"<|{message.role}|>"]], False))
            for part in _joined(message.content):
                if isinstance(part, str):
                    out.append(Segment(self.tokenizer.encode(part), trained))
                else:
                    out.append(Segment(self._image_ids(), False))
            out.append(Segment([self.eos if is_document else self.end], trained))
        if generation_prompt:
            out.append(Segment([special["<|assistant|>"]], False))
        return out

    def encode(self, messages: Sequence[Message], generation_prompt: bool = False) -> Encoded:
        """Token ids with their training marks, and the indices of the images in order of appearance."""
        ids: list[int] = []
        trained: list[bool] = []
        for segment in self.segments(messages, generation_prompt):
            ids += segment.ids
            trained += [segment.trained] * len(segment.ids)
        images = [part for message in messages for part in message.content if isinstance(part, int)]
        return Encoded(ids, trained, images)

    def length(self, sample: Sample) -> int:
        """Input tokens the sample takes in a packed row (its ids less the last, which is only ever a label)."""
        return len(self.encode(sample.messages).ids) - 1

    def pixels(self, image: Image.Image) -> np.ndarray:
        """RGB image → uint8 ``[3, S, S]``: the whole picture, long side scaled to S, padded with grey."""
        assert self.vision is not None
        side = self.vision.image_size
        if image.size != (side, side):
            scale = side / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            canvas = Image.new("RGB", (side, side), (PADDING_GREY,) * 3)
            canvas.paste(image.resize(size, Image.Resampling.BICUBIC), ((side - size[0]) // 2, (side - size[1]) // 2))
            image = canvas
        return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)

    def chat_template(self) -> str:
        """The same template for transformers' `apply_chat_template`, image tokens written out."""
        image = "<|image_start|>" + "<|image|>" * self.num_image_tokens + "<|image_end|>"
        begin, end = (json.dumps(self.tokenizer.tokens[role], ensure_ascii=False) for role in ("<s>", "</s>"))
        return (
            "{{ " + begin + " }}{% for message in messages %}"
            "{% if message['role'] != 'document' %}{{ '<|' + message['role'] + '|>' }}{% endif %}"
            "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
            "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '" + image + "' }}"
            "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
            "{{ " + end + " if message['role'] == 'document' else '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
        )

    def _image_ids(self) -> list[int]:
        if not self.num_image_tokens:
            raise DataError("this is a language model without an image tower: it cannot take images")
        return self._image


def _joined(content: Sequence[Part]) -> list[Part]:
    """Neighbouring texts as one: how a text was cut into parts must not change its tokens."""
    out: list[Part] = []
    for part in content:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        else:
            out.append(part)
    return out
