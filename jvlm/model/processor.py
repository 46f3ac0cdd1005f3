"""From a `Sample` to token ids, labels and pixels: template, image-token geometry and image resizing live here.

The template yields `(token ids, trained?)` segments. Control tokens and image tokens are put in by id; the text
of a message is encoded by itself with control tokens off. So labels are known without looking at text again, and
nothing a user types can become a control token.

    conversation   <s> <|user|> … <|end|> <|assistant|> answer <|end|> …        trained: answer <|end|>
    document       <s> text </s>                                                 trained: text </s>
    image          <|image_start|> view (tile … <|image_row|>) … <|image_end|>   never trained
    view, tile     <|image|> × num_image_tokens                                  never trained

How many tiles an image has is the geometry's to say (`jvlm.model.geometry`), from its size alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from jvlm.errors import DataError
from jvlm.images.load import image_size
from jvlm.model.config import ProjectorConfig, TilesConfig, VisionConfig, num_image_tokens
from jvlm.model.geometry import WHOLE, Grid, Size, grids_for, image_tokens
from jvlm.sample import ImageRef, Message, Part, Sample
from jvlm.text.tokenizer import IMAGE_TOKENS, Tokenizer

IGNORED = -100
PADDING_GREY = 127


class Segment(NamedTuple):
    """Consecutive token ids that are all trained on, or all not."""

    ids: list[int]
    trained: bool


class ImageIds(NamedTuple):
    """The ids of an image's tokens: of what is seen, and of the marks around it and behind each row of tiles."""

    image: int
    start: int
    end: int
    row: int

    @property
    def marks(self) -> tuple[int, int, int]:
        return self.start, self.end, self.row


@dataclass(frozen=True)
class Encoded:
    """A sample as numbers: `ids` and, for each of them, whether it is a target; `images` in order of appearance, and
    for each of those the grid it is shown in.
    """

    ids: list[int]
    trained: list[bool]
    images: list[int]
    grids: list[Grid]

    @property
    def views(self) -> int:
        """Squares of pixels that the tower has to see."""
        return sum(grid.views for grid in self.grids)

    def shifted(self, sample_id: str) -> tuple[list[int], list[int]]:
        """Inputs and next-token labels, both one shorter than `ids`. Raises DataError when nothing is trained."""
        labels = [token if trained else IGNORED for token, trained in zip(self.ids[1:], self.trained[1:], strict=True)]
        if all(label == IGNORED for label in labels):
            raise DataError("the sample has no assistant or document text to train on", where=sample_id)
        return self.ids[:-1], labels


