"""Answers, captions and choice likelihoods from a model directory: the one inference engine.

Prompts are left-padded with explicit positions and mask, so that a batch gives what each item alone would give.
Sampling draws from a generator seeded by (seed, item), never from the batch. Large pictures are shown in tiles, in as
many as leave room for the answer; where a prompt is too long without any, that is an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from jvlm.errors import DataError
from jvlm.images.load import load_image
from jvlm.infer.types import Generation, Likelihood
from jvlm.model.directory import load_directory
from jvlm.model.jvlm import JvlmModel, hidden_states
from jvlm.model.loss import token_log_probabilities
from jvlm.model.packed import Example, pack
from jvlm.model.processor import IGNORED, Encoded, Processor
from jvlm.sample import ImageRef, Message, Sample

ROW_TOKENS = 4096
"""Tokens scored in one forward of `choice_log_likelihoods`."""


class _Choice(NamedTuple):
    """An answer to be scored after the prompt of sample `number`."""

    number: int
    prompt: Encoded
    answer: list[int]


class VisionLanguageModel:
    """A loaded vision-language model (satisfies `jvlm.infer.types.Model`)."""

    def __init__(self, model: JvlmModel, processor: Processor, batch_size: int = 64) -> None:
        self.model, self.processor, self.batch_size = model.eval(), processor, batch_size

    def chat(self, images: Sequence[ImageRef | bytes | str | Path], question: str, *, max_new_tokens: int = 96) -> str:
        """The answer to one question about `images`."""
        refs = [image if isinstance(image, ImageRef) else _reference(image) for image in images]
        message = Message("user", [*range(len(refs)), question])
        return self.generate([Sample("chat", [message], refs)], max_new_tokens=max_new_tokens)[0].text

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

    @torch.inference_mode()
    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Continue each sample after its last user turn; temperature 0 is greedy. Cut before the first text of `stop`.

        Raises DataError when an image cannot be read or a prompt leaves no room for an answer.
        """
        limit = self.model.language.config.max_position_embeddings
        room = limit - min(max_new_tokens, limit // 2)  # tiles give way to an answer of up to half the window
        prompts = [self._prompt(sample, room) for sample in samples]
        for sample, prompt in zip(samples, prompts, strict=True):
            if len(prompt.ids) >= limit:
                raise DataError(f"the prompt takes {len(prompt.ids)} of {limit} tokens", where=sample.id)
        order = sorted(range(len(samples)), key=lambda i: -len(prompts[i].ids))
        out: list[Generation | None] = [None] * len(samples)
        for begin in range(0, len(order), self.batch_size):
            numbers = order[begin : begin + self.batch_size]
            features = self._features([(samples[i], prompts[i]) for i in numbers])
            ids = [prompts[i].ids for i in numbers]
            caps = torch.tensor([min(max_new_tokens, limit - len(prompt)) for prompt in ids])
            generators = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in numbers] if temperature else None
            for number, tokens in zip(numbers, self._decode(ids, features, caps, temperature, generators), strict=True):
                stopped = bool(tokens) and tokens[-1] == self.processor.end
                text = self.processor.tokenizer.decode(tokens)
                cut = min((text.find(mark) for mark in stop if mark in text), default=None)
                out[number] = Generation(text[:cut], "stop" if stopped or cut is not None else "length", len(tokens))
        return out  # type: ignore[return-value]

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """How a turn is written and in which precision it is read."""
        return {"template": "chat", "begin": True, "precision": str(self.model.language.dtype).removeprefix("torch.")}

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

    def _prompt(self, sample: Sample, room: int) -> Encoded:
        return self.processor.encode_sample(sample, room, generation_prompt=True)

    def _prompt_and_answers(self, sample: Sample, texts: Sequence[str]) -> tuple[Encoded, list[list[int]]]:
        """The prompt in front of every one of these answers, and their ids. Raises DataError when one does not fit."""
        answers = [[*self.processor.tokenizer.encode(text), self.processor.end] for text in texts]
        limit, longest = self.model.language.config.max_position_embeddings, max(map(len, answers))
        prompt = self._prompt(sample, limit - longest)
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
        embeddings = self.model.embed(batch.input_ids, torch.cat(features) if features else None)
        hidden = hidden_states(self.model.language, embeddings, batch.position_ids, batch.doc_lens)
        tokens = token_log_probabilities(hidden[0].float(), batch.labels[0], self.model.language.lm_head)
        for (number, _, answer), document in zip(row, tokens.double().split(batch.doc_lens), strict=True):
            out[number].append(Likelihood(float(document.sum()), len(answer)))

    def _features(self, prompts: Sequence[tuple[Sample, Encoded]]) -> Tensor | None:
        """``[views, num_image_tokens, hidden]`` of all images of these prompts in order; None where there is none."""
        pixels = [
            self.processor.pixels(load_image(sample.images[image]), grid)
            for sample, prompt in prompts
            for image, grid in zip(prompt.images, prompt.grids, strict=True)
        ]
        return self.model.image_features(torch.from_numpy(np.concatenate(pixels))) if pixels else None

    def _decode(
        self,
        prompts: list[list[int]],
        features: Tensor | None,
        caps: Tensor,
        temperature: float,
        generators: list[torch.Generator] | None,
    ) -> list[list[int]]:
        """Generated ids of each prompt, the end mark included; `features` in order, at most `caps` tokens each."""
        batch, width = len(prompts), max(map(len, prompts))
        ids = torch.full((batch, width), self.processor.pad)
        mask = torch.zeros(batch, width, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        embeddings = self.model.embed(ids, features)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache: Any = DynamicCache(config=self.model.language.config)
        done = torch.zeros(batch, dtype=torch.bool)
        generated: list[Tensor] = []
        for step in range(int(caps.max())):
            hidden = self.model.language.model(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            logits = self.model.language.lm_head(hidden).float()
            token = _choose(logits, temperature, generators)
            token = torch.where(done, self.processor.pad, token)
            generated.append(token)
            done |= (token == self.processor.end) | (caps <= step + 1)
            if done.all():
                break
            embeddings = self.model.embed_tokens(token[:, None])
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones(batch, 1, dtype=mask.dtype)], 1)
        rows = [row[:cap] for row, cap in zip(torch.stack(generated, 1).tolist(), caps.tolist(), strict=True)]
        return [row[: row.index(self.processor.end) + 1] if self.processor.end in row else row for row in rows]


def load_model(folder: str | Path, batch_size: int = 64, base: Path | None = None) -> VisionLanguageModel:
    """Load a vision-language model directory. Raises DataError when it is none or is damaged."""
    loaded = load_directory(Path(folder), base)
    if loaded.kind != "jvlm":
        raise DataError(f"holds a '{loaded.kind}' model, not a vision-language model", where=folder)
    return VisionLanguageModel(loaded.model, loaded.processor, batch_size)


def _reference(image: bytes | str | Path) -> ImageRef:
    return ImageRef(data=image) if isinstance(image, bytes) else ImageRef(path=str(image))


def _choose(logits: Tensor, temperature: float, generators: list[torch.Generator] | None) -> Tensor:
    if generators is None:
        return logits.argmax(-1)
    # Gumbel-max: arg max of logits/T + Gumbel noise is a draw from softmax(logits/T)
    noise = torch.stack([torch.empty(logits.shape[1]).exponential_(generator=g) for g in generators])
    return (logits / temperature - noise.log()).argmax(-1)
