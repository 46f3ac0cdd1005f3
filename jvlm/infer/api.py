"""What a Python program calls: questions, captions and choices, on images as bytes, paths or references."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from jvlm.errors import DataError
from jvlm.infer.types import Generation, Request
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample

if TYPE_CHECKING:
    from jvlm.infer.engine import Engine

Image = ImageRef | bytes | str | Path
"""An encoded image: its bytes, the path of its file, or a sample's reference."""

Conversation = str | Sequence[Message | Mapping[str, Any]]
"""A question, or turns ``{"role": "user", "content": [0, "この色は。"]}`` in which a number stands for an image.

The content may be a text alone. Where no turn names an image, all of them stand before the first question.
"""


class Asked(ABC):
    """The methods of a model that answers for itself (`jvlm.infer.generate.VisionLanguageModel`)."""

    @abstractmethod
    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
    ) -> list[Generation]: ...

    @abstractmethod
    def choice_log_likelihoods(
        self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]
    ) -> list[list[float]]: ...

    @abstractmethod
    def engine(self, rows: int | None = None) -> "Engine": ...

    @overload
    def chat(
        self,
        images: Sequence[Image],
        messages: Conversation,
        *,
        stream: Literal[False] = False,
        max_new_tokens: int = 96,
    ) -> str: ...

    @overload
    def chat(
        self, images: Sequence[Image], messages: Conversation, *, stream: Literal[True], max_new_tokens: int = 96
    ) -> Iterator[str]: ...

    def chat(
        self, images: Sequence[Image], messages: Conversation, *, stream: bool = False, max_new_tokens: int = 96
    ) -> str | Iterator[str]:
        """The most likely answer to a question about `images`, or the next turn of a conversation.

        Args:
            images: what the question or the turns are about.
            messages: a question, or turns.
            stream: give the text piece by piece while it is being written.
            max_new_tokens: longest answer.

        Raises:
            DataError: an image cannot be read, a turn is not one, or there is no room for an answer.

        >>> model = jvlm.load("runs/demo/model")
        >>> answer = model.chat(["photo.png"], "何色ですか。")
        >>> turns = [{"role": "user", "content": [0, "何色ですか。"]}, {"role": "assistant", "content": answer}]
        >>> turns.append({"role": "user", "content": [1, "では、この絵は。"]})
        >>> for piece in model.chat(["photo.png", "drawing.png"], turns, stream=True):
        ...     assert piece
        >>> "".join(model.chat(["photo.png"], "何色ですか。", stream=True)) == answer
        True
        """
        sample = conversation(images, messages)
        if not stream:
            return self.generate([sample], max_new_tokens=max_new_tokens)[0].text
        engine = self.engine(rows=1)
        engine.admit(Request(sample, max_new_tokens), sample.id)  # what cannot be answered is refused here and now
        return _pieces(engine)

    def caption(self, images: Sequence[Image], prompt: str = CAPTION_PROMPT, *, max_new_tokens: int = 96) -> list[str]:
        """What each image shows, in their order; `prompt` is what each of them is asked.

        Raises DataError when one cannot be read.

        >>> model = jvlm.load("runs/demo/model")
        >>> captions = model.caption(["photo.png", "drawing.png"])
        >>> len(captions)
        2
        """
        samples = [
            Sample(f"image {number}", [Message("user", [0, prompt])], [reference(image)])
            for number, image in enumerate(images)
        ]
        return [generation.text for generation in self.generate(samples, max_new_tokens=max_new_tokens)]

    def choice_probabilities(
        self, images: Sequence[Image], messages: Conversation, choices: Sequence[str]
    ) -> list[float]:
        """How probable each of `choices` is as the answer, if it is one of them: they sum to 1.

        The probability of a choice is that of its text and the end of the answer, so a long one is less probable than
        a short one that says the same. Raises DataError as `chat`.

        >>> model = jvlm.load("runs/demo/model")
        >>> probabilities = model.choice_probabilities(["photo.png"], "赤いですか。", ["はい", "いいえ"])
        >>> len(probabilities), round(sum(probabilities), 6)
        (2, 1.0)
        """
        (logs,) = self.choice_log_likelihoods([conversation(images, messages)], [choices])
        return shares(logs)


def conversation(images: Sequence[Image], messages: Conversation) -> Sample:
    """The sample to be answered. Raises DataError for what is no turn or names an image that is not there."""
    references = [reference(image) for image in images]
    if isinstance(messages, str):
        return Sample("chat", [Message("user", [*range(len(references)), messages])], references)
    turns = [{"role": m.role, "content": m.content} if isinstance(m, Message) else dict(m) for m in messages]
    sample = Sample.from_record({"id": "chat", "messages": turns}, references)
    if references and not any(isinstance(part, int) for message in sample.messages for part in message.content):
        first = next((message for message in sample.messages if message.role == "user"), None)
        if first is None:
            raise DataError("there are images and no turn of the user")
        first.content[:0] = range(len(references))
    return sample


def reference(image: Image) -> ImageRef:
    """An image as a sample holds it."""
    if isinstance(image, ImageRef):
        return image
    return ImageRef(data=image) if isinstance(image, bytes) else ImageRef(path=str(image))


def shares(log_likelihoods: Sequence[float]) -> list[float]:
    """Probabilities in proportion to the likelihoods; they sum to 1."""
    largest = max(log_likelihoods, default=0.0)
    weights = [math.exp(log - largest) for log in log_likelihoods]
    total = sum(weights)
    return [weight / total for weight in weights]


def _pieces(engine: "Engine") -> Iterator[str]:
    while engine.busy:
        for event in engine.step():
            if event.text:
                yield event.text
