"""instruct and prefer on a language model without images, from rows of one's own."""

import json

import pytest
import torch
from tiny import corpus_texts, make_language, weights

from jvlm.config import load_config
from jvlm.datasets import build_rows
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json_lines, write_text
from jvlm.images.shards import ShardReader
from jvlm.infer.likelihood import bits_per_character
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor
from jvlm.recipe import Recipe
from jvlm.stages import prefer as prefer_stage
from jvlm.stages import vision_language
from jvlm.stages.context import StageContext
from jvlm.stages.prefer import prefer
from jvlm.stages.pretrain import load_language, pretrain

ANSWERS = ["赤い丸です。", "青い星があります。", "三つです。", "右上にあります。", "緑です。", "わかりません。"]
LOOP = {"steps": 8, "checkpoint_every": 8, "log_every": 1, "optimizer": {"learning_rate": 3e-3, "warmup": 1}}
PACKING = {"row_length": 96, "rows": 4}


def turn(role, text):
    return {"role": role, "content": text}


def conversations():
    """Two turns each: what was asked, what was answered."""
    rows = []
    for number, answer in enumerate(ANSWERS):
        first = [turn("system", "短く。"), turn("user", f"{number}番の図形の色は。"), turn("assistant", answer)]
        rows.append({"messages": [*first, turn("user", "では形は。"), turn("assistant", "丸")]})
    return rows


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run folder with a language model whose weights are far from their start, and shards of one's own."""
    save_model(tmp_path / "run" / "pretrain" / "model", make_language(tokenizer), Processor(tokenizer))
    save_model(tmp_path / "run" / "instruct" / "model", make_language(tokenizer), Processor(tokenizer))
    pairs = [{"prompt": f"{n}番は。", "chosen": a, "rejected": ANSWERS[n - 1]} for n, a in enumerate(ANSWERS)]
    for name, rows in (("chat", conversations()), ("pairs", pairs)):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        build_rows(file, tmp_path / "sets" / name)
    return tmp_path / "run"


def context(run, stage, **settings):
    sets = run.parent / "sets"
    phase = {"data": [{"shards": str(sets / "chat")}], "train": ["language"], "loop": LOOP, "packing": PACKING}
    stages = {
        "pretrain": {},
        "instruct": {"phases": {"chat": phase | settings}},
        "prefer": {"shards": str(sets / "pairs"), "train": ["language"], "pairs": 3, "loop": LOOP} | settings,
    }
    stages = {name: stages[name] for name in ("pretrain", stage)}
    return StageContext(run, stage, load_config(Recipe, None, [], {"name": "t", "stages": stages}))


