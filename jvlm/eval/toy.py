"""The toy world's evaluation: captions, questions, and the exam, with the image and with it removed.

What the model said goes record by record into `samples.jsonl`; every figure is recomputed from those records, so a
changed scorer needs no new inference and an interrupted evaluation asks only what is still missing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jvlm_data.toyworld import judge
from pydantic import Field

from jvlm.config import Config, load_config
from jvlm.errors import DataError
from jvlm.eval import requests
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.baselines import best_constant, chance
from jvlm.eval.exam import is_correct, score_exam
from jvlm.eval.exam_task import ask_exam, read_marks, score_marks
from jvlm.eval.items import ExamItem, exam_sample, load_items
from jvlm.eval.ledger import Ledger, Record
from jvlm.eval.parsing import VERSION as PARSER
from jvlm.eval.statistics import accuracy, macro_interval
from jvlm.eval.thumbnails import write_thumbnail
from jvlm.images.shards import ShardReader
from jvlm.infer.types import Model
from jvlm.sample import Message, Sample

Arm = Literal["image", "removed"]
SHOWN_IMAGES = 12


class Task(Config):
    """One task: a set, the request made for each of its items, and how the outputs are scored."""

    name: str = Field(description="Key of the task in the results")
    part: Literal["general", "exam"] = Field(description="Which of the two evaluations runs it")
    set: str = Field(description="Shard folder, or JSONL file of exam items, inside the data folder")
    request: Literal["generate", "choices"] = Field(description="Generation, or log-likelihood of the choices' texts")
    scorer: Literal["caption", "vqa", "exam_image", "exam_text", "exam_paper"] = Field(description="How it is scored")
    arms: tuple[Arm, ...] = Field(("image",), description="`removed` asks again with no image tokens at all")
    prompt: str | None = Field(None, description="Replaces the question's text; by default the sample's own stands")
    max_new_tokens: int = Field(64, ge=1, description="Cap of a generation, in tokens; reaching it is recorded")
    limit: int | None = Field(None, ge=1, description="Only the first items by id; None = all")


class ToyConfig(Config):
    """The task list of `evals/toy.yaml`."""

    version: str = Field(description="Version of the prompts and tasks, written into the results")
    seed: int = Field(0, description="Seed of the bootstrap intervals")
    cutoff: float = Field(0.6, ge=0, le=1, description="Share of the general points needed to pass the exam")
    tasks: tuple[Task, ...] = Field(description="The tasks, in the order in which they run")

    def limited(self, limit: int | None) -> "ToyConfig":
        """The same tasks on at most `limit` items each, for shortened recipes; None changes nothing."""
        if limit is None:
            return self
        tasks = [task.model_copy(update={"limit": min(limit, task.limit or limit)}) for task in self.tasks]
        return self.model_copy(update={"tasks": tuple(tasks)})


def load_toy_config(path: Path) -> ToyConfig:
    """Raises UsageError naming every fault of the file."""
    return load_config(ToyConfig, path)


def evaluate_general(model: Model, folder: Path, config: ToyConfig, out: Path, *, name: str = "model") -> Record:
    """Captions and question answering on the shard folders `folder/SET`.

    Args:
        name: which model this is; one `out` may hold the records of several, each asked for under its own name.

    Returns {"model", "version", "parser", TASK: scores}. A caption task has `exact`, `hallucination` (share of
    captions naming an absent (colour, shape)) and the shares `unreadable` and `cut_off`; a vqa task is the mean
    over `kinds`, with `removed` (and its `over_constant`) and `audit`. Thumbnails of the first twelve vqa images
    are written to `out/images`.
    """
    result: Record = {"model": name, "version": config.version, "parser": PARSER}
    for task in (task for task in config.tasks if task.part == "general"):
        samples = _read_samples(Path(folder) / task.set, task)
        said = {arm: _generate(model, samples, task, arm, out, name) for arm in task.arms}
        if task.scorer == "caption":
            result[task.name] = _score_captions(samples, said["image"], config.seed)
        else:
            _write_thumbnails(samples, Path(out) / "images")
            result[task.name] = _score_vqa(samples, said, config.seed)
    return result


def evaluate_exam(model: Model, folder: Path, config: ToyConfig, out: Path, *, name: str = "model") -> Record:
    """The exam sets `folder/SET` (JSONL): image questions in both arms, a full paper, the two-hop questions.

    Choices are compared by the log-likelihood of their texts: the best one, or the best `n_select`; numbers are
    generated and parsed. Returns {"model", "version", "parser", TASK: {ARM: scores, "sheet"?, "audit"?}}.
    """
    result: Record = {"model": name, "version": config.version, "parser": PARSER}
    for task in (task for task in config.tasks if task.part == "exam"):
        items = _read_items(Path(folder) / task.set, task)
        said = {
            arm: ask_exam(
                model,
                items,
                [_question(exam_sample(item), task, arm) for item in items],
                out,
                name=name,
                task=task.name,
                arm=arm,
                max_new_tokens=task.max_new_tokens,
                written=task.request == "generate",
            )
            for arm in task.arms
        }
        marks = {arm: [read_marks(item, r) for item, r in zip(items, said[arm], strict=True)] for arm in task.arms}
        scores: Record = {arm: score_marks(items, marks[arm], config.seed) for arm in task.arms}
        if task.scorer == "exam_paper":
            answers = {item.id: mark.answer for item, mark in zip(items, marks["image"], strict=True)}
            scores["sheet"] = score_exam(items, answers, config.cutoff).to_record()
        if "removed" in task.arms:
            right = {
                arm: {item.id: is_correct(item, mark.answer) for item, mark in zip(items, marks[arm], strict=True)}
                for arm in task.arms
            }
            groups = {item.id: item.group_id for item in items}
            scores["audit"] = image_removal_audit(right["image"], right["removed"], groups, config.seed)
        result[task.name] = scores
    return result


def _read_samples(folder: Path, task: Task) -> list[Sample]:
    reader = ShardReader(folder)
    order = sorted(range(len(reader)), key=lambda i: reader.ids[i])[: task.limit]
    samples = [reader.read(i) for i in order]
    if not samples:
        raise DataError(f"no sample for the task {task.name}", where=folder)
    wanted = ("truth",) if task.scorer == "caption" else ("kind", "gold")
    for sample in samples:
        missing = [key for key in wanted if key not in sample.meta]
        if missing:
            raise DataError(f"meta lacks {', '.join(missing)}", where=f"{folder}: {sample.id}")
    return samples


def _generate(model: Model, samples: list[Sample], task: Task, arm: Arm, out: Path, name: str) -> list[Record]:
    questions = [_question(requests.question(sample), task, arm) for sample in samples]
    ledger = Ledger(out, name, task.name, arm, questions, [_settings(task)] * len(questions))
    missing = iter(ledger.missing)
    for generations in requests.generate(model, [questions[i] for i in ledger.missing], task.max_new_tokens):
        for generation in generations:
            i = next(missing)
            said = {"output": generation.text, "finish_reason": generation.finish_reason}
            if task.scorer == "caption":
                truth = samples[i].meta["truth"]
                verdict: Record = {"kind": "caption", "gold": _caption(samples[i])}
                verdict |= {"correct": judge.caption_is_exact(generation.text, truth)}
                verdict |= {"absent": sorted(list(pair) for pair in judge.absent_objects(generation.text, truth))}
            else:
                gold, kind = str(samples[i].meta["gold"]), str(samples[i].meta["kind"])
                verdict = {"kind": kind, "gold": gold, "correct": judge.answer_is_right(kind, generation.text, gold)}
            ledger.add(i, said | verdict)
    return ledger.records


def _settings(task: Task) -> str:
    return f"generate {task.max_new_tokens}"


def _question(sample: Sample, task: Task, arm: Arm) -> Sample:
    """The question as it is sent: its own text or the task's prompt; without any image in the arm `removed`."""
    if task.prompt is not None:
        message = Message("user", [*range(len(sample.images)), task.prompt])
        sample = Sample(sample.id, [message], sample.images, None, sample.meta)
    return requests.without_images(sample) if arm == "removed" else sample


