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
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

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
        model.generation_config = GenerationConfig()  # transformers fills what a call leaves open with the folder's own
        self.batch_tokens = batch_tokens or BATCH_TOKENS[model.device.type]
        known = tokenizer.get_vocab()
        if template == "chat" and tokenizer.chat_template is None:
            raise UsageError("the model has no chat template", fix="ask it with the template plain")
        bos = tokenizer.bos_token_id
        own = begin if begin is not None else OWN_DOCUMENTS in known or tokenizer("a").input_ids[:1] == [bos]
        self._begin = [bos] if own and bos is not None else []
        self._ends = {tokenizer.eos_token_id, known.get(OWN_END)} - {None}
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._ends, default=0)
        self._head = model.get_output_embeddings()
        self._plain_head = self._head is not None and self._head_alone_gives_logits()
        self._shares_prompts = self._trees_are_right()

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """How a turn is written and in which precision it is read."""
        return {
            "template": self.template,
            "begin": bool(self._begin),
            "precision": str(self.model.dtype).removeprefix("torch."),
        }

    def check(self, sample: Sample, answers: Sequence[str]) -> None:
        """Raises DataError when it has pictures, or prompt and longest answer do not fit the window."""
        if (why := self.refusals([sample], [answers])[0]) is not None:
            raise DataError(why, where=sample.id)

    def refusals(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[str | None]:
        """Why a sample cannot be put to the model: it has pictures, or prompt and choice do not fit the window."""
        return [found if isinstance(found, str) else None for found in self._trees(samples, choices)]

    @torch.inference_mode()
    def choice_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[Likelihood]]:
        """Likelihoods of each sample's choices; prompts are read once, questions of like length together.

        Raises DataError when a prompt and a choice take more tokens than the window, or a choice has none.
        """
        trees = self._all_trees(samples, choices)
        owner, start = list(range(len(trees))), []
        if self._shares_prompts:  # what all prompts begin with (instructions, examples) is read once for all
            start = _common_start([tree.prompt for tree in trees])
            trees = [Tree(tree.prompt[len(start) :], tree.choices) for tree in trees]
        else:  # every choice is read with its prompt
            owner = [number for number, tree in enumerate(trees) for _ in tree.choices]
            trees = [Tree(tree.prompt, [choice]) for tree in trees for choice in tree.choices]
        found: list[list[Likelihood]] = [[] for _ in trees]
        memory = self._read(start)
        for numbers in batches(trees, self.batch_tokens):
            scores = iter(self._score([trees[i] for i in numbers], memory))
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
        prompts = [tree.prompt for tree in self._all_trees(samples, [[]] * len(samples))]
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
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        cuts = [text.find(mark) for mark in stop if mark in text]
        stopped = bool(ends or cuts)
        return Generation(text[: min(cuts)] if cuts else text, "stop" if stopped else "length", len(ids) + bool(ends))

    def _read(self, start: list[int]) -> DynamicCache | None:
        """Keys and values of what all prompts begin with."""
        if not start:
            return None
        memory = DynamicCache()
        ids = torch.tensor([start], device=self.model.device)
        self.model.get_decoder()(input_ids=ids, past_key_values=memory, use_cache=True)
        return memory

    def _score(self, trees: list[Tree], memory: DynamicCache | None) -> list[Likelihood]:
        rows = lay_out(trees, self._pad)
        device = self.model.device
        inputs: dict[str, Any] = {"input_ids": rows.input_ids.to(device), "use_cache": False}
        if self._shares_prompts:
            before = memory.get_seq_length() if memory is not None else 0
            # added to the scores: what every implementation takes (eager attention adds a boolean mask as 0 and 1)
            hidden_from = torch.zeros(rows.mask.shape, dtype=self.model.dtype, device=device)
            hidden_from.masked_fill_(~rows.mask.to(device), torch.finfo(self.model.dtype).min)
            inputs["attention_mask"] = torch.nn.functional.pad(hidden_from, (before, 0))  # the start is seen by all
            inputs["position_ids"] = rows.position_ids.to(device) + before
        if memory is not None:
            inputs |= {"past_key_values": _repeated(memory, len(trees)), "use_cache": True}
        reads, targets = rows.reads.to(device), rows.targets.to(device)
        if self._plain_head:
            hidden = self.model.get_decoder()(**inputs).last_hidden_state
            logits = self._head(hidden.flatten(0, 1)[reads])
        else:
            logits = self.model(**inputs).logits.flatten(0, 1)[reads]
        logs = logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].double().cpu()
        return [Likelihood(float(part.sum()), len(part)) for part in logs.split(rows.lengths)]

    @torch.inference_mode()
    def _trees_are_right(self) -> bool:
        """Whether choices can share a prompt: tried, not assumed. Some models take no positions, or have another memory
        than keys and values."""
        if "position_ids" not in inspect.signature(self.model.forward).parameters:
            return False
        trees = [Tree([5, 6, 7, 8], [[9, 10, 11], [12, 13]]), Tree([6, 7], [[14]])]
        self._shares_prompts = False
        alone = [self._score([Tree([4, 5, *t.prompt], [c])], None)[0] for t in trees for c in t.choices]
        self._shares_prompts = True
        try:
            together = self._score(trees, self._read([4, 5]))
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        return all(abs(a[0] - b[0]) < tolerance for a, b in zip(alone, together, strict=True))

    def _all_trees(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[Tree]:
        trees: list[Tree] = []
        for sample, tree in zip(samples, self._trees(samples, choices), strict=True):
            if isinstance(tree, str):
                raise DataError(tree, where=sample.id)
            trees.append(tree)
        return trees

    def _trees(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[Tree | str]:
        """Each prompt with its choices, or why there is none.

        Plain text is encoded as it is written, prompt and choice together: a choice is what stands behind the prompt's
        own tokens. A space at the prompt's end belongs to the word behind it.
        """
        chat = self.template == "chat"
        stems = [self._conversation(sample) if chat else self._text(sample) for sample in samples]
        prompts = [stem if chat or not tails else stem.rstrip(" ") for stem, tails in zip(stems, choices, strict=True)]
        wholes = [
            choice if chat else stem + choice for stem, tails in zip(stems, choices, strict=True) for choice in tails
        ]
        prompt_ids, whole_ids = self._encode(prompts, typed=not chat), iter(self._encode(wholes, typed=True))
        end = [self.tokenizer.get_vocab().get(OWN_END, self.tokenizer.eos_token_id)]
        found: list[Tree | str] = []
        for sample, ids, tails in zip(samples, prompt_ids, choices, strict=True):
            behind = 0 if chat else len(ids)
            answers = [next(whole_ids)[behind:] + (end if chat else []) for _ in tails]
            tree = Tree(ids if chat else self._begin + ids, answers)
            found.append(self._refusal(sample, tree) or tree)
        return found

    def _refusal(self, sample: Sample, tree: Tree) -> str | None:
        if sample.images:
            return "this is a language model without an image tower: it cannot take images"
        if not tree.prompt or not all(tree.choices):
            return "the prompt or a choice has no token of its own"
        length, window = len(tree.prompt) + max(map(len, tree.choices), default=1), self._window()
        return None if window is None or length <= window else f"prompt and answer take {length} of {window} tokens"

    def _conversation(self, sample: Sample) -> str:
        turns = [{"role": message.role, "content": message.text} for message in sample.messages]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _text(self, sample: Sample) -> str:
        return "\n".join(message.text for message in sample.messages)

    def _encode(self, texts: list[str], *, typed: bool) -> list[list[int]]:
        """Ids of texts, nothing added; in what was `typed` a control token is text like any other."""
        if not texts:
            return []
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=typed).input_ids
        return found

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


def _common_start(prompts: Sequence[list[int]]) -> list[int]:
    """What all prompts begin with, each keeping a token of its own; nothing where there is only one."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)  # in sorted order, what these two share is shared by all between
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: min(same, min(map(len, prompts)) - 1)]


def _repeated(memory: DynamicCache, rows: int) -> DynamicCache:
    """The same keys and values before every row of a batch."""
    found = DynamicCache()
    layers: list[Any] = memory.layers
    for number, layer in enumerate(layers):
        found.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return found


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
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=DTYPES[dtype]
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        kind = read_json(folder / "config.json").get("model_type")
        raise DataError(f"no causal language model can be read ({kind}): {error}", where=folder) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return CausalModel(model.to(device), tokenizer, template=template, begin=begin)
