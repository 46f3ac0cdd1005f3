"""The order of training, inverted."""

from collections import Counter

import pytest
import yaml
from tiny import SEED, corpus_texts, make_language

from jvlm.errors import DataError
from jvlm.stages.seen import seen_in_pretraining
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.train.config import PackingConfig
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.seen import sightings
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
    objective = NextToken(
        make_language(tokenizer), PackedRows(documents, PACKING.row_length, SEED, processor.pad), PACKING
    )
    held: dict[str, Counter] = {f"document-{n}": Counter() for n in range(shards.num_documents)}
    for step in range(STEPS):
        for batch in objective.micro_batches(step):
            for name, length in zip(batch.sample_ids, (n for n in batch.doc_lens if n), strict=False):
                held[name][step] += length
    seen = {}
    for number in range(shards.num_documents):
        found: Counter = Counter()
        for sighting in sightings(objective.rows, {number}, PACKING.rows, STEPS):
            found[sighting.step] += sighting.tokens
        seen[f"document-{number}"] = found
    assert {name: set(steps) for name, steps in held.items()} == {name: set(steps) for name, steps in seen.items()}
    assert max(len(steps) for steps in seen.values()) >= 3
    assert len(objective.rows._ends) >= 1


def test_a_run_tells_when_it_saw_a_document(shards, tokenizer, tmp_path, processor):
    run = tmp_path / "run"
    tokenizer.save(run / "tokenizer" / "model")
    stages = {"pretrain": {"packing": PACKING.model_dump(), "loop": {"steps": STEPS}}}
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "run", "seed": SEED, "stages": stages}))
    rows = PackedRows(TokenDocuments(shards, processor), PACKING.row_length, SEED, processor.pad)
    for number in (0, 7, 40):
        assert seen_in_pretraining(run, f"book/{number}") == sightings(rows, {number}, PACKING.rows, STEPS)
    with pytest.raises(DataError, match=r"no such document.*book/0"):
        seen_in_pretraining(run, "book/99")
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "run", "stages": {}}))
    with pytest.raises(DataError, match="no pretraining"):
        seen_in_pretraining(run, "book/1")
