"""Any causal language model of the Hugging Face layout, ours or not, as something to be asked (`TextModel`).

A user turn of a model that was not taught to converse is plain text, continued where it ends; with the template
`chat` the model's own chat template is written around it.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from jvlm.errors import DataError, UsageError
from jvlm.files import MANIFEST, read_json, verify_folder
from jvlm.infer.trees import Tree, batches, lay_out
from jvlm.infer.types import Generation, Likelihood
from jvlm.sample import Sample

BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Places of a batch, padding included, at most (a longer question is read alone)."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OWN_DOCUMENTS, OWN_END = "<|document|>", "<|end|>"  # control tokens of the models that are trained here
Template = Literal["plain", "chat"]


class CausalModel:
    """A loaded language model with its tokenizer."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: Template = "plain",
        begin: bool | None = None,
        batch_tokens: int | None = None,
        batch_size: int = 32,
    ) -> None:
        """
        Args:
            begin: put the begin token before plain text; None: where its tokenizer does, or it was trained here.
            batch_tokens: places of a batch of choices; batch_size: prompts that are continued together.
        """
        self.model, self.tokenizer, self.template, self.batch_size = model.eval(), tokenizer, template, batch_size
        self.batch_tokens = batch_tokens or BATCH_TOKENS[model.device.type]
        known = tokenizer.get_vocab()
        if template == "chat" and tokenizer.chat_template is None:
            raise UsageError("the model has no chat template", fix="ask it with the template plain")
        bos = tokenizer.bos_token_id
        own = begin if begin is not None else OWN_DOCUMENTS in known or tokenizer("a").input_ids[:1] == [bos]
        self._begin = [bos] if own and bos is not None else []
        self._ends = {tokenizer.eos_token_id, known.get(OWN_END)} - {None}
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._ends, default=0)
        self._shares_prompts = "position_ids" in inspect.signature(model.forward).parameters
        self._head = model.get_output_embeddings()
        self._plain_head = self._head is not None and self._head_alone_gives_logits()

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """How a turn is written and in which precision it is read."""
        return {
            "template": self.template,
            "begin": bool(self._begin),
            "precision": str(self.model.dtype).removeprefix("torch."),
        }

    def check(self, sample: Sample, answers: Sequence[str]) -> None:
        """Raises DataError when prompt and longest answer do not fit the window, or there are images to look at."""
        tree = self._tree(sample, answers)
        self._fit(len(tree.prompt) + max(map(len, tree.choices), default=0), sample)

    @torch.inference_mode()
    def choice_likelihoods(
        self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """Likelihoods of each sample's choices; prompts are read once, questions of like length together.

        Raises DataError when a prompt and a choice take more tokens than the window, or a choice has none.
        """
        trees = [self._tree(sample, texts) for sample, texts in zip(samples, choices, strict=True)]
        for sample, tree in zip(samples, trees, strict=True):
            self._fit(len(tree.prompt) + max(map(len, tree.choices)) - 1, sample)
        owner = list(range(len(trees)))
        if not self._shares_prompts:  # a model that cannot be told positions reads every choice with its prompt
            owner = [number for number, tree in enumerate(trees) for _ in tree.choices]
            trees = [Tree(tree.prompt, [choice]) for tree in trees for choice in tree.choices]
        found: list[list[Likelihood]] = [[] for _ in trees]
        for numbers in batches(trees, self.batch_tokens):
            scores = iter(self._score([trees[i] for i in numbers]))
            for i in numbers:
                found[i] = [next(scores) for _ in trees[i].choices]
        out: list[list[Likelihood]] = [[] for _ in samples]
        for number, part in zip(owner, found, strict=True):
            out[number] += part
        return out

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """The sums alone."""
        return [[one.log_likelihood for one in row] for row in self.choice_likelihoods(samples, choices)]

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
        """Greedy continuations; whatever the folder's generation config says of sampling or penalties is left out.

        Raises DataError when a prompt leaves no room for an answer, UsageError for another temperature than 0.
        """
        if temperature:
            raise UsageError("a language model alone is only asked greedily", fix="leave the temperature at 0")
        prompts = [self._prompt(sample) for sample in samples]
        for sample, prompt in zip(samples, prompts, strict=True):
            self._fit(len(prompt) + 1, sample)
        out: dict[int, Generation] = {}
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size]
            out |= zip(numbers, self._continue([prompts[i] for i in numbers], max_new_tokens, stop), strict=True)
        return [out[i] for i in range(len(samples))]

    def _continue(self, prompts: list[list[int]], max_new_tokens: int, stop: Sequence[str]) -> list[Generation]:
        width, window = max(map(len, prompts)), self._window()
        ids = torch.full((len(prompts), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        cap = max_new_tokens if window is None else min(max_new_tokens, window - width)
        config = GenerationConfig(
            max_new_tokens=cap,
            do_sample=False,
            num_beams=1,
            pad_token_id=self._pad,
            eos_token_id=sorted(self._ends) or None,
        )
        criteria = StoppingCriteriaList([_Stops(self.tokenizer, stop, width)] if stop else [])
        device = self.model.device
        written = self.model.generate(
            ids.to(device), attention_mask=mask.to(device), generation_config=config, stopping_criteria=criteria
        )
        return [self._generation(row, stop) for row in written[:, width:].tolist()]

    def _generation(self, ids: list[int], stop: Sequence[str]) -> Generation:
        ends = [place for place, token in enumerate(ids) if token in self._ends]
        ids = ids[: ends[0]] if ends else ids
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        cuts = [text.find(mark) for mark in stop if mark in text]
        stopped = bool(ends or cuts)
        return Generation(text[: min(cuts)] if cuts else text, "stop" if stopped else "length", len(ids) + bool(ends))

    def _score(self, trees: list[Tree]) -> list[Likelihood]:
        rows = lay_out(trees, self._pad)
        device = self.model.device
        inputs: dict[str, Any] = {"input_ids": rows.input_ids.to(device), "use_cache": False}
        if self._shares_prompts:
            inputs |= {"attention_mask": rows.mask.to(device), "position_ids": rows.position_ids.to(device)}
        reads, targets = rows.reads.to(device), rows.targets.to(device)
        if self._plain_head:
            hidden = self.model.get_decoder()(**inputs).last_hidden_state
            logits = self._head(hidden.flatten(0, 1)[reads])
        else:
            logits = self.model(**inputs).logits.flatten(0, 1)[reads]
        logs = logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].double().cpu()
        return [Likelihood(float(part.sum()), len(part)) for part in logs.split(rows.lengths)]

    def _tree(self, sample: Sample, choices: Sequence[str]) -> Tree:
        """Prompt and choices as they are written together: a choice is what stands behind the prompt's own tokens."""
        if self.template == "chat":
            prompt = self._prompt(sample)
            end = [self.tokenizer.get_vocab().get(OWN_END, self.tokenizer.eos_token_id)]
            return Tree(prompt, [self._typed(choice) + end for choice in choices])
        text = self._text(sample)
        stem = text.rstrip(" ")  # a space belongs to the word behind it
        prompt = self._begin + self._typed(stem)
        tails = []
        for choice in choices:
            whole = self._begin + self._typed(text + choice)
            tail = whole[len(prompt) :]
            if not tail:
                raise DataError(f"the choice {choice!r} has no token of its own", where=sample.id)
            tails.append(tail)
        if not prompt:
            raise DataError("the prompt has no token", where=sample.id)
        return Tree(prompt, tails)

    def _prompt(self, sample: Sample) -> list[int]:
        if self.template == "plain":
            return self._begin + self._typed(self._text(sample))
        turns = [{"role": message.role, "content": message.text} for message in sample.messages]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer.encode(str(text), add_special_tokens=False))

    def _text(self, sample: Sample) -> str:
        if sample.images:
            raise DataError("this is a language model without an image tower: it cannot take images", where=sample.id)
        return "\n".join(message.text for message in sample.messages)

    def _typed(self, text: str) -> list[int]:
        """Ids of a text in which a control token is text like any other."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _fit(self, length: int, sample: Sample) -> None:
        window = self._window()
        if window is not None and length > window:
            raise DataError(f"prompt and answer take {length} of {window} tokens", where=sample.id)

    def _window(self) -> int | None:
        window: int | None = getattr(self.model.config, "max_position_embeddings", None)
        sliding = getattr(self.model.config, "sliding_window", None)  # a tree's mask knows no window that slides
        return min(filter(None, (window, sliding)), default=None)

    @torch.inference_mode()
    def _head_alone_gives_logits(self) -> bool:
        """Whether nothing stands between head and logits (some models scale or cap them): tried, not assumed."""
        ids = torch.arange(4, device=self.model.device)[None]
        logits = self.model(input_ids=ids, use_cache=False).logits
        hidden = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return torch.equal(self._head(hidden), logits)


class _Stops(StoppingCriteria):
    """A row is done when its text holds one of `stop`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], prompt: int) -> None:
        self.tokenizer, self.stop, self.prompt = tokenizer, stop, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt :], skip_special_tokens=True)
        return torch.tensor([any(s in text for s in self.stop) for text in texts], device=input_ids.device)


def load_causal_model(
    folder: Path, *, template: Template = "plain", begin: bool | None = None, dtype: str = "float32"
) -> CausalModel:
    """Read a Hugging Face folder of a causal language model onto the GPU where there is one, else the CPU.

    Only safetensors and JSON are read, no code of the folder is run. Raises DataError when it holds no such model.
    """
    if not (folder / "config.json").is_file():
        raise DataError("not a model directory: config.json is missing", where=folder)
    if (folder / MANIFEST).is_file():
        verify_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=DTYPES[dtype]
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        kind = read_json(folder / "config.json").get("model_type")
        raise DataError(f"no causal language model can be read ({kind}): {error}", where=folder) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return CausalModel(model.to(device), tokenizer, template=template, begin=begin)
