"""What people said of a model's answers: accepted, mended or rejected, by whom and when.

A folder of reviews (`reviews.jsonl` and `images/`, named by their hashes) is a source of `jvlm data build`: accepted
and mended answers become conversations to learn from (`--layout reviews`), mended ones also preferences over what the
model had said (`--layout review-pairs`). Nothing is changed in it: a later review of an answer replaces an earlier.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from jvlm.errors import DataError
from jvlm.files import append_json_line, read_json_lines, sha256_bytes, write_bytes
from jvlm.sample import ImageRef, Message, Sample

FILE = "reviews.jsonl"
IMAGES = "images"
Verdict = Literal["accepted", "mended", "rejected"]
VERDICTS: tuple[Verdict, ...] = ("accepted", "mended", "rejected")


@dataclass(frozen=True)
class Review:
    """One answer of a model and what became of it.

    Attributes:
        id: of the question as it was asked and the answer proposed; the same answer reviewed twice has the same.
        messages: all turns up to the question, as the records of samples have them; images: files in `images/`.
        proposed: what the model said. text: what is right; as proposed when it was accepted, "" when rejected.
        by: the name the person gave. at: UTC, ISO 8601.
    """

    id: str
    messages: list[dict[str, Any]]
    images: list[str]
    proposed: str
    text: str
    verdict: Verdict
    by: str
    at: str
    comment: str
    model_hash: str


def add_review(
    folder: Path, sample: Sample, proposed: str, text: str | None, *, by: str, comment: str = "", model_hash: str = ""
) -> Review:
    """Write a review down; images are copied beside it.

    Args:
        sample: ends in the user turn that `proposed` answers.
        text: the right answer; None when there is none: rejected.

    Raises DataError when an image cannot be read or the text is empty, JvlmError when the disk is full.
    """
    if text is not None and not text.strip():
        raise DataError("an answer needs a text", fix="reject it instead")
    record = sample.to_record()
    datas = [image.read() for image in sample.images]
    names = [sha256_bytes(data) for data in datas]
    for name, data in zip(names, datas, strict=True):
        if not (folder / IMAGES / name).exists():
            write_bytes(folder / IMAGES / name, data)
    verdict: Verdict = "rejected" if text is None else "accepted" if text == proposed else "mended"
    asked = repr((record["messages"], names, proposed))
    review = Review(
        id=sha256_bytes(asked.encode())[:16],
        messages=record["messages"],
        images=names,
        proposed=proposed,
        text=text or "",
        verdict=verdict,
        by=by,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        comment=comment,
        model_hash=model_hash,
    )
    append_json_line(folder / FILE, asdict(review))
    return review


def read_reviews(folder: Path) -> Iterator[tuple[int, Review]]:
    """The last review of every answer and its line, in order. Raises DataError for what is no review."""
    last: dict[str, tuple[int, Review]] = {}
    for number, row in enumerate(read_json_lines(folder / FILE), 1):
        try:
            review = Review(**row)
            if review.verdict not in VERDICTS:
                raise ValueError
        except (TypeError, ValueError):
            raise DataError("not a review", where=f"{folder / FILE}:{number}") from None
        last.pop(review.id, None)
        last[review.id] = (number, review)
    yield from last.values()


def review_sample(review: Review, folder: Path, pair: bool) -> Sample:
    """The conversation with the right answer; as a `pair` with what the model had said as the rejected one."""
    said = [Message("assistant", [review.proposed])] if pair else None
    messages = [*review.messages, {"role": "assistant", "content": [review.text]}]
    images = [ImageRef(path=str(folder / IMAGES / Path(name).name)) for name in review.images]
    meta = {"source": "review", "verdict": review.verdict, "by": review.by, "at": review.at, "model": review.model_hash}
    sample = Sample.from_record({"id": review.id, "messages": messages, "meta": meta}, images, where=review.id)
    sample.rejected = said
    return sample