class Processor:
    """Template, geometry and pixels of one model. `vision` is None for a language model alone."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        vision: VisionConfig | None = None,
        projector: ProjectorConfig | None = None,
        tiles: TilesConfig | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.vision, self.projector, self.tiles = vision, projector, tiles or TilesConfig()
        special = tokenizer.special
        self.bos, self.eos, self.pad, self.end = (special[t] for t in ("<s>", "</s>", "<pad>", "<|end|>"))
        self.image_ids = ImageIds(*(special[token] for token in IMAGE_TOKENS))
        self.image_token = self.image_ids.image
        self.num_image_tokens = num_image_tokens(vision, projector) if vision and projector else 0

    def with_tiles(self, tiles: TilesConfig) -> "Processor":
        """The same with other budgets of tiles: the model does not depend on them."""
        return Processor(self.tokenizer, self.vision, self.projector, tiles)

    def segments(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Segment | int]:
        """The template; an image stands as its number. With `generation_prompt` it ends where an answer would begin."""
        special = self.tokenizer.special
        out: list[Segment | int] = [Segment([self.bos], False)]
        for message in messages:
            is_document = message.role == "document"
            trained = message.role in ("assistant", "document")
            if not is_document:
                out.append(Segment([special[f"<|{message.role}|>"]], False))
            for part in _joined(message.content):
                out.append(Segment(self.tokenizer.encode(part), trained) if isinstance(part, str) else part)
            out.append(Segment([self.eos if is_document else self.end], trained))
        if generation_prompt:
            out.append(Segment([special["<|assistant|>"]], False))
        return out

    def encode(
        self,
        messages: Sequence[Message],
        generation_prompt: bool = False,
        *,
        sizes: Sequence[Size | None] = (),
        room: int | None = None,
    ) -> Encoded:
        """Token ids with their training marks, and the images in order of appearance with their grids.

        Args:
            messages: the turns.
            generation_prompt: whether to end where the assistant's answer would begin.
            sizes: of the images by their number; one that is not given, or None, is shown whole.
            room: ids there may be. Tiles are given up until they fit; more come out only where no tile is left.
        """
        segments = self.segments(messages, generation_prompt)
        images = [part for part in segments if isinstance(part, int)]
        if images and not self.num_image_tokens:
            raise DataError("this is a language model without an image tower: it cannot take images")
        taken = sum(len(part.ids) for part in segments if isinstance(part, Segment))
        grids = self._grids([sizes[i] if i < len(sizes) else None for i in images], room, taken)
        ids: list[int] = []
        trained: list[bool] = []
        left = iter(grids)
        for part in segments:
            segment = Segment(self._shown(next(left)), False) if isinstance(part, int) else part
            ids += segment.ids
            trained += [segment.trained] * len(segment.ids)
        return Encoded(ids, trained, images, grids)

    def encode_sample(self, sample: Sample, room: int | None = None, generation_prompt: bool = False) -> Encoded:
        """`encode` of a sample's messages, its images in as many tiles as their sizes, the budgets and `room` give.

        Raises DataError when an image whose size is to be known cannot be read.
        """
        return self.encode(sample.messages, generation_prompt, sizes=self.sizes(sample), room=room)

    def sizes(self, sample: Sample) -> list[Size]:
        """Of the sample's images; none without tiles, for which they do not matter. Raises DataError."""
        return [self.size(image) for image in sample.images] if self.tiles.per_image else []

    def size(self, image: ImageRef) -> Size:
        """Upright width and height, from the file where nobody noted them. Raises DataError."""
        return image.size or image_size(image)

    def length(self, sample: Sample) -> int:
        """Input tokens the sample takes in a packed row (its ids less the last, which is only ever a label)."""
        return len(self.encode_sample(sample).ids) - 1

    def pixels(self, image: Image.Image, grid: Grid = WHOLE) -> np.ndarray:
        """RGB image → uint8 ``[views, 3, S, S]``: the whole picture, then the tiles of the grid in reading order.

        Its long side is scaled to fit, the rest is padded with the tower's mean colour, which is nothing to it: no part
        is cut off, nothing distorted.
        """
        assert self.vision is not None
        side = self.vision.image_size
        views = [whole_view(image, self.vision)[None]]
        if grid.tiles:
            canvas = _letterboxed(image, grid.columns * side, grid.rows * side, self.vision)
            # [3, rows, S, columns, S] -> [rows, columns, 3, S, S]
            tiles = canvas.reshape(3, grid.rows, side, grid.columns, side).transpose(1, 3, 0, 2, 4)
            views.append(tiles.reshape(grid.tiles, 3, side, side))
        return np.concatenate(views)

    def blank(self, grid: Grid) -> np.ndarray:
        """The views of a picture that is not to be had: grey, uint8 ``[views, 3, S, S]``."""
        assert self.vision is not None
        side = self.vision.image_size
        return np.full((grid.views, 3, side, side), PADDING_GREY, np.uint8)

    def chat_template(self, expanded: bool = True) -> str:
        """The same template for transformers' `apply_chat_template`, image tokens written out.

        A part ``{"type": "image", "rows": 2, "columns": 3}`` has tiles; without the two the image is shown whole.
        Not `expanded`, a view is one token, for a processor that repeats it as often as there are features.
        """
        view = "{{ '" + "<|image|>" * (self.num_image_tokens if expanded else 1) + "' }}"
        rows, columns = (f"{{% for _ in range(part['{name}'] | default(0, true)) %}}" for name in ("rows", "columns"))
        tiles = rows + columns + view + "{% endfor %}{{ '<|image_row|>' }}{% endfor %}"
        image = "{{ '<|image_start|>' }}" + view + tiles + "{{ '<|image_end|>' }}"
        begin, end = (json.dumps(self.tokenizer.tokens[role], ensure_ascii=False) for role in ("<s>", "</s>"))
        return (
            "{{ " + begin + " }}{% for message in messages %}"
            "{% if message['role'] != 'document' %}{{ '<|' + message['role'] + '|>' }}{% endif %}"
            "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
            "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + image + "{% else %}"
            "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
            "{{ " + end + " if message['role'] == 'document' else '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
        )

    def _grids(self, sizes: list[Size | None], room: int | None, taken: int) -> list[Grid]:
        if not any(sizes) or self.vision is None:
            return [WHOLE] * len(sizes)
        number = self.num_image_tokens

        def fits(grids: list[Grid]) -> bool:
            return room is None or taken + sum(image_tokens(number, grid) for grid in grids) <= room

        return grids_for(sizes, self.vision.image_size, self.tiles, fits)

    def _shown(self, grid: Grid) -> list[int]:
        view = [self.image_token] * self.num_image_tokens
        row = [*view * grid.columns, self.image_ids.row]
        return [self.image_ids.start, *view, *row * grid.rows, self.image_ids.end]


def whole_view(image: Image.Image, vision: VisionConfig) -> np.ndarray:
    """RGB image → uint8 ``[3, S, S]``: the whole picture as the tower of that shape sees it."""
    return _letterboxed(image, vision.image_size, vision.image_size, vision)


def _letterboxed(image: Image.Image, width: int, height: int, vision: VisionConfig) -> np.ndarray:
    """uint8 ``[3, height, width]``: the picture scaled to fit, in the middle of the tower's mean colour."""
    if image.size != (width, height):
        red, green, blue = (int(255 * mean) for mean in vision.mean)
        scale = min(width / image.width, height / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new("RGB", (width, height), (red, green, blue))
        canvas.paste(image.resize(size, Image.Resampling.BICUBIC), ((width - size[0]) // 2, (height - size[1]) // 2))
        image = canvas
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def _joined(content: Sequence[Part]) -> list[Part]:
    """Neighbouring texts as one: how a text was cut into parts must not change its tokens."""
    out: list[Part] = []
    for part in content:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        else:
            out.append(part)
    return out