def test_instruct_trains_the_assistants_turns_alone(run, tokenizer, monkeypatch):
    objectives, train = [], vision_language.train

    def watched(objective, *rest, **more):
        objectives.append(objective)
        return train(objective, *rest, **more)

    monkeypatch.setattr(vision_language, "train", watched)
    figures = vision_language.instruct(context(run, "instruct"))
    assert figures["1-chat"]["samples"] == {str(run.parent / "sets" / "chat"): len(ANSWERS)}
    (objective,) = objectives
    learned = set()
    for step in range(4):
        for batch in objective.micro_batches(step):
            for labels in batch.labels.flatten().split(batch.doc_lens):
                ids = labels[labels != -100].tolist()
                if ids:
                    end = tokenizer.special["<|end|>"]
                    assert ids[-1] == end
                    first = ids.index(end)
                    learned.add((tokenizer.decode(ids[:first]), tokenizer.decode(ids[first + 1 : -1])))
    assert learned == {(answer, "丸") for answer in ANSWERS}
    before, after = (load_directory(run / name / "model").model for name in ("pretrain", "instruct"))
    assert type(after) is type(before)
    changed = [name for name, value in weights(before).items() if not torch.equal(value, weights(after)[name])]
    assert len(changed) == len(weights(before))
    losses = [record["loss"] for record in read_json_lines(run / "instruct" / "1-chat" / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.3


def log_probabilities(model, tokenizer, prompt, answer):
    """Of the answer and its end mark, by transformers' own logits."""
    special = tokenizer.special
    asked = [special["<s>"], special["<|user|>"], *tokenizer.encode(prompt)]
    asked += [special["<|end|>"], special["<|assistant|>"]]
    told = [*tokenizer.encode(answer), special["<|end|>"]]
    with torch.no_grad():
        logits = model(torch.tensor([[*asked, *told]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(asked) - 1 + i, token]) for i, token in enumerate(told))


def test_prefer_on_given_pairs_raises_their_margin(run, tokenizer):
    from transformers import LlamaForCausalLM

    prefer(context(run, "prefer", alpha=0.0))
    before, after = (LlamaForCausalLM.from_pretrained(run / name / "model") for name in ("instruct", "prefer"))
    (file,) = (run / "prefer").glob("reference-*.json")
    reference, margins = json.loads(file.read_text()), []
    pairs = ShardReader(run.parent / "sets" / "pairs")
    for number, identity in enumerate(pairs.ids):
        texts, asked = (ANSWERS[number], ANSWERS[number - 1]), f"{number}番は。"
        old, new = ([log_probabilities(m, tokenizer, asked, text) for text in texts] for m in (before, after))
        assert reference[identity] == pytest.approx(old, abs=1e-3)
        margins.append((new[0] - new[1]) - (old[0] - old[1]))
    assert sum(margin > 0 for margin in margins) >= 5
    assert sum(margins) / len(margins) > 1


def test_the_reference_is_computed_once_for_a_model_and_its_pairs(run, tokenizer, monkeypatch):
    calls = []
    compute = prefer_stage._log_probabilities
    monkeypatch.setattr(prefer_stage, "_log_probabilities", lambda *given: calls.append(1) or compute(*given))
    monkeypatch.setattr(prefer_stage, "train", lambda *_, **more: {"loss": 0.0})
    prefer(context(run, "prefer"))
    prefer(context(run, "prefer", beta=0.3))
    assert len(calls) == 1
    model = make_language(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    save_model(run / "instruct" / "model", model, Processor(tokenizer))
    prefer(context(run, "prefer"))
    assert len(calls) == 2
    assert len(list((run / "prefer").glob("reference-*.json"))) == 2


def test_what_a_language_model_alone_cannot_do_is_told(run):
    with pytest.raises(UsageError, match=r"'projector' is no part of the model.*parts: language"):
        vision_language.instruct(context(run, "instruct", train=["projector"]))
    with pytest.raises(DataError, match="not a preference pair"):
        prefer(context(run, "prefer", shards=str(run.parent / "sets" / "chat")))


def test_a_model_with_images_is_started_from_by_its_language(tmp_path, model, tokenizer):
    save_model(tmp_path / "whole", model, Processor(tokenizer))
    language, processor = load_language(tmp_path / "whole")
    assert processor.vision is None
    expected = weights(model.language)
    assert all(torch.equal(value, expected[name]) for name, value in weights(language).items())


def test_pretraining_goes_on_from_a_model_with_its_tokenizer(run, model, tokenizer):
    """At a rate of next to nothing it stays the model it was; at a real one it learns the corpus."""
    texts = corpus_texts(30)
    for name, part in (("train", texts[:24]), ("held_out", texts[24:])):
        rows = [json.dumps({"id": f"{name}{i}", "text": text, "source": "s"}) for i, text in enumerate(part)]
        write_text(run / "corpus" / "text" / f"{name}.jsonl", "\n".join(rows) + "\n")
    start = run.parent / "whole"
    save_model(start, model, Processor(tokenizer))
    found = {}
    for rate in (1e-9, 3e-3):
        loop = LOOP | {"steps": 20, "optimizer": LOOP["optimizer"] | {"learning_rate": rate}}
        stage = {"start_from": str(start), "loop": loop, "packing": PACKING, "ngram_order": None}
        recipe = load_config(Recipe, None, [], {"name": "t", "stages": {"pretrain": stage}})
        folder = run.parent / f"run-{rate}"
        (folder / "corpus").mkdir(parents=True)
        (folder / "corpus" / "text").symlink_to(run / "corpus" / "text")
        found[rate] = pretrain(StageContext(folder, "pretrain", recipe))
        after = load_directory(folder / "pretrain" / "model")
        assert after.processor.tokenizer.fingerprint == tokenizer.fingerprint
        now, start_weights = weights(after.model), weights(model.language)
        same = [torch.allclose(value, now[name], atol=1e-6) for name, value in start_weights.items()]
        assert all(same) == (rate < 1e-6)
        assert "bpc_ngram" not in found[rate]
    expected = bits_per_character(model.language, Processor(tokenizer), texts[24:])
    assert found[1e-9]["bpc_start"] == found[3e-3]["bpc_start"] == pytest.approx(expected, rel=1e-5)
    assert found[1e-9]["bpc_model"] == pytest.approx(expected, rel=1e-4)
    assert found[3e-3]["bpc_model"] < expected - 0.3