def _score_captions(samples: list[Sample], records: list[Record], seed: int) -> Record:
    """The best constant caption is the one that fits most images: the commonest truth's."""
    truths = [sample.meta["truth"] for sample in samples]
    outputs = [record["output"] for record in records]
    exact = [judge.caption_is_exact(text, truth) for text, truth in zip(outputs, truths, strict=True)]
    absent = [bool(judge.absent_objects(text, truth)) for text, truth in zip(outputs, truths, strict=True)]
    commonest = Counter(str(sorted(map(str, truth))) for truth in truths).most_common(1)[0][1]
    return {
        "exact": accuracy(exact, chance=None, best_constant=commonest / len(truths), seed=seed),
        "hallucination": accuracy(absent, chance=None, best_constant=None, seed=seed),
        "unreadable": sum(not judge.parse_caption(text) for text in outputs) / len(outputs),
        "cut_off": _cut_off(records),
    }


def _score_vqa(samples: list[Sample], said: dict[Arm, list[Record]], seed: int) -> Record:
    images = [hashlib.sha256(s.images[0].read()).hexdigest() if s.images else s.id for s in samples]
    right = {
        arm: [_is_right(str(s.meta["kind"]), r["output"], s) for s, r in zip(samples, records, strict=True)]
        for arm, records in said.items()
    }
    result = {**_score_kinds(samples, right["image"], images, seed), "cut_off": _cut_off(said["image"])}
    if "removed" in said:
        removed = _score_kinds(samples, right["removed"], images, seed)
        over = {kind: score["value"] - score["best_constant"] for kind, score in removed["kinds"].items()}
        removed |= {"over_constant": sum(over.values()) / len(over), "over_constant_max": max(over.values())}
        result["removed"] = removed | {"over_constant_by_kind": over}
        by_id = {arm: {s.id: flag for s, flag in zip(samples, flags, strict=True)} for arm, flags in right.items()}
        groups = {s.id: image for s, image in zip(samples, images, strict=True)}
        result["audit"] = image_removal_audit(by_id["image"], by_id["removed"], groups, seed)
    return result


