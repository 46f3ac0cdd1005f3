"""A sample as a layout gives it → one that may be trained on: text to learn, pictures that can be read."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from jvlm.errors import DataError
from jvlm.images.load import load_frames, load_image
from jvlm.images.shards.format import image_extension
from jvlm.sample import ImageRef, Message, Sample

_HEAD_BYTES = 132  # what tells a DICOM file


def prepared(sample: Sample) -> Sample:
    """The sample with its images as bytes that a shard can hold.

    An image of another kind (DICOM) becomes PNGs of 8 bits, one for each of its frames, which stand where it stood.
    Raises DataError when nothing is to be learned, or an image cannot be read.
    """
    _check_text(sample)
    stored: list[ImageRef] = []
    numbers: list[range] = []  # of each image, those of its frames
    for number, reference in enumerate(sample.images):
        try:
            frames = _frames(reference)
        except DataError as error:
            name = Path(reference.path).name if reference.path else f"image {number}"
            raise DataError(f"{name}: {error.what}") from None
        numbers.append(range(len(stored), len(stored) + len(frames)))
        stored += [ImageRef(data=frame) for frame in frames]
    rejected = None if sample.rejected is None else [_renumbered(message, numbers) for message in sample.rejected]
    messages = [_renumbered(message, numbers) for message in sample.messages]
    return Sample(sample.id, messages, stored, rejected, sample.meta)


def _frames(reference: ImageRef) -> list[bytes]:
    if image_extension(_head(reference)) is None:
        return [_png(frame) for frame in load_frames(reference)]
    load_image(reference)  # a picture that cannot be read must not reach a shard
    return [reference.read()]


def _head(reference: ImageRef) -> bytes:
    if reference.data is not None:
        return reference.data[:_HEAD_BYTES]
    try:
        if not Path(reference.path or "").is_file():
            return b""
        with open(reference.path or "", "rb") as file:
            return file.read(_HEAD_BYTES)
    except (OSError, ValueError):  # told by who reads it
        return b""


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _renumbered(message: Message, numbers: list[range]) -> Message:
    parts = [[part] if isinstance(part, str) else list(_frames_of(part, numbers)) for part in message.content]
    return Message(message.role, [part for each in parts for part in each])


def _frames_of(part: int, numbers: list[range]) -> range:
    if not 0 <= part < len(numbers):
        raise DataError(f"message names image {part}, the sample has {len(numbers)}")
    return numbers[part]


def _check_text(sample: Sample) -> None:
    learned = [message for message in sample.messages if message.role in ("assistant", "document")]
    if not learned or any(not message.text.strip() for message in learned):
        raise DataError("an answer, caption or document has no text, or there is none")
    ends = [sample.messages[-1], *(sample.rejected or [])]
    if sample.rejected is not None and [message.role for message in ends] != ["assistant", "assistant"]:
        raise DataError("chosen ends with, and rejected is, one assistant turn")
    text = "".join(message.text for message in sample.messages + (sample.rejected or []))
    if not text.isprintable() and any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise DataError("the text is not valid Unicode: it holds half a surrogate pair")
