"""Training items of the toy medicine: exam questions in the exam's own prompt format, and plain questions."""

import numpy as np
from jvlm_data.toyworld.exam_questions import SEXES, Question, count_question, single_choice, two_choices
from jvlm_data.toyworld.exam_wordings import CHAT, IMAGE_KINDS, TEXT_KINDS, TRAIN_CASES
from jvlm_data.toyworld.lexicon import pick
from jvlm_data.toyworld.medicine import Fact, facts, medical_image

from jvlm.sample import ImageRef, Message, Part, Sample

SET_NAME = "medical_training"

_STREAM = 301
_FORMS = ("exam", "case", "text", "two", "numeric", "chat")
_SHARES = (0.40, 0.06, 0.12, 0.05, 0.05, 0.32)
_TABOO_SHARE = 0.3  # of treatment questions


def training_item(seed: int, index: int, size: int = 64) -> Sample:
    """Training item `index`: a pure function of its arguments. States no textbook-only fact.

    meta: set, kind (a question kind, or `chat_` and what is asked), modality, finding, gold.
    """
    rng = np.random.default_rng([seed, _STREAM, index, 0])
    form = _FORMS[int(rng.choice(len(_FORMS), p=_SHARES))]
    fact = pick(rng, facts(seed))
    if form == "numeric":
        fact = pick(rng, [fact for fact in facts(seed) if fact.modality == "smear"])
    meta = {"set": SET_NAME, "modality": fact.modality, "finding": fact.finding}
    identity = f"{SET_NAME}-{index:07d}"
    if form == "text":
        question = _exam_question(rng, seed, pick(rng, TEXT_KINDS), fact)
        return _sample(identity, [], question.prompt, question.answer, meta | {"kind": question.kind})
    picture, cells = medical_image(np.random.default_rng([seed, _STREAM, index, 1]), fact, size)
    if form == "chat":
        kind, asked, answer = _chat(rng, fact, cells)
        return _sample(identity, [picture], asked, answer, meta | {"kind": f"chat_{kind}"})
    shared = ""
    if form == "two":
        question = two_choices(rng, seed, "train", fact)
    elif form == "numeric":
        question = count_question(rng, "train", fact, cells)
    elif form == "case":
        shared = pick(rng, TRAIN_CASES).format(sex=pick(rng, SEXES), image=fact.image_name)
        question = _exam_question(rng, seed, "case_" + pick(rng, IMAGE_KINDS), fact)
    else:
        question = _exam_question(rng, seed, pick(rng, IMAGE_KINDS), fact)
    return _sample(identity, [picture], shared + question.prompt, question.answer, meta | {"kind": question.kind})


def _exam_question(rng: np.random.Generator, seed: int, kind: str, fact: Fact) -> Question:
    taboo = kind.endswith("treatment") and bool(rng.random() < _TABOO_SHARE)
    return single_choice(rng, seed, "train", kind, fact, int(rng.integers(5)), taboo)


def _chat(rng: np.random.Generator, fact: Fact, cells: int) -> tuple[str, str, str]:
    kind = pick(rng, [kind for kind in CHAT if kind != "count" or cells])
    question, answer = pick(rng, CHAT[kind])
    values = {"image": fact.image_name, "cells": cells}
    values |= {name: getattr(fact, name) for name in ("finding", "disease", "treatment", "forbidden")}
    return kind, question.format(**values), answer.format(**values)


def _sample(identity: str, pictures: list[bytes], asked: str, answer: str, meta: dict[str, str]) -> Sample:
    content: list[Part] = [*range(len(pictures)), asked]
    messages = [Message("user", content), Message("assistant", [answer])]
    return Sample(identity, messages, [ImageRef(data=data) for data in pictures], None, meta | {"gold": answer})
