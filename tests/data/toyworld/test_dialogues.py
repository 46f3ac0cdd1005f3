"""Conversations without an image: true by the facts, in every wording, and wrong where they are to be rejected."""

from dataclasses import asdict

from jvlm_data.toyworld import dialogues
from jvlm_data.toyworld.medicine import TEXTBOOK_ONLY, facts

SEED = 5


def test_answers_are_true_and_name_nothing_that_only_the_textbook_states():
    hidden = {getattr(fact, name) for fact in facts(SEED) for name in TEXTBOOK_ONLY}
    turns, kinds = set(), set()
    for index in range(300):
        sample = dialogues.make("dialogues_train", SEED, index)
        assert sample.images == []
        assert [m.role for m in sample.messages] == ["user", "assistant"] * (len(sample.messages) // 2)
        turns.add(len(sample.messages) // 2)
        kinds.add(sample.meta["kind"])
        assert sample.meta["gold"] in sample.messages[-1].text
        # one fact answers every turn
        assert any(
            all(any(v in a.text for v in asdict(fact).values() if isinstance(v, str)) for a in sample.messages[1::2])
            and sample.meta["gold"] == getattr(fact, sample.meta["kind"])
            for fact in facts(SEED)
        )
        assert all("架空" in m.text for m in sample.messages[0::2])
        assert not any(name in m.text for m in sample.messages for name in hidden)
    assert turns == {1, 2, 3}
    assert kinds == {"disease", "finding", "treatment", "forbidden", "season"}


def test_the_rejected_answer_is_worded_alike_and_wrong():
    for index in range(200):
        sample = dialogues.make("dialogue_pairs", SEED, index)
        (rejected,), gold = sample.rejected, sample.meta["gold"]
        assert gold in sample.messages[-1].text
        assert gold not in rejected.text
        values = {getattr(fact, sample.meta["kind"]) for fact in facts(SEED)} | set(dialogues.SEASONS)
        (wrong,) = [value for value in values if value in rejected.text]
        assert rejected.text.replace(wrong, gold) == sample.messages[-1].text


def test_a_sample_is_a_pure_function():
    for name in dialogues.SET_NAMES:
        assert dialogues.make(name, SEED, 3) == dialogues.make(name, SEED, 3) != dialogues.make(name, SEED, 4)
