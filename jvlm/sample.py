"""The one record: captions, Q&A, dialogues, pages, preference pairs and plain documents are all a `Sample`.

Content is a list of parts: a `str` is text, an `int` is an index into `Sample.images`. Text never carries
image marks or control tokens; where an image stands is structure, not a string.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jvlm.errors import DataError

Role = Literal["system", "user", "assistant", "document"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "document")
Part = str | int
CAPTION_PROMPT = "この画像を説明してください。"
"""What a caption answers when nothing else was asked."""


@dataclass(frozen=True)
class ImageRef:
    """An encoded image (PNG, JPEG, …): either its bytes or the path of its file, never decoded pixels.

    `size` is its upright (width, height) in pixels where that is known without reading it, as from a shard's index;
    it says nothing new about the image, so that references with and without it are equal.
    """

    data: bytes | None = None
    path: str | None = None
    size: tuple[int, int] | None = field(default=None, compare=False)

    def read(self) -> bytes:
        """The encoded bytes. Raises DataError when the file cannot be read."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise DataError("an image reference has neither bytes nor a path")
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read the image: {error.strerror}", where=self.path) from None


@dataclass(frozen=True)
class Message:
    """One turn. `content` mixes text and image indices, in reading order."""

    role: Role
    content: list[Part]

    @property
    def text(self) -> str:
        """The text parts joined; images leave no trace."""
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass
class Sample:
    """One training, evaluation or captioning record.

    `rejected` holds the dispreferred continuation of a preference pair: the messages that replace the last
    assistant turn of `messages`. `meta` is JSON-serialisable (source, split, kind, gold, …).
    """

    id: str
    messages: list[Message]
    images: list[ImageRef] = field(default_factory=list)
    rejected: list[Message] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """The JSON part of the record; images travel beside it."""
        record: dict[str, Any] = {"id": self.id, "messages": [_message_record(m) for m in self.messages]}
        if self.rejected is not None:
            record["rejected"] = [_message_record(m) for m in self.rejected]
        record["num_images"] = len(self.images)
        record["meta"] = self.meta
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any], images: list[ImageRef], where: object = None) -> "Sample":
        """Inverse of `to_record`. Raises DataError for an unknown role, a bad part or a dangling image index."""
        try:
            messages = [_message(m) for m in record["messages"]]
            rejected = [_message(m) for m in record["rejected"]] if record.get("rejected") is not None else None
            sample = cls(str(record["id"]), messages, images, rejected, dict(record.get("meta", {})))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a sample record: {error!r}", where=where) from None
        for message in messages + (rejected or []):
            for part in message.content:
                if isinstance(part, int) and not 0 <= part < len(images):
                    raise DataError(
                        f"message names image {part}, the sample has {len(images)}", where=where or sample.id
                    )
        return sample


def _message_record(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}


def _message(record: dict[str, Any]) -> Message:
    role, content = record["role"], record["content"]
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
    if isinstance(content, str):
        content = [content]
    if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in content):
        raise ValueError("content must be a list of text and image numbers")
    return Message(role, list(content))
