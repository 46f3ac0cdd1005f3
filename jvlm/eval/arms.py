"""The arms of an audit: the same exam asked with no image, a blank one, another's, or its options in another order.

"Removed" means that no image token is there at all. A blank image has the size of the real one, so that the sequence
is as long as before; another's comes from a different case of the same exam. What differs between two arms is what
the image, or the order, did.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO

from PIL import Image

from jvlm.eval.exam_prompts import PLAIN, ExamPrompt
from jvlm.eval.items import ExamItem, Option, exam_sample, place_images
from jvlm.files import sha256_bytes
from jvlm.images.load import load_image
from jvlm.sample import ImageRef, Sample

GREY = (128, 128, 128)


def blank(sample: Sample) -> Sample:
    """The sample with every image replaced by a grey one of its size."""
    images = [ImageRef(data=_grey(load_image(image, where=sample.id).size)) for image in sample.images]
    return replace(sample, images=images)


def other_pictures(items: Sequence[ExamItem]) -> dict[str, list[str]]:
    """For each item with pictures those of another: of the same exam, another case, and other content.

    One with as many pictures is taken where there is one. Which of them is drawn by the ids' hashes, so that it is the
    same in every run. An item for which there is none is left out: it would test nothing.
    """
    contents = {item.id: {sha256_bytes(ImageRef(path=path).read()) for path in item.pictures} for item in items}
    found = {}
    for item in items:
        others = [
            other
            for other in items
            if other.exam == item.exam
            and other.group_id != item.group_id
            and other.pictures
            and not contents[other.id] & contents[item.id]
        ]
        alike = [other for other in others if len(other.pictures) == len(item.pictures)]
        if item.pictures and others:
            drawn = min(alike or others, key=lambda other: sha256_bytes(f"{item.id} {other.id}".encode()))
            found[item.id] = drawn.pictures
    return found


def mismatched(item: ExamItem, pictures: Sequence[str], prompt: ExamPrompt = PLAIN) -> Sample:
    """The question with the pictures of another in place of its own, as many as that one has."""
    images = [ImageRef(path=path) for path in pictures]
    sample = exam_sample(item, False, prompt)
    user = sample.messages[0]
    return replace(sample, messages=[replace(user, content=place_images(user.text, len(images)))], images=images)


def shuffled(item: ExamItem, seed: int) -> ExamItem:
    """The item with its options' contents in another order under the same labels, and its key moved with them.

    Without options, or where an option's text is its label (a row of a table in the question), it stays as it is.
    """
    if not item.options or any(option.text == option.label for option in item.options):
        return item
    order = list(range(len(item.options)))
    random.Random(f"{seed} {item.id}").shuffle(order)
    options = [
        Option(label, item.options[old].text, item.options[old].image)
        for label, old in zip(item.labels, order, strict=True)
    ]
    moved = {item.labels[old]: new for new, old in zip(item.labels, order, strict=True)}
    accept = [[moved[label] for label in answer] for answer in item.accept]
    return replace(item, options=options, accept=accept, kinki=[moved[label] for label in item.kinki])


@cache
def _grey(size: tuple[int, int]) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, GREY).save(file, "PNG")
    return file.getvalue()
