"""Captioned pictures for the loader's benchmark: those of a folder of real data, or made ones of photographs' size."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from jvlm.bench.corpus import shared_inputs
from jvlm.errors import UsageError
from jvlm.images.load import image_size
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample
from jvlm.text.raw import read_documents
from jvlm.train.order import spread

SEED = 7
LEAST_SIDE = 224  # pixels of the long side: what is smaller than a tower's input is an icon
MADE_SIDE = (320, 1024)  # pixels of the long side: photographs of the usual collections have 640
SHAPES = (9 / 16, 2 / 3, 3 / 4, 1.0)
TEXT_STRIDE, TEXT_CHARS, MADE_TEXTS = 40, 1_000, 200


@dataclass(frozen=True)
class Pictures:
    """Samples of one picture and one caption; `texts` can fill a tokenizer of `vocab_size` pieces."""

    what: str
    samples: Iterator[Sample]
    texts: list[str]
    vocab_size: int


def real_pictures(root: Path, most: int) -> Pictures:
    """`most` of the root's captioned pictures of LEAST_SIDE or more, evenly over ``images/``. UsageError for none."""
    from jvlm_data.real.pictures import read_pictures
    from jvlm_data.real.questions import caption_sample

    found = [p for p in read_pictures(root / "images", [], captioned=True) if max(image_size(p.path)) >= LEAST_SIDE]
    if not found:
        fix = "put NAME.jsonl beside the folder NAME/ there, or give no data root: pictures are made then"
        raise UsageError(f"no captioned picture of {LEAST_SIDE} pixels or more", where=root / "images", fix=fix)
    chosen = [found[i] for i in spread(len(found), most)]
    texts = [
        document.text[:TEXT_CHARS]
        for item in shared_inputs(root)
        for document in islice(read_documents(item.path, item.source, []), 0, None, TEXT_STRIDE)
    ]
    texts += [picture.caption for picture in found]
    return Pictures("real pictures", map(caption_sample, chosen), texts, 4_000)


def made_pictures(most: int) -> Pictures:
    """Pictures of smooth colour and grain as JPEG, captioned with sentences of the toy world."""
    from jvlm_data.toyworld import corpus

    texts = [corpus.document(SEED, number)["text"] for number in range(MADE_TEXTS)]
    samples = (_made(number, texts[number % MADE_TEXTS]) for number in range(most))
    return Pictures("made pictures: no folder of real data was given", samples, texts, 1_000)


def _made(number: int, text: str) -> Sample:
    rng = np.random.default_rng([SEED, number])
    start = int(rng.integers(0, max(1, len(text) - 60)))
    messages = [
        Message("user", [0, CAPTION_PROMPT]),
        Message("assistant", [text[start : start + int(rng.integers(10, 60))]]),
    ]
    return Sample(f"made-{number:06d}", messages, [ImageRef(data=_photograph(rng))])


def _photograph(rng: np.random.Generator) -> bytes:
    """A JPEG about as large and as hard to decode as a photograph of its size."""
    long = int(rng.integers(MADE_SIDE[0], MADE_SIDE[1] + 1))
    short = round(long * float(rng.choice(SHAPES)))
    width, height = (long, short) if rng.random() < 0.7 else (short, long)
    colours = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-12, 13, (height, width, 1), np.int16)
    file = BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()
