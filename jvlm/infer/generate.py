"""Answers, captions and choice likelihoods from a model directory.

Answers are written by the engine (`jvlm.infer.engine`). Large pictures are shown in tiles, in as many as leave room for
the answer; where a prompt is too long without any, that is an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jvlm.errors import DataError
from jvlm.images.load import load_image
from jvlm.infer.api import Asked
from jvlm.infer.compiled import compile_decoder
from jvlm.infer.engine import Engine, prompt_of
from jvlm.infer.types import Generation, Likelihood, Request
from jvlm.model.directory import load_directory
from jvlm.model.jvlm import JvlmModel, hidden_states
from jvlm.model.loss import token_log_probabilities
from jvlm.model.packed import Example, pack
from jvlm.model.processor import IGNORED, Encoded, Processor
from jvlm.model.quantized import Weights, quantize
from jvlm.sample import Sample

ROW_TOKENS = 4096
"""Tokens scored in one forward of `choice_log_likelihoods`."""


class _Choice(NamedTuple):
    """An answer to be scored after the prompt of sample `number`."""

    number: int
    prompt: Encoded
    answer: list[int]


class VisionLanguageModel(Asked):
    """A loaded vision-language model (satisfies `jvlm.infer.types.Model`); `Asked` has what programs mostly call."""

    def __init__(
        self,
        model: JvlmModel,
        processor: Processor,
        batch_size: int = 64,
        *,
        weights: Weights = "full",
        compile: bool = False,
    ) -> None:
        """`weights` says what the model's are; `load_model` makes them so. `compile`: what writes answers."""
        self.model, self.processor, self.batch_size = model.eval(), processor, batch_size
        self.weights, self.compile = weights, compile

    def check(self, sample: Sample, answers: Sequence[str]) -> None:
        """Raises DataError when prompt and longest answer do not fit the window, or an image cannot be read."""
        for image in sample.images:
            load_image(image)
        self._prompt_and_answers(sample, answers)

    def refusals(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[str | None]:
        """Why a sample cannot be put to the model, None where it can."""
        found: list[str | None] = []
        for sample, texts in zip(samples, choices, strict=True):
            try:
                self.check(sample, texts or [""])
                found.append(None)
            except DataError as error:
                found.append(error.what)
        return found

    def prompt_tokens(self, request: Request) -> int:
        """What the engine will read of a request. Raises DataError where `Engine.admit` would; any thread can ask."""
        for image in request.sample.images:
            load_image(image)
        return len(self._prompt_of(request).ids)

    def engine(self, rows: int | None = None, *, pieces: bool = True) -> Engine:
        """An engine for this model with so many rows (`batch_size` unless said); see `jvlm.infer.engine.Engine`."""
        rows = rows or self.batch_size
        return Engine(self.model, self.processor, rows, pieces=pieces, compile=self.compile)

    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | Sequence[int] = 0,
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Continue each sample after its last user turn; temperature 0 is greedy. Cut before the first text of `stop`.

        Draws depend on the seed and the number of the sample, or where there is a seed for each on that alone. Raises
        DataError when an image cannot be read, and before anything is computed when a prompt leaves no room for an
        answer.
        """
        seeds = [seed * 1_000_003 + number for number in range(len(samples))] if isinstance(seed, int) else seed
        requests = [
            Request(sample, max_new_tokens, temperature, top_p, own, tuple(stop))
            for sample, own in zip(samples, seeds, strict=True)
        ]
        for request in requests:  # the last one must not cost the answers of all others
            self._prompt_of(request)
        found = dict(self.engine(pieces=False).answers(requests))
        return [found[number] for number in range(len(samples))]

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """How a turn is written and in which precision it is read."""
        precision = str(self.model.language.dtype).removeprefix("torch.")
        return {
            "template": "chat",
            "begin": True,
            "precision": precision if self.weights == "full" else f"{precision}, {self.weights} weights",
        }

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """For each sample and each of its choices: sum of log p over the choice's text and the end mark."""
        return [[one.log_likelihood for one in row] for row in self.choice_likelihoods(samples, choices)]

    @torch.inference_mode()
    def choice_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[Likelihood]]:
        """For each sample and each of its choices: the likelihood of the choice's text and the end mark.

        Documents are packed end to end under the block-diagonal mask, so no padding enters the numbers.
        Raises DataError when an image cannot be read or a prompt and a choice take more tokens than the model's window.
        """
        out: list[list[Likelihood]] = [[] for _ in samples]
        row: list[_Choice] = []
        room = ROW_TOKENS
        for number, (sample, texts) in enumerate(zip(samples, choices, strict=True)):
            if not texts:
                continue
            prompt, answers = self._prompt_and_answers(sample, texts)
            for answer in answers:
                length = len(prompt.ids) + len(answer) - 1
                if length > room and row:
                    self._score(row, samples, out)
                    row, room = [], ROW_TOKENS
                row.append(_Choice(number, prompt, answer))
                room -= length
        if row:
            self._score(row, samples, out)
        return out

    def _prompt_of(self, request: Request) -> Encoded:
        return prompt_of(request, self.processor, self.model.language.config.max_position_embeddings)[0]

    def _prompt_and_answers(self, sample: Sample, texts: Sequence[str]) -> tuple[Encoded, list[list[int]]]:
        """The prompt in front of every one of these answers, and their ids. Raises DataError when one does not fit."""
        answers = [[*self.processor.tokenizer.encode(text), self.processor.end] for text in texts]
        limit, longest = self.model.language.config.max_position_embeddings, max(map(len, answers))
        prompt = self.processor.encode_sample(sample, limit - longest, generation_prompt=True)
        taken = len(prompt.ids) + longest
        if taken > limit:  # rotary positions would go on without a word where none was ever trained
            raise DataError(f"prompt and answer take {taken} of {limit} tokens", where=sample.id)
        return prompt, answers

    def _score(self, row: Sequence[_Choice], samples: Sequence[Sample], out: list[list[Likelihood]]) -> None:
        examples = [
            Example("", [*prompt.ids, *answer[:-1]], [IGNORED] * (len(prompt.ids) - 1) + answer, [])
            for _, prompt, answer in row
        ]
        batch = pack([examples], sum(len(e.inputs) for e in examples), self.processor.pad)
        prompts = {number: prompt for number, prompt, _ in row}
        per_sample = {number: self._features([(samples[number], prompt)]) for number, prompt in prompts.items()}
        features = [f for number, _, _ in row if (f := per_sample[number]) is not None]
        device = self.model.language.device
        embeddings = self.model.embed(batch.input_ids.to(device), torch.cat(features) if features else None)
        hidden = hidden_states(self.model.language, embeddings, batch.position_ids.to(device), batch.doc_lens)
        tokens = token_log_probabilities(hidden[0].float(), batch.labels[0].to(device), self.model.language.lm_head)
        for (number, _, answer), document in zip(row, tokens.double().split(batch.doc_lens), strict=True):
            out[number].append(Likelihood(float(document.sum()), len(answer)))

    def _features(self, prompts: Sequence[tuple[Sample, Encoded]]) -> Tensor | None:
        """``[views, num_image_tokens, hidden]`` of all images of these prompts in order; None where there is none."""
        pixels = [
            self.processor.pixels(load_image(sample.images[image]), grid)
            for sample, prompt in prompts
            for image, grid in zip(prompt.images, prompt.grids, strict=True)
        ]
        if not pixels:
            return None
        return self.model.image_features(torch.from_numpy(np.concatenate(pixels)).to(self.model.language.device))


def load_model(
    folder: str | Path,
    batch_size: int = 64,
    *,
    weights: Weights = "full",
    compile: bool = False,
    base: Path | None = None,
    device: str | None = None,
) -> VisionLanguageModel:
    """Load a vision-language model directory.

    `weights`: with `int8` or `int4` linear layers take a quarter or a seventh of the memory. `compile`: what writes
    answers is compiled, here and now (`jvlm.infer.compiled`). `base`: of an adapter, the directory it was trained on,
    where that is no longer at its recorded path. `device` is the GPU where torch sees one, else the processor. Raises
    DataError when it is none or is damaged, UsageError when such weights cannot be had or nothing can be compiled.
    """
    loaded = load_directory(Path(folder), base)
    if loaded.kind != "jvlm":
        raise DataError(f"holds a '{loaded.kind}' model, not a vision-language model", where=folder)
    quantize(loaded.model, weights)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":  # convolutions are faster there with the channels of a place side by side
        loaded.model.tower.to(memory_format=torch.channels_last)
    loaded.model.to(device)
    if compile:
        compile_decoder(loaded.model.language)
    return VisionLanguageModel(loaded.model, loaded.processor, batch_size, weights=weights, compile=compile)
