"""The order of training, inverted."""

from collections import Counter

import pytest
import yaml
from tiny import SEED, corpus_texts, make_language

from jvlm.errors import DataError, UsageError
from jvlm.stages.seen import seen_in_pretraining
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.train.config import PackingConfig, TextPhase
from jvlm.train.curriculum import Curriculum, sightings, text_curriculum
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments

STEPS, PACKING = 9, PackingConfig(row_length=120, rows=2)


@pytest.fixture
def shards(tmp_path, tokenizer):
    texts = [*corpus_texts(40), "".join(corpus_texts(12))]  # the last one spans rows and steps
    documents = [Document(f"book/{n}", text, "book") for n, text in enumerate(texts)]
    write_token_shards(documents, tokenizer, tmp_path / "run" / "pretrain" / "tokens")
    return TokenShards(tmp_path / "run" / "pretrain" / "tokens")


def test_the_inverse_is_what_the_batches_hold(shards, processor, tokenizer):
    """Read from the batches that training is given: sample ids and lengths, step by step."""
    documents = TokenDocuments(shards, processor)
    rows = Curriculum([PackedRows(documents, PACKING.row_length, SEED, processor.pad)], [0])
    objective = NextToken(make_language(tokenizer), rows, PACKING)
    held: dict[str, Counter] = {f"document-{n}": Counter() for n in range(shards.num_documents)}
    for step in range(STEPS):
        for batch in objective.micro_batches(step):
            for name, length in zip(batch.sample_ids, (n for n in batch.doc_lens if n), strict=False):
                held[name][step] += length
    seen = {}
    for number in range(shards.num_documents):
        found: Counter = Counter()
        for sighting in sightings(rows, {number}, PACKING.rows, STEPS):
            found[sighting.step] += sighting.tokens
        seen[f"document-{number}"] = found
    assert {name: set(steps) for name, steps in held.items()} == {name: set(steps) for name, steps in seen.items()}
    assert max(len(steps) for steps in seen.values()) >= 3
    assert len(rows.phases[0]._ends) >= 1


def test_a_run_tells_when_it_saw_a_document(shards, tokenizer, tmp_path, processor):
    run = tmp_path / "run"
    tokenizer.save(run / "tokenizer" / "model")
    stages = {"pretrain": {"packing": PACKING.model_dump(), "loop": {"steps": STEPS}}}
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "run", "seed": SEED, "stages": stages}))
    rows = Curriculum([PackedRows(TokenDocuments(shards, processor), PACKING.row_length, SEED, processor.pad)], [0])
    for number in (0, 7, 40):
        assert seen_in_pretraining(run, f"book/{number}") == sightings(rows, {number}, PACKING.rows, STEPS)
    with pytest.raises(DataError, match=r"no such document.*book/0"):
        seen_in_pretraining(run, "book/99")
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "run", "stages": {}}))
    with pytest.raises(DataError, match="no pretraining"):
        seen_in_pretraining(run, "book/1")


@pytest.fixture
def three_sources(tmp_path, tokenizer):
    names = ("web", "web", "book", "quiz")
    documents = [Document(f"{n}", text, names[n % 4]) for n, text in enumerate(corpus_texts(60))]
    write_token_shards(documents, tokenizer, tmp_path / "tokens")
    return TokenShards(tmp_path / "tokens")


def phased(shards, processor, steps=40, first=15):
    begin = first * PACKING.rows * PACKING.row_length + 100
    phases = [TextPhase(sources={"web": 1, "book": 2}), TextPhase(from_token=max(begin, 0), sources={"quiz": 1})]
    return text_curriculum(phases, PACKING, steps, shards, processor, SEED)


def test_each_phase_reads_its_own_sources(three_sources, processor):
    """By what the batches hold, not by the plan: the last phase is of quiz alone, the first has none of it."""
    rows = phased(three_sources, processor, steps=220, first=200)
    sources: list[Counter] = [Counter(), Counter()]
    for step in range(220):
        batch = rows.batch([2 * step, 2 * step + 1])
        for name, length in zip(batch.sample_ids, (n for n in batch.doc_lens if n), strict=False):
            source = three_sources.identity(int(name.removeprefix("document-")))["source"]
            sources[step >= 200][source] += length
    assert set(sources[0]) == {"web", "book"}
    assert set(sources[1]) == {"quiz"}
    lengths = three_sources.lengths + 1
    once = {name: int(lengths[three_sources.documents_of(name)].sum()) for name in ("web", "book")}
    ratio = (sources[0]["book"] / once["book"]) / (sources[0]["web"] / once["web"])
    assert 1.7 < ratio < 2.3  # twice an epoch; the last epoch is not whole


def test_the_inverse_holds_through_phases(three_sources, processor):
    rows = phased(three_sources, processor)
    quiz = {int(n) for n in three_sources.documents_of("quiz")}
    found = sightings(rows, quiz, PACKING.rows, 40)
    assert min(sighting.step for sighting in found) == 15
    assert sum(s.tokens for s in found) > 24 * PACKING.rows * PACKING.row_length * 0.9


def test_phases_that_cannot_be_are_refused(three_sources, processor):
    with pytest.raises(UsageError, match="begins at step 15"):
        phased(three_sources, processor, steps=15)
    with pytest.raises(UsageError, match="after the last"):
        phased(three_sources, processor, first=-0.4)
    with pytest.raises(DataError, match=r"no document of source 'news'.*book, quiz, web"):
        TokenDocuments(three_sources, processor, source="news")


def test_another_beginning_is_another_training(three_sources, processor):
    assert phased(three_sources, processor).fingerprint != phased(three_sources, processor, first=16).fingerprint
