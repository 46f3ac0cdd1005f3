"""Short questions about pictures with one right answer, asked with the right image, with another, and with none.

A model that has learned which answers are common scores with any image or none: what it sees is the difference.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.eval import requests
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.baselines import best_constant, chance
from jvlm.eval.ledger import Ledger, Record
from jvlm.eval.statistics import accuracy
from jvlm.files import sha256_bytes
from jvlm.images.shards import ShardReader
from jvlm.infer.types import Model
from jvlm.sample import Sample

MAX_NEW_TOKENS = 24
_END = re.compile(r"(です|でした|である|だ)?[。．.!]*$")
_NUMBER = re.compile(r"\d+|[一二三四五六七八九十]+")
_KANJI = "一二三四五六七八九十"


def evaluate_pictures(model: Model, folder: Path, out: Path, *, name: str, seed: int = 0) -> Record:
    """Every question of the shard folder, in every arm; records go to ``out/samples.jsonl`` under `name`.

    Returns ``{KIND: {ARM: accuracy, "audit": image against removed}}`` for each `meta["kind"]` of the samples; the arms
    are `image`, `removed`, and `other_image` where every question has another picture with another answer.
    Raises DataError for a folder without samples, and for one without `kind` and `gold`.
    """
    reader = ShardReader(folder)
    samples = [reader.read(i) for i in sorted(range(len(reader)), key=lambda i: reader.ids[i])]
    if not samples:
        raise DataError("no question", where=folder)
    for sample in samples:
        if not {"kind", "gold"} <= sample.meta.keys() or not sample.images:
            raise DataError("not a question about a picture: it needs an image, kind and gold", where=sample.id)
    task = folder.name
    result: Record = {}
    for kind in sorted({str(sample.meta["kind"]) for sample in samples}):
        asked = [sample for sample in samples if sample.meta["kind"] == kind]
        golds = [str(sample.meta["gold"]) for sample in asked]
        constant, best = best_constant(golds, answer_is_right)
        guess = chance(golds, answer_is_right)
        groups = [sha256_bytes(sample.images[0].read()) for sample in asked]
        right: dict[str, list[bool]] = {}
        for arm, questions in _arms(asked, groups).items():
            records = _ask(model, questions, golds, out, name, task, arm)
            right[arm] = [answer_is_right(r["output"], gold) for r, gold in zip(records, golds, strict=True)]
        scores: Record = {
            arm: accuracy(flags, chance=guess, best_constant=best, groups=groups, seed=seed)
            for arm, flags in right.items()
        }
        by_id = {arm: {s.id: flag for s, flag in zip(asked, flags, strict=True)} for arm, flags in right.items()}
        of = {sample.id: group for sample, group in zip(asked, groups, strict=True)}
        audit = image_removal_audit(by_id["image"], by_id["removed"], of, seed)
        result[kind] = scores | {"audit": audit, "constant": constant, "answers": len(set(golds))}
    return result


def answer_is_right(answer: str, gold: str) -> bool:
    """Whether an answer says what `gold` says: the same number where gold is one, else the same words.

    Letter forms (NFKC), case, spaces, a closing です and full stops do not count.
    """
    said, wanted = _folded(answer), _folded(gold)
    if wanted.isdecimal():
        numbers = [_value(found) for found in _NUMBER.findall(said)]
        return numbers == [int(wanted)]
    return said == wanted


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return _END.sub("", re.sub(r"\s+", "", text))


def _value(number: str) -> int:
    """An integer in digits, or in kanji up to 九十九."""
    if number.isdecimal():
        return int(number)
    tens, ten, ones = number.rpartition("十")
    value = (_KANJI.find(ones) + 1) if ones else 0
    return value + (10 * (_KANJI.find(tens) + 1 if tens else 1) if ten else 0)


def _arms(samples: Sequence[Sample], pictures: Sequence[str]) -> dict[str, list[Sample]]:
    """The questions of every arm; `pictures` are the hashes of their images.

    The other image is that of a later question, in order of id and at a distance that the question's own id draws, of
    another picture and with another answer. Where a question has none, there is no such arm: it would test nothing.
    """
    others = []
    for i, sample in enumerate(samples):
        start = i + 1 + int(sha256_bytes(sample.id.encode())[:8], 16) % len(samples)
        following = [(start + step) % len(samples) for step in range(len(samples))]
        other = next(
            (j for j in following if samples[j].meta["gold"] != sample.meta["gold"] and pictures[j] != pictures[i]),
            None,
        )
        if other is not None:
            others.append(Sample(sample.id, sample.messages, samples[other].images, None, sample.meta))
    removed = [requests.without_images(sample) for sample in samples]
    arms = {"image": list(samples), "other_image": others, "removed": removed}
    return {arm: questions for arm, questions in arms.items() if len(questions) == len(samples)}


def _ask(
    model: Model, questions: list[Sample], golds: list[str], out: Path, name: str, task: str, arm: str
) -> list[Record]:
    questions = [requests.question(question) for question in questions]
    ledger = Ledger(out, name, task, arm, questions, [f"generate {MAX_NEW_TOKENS}"] * len(questions))
    missing = iter(ledger.missing)
    for generations in requests.generate(model, [questions[i] for i in ledger.missing], MAX_NEW_TOKENS):
        for generation in generations:
            i = next(missing)
            said: dict[str, Any] = {"output": generation.text, "finish_reason": generation.finish_reason}
            correct = answer_is_right(generation.text, golds[i])
            ledger.add(i, said | {"kind": questions[i].meta["kind"], "gold": golds[i], "correct": correct})
    return ledger.records
