"""Conversations without an image about what the textbook of the toy medicine says, and pairs of answers to prefer.

They ask for what training items may say (`medicine.CORE` and the season), never for what only the textbook states.
"""

import numpy as np
from jvlm_data.toyworld.lexicon import SEASONS, pick, pick_many
from jvlm_data.toyworld.medicine import Fact, facts, same_modality

from jvlm.sample import Message, Sample

SET_NAMES = ("dialogues_train", "dialogue_pairs")
TURNS = (1, 3)  # questions in a conversation

_STREAM = 401
_WORDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "disease": (
        ("架空の医学で、{finding}がみられる病気は何ですか。", "{disease}です。"),
        ("{finding}から考えられる架空の病気を教えてください。", "{disease}と考えられます。"),
    ),
    "finding": (
        ("架空の{disease}では何がみられますか。", "{finding}がみられます。"),
        ("架空の病気である{disease}の所見は何ですか。", "所見は{finding}です。"),
    ),
    "treatment": (
        ("架空の{disease}の治療薬は何ですか。", "治療薬は{treatment}です。"),
        ("架空の{disease}の患者には何を投与しますか。", "{treatment}を投与します。"),
    ),
    "forbidden": (
        ("架空の{disease}で禁忌の薬は何ですか。", "禁忌は{forbidden}です。"),
        ("架空の{disease}の患者に使ってはいけない薬を教えてください。", "{forbidden}は使ってはいけません。"),
    ),
    "season": (
        ("架空の{disease}が多い季節はいつですか。", "{season}です。"),
        ("架空の{disease}はいつ起こりやすいですか。", "{season}に起こりやすい病気です。"),
    ),
}


def make(set_name: str, seed: int, index: int) -> Sample:
    """Sample `index` of `dialogues_train`, or of `dialogue_pairs`, whose `rejected` names another disease's.

    A pure function of its arguments. meta: set, kind (what is asked last), gold.
    """
    rng = np.random.default_rng([seed, _STREAM, SET_NAMES.index(set_name), index])
    fact = pick(rng, facts(seed))
    turns = int(rng.integers(TURNS[0], TURNS[1] + 1)) if set_name == "dialogues_train" else 1
    messages = []
    for kind in pick_many(rng, list(_WORDINGS), turns):
        question, answer = pick(rng, _WORDINGS[kind])
        messages += [_message("user", question, fact), _message("assistant", answer, fact)]
    rejected = None
    if set_name == "dialogue_pairs":
        rejected = [Message("assistant", [answer.format(**{kind: _another(rng, seed, kind, fact)})])]
    meta = {"set": set_name, "kind": kind, "gold": getattr(fact, kind)}
    return Sample(f"{set_name}-{index:06d}", messages, [], rejected, meta)


def _another(rng: np.random.Generator, seed: int, kind: str, fact: Fact) -> str:
    """A value that is wrong for the fact."""
    others = SEASONS if kind == "season" else [getattr(other, kind) for other in same_modality(seed, fact)]
    return pick(rng, [other for other in others if other != getattr(fact, kind)])


def _message(role: str, text: str, fact: Fact) -> Message:
    return Message("user" if role == "user" else "assistant", [text.format(**vars(fact))])
