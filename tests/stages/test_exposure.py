"""The steps that saw a record, as the batches of the training hold them."""

import json
from collections import defaultdict

import pytest
import yaml
from tiny import PROJECTOR, VISION, corpus_texts, make_language, make_model, samples

from jvlm.errors import DataError
from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip
from jvlm.stages.exposure import run_records
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.train.config import PackingConfig
from jvlm.train.objectives.contrastive import Contrastive
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import ImageSamples, Mixture, PackedRows, TokenDocuments

PACKING = PackingConfig(row_length=200, rows=2)
PRETRAIN_STEPS, CLIP_STEPS, ALIGN_STEPS, PAIRS = 40, 5, 12, 4


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run of three stages, as they leave it; one document stands twice in the corpus, as weight 2 writes it."""
    run, processor = tmp_path / "run", Processor(tokenizer)
    texts = corpus_texts(40)
    documents = [Document(f"d{n}", text, "toy", "CC0") for n, text in enumerate(texts)]
    documents.insert(8, documents[7])
    rows = [json.dumps({name: getattr(document, name) for name in Document.__slots__}) for document in documents]
    (run / "corpus" / "text").mkdir(parents=True)
    (run / "corpus" / "text" / "train.jsonl").write_text("\n".join(rows) + "\n")
    for folder in ("pretrain/tokens", "align/tokens-general"):
        write_token_shards(documents, tokenizer, run / folder)
    write_shards(samples("captions_train", 14), run / "data" / "shards" / "captions_train")
    tokenizer.save(run / "tokenizer" / "model")
    save_model(run / "pretrain" / "model", make_language(tokenizer), processor)
    seeing = Processor(tokenizer, VISION, PROJECTOR)
    save_model(run / "clip" / "model", build_clip(VISION, tokenizer.vocab_size, 3, 8), Processor(tokenizer, VISION))
    save_model(run / "align" / "model", make_model(tokenizer), seeing)
    for stage in ("pretrain", "clip", "align"):
        (run / stage / "done.json").write_text("{}")
    return run


def write_recipe(run, seed):
    packing = PACKING.model_dump()
    data = [{"shards": "captions_train"}, {"text": "general", "repeat": 0.5}]
    stages = {
        "pretrain": {"packing": packing, "loop": {"steps": PRETRAIN_STEPS}},
        "clip": {"batch_size": PAIRS, "source_block": 3, "loop": {"steps": CLIP_STEPS}},
        "align": {"data": data, "packing": packing, "loop": {"steps": ALIGN_STEPS}},
    }
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "run", "seed": seed, "stages": stages}))


def batches(run, seed, tokenizer, stage):
    """The sample ids of every step, from what the stage's objective gives its loop."""
    if stage == "pretrain":
        processor = Processor(tokenizer)
        rows = PackedRows(TokenDocuments(TokenShards(run / "pretrain" / "tokens"), processor), 200, seed, processor.pad)
        objective, steps = NextToken(make_language(tokenizer), rows, PACKING), PRETRAIN_STEPS
    elif stage == "clip":
        processor = Processor(tokenizer, VISION)
        clip = build_clip(VISION, tokenizer.vocab_size, 3, 8)
        shards = ShardReader(run / "data" / "shards" / "captions_train")
        objective, steps = Contrastive(clip, VISION, processor, shards, PAIRS, seed, source_block=3), CLIP_STEPS
    else:
        processor = Processor(tokenizer, VISION, PROJECTOR)
        tokens = TokenDocuments(TokenShards(run / "align" / "tokens-general"), processor, max_length=200)
        images = ImageSamples(ShardReader(run / "data" / "shards" / "captions_train"), processor)
        rows = PackedRows(Mixture([images, tokens], [1, 0.5]), 200, seed, processor.pad)
        objective, steps = NextToken(make_model(tokenizer), rows, PACKING), ALIGN_STEPS
    for step in range(steps):
        for batch in objective.micro_batches(step):
            yield from ((step, name) for name in batch.sample_ids)


def from_batches(run, seed, tokenizer):
    """{record id: {stage: (first, last, times)}}; of a document that stands twice, both together."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    for stage in ("pretrain", "clip", "align"):
        for step, name in batches(run, seed, tokenizer, stage):
            identity = f"captions_train/{name}"
            if name.startswith("document-"):
                number = int(name.removeprefix("document-"))
                identity = f"d{number if number < 8 else number - 1}"
            found[identity][stage][name].add(step)
    return {
        identity: {
            stage: (
                min(min(steps) for steps in copies.values()),
                max(max(steps) for steps in copies.values()),
                sum(map(len, copies.values())),
            )
            for stage, copies in stages.items()
        }
        for identity, stages in found.items()
    }


def told(run):
    return {
        record.id: {seen.stage: (seen.first, seen.last, seen.times) for seen in record.seen}
        for record in run_records(run)
    }


def test_steps_are_those_of_the_batches_and_follow_the_seed(run, tokenizer):
    accounts = []
    for seed in (7, 8):
        write_recipe(run, seed)
        accounts.append(told(run))
        assert accounts[-1] == from_batches(run, seed, tokenizer)
    assert accounts[0] != accounts[1]
    stages = [set(stages) for stages in accounts[0].values()]
    assert {"pretrain", "align"} in stages
    assert {"clip", "align"} in stages
    assert max(times for seen in accounts[0].values() for *_, times in seen.values()) >= 3
    assert len(accounts[0]) < 40 + 14 + 1 or all(stages)


def test_records_say_what_they_are(run):
    write_recipe(run, 7)
    records = {record.id: record for record in run_records(run)}
    document = next(record for record in records.values() if record.id.startswith("d"))
    assert (document.source, document.licence) == ("toy", "CC0")
    assert document.text == corpus_texts(40)[int(document.id[1:])]
    caption = next(record for record in records.values() if record.id.startswith("captions_train/"))
    assert len(caption.images) == 1
    assert caption.text


def test_a_stage_that_is_not_done_is_left_out(run):
    write_recipe(run, 7)
    (run / "align" / "done.json").unlink()
    assert {stage for seen in told(run).values() for stage in seen} == {"pretrain", "clip"}
    for stage in ("pretrain", "clip"):
        (run / stage / "done.json").unlink()
    with pytest.raises(DataError, match="no training stage"):
        told(run)


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: [*rows, rows[0]], lambda rows: rows[::-1]])
def test_text_that_was_built_again_is_refused(run, change):
    write_recipe(run, 7)
    file = run / "corpus" / "text" / "train.jsonl"
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")
    with pytest.raises(DataError, match="not the documents that were trained on"):
        told(run)
