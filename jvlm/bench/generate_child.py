"""A contestant of the generation benchmark, in a process of its own: captions of toy pictures, over and over.

`ours` is the engine. `dynamic` and `static` are transformers' `generate` with one of its caches: the same language
model with transformers' own attention, fed with the embeddings that the same tower and projector give. Each reads the
same encoded images by the same code, and may be compiled: the engine as it does itself, transformers' steps of writing
as it compiles them on a GPU.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jvlm_data.toyworld import general
from torch import Tensor
from transformers import CompileConfig, GenerationConfig, StoppingCriteria, StoppingCriteriaList

import jvlm
from jvlm.bench.contestant import Spans
from jvlm.files import read_json, write_json
from jvlm.images.load import load_image
from jvlm.infer.generate import VisionLanguageModel
from jvlm.infer.types import Generation, Request
from jvlm.model.quantized import Weights
from jvlm.sample import CAPTION_PROMPT, Message, Sample

SEED, SET = 7, "captions_test"
TEXTS = "texts.json"


@dataclass(frozen=True)
class Job:
    """One contestant."""

    kind: str
    """`ours`, `dynamic` or `static`."""
    model: str
    """A model directory."""
    work: str
    folder: str
    """What the run may write to: the captions of each pass, `TEXTS`."""
    threads: int
    images: int
    """In one pass, which is what is measured at once."""
    rows: int
    """Of the engine, or of the rival's batches."""
    most: int
    """New tokens of a caption at most."""
    weights: Weights
    compile: bool
    capped: bool
    """Captions end where the picture's own would, for a model that has not learned when to end."""

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def pictures(number: int, side: int) -> tuple[list[Sample], list[str]]:
    """Toy pictures of `side` pixels with the captioning prompt, and their own captions."""
    made = [general.make(SET, SEED, index, side) for index in range(number)]
    asked = [Sample(one.id, [Message("user", [0, CAPTION_PROMPT])], one.images) for one in made]
    return asked, [next(m.text for m in one.messages if m.role == "assistant") for one in made]


def ours(model: VisionLanguageModel, job: Job, samples: list[Sample], caps: list[int]) -> list[Generation]:
    """By the engine."""
    requests = (Request(sample, cap) for sample, cap in zip(samples, caps, strict=True))
    found = dict(model.engine(job.rows, pieces=False).answers(requests))
    return [found[number] for number in range(len(samples))]


@torch.inference_mode()
def theirs(model: VisionLanguageModel, job: Job, samples: list[Sample], caps: list[int]) -> list[Generation]:
    """By transformers' `generate`, in batches of `job.rows`."""
    processor, out = model.processor, list[Generation]()
    language: Any = model.model.language
    compiling: Any = CompileConfig()
    compiling._compile_all_devices = True  # else only on GPUs
    settings = GenerationConfig(
        max_new_tokens=max(caps),
        do_sample=False,
        eos_token_id=processor.end,
        pad_token_id=processor.pad,
        cache_implementation="static" if job.kind == "static" else None,
        compile_config=compiling if job.compile else None,
    )
    for begin in range(0, len(samples), job.rows):
        batch, most = samples[begin : begin + job.rows], caps[begin : begin + job.rows]
        embeddings, mask = _left_padded(model, batch)
        written = language.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([_Caps(most)] if job.capped else []),
        )
        for ids, cap in zip(written.tolist(), most, strict=True):
            ids = ids[:cap]
            ended = processor.end in ids
            ids = ids[: ids.index(processor.end) + 1] if ended else ids
            out.append(Generation(processor.tokenizer.decode(ids), "stop" if ended else "length", len(ids)))
    return out


class _Caps(StoppingCriteria):
    """Each row ends at a length of its own."""

    def __init__(self, caps: Sequence[int]) -> None:
        self.caps = torch.tensor(caps)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return input_ids.shape[1] >= self.caps.to(input_ids.device)


def _left_padded(model: VisionLanguageModel, samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Embeddings ``[B, T, hidden]`` and mask ``[B, T]``."""
    processor = model.processor
    prompts = [processor.encode_sample(sample, generation_prompt=True) for sample in samples]
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[processor.pad] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts])
    ids = ids.to(model.model.language.device)
    pixels = np.concatenate([processor.pixels(load_image(sample.images[0])) for sample in samples])
    features = model.model.image_features(torch.from_numpy(pixels).to(ids.device))
    return model.model.embed(ids, features), (ids != processor.pad).long()


def run(job: Job, spans: Spans) -> None:
    """Caption until the parent has seen enough."""
    model = jvlm.load(job.model, weights=job.weights, compile=job.compile and job.kind == "ours")
    write: Callable[..., list[Generation]] = ours
    if job.kind != "ours":
        write = theirs
        model.model.language.set_attn_implementation("sdpa")
    assert model.processor.vision is not None
    samples, captions = pictures(job.images, model.processor.vision.image_size)
    caps = [job.most] * len(samples)
    if job.capped:
        caps = [min(job.most, len(model.processor.tokenizer.encode(text)) + 1) for text in captions]
    for number in count():
        spans.begin(number)
        answers = write(model, job, samples, caps)
        spans.add(images=len(answers), tokens=sum(answer.num_tokens for answer in answers))
        write_json(Path(job.folder) / TEXTS, [answer.text for answer in answers])


if __name__ == "__main__":
    job = Job(**read_json(Path(sys.argv[1])))
    torch.set_num_threads(job.threads)
    run(job, Spans(warmup_steps=1, span_steps=1))
