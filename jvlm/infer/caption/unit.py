"""Items → rows, the same whoever does it and when: what goes through the model together depends on the unit alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jvlm.errors import DataError, JvlmError
from jvlm.files import sha256_bytes
from jvlm.images.dicom import is_dicom
from jvlm.images.load import load_image
from jvlm.images.shards import image_extension
from jvlm.images.source import ImageTooLarge
from jvlm.infer.caption.content import content, image_bytes
from jvlm.infer.caption.duplicates import difference_hash
from jvlm.infer.caption.inputs import Item
from jvlm.infer.caption.ledger import Row
from jvlm.infer.caption.plan import Settings
from jvlm.infer.caption.prompts import fill, templates
from jvlm.infer.caption.quality import COLUMNS, quality
from jvlm.infer.types import Generation, Model
from jvlm.sample import ImageRef, Message, Sample

if TYPE_CHECKING:
    from jvlm.infer.caption.clip_score import ClipScores

SLICE_BYTES = 256 * 2**20
"""Encoded images held at a time: a unit of more goes through the model in several slices."""
READERS = 8
"""Images read and decoded at a time."""
MANY = 8
"""So many requests do not all fail by themselves: a machine whose GPU is gone would make bad rows of a whole job."""

CODES = {
    "bad_row": "the row cannot be used: not JSON, no image, a field of the prompt is missing, …",
    "unreadable": "the file is missing, empty, or cannot be fetched",
    "too_large": "the image is above the limits of bytes, sides or pixels",
    "not_an_image": "no format that is read",
    "damaged": "an image whose content does not decode",
    "unsupported": "an image that needs a package which is missing",
    "prompt_too_long": "the prompt leaves no room for an answer",
    "model_error": "the model failed on it",
}


class Tools(NamedTuple):
    """What a process captions with."""

    model: Model
    clip: "ClipScores | None" = None


class Fault(NamedTuple):
    """Why there is no answer; `code` is one of `CODES`."""

    code: str
    error: str


@dataclass
class _Prepared:
    """An item with its images read and looked at, or what was wrong with it."""

    item: Item
    fields: dict[str, Any] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    sha256: str | None = None
    phash: str | None = None
    pixels: np.ndarray | None = None
    fault: Fault | None = None


def caption_items(items: Sequence[Item], tools: Tools, settings: Settings) -> list[Row]:
    """The rows of these items, in order, one for each prompt. Raises JvlmError when the model fails on everything."""
    return [row for prepared in _slices(items, tools, settings) for row in _caption(prepared, tools, settings)]


def seed_of(identity: str, settings: Settings) -> int:
    """Of the draws of one row, so that it can be made again by itself."""
    return int(sha256_bytes(f"{settings.seed}/{identity}".encode())[:7], 16)


def _slices(items: Sequence[Item], tools: Tools, settings: Settings) -> Iterator[list[_Prepared]]:
    held: list[_Prepared] = []
    taken = 0
    with ThreadPoolExecutor(READERS) as pool:
        for begin in range(0, len(items), 4 * READERS):
            some = items[begin : begin + 4 * READERS]
            for prepared in pool.map(lambda item: _prepare(item, tools, settings), some):
                held.append(prepared)
                taken += sum(map(len, prepared.images))
            if taken >= SLICE_BYTES:
                yield held
                held, taken = [], 0
    if held:
        yield held


def _prepare(item: Item, tools: Tools, settings: Settings) -> _Prepared:
    prepared = _Prepared(item)
    try:
        found = content(item, settings.images)
    except DataError as error:
        prepared.fault = Fault("bad_row", error.what)
        return prepared
    prepared.fields = found.fields
    hashes, looks = [], []
    for source in found.images:
        data = b""
        try:
            data = image_bytes(source)
            hashes.append(sha256_bytes(data))
            image = load_image(data)
            looks.append(f"{difference_hash(image):016x}")
        except JvlmError as error:
            prepared.fault, prepared.images = Fault(_code(error, data), error.what), []
            break
        prepared.images.append(data)
        if tools.clip is not None and prepared.pixels is None:
            prepared.pixels = tools.clip.pixels(image)
    prepared.sha256 = " ".join(hashes) or None
    prepared.phash = " ".join(looks) if prepared.fault is None else None
    return prepared


def _code(error: JvlmError, data: bytes) -> str:
    if isinstance(error, ImageTooLarge):
        return "too_large"
    if not isinstance(error, DataError):
        return "unsupported"
    if not data:
        return "unreadable"
    return "damaged" if image_extension(data) or is_dicom(data) else "not_an_image"


def _caption(prepared: Sequence[_Prepared], tools: Tools, settings: Settings) -> list[Row]:
    asked = [
        (one, template, settings.row_id(one.item.id, number))
        for one in prepared
        for number, template in enumerate(templates(settings.prompts, one.fields))
    ]
    seeds = [seed_of(identity, settings) for *_, identity in asked]
    answers: list[Generation | Fault | None] = [one.fault for one, _, _ in asked]
    samples: dict[int, Sample] = {}
    for place, (one, template, _) in enumerate(asked):
        if one.fault is None:
            try:
                text = fill(template, one.fields)
            except DataError as error:
                answers[place] = Fault("bad_row", error.what)
                continue
            images = [ImageRef(data=data) for data in one.images]
            samples[place] = Sample(one.item.id, [Message("user", [*range(len(images)), text])], images)
    said = iter(_answers([*samples.values()], [seeds[place] for place in samples], tools.model, settings))
    answers = [next(said) if place in samples else answer for place, answer in enumerate(answers)]
    rows = []
    for (one, template, identity), seed, answer in zip(asked, seeds, answers, strict=True):
        assert answer is not None
        rows.append(_row(one, identity, template, answer, settings, seed))
    if tools.clip is not None:
        _add_clip_scores(rows, [one.pixels for one, _, _ in asked], tools.clip)
    return rows


def _answers(samples: list[Sample], seeds: list[int], model: Model, settings: Settings) -> list[Generation | Fault]:
    """What the model says to each; one that it cannot be asked does not keep the others from their answers."""

    def generate(numbers: Sequence[int]) -> list[Generation]:
        length, temperature = settings.max_new_tokens, settings.temperature
        some, own = [samples[number] for number in numbers], [seeds[number] for number in numbers]
        return model.generate(some, max_new_tokens=length, temperature=temperature, seed=own) if some else []

    everything = range(len(samples))
    try:
        return [*generate(everything)]
    except Exception:  # whatever it is, it must not end the job: who is to blame is found below
        refused = {number: fault for number in everything if (fault := _refusal(samples[number], model))}
    good = [number for number in everything if number not in refused]
    given: dict[int, Generation | Fault] = {**refused}
    try:
        given |= zip(good, generate(good), strict=True)
    except Exception:
        given |= {number: _alone(number, generate) for number in good}
    answers = [given[number] for number in everything]
    broken = [answer for answer in answers if isinstance(answer, Fault) and answer.code == "model_error"]
    if len(broken) == len(answers) >= MANY:
        fix = "see whether its device is well, then run the command again: the unit is not done"
        raise JvlmError(f"the model fails on all of {len(answers)} requests: {broken[0].error}", fix=fix)
    return answers


def _refusal(sample: Sample, model: Model) -> Fault | None:
    """Why the model cannot be asked this. The images are known to be whole: it is the prompt that does not fit."""
    try:
        model.check(sample, [""])
    except DataError as error:
        return Fault("prompt_too_long", error.what)
    except Exception as error:
        return Fault("model_error", _told(error))
    return None


def _alone(number: int, generate: Callable[[Sequence[int]], list[Generation]]) -> Generation | Fault:
    try:
        return generate([number])[0]
    except Exception as error:
        return Fault("model_error", _told(error))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _row(
    one: _Prepared, identity: str, template: str, answer: Generation | Fault, settings: Settings, seed: int
) -> Row:
    said = answer if isinstance(answer, Generation) else None
    fault = answer if isinstance(answer, Fault) else None
    row: Row = {
        "id": identity,
        "image_sha256": one.sha256,
        "text": said.text if said else None,
        "status": "ok" if said else "error",
        "error_code": fault.code if fault else None,
        "error": fault.error if fault else None,
        "n_tokens": said.num_tokens if said else None,
        "finish_reason": said.finish_reason if said else None,
        "model_hash": settings.model_hash,
        "prompt_hash": sha256_bytes(template.encode())[:16],
        "seed": seed,
    }
    row |= quality(said.text) if said else dict.fromkeys(COLUMNS)
    if settings.clip_hash is not None:
        row["clip_score"] = None
    return row | {"phash": one.phash}


def _add_clip_scores(rows: list[Row], pixels: list[np.ndarray | None], clip: "ClipScores") -> None:
    """Of the first picture of each row that has a text."""
    pairs = [
        (row, seen) for row, seen in zip(rows, pixels, strict=True) if row["text"] is not None and seen is not None
    ]
    scores = clip.scores([seen for _, seen in pairs], [row["text"] for row, _ in pairs])
    for (row, _), score in zip(pairs, scores, strict=True):
        row["clip_score"] = score