def _score_kinds(samples: list[Sample], right: list[bool], images: list[str], seed: int) -> Record:
    """Accuracy per kind and the unweighted mean over kinds, with MOVER's interval."""
    kinds: Record = {}
    for kind in sorted({str(sample.meta["kind"]) for sample in samples}):
        chosen = [i for i, sample in enumerate(samples) if sample.meta["kind"] == kind]
        golds, is_right = [str(samples[i].meta["gold"]) for i in chosen], _judge_of(kind)
        constant, best = best_constant(golds, is_right)
        flags, groups = [right[i] for i in chosen], [images[i] for i in chosen]
        score = accuracy(flags, chance=chance(golds, is_right), best_constant=best, groups=groups, seed=seed)
        kinds[kind] = {**score, "constant": constant}
    counts = [(round(score["value"] * score["n"]), score["n"]) for score in kinds.values()]
    averaged = ("value", "chance", "best_constant")
    mean = {key: sum(score[key] for score in kinds.values()) / len(kinds) for key in averaged}
    return {
        "value": mean["value"],
        "n": len(samples),
        "interval": list(macro_interval(counts)),
        "chance": mean["chance"],
        "best_constant": mean["best_constant"],
        "kinds": kinds,
    }


def _is_right(kind: str, output: str, sample: Sample) -> bool:
    return judge.answer_is_right(kind, output, str(sample.meta["gold"]))


def _judge_of(kind: str) -> Callable[[str, str], bool]:
    return lambda answer, gold: judge.answer_is_right(kind, answer, gold)


def _caption(sample: Sample) -> str:
    return next((message.text for message in reversed(sample.messages) if message.role == "assistant"), "")


def _cut_off(records: list[Record]) -> float:
    """Share of generations that ended at the cap: a truncated answer looks like ignorance."""
    return sum(record["finish_reason"] == "length" for record in records) / len(records)


def _read_items(path: Path, task: Task) -> list[ExamItem]:
    """By id. Accuracy tasks leave out items removed for everybody; the paper keeps them, its sheet drops them."""
    items = sorted(load_items(path), key=lambda item: item.id)
    if task.scorer != "exam_paper":
        items = [item for item in items if item.excluded != "all"]
    if task.scorer == "exam_image":
        items = [item for item in items if item.pictures and item.answer_type == "mcq_single"]
    if not items:
        raise DataError(f"no item for the task {task.name}", where=path)
    return items[: task.limit]


def _write_thumbnails(samples: list[Sample], folder: Path) -> None:
    """The first twelve different images by sample id: in this order, not chosen."""
    shown: dict[str, Sample] = {}
    for sample in samples:
        if sample.images and len(shown) < SHOWN_IMAGES:
            shown.setdefault(hashlib.sha256(sample.images[0].read()).hexdigest(), sample)
    for sample in shown.values():
        write_thumbnail(sample, folder)
