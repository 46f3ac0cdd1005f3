"""CLIP's objective against InfoNCE written out."""

from dataclasses import replace

import pytest
import torch
from tiny import SEED, SIDE, VISION, ask, shake

from jvlm.errors import DataError, UsageError
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip
from jvlm.sample import ImageRef, Message
from jvlm.train.config import LoopConfig, OptimizerConfig
from jvlm.train.loop import train
from jvlm.train.objectives.contrastive import Contrastive, caption_ids, caption_of


def quiet(_):
    """Progress is not looked at."""


@pytest.fixture
def objective(tokenizer, caption_shards):
    def make(shards=caption_shards, batch_size=4, seed=SEED):
        processor = Processor(tokenizer, VISION)
        torch.manual_seed(0)
        clip = shake(build_clip(VISION, tokenizer.vocab_size, processor.pad, processor.end), 1, 0.03)
        return Contrastive(clip, VISION, processor, shards, batch_size, seed)

    return make


def test_the_loss_is_info_nce_in_both_directions(objective, tokenizer):
    one = objective()
    (batch,) = one.micro_batches(0)
    clip, total = one.clip, 0.0
    with torch.no_grad():
        pixels = (batch.pixels.float() / 255 - 0.5) / 0.25
        images, texts = clip.encode_image(pixels), clip.encode_text(batch.text)
        similar = torch.empty(4, 4)
        for i in range(4):
            for t in range(4):
                similar[i, t] = images[i] @ texts[t] / images[i].norm() / texts[t].norm() * clip.logit_scale.exp()
        for k in range(4):
            total -= float(similar[k, k] - similar[k].logsumexp(0)) + float(similar[k, k] - similar[:, k].logsumexp(0))
        assert float(one.loss_sum(batch)) == pytest.approx(total / 2, rel=1e-5)
    assert batch.weight == 4
    assert float(similar.std()) > 0.01


def test_pairs_belong_together(objective, caption_shards, tokenizer):
    one = objective()
    (batch,) = one.micro_batches(1)
    for pixels, text, identity in zip(batch.pixels, batch.text, batch.sample_ids, strict=True):
        sample = caption_shards.read(caption_shards.ids.index(identity))
        words = tokenizer.decode(text.tolist())  # a long caption loses its tail
        assert len(words) > 8
        assert caption_of(sample).startswith(words)
        assert (pixels.numpy() == one.processor.pixels(load_image(sample.images[0]))).all()


def test_captions_are_framed_cut_and_padded(processor):
    ids = caption_ids(processor, ["赤い丸", "とても長い説明です。" * 9], 12)
    short, long = ids.tolist()
    text = processor.tokenizer.encode("赤い丸")
    assert short == [processor.bos, *text, processor.end] + [processor.pad] * (10 - len(text))
    full = processor.tokenizer.encode("とても長い説明です。" * 9)
    assert long == [processor.bos, *full[:10], processor.end]


def test_text_is_pooled_at_its_end_mark_and_padding_does_not_count(objective, processor):
    clip = objective().clip.eval()
    ids = caption_ids(processor, ["赤い丸があります。"], VISION.text_length)
    end = ids[0].tolist().index(processor.end)
    assert end + 1 < VISION.text_length
    padded = ids.clone()
    padded[0, end + 1 :] = processor.tokenizer.vocab_size - 1  # the largest id: argmax pooling would stand there
    changed = ids.clone()
    changed[0, 1] = 100
    with torch.no_grad():
        reference = clip.encode_text(ids)
        torch.testing.assert_close(clip.encode_text(padded), reference)
        assert not torch.allclose(clip.encode_text(changed), reference)


def test_steps_are_pure_and_a_batch_never_holds_a_pair_twice(objective):
    one, again = objective(batch_size=5), objective(batch_size=5)
    batches = [one.micro_batches(step)[0] for step in range(6)]
    for step in (4, 1, 5, 0, 3, 2):
        (batch,) = again.micro_batches(step)
        assert batch.sample_ids == batches[step].sample_ids
        assert torch.equal(batch.pixels, batches[step].pixels)
        assert torch.equal(batch.text, batches[step].text)
    for batch in batches:
        assert len(set(batch.sample_ids)) == 5
    for epoch in range(3):  # 12 pairs in batches of 5: two batches an epoch
        seen = batches[2 * epoch].sample_ids + batches[2 * epoch + 1].sample_ids
        assert len(set(seen)) == 10
    assert one.fingerprint() == again.fingerprint()
    assert len({objective(batch_size=b, seed=s).fingerprint() for b in (4, 5) for s in (1, 2)}) == 4


def test_training_pulls_pairs_together(objective, tmp_path):
    one = objective(batch_size=12)
    loop = LoopConfig(steps=40, log_every=1, optimizer=OptimizerConfig(learning_rate=3e-3, warmup=3))
    with torch.no_grad():
        before = float(one.loss_sum(one.micro_batches(0)[0])) / 12
    train(one, loop, tmp_path, quiet, lambda _: None)
    one.clip.eval()
    with torch.no_grad():
        after = float(one.loss_sum(one.micro_batches(0)[0])) / 12
    assert after < before / 2


def test_the_temperature_is_held_within_the_papers_bounds(objective):
    one = objective()
    (batch,) = one.micro_batches(0)
    for start, expected in ((9.0, 100.0), (-3.0, 1.0)):
        with torch.no_grad():
            one.clip.logit_scale.fill_(start)
            one.loss_sum(batch)
        assert float(one.clip.logit_scale.exp().detach()) == pytest.approx(expected, rel=1e-3)


def test_a_bad_image_keeps_its_place_and_is_recorded(objective, tmp_path):
    good = [ask(f"s{n}", "説明してください。", [n], "赤い丸です。" * (n + 1)) for n in range(4)]
    data = good[2].images[0].read()
    good[2] = replace(good[2], images=[ImageRef(data=data[: len(data) // 2])])
    write_shards(good, tmp_path / "shards")
    (batch,) = objective(ShardReader(tmp_path / "shards")).micro_batches(0)
    assert [identity for identity, _ in batch.undecoded] == ["s2"]
    assert sorted(batch.sample_ids) == ["s0", "s1", "s3"]
    assert batch.pixels.shape == (3, 3, SIDE, SIDE)
    assert len(batch.text) == 3


def test_a_bad_image_teaches_nothing(objective, tmp_path):
    """A grey picture must not be pulled towards the caption of the picture that could not be read."""
    good = [ask(f"s{n}", "説明してください。", [n], "赤い丸です。" * (n + 1)) for n in range(4)]
    losses = []
    for caption in ("青い三角があります。", "黒い十字が右下にあります。"):
        image = ImageRef(data=good[2].images[0].read()[:200])
        bad = replace(good[2], images=[image], messages=[*good[2].messages[:1], Message("assistant", [caption])])
        write_shards([*good[:2], bad, good[3]], tmp_path / "shards")
        one = objective(ShardReader(tmp_path / "shards"))
        losses.append(float(one.loss_sum(one.micro_batches(0)[0]).detach()))
    assert losses[0] == losses[1]


def test_pairs_without_text_and_batches_too_large_are_errors(objective):
    with pytest.raises(DataError, match="without text") as caught:
        caption_of(ask("nameless", "説明してください。", [1], " "))
    assert "nameless" in str(caught.value)
    with pytest.raises(UsageError, match="a batch of 13 pairs from 12 samples"):
        objective(batch_size=13)
