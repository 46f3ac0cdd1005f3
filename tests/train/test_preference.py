"""Direct preference optimisation against its formula, on the numbers inference gives."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import LANGUAGE, PROJECTOR, SEED, SIDE, VISION, ask, make_model, samples

from jvlm.errors import DataError
from jvlm.images.shards import ShardReader, write_shards
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.config import TilesConfig
from jvlm.model.experts import balance_loss, router_scores
from jvlm.model.processor import Processor
from jvlm.sample import Message
from jvlm.train.config import LoopConfig, OptimizerConfig
from jvlm.train.loop import train
from jvlm.train.objectives import preference
from jvlm.train.objectives.preference import Preference, answer_log_probabilities, chosen_and_rejected, pair_batch


def pairs():
    """Preference pairs of one turn, of several turns, and on two images."""
    dialogues = [s for s in samples("instruct_train", 60) if s.messages[-1].role == "assistant" and len(s.messages) > 2]
    two = next(s for s in dialogues if len(s.images) == 2)
    chosen = [*samples("captions_train", 3), dialogues[0], two]
    assert len(dialogues[0].images) == 1
    rejected = ["赤い星があります。", "", "黒い丸です。", "わかりません。", "2枚目です。"]
    return [replace(s, rejected=[Message("assistant", [r])]) for s, r in zip(chosen, rejected, strict=True)]


@pytest.fixture(scope="module")
def pair_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "pairs"
    write_shards(pairs(), folder)
    return ShardReader(folder)


def reference_of(shards, offset=0.0):
    return {identity: [-20.0 - n + offset, -22.0 - 2 * n] for n, identity in enumerate(shards.ids)}


def objective(model, processor, shards, **changes):
    settings = {"pairs": 3, "beta": 0.3, "alpha": 0.7, "seed": SEED, "rate_scale": {}} | changes
    settings.setdefault("reference", reference_of(shards))
    return Preference(model, processor, shards, **settings)


def test_the_loss_is_the_papers_formula(processor, model, pair_shards, monkeypatch):
    one = objective(model, processor, pair_shards)
    (batch,) = one.micro_batches(0)
    sums, counts = [-9.0, -14.0, -30.5, -11.25, -3.0, -3.0], [4.0, 6.0, 10.0, 2.0, 1.0, 5.0]
    monkeypatch.setattr(preference, "answer_log_probabilities", lambda *_: (torch.tensor(sums), torch.tensor(counts)))
    reference = reference_of(pair_shards)
    expected = 0.0
    for k, identity in enumerate(batch.sample_ids[::2]):
        policy = sums[2 * k] - sums[2 * k + 1]
        base = reference[identity][0] - reference[identity][1]
        expected += -math.log(1 / (1 + math.exp(-0.3 * (policy - base)))) + 0.7 * -(sums[2 * k] / counts[2 * k])
    assert float(one.loss_sum(batch)) == pytest.approx(expected, rel=1e-6)
    assert batch.weight == 3


def test_answers_score_as_inference_scores_them(processor, model, pair_shards):
    items = [pair_shards.read(i) for i in range(len(pair_shards))]
    with torch.no_grad():
        sums, counts = answer_log_probabilities(model, pair_batch(items, processor))
    prompts = [replace(s, messages=s.messages[:-1], rejected=None) for s in items]
    choices = [[s.messages[-1].text, s.rejected[0].text] for s in items]
    expected = VisionLanguageModel(model, processor).choice_log_likelihoods(prompts, choices)
    torch.testing.assert_close(sums, torch.tensor(expected).flatten(), atol=1e-3, rtol=1e-5)
    lengths = [len(processor.tokenizer.encode(text)) + 1 for pair in choices for text in pair]
    assert counts.tolist() == lengths


def test_with_tiles_answers_score_as_inference_scores_them(tiled, model):
    items = [
        replace(ask(f"p{n}", "何ですか。", range(len(sizes)), "丸です。", sizes=sizes), rejected=[turn])
        for n, (sizes, turn) in enumerate(
            [
                ([(3 * SIDE, 2 * SIDE)], Message("assistant", ["黒い十字です。"])),
                ([(2 * SIDE, SIDE), (SIDE, SIDE), (20, 100)], Message("assistant", [""])),
                ([], Message("assistant", ["四角"])),
            ]
        )
    ]
    batch = pair_batch(items, tiled)
    assert len(batch.pixels) == 2 * (7 + 3 + 1 + 5)
    with torch.no_grad():
        sums, _ = answer_log_probabilities(model, batch)
    prompts = [replace(s, messages=s.messages[:-1], rejected=None) for s in items]
    choices = [[s.messages[-1].text, s.rejected[0].text] for s in items]
    expected = VisionLanguageModel(model, tiled).choice_log_likelihoods(prompts, choices)
    torch.testing.assert_close(sums, torch.tensor(expected).flatten(), atol=1e-3, rtol=1e-5)


def test_a_picture_in_an_answer_must_leave_the_prompt_its_tiles(tokenizer):
    large = [(3 * SIDE, 2 * SIDE)] * 2
    sample = ask("shown", "何ですか。", [0, 1], sizes=large)
    sample.messages[:] = [Message("user", [0, "何ですか。"]), Message("assistant", [1, "これです。"])]
    sample = replace(sample, rejected=[Message("assistant", ["丸"])])
    roomy, tight = (Processor(tokenizer, VISION, PROJECTOR, TilesConfig(per_image=6, per_sample=n)) for n in (12, 6))
    assert len(pair_batch([sample], roomy).pixels) == 3 * 7
    with pytest.raises(DataError, match=r"shown: an image in the answer takes tiles"):
        pair_batch([sample], tight)


def test_only_the_last_answer_counts(processor, model):
    """What stands before the last turn is no target, whether a person or the model said it."""
    (sample,) = [s for s in pairs() if len(s.messages) > 2 and len(s.images) == 1]
    batch = pair_batch([sample], processor)
    rows = batch.labels[0].split(batch.doc_lens)
    for labels, text in zip(rows, (sample.messages[-1].text, sample.rejected[0].text), strict=True):
        trained = labels[labels != -100].tolist()
        assert trained == [*processor.tokenizer.encode(text), processor.end]
    assert sum(message.role == "assistant" for message in sample.messages) > 1


def test_a_step_prefers_the_chosen_answer(processor, tokenizer, pair_shards, tmp_path):
    model = make_model(tokenizer)
    items = [pair_shards.read(i) for i in range(len(pair_shards))]

    def margins():
        with torch.no_grad():
            sums, _ = answer_log_probabilities(model, pair_batch(items, processor))
        return sums[0::2] - sums[1::2]

    before = margins()
    with torch.no_grad():
        sums, _ = answer_log_probabilities(model, pair_batch(items, processor))
    reference = {s.id: [float(sums[2 * k]), float(sums[2 * k + 1])] for k, s in enumerate(items)}
    one = objective(model, processor, pair_shards, pairs=5, reference=reference, beta=0.1, alpha=0.0)
    loop = LoopConfig(steps=6, log_every=1, optimizer=OptimizerConfig(learning_rate=3e-3, warmup=1))
    with torch.no_grad():
        start = float(one.loss_sum(one.micro_batches(0)[0])) / 5
    assert start == pytest.approx(math.log(2), rel=1e-4)  # policy and reference are one
    train(one, loop, tmp_path, lambda _: None, lambda _: None)
    model.eval()
    assert (margins() > before).all()


def test_steps_are_pure_and_run_through_every_pair(processor, model, pair_shards):
    one, again = (objective(model, processor, pair_shards) for _ in range(2))
    ids = [one.micro_batches(step)[0].sample_ids for step in range(5)]
    for step in (3, 0, 4, 1, 2):
        (batch,) = again.micro_batches(step)
        assert batch.sample_ids == ids[step]
        order = batch.sample_ids[::2]
        assert batch.reference.tolist() == [reference_of(pair_shards)[identity] for identity in order]
    stream = [identity for step in ids for identity in step[::2]]
    for epoch in range(3):
        assert sorted(stream[5 * epoch : 5 * epoch + 5]) == sorted(pair_shards.ids)
    settings = [{}, {"pairs": 2}, {"beta": 0.2}, {"alpha": 0.1}, {"seed": 1}]
    prints = {objective(model, processor, pair_shards, **changes).fingerprint() for changes in settings}
    assert len(prints) == len(settings)


def test_what_is_no_pair_is_refused_with_its_id(processor):
    for sample in (ask("one-sided", "何色ですか。", [1], "赤です。"), ask("unanswered", "何色ですか。", [1])):
        with pytest.raises(DataError, match="not a preference pair") as caught:
            chosen_and_rejected(sample)
        assert sample.id in str(caught.value)


def test_a_mixture_is_kept_in_balance_while_it_learns_preferences(tokenizer, processor, pair_shards):
    shape = LANGUAGE.model_copy(update={"num_experts": 4, "experts_per_token": 1})
    model = make_model(tokenizer, shape)
    one = objective(model, processor, pair_shards)
    (batch,) = one.micro_batches(0)
    config, found = model.language.config, []
    for balance, router_z in ((0.0, 0.0), (0.5, 0.25)):
        config.router_aux_loss_coef, config.router_z_loss_coef = balance, router_z
        found.append(float(one.loss_sum(batch).detach()))
    with torch.no_grad(), router_scores(model) as scores:
        answer_log_probabilities(model, batch.packed)
        real = torch.ones_like(batch.packed.input_ids, dtype=torch.bool)
        expected = batch.weight * float(balance_loss(config, scores, real))
    assert found[1] - found[0] == pytest.approx(expected, rel=1e-3)
    assert len(one.routers.take()) == shape.num_layers
