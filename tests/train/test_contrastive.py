"""CLIP's objective against InfoNCE written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from PIL import Image
from tiny import SEED, SIDE, VISION, ask, shake

from jvlm.errors import DataError, UsageError
from jvlm.images.crop import cropped
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.contrast import caption_ids
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip
from jvlm.sample import ImageRef, Message
from jvlm.train.config import LoopConfig, OptimizerConfig
from jvlm.train.loop import train
from jvlm.train.objectives.contrastive import Contrastive, caption_of
from jvlm.train.world import World


def quiet(_):
    """Progress is not looked at."""


@pytest.fixture
def objective(tokenizer, caption_shards):
    def make(shards=caption_shards, batch_size=4, seed=SEED, sigmoid=False, accumulation=1, crop=1.0):
        processor = Processor(tokenizer, VISION)
        torch.manual_seed(0)
        clip = shake(build_clip(VISION, tokenizer.vocab_size, processor.pad, processor.end, sigmoid), 1, 0.03)
        return Contrastive(clip, VISION, processor, shards, batch_size, seed, accumulation, crop=crop)

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


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2, 3, 7])
def test_loss_and_gradients_of_a_batch_are_open_clips_in_any_number_of_pieces(objective, sigmoid, accumulation):
    one = objective(batch_size=7, sigmoid=sigmoid, accumulation=accumulation)
    other = objective(batch_size=7, sigmoid=sigmoid)
    (batch,) = one.micro_batches(0)
    ours = one.loss_sum(batch) / batch.weight
    ours.backward()
    clip = other.clip
    pixels = (batch.pixels.float() / 255 - 0.5) / 0.25
    images, texts = clip.encode_image(pixels, normalize=True), clip.encode_text(batch.text, normalize=True)
    scale = clip.logit_scale.exp()
    theirs = SigLipLoss()(images, texts, scale, clip.logit_bias) if sigmoid else ClipLoss()(images, texts, scale)
    theirs.backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    references = dict(clip.named_parameters())
    assert ("logit_bias" in references) is sigmoid
    for name, parameter in one.clip.named_parameters():
        torch.testing.assert_close(parameter.grad, references[name].grad, atol=1e-5, rtol=1e-5)


def test_the_default_is_computed_as_by_open_clip_to_the_bit(objective):
    one, other = objective(batch_size=12), objective(batch_size=12)
    (batch,) = one.micro_batches(0)
    ours = one.loss_sum(batch)
    clip = other.clip
    images = clip.encode_image(other.normalise(batch.pixels), normalize=True)
    theirs = ClipLoss()(images, clip.encode_text(batch.text, normalize=True), clip.logit_scale.exp()) * 12
    assert torch.equal(ours, theirs)
    ours.backward()
    theirs.backward()
    references = dict(clip.named_parameters())
    assert all(torch.equal(p.grad, references[name].grad) for name, p in one.clip.named_parameters())


def test_the_sigmoid_loss_begins_with_a_scale_and_bias_of_its_own(tokenizer):
    clip = build_clip(VISION, tokenizer.vocab_size, 3, 8, sigmoid=True)
    assert float(clip.logit_scale.detach().exp()) == pytest.approx(10)
    assert float(clip.logit_bias.detach()) == -10
    assert build_clip(VISION, tokenizer.vocab_size, 3, 8).logit_bias is None


def test_the_loss_is_part_of_the_fingerprint(objective):
    assert objective().fingerprint() != objective(sigmoid=True).fingerprint()
    assert objective().fingerprint() == objective(accumulation=2).fingerprint()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_processes_share_the_batch_of_one(objective, size):
    one = objective(batch_size=7)
    (whole,) = one.micro_batches(1)
    shares = [one.micro_batches(1, World(rank, size))[0] for rank in range(size)]
    for rank, share in enumerate(shares):
        assert share.sample_ids == whole.sample_ids[rank::size]
        assert torch.equal(share.pixels, whole.pixels[rank::size])
        assert torch.equal(share.text, whole.text[rank::size])
    assert sum(map(one.flops, shares)) == pytest.approx(one.flops(whole))


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


def test_without_a_single_image_a_grey_one_is_encoded_and_counts_nothing(objective, tmp_path):
    samples = [ask(f"s{n}", "説明してください。", [n], "赤い丸です。") for n in range(4)]
    bad = [replace(sample, images=[ImageRef(data=sample.images[0].read()[:200])]) for sample in samples]
    write_shards(bad, tmp_path / "shards")
    one = objective(ShardReader(tmp_path / "shards"))
    (batch,) = one.micro_batches(0)
    assert (batch.weight, len(batch.undecoded)) == (0, 4)
    assert np.unique(batch.pixels).tolist() == [127]
    loss = one.loss_sum(batch)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(p.grad.abs().max()) == 0 for p in one.clip.parameters() if p.grad is not None)
    assert one.clip.visual.conv1.weight.grad is not None


def test_pairs_without_text_and_batches_too_large_are_errors(objective):
    with pytest.raises(DataError, match="without text") as caught:
        caption_of(ask("nameless", "説明してください。", [1], " "))
    assert "nameless" in str(caught.value)
    with pytest.raises(UsageError, match="a batch of 13 pairs from 12 samples"):
        objective(batch_size=13)


def test_crops_are_parts_of_the_picture_at_random_and_the_same_each_time(objective):
    gradient = np.stack(np.meshgrid(np.arange(200), np.arange(100)), axis=-1).astype(np.uint8)  # says where a pixel was
    image = Image.fromarray(np.concatenate([gradient, gradient[..., :1]], axis=-1))
    shares, corners = [], set()
    for number in range(300):
        part = np.asarray(cropped(image, 0.5, (SEED, 0, number)))
        (left, top), (height, width) = part[0, 0, :2].tolist(), part.shape[:2]
        assert np.array_equal(part, np.asarray(image)[top : top + height, left : left + width])  # unscaled, not flipped
        shares.append(height * width / 20_000)
        corners.add((left, top))
        assert width / height == pytest.approx(2, rel=0.03)
    assert min(shares) > 0.48
    assert max(shares) > 0.97
    assert np.mean(shares) == pytest.approx(0.75, abs=0.03)
    assert len(corners) > 150
    assert cropped(Image.new("RGB", (1, 1)), 0.5, (0,)).size == (1, 1)

    whole, one, again = objective(crop=1.0), objective(crop=0.5), objective(crop=0.5)
    pixels = [each.micro_batches(0)[0].pixels for each in (whole, one, again)]
    assert torch.equal(pixels[1], pixels[2])
    assert not torch.equal(pixels[0], pixels[1])
    assert len({each.fingerprint() for each in (whole, one)}) == 2
