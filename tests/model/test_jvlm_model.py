"""The composition: image features stand exactly where the image tokens are, and nothing leaks along a row."""

import numpy as np
import pytest
import torch
from tiny import SIDE, ask, encoded_image, samples

from jvlm.images.load import load_image
from jvlm.model.packed import Example, pack


def example(processor, sample):
    encoded = processor.encode(sample.messages)
    inputs, labels = encoded.shifted(sample.id)
    pixels = [processor.pixels(load_image(sample.images[image])) for image in encoded.images]
    return Example(sample.id, inputs, labels, pixels)


def forward(model, processor, rows, row_length):
    batch = pack(rows, row_length, processor.pad)
    with torch.no_grad():
        hidden = model(batch.input_ids, batch.position_ids, batch.doc_lens, batch.pixels)
        return model.language.lm_head(hidden)


def alone(model, processor, one):
    return forward(model, processor, [[one]], len(one.inputs))[0]


def test_packed_rows_equal_each_sample_alone(model, processor):
    chosen = [s for s in samples("instruct_train", 60) if len(s.images) == 2][:2] + samples("captions_train", 3)
    one, two, three, four, five = examples = [example(processor, sample) for sample in chosen]
    assert len(one.pixels) == len(two.pixels) == 2
    text_only = example(processor, ask("text", "空は何色ですか。", answer="青です。"))
    rows = [[three, text_only, one], [two, four, five]]
    row_length = max(sum(len(e.inputs) for e in row) for row in rows) + 3
    logits = forward(model, processor, rows, row_length)
    for r, row in enumerate(rows):
        at = 0
        for document in row:
            stop = at + len(document.inputs)
            expected = alone(model, processor, document)
            torch.testing.assert_close(logits[r, at:stop], expected, atol=1e-5, rtol=1e-5)
            at = stop
    other = five._replace(pixels=[255 - five.pixels[0]])
    changed = forward(model, processor, [[three, text_only, one], [two, four, other]], row_length)
    stop = len(two.inputs) + len(four.inputs)
    assert torch.equal(changed[0], logits[0])
    assert torch.equal(changed[1, :stop], logits[1, :stop])
    assert not torch.allclose(changed[1, stop:], logits[1, stop:])
    assert len(examples) == 5


def test_changing_an_image_changes_what_comes_after_and_nothing_before(model, processor):
    sample = next(s for s in samples("instruct_train", 200) if s.meta["kind"] == "page")
    first = example(processor, sample)
    places = np.flatnonzero(np.array(first.inputs) == processor.image_token)
    assert len(places) == 2 * processor.num_image_tokens
    logits = alone(model, processor, first)
    for number in (0, 1):
        pixels = list(first.pixels)
        pixels[number] = 255 - pixels[number]
        changed = alone(model, processor, first._replace(pixels=pixels))
        begin = int(places[number * processor.num_image_tokens])
        assert begin > 1
        assert torch.equal(changed[:begin], logits[:begin])
        differs = (changed != logits).any(-1)
        assert differs[begin:].all()


def test_images_go_to_their_own_places(model, processor):
    """Two images exchanged are two images exchanged: each place gets the features of its own image."""
    two = example(processor, ask("two", "違いは何ですか。", [1, 2], "色です。"))
    exchanged = example(processor, ask("two", "違いは何ですか。", [2, 1], "色です。"))
    ids = torch.tensor([two.inputs])
    with torch.no_grad():
        separate = [model.image_features(torch.tensor(p[None]))[0] for p in two.pixels]
        together = model.embed(ids, model.image_features(torch.from_numpy(np.stack(two.pixels))))[0]
        swapped = model.embed(ids, model.image_features(torch.from_numpy(np.stack(exchanged.pixels))))[0]
    places = ids[0] == processor.image_token
    torch.testing.assert_close(together[places], torch.cat(separate), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(swapped[places], torch.cat(separate[::-1]), atol=1e-6, rtol=1e-5)
    assert torch.equal(together[~places], model.language.get_input_embeddings()(ids)[0][~places])


@pytest.mark.parametrize("images", [0, 1, 3])
def test_a_wrong_number_of_image_tokens_is_an_error(model, processor, images):
    encoded = processor.encode(ask("x", "何ですか。", [1, 2], "丸です。").messages)
    ids = torch.tensor([encoded.ids])
    features = model.image_features(torch.zeros(images, 3, SIDE, SIDE, dtype=torch.uint8)) if images else None
    with pytest.raises(ValueError, match=f"8 image tokens for {4 * images} image features"):
        model.embed(ids, features)


def test_pixel_shuffle_folds_neighbours_and_keeps_reading_order(model):
    """Token (row, column) of the projector comes from its own 2 × 2 block of patches and from no other."""
    grid, width = model.vision_config.grid, model.vision_config.width
    features = torch.randn(1, grid * grid, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.projector(features)[0]
        for patch in range(grid * grid):
            changed = features.clone()
            changed[0, patch] += torch.linspace(-3, 3, width)
            moved = (model.projector(changed)[0] != before).any(-1)
            row, column = divmod(patch, grid)
            expected = (row // 2) * (grid // 2) + column // 2
            assert moved.nonzero().flatten().tolist() == [expected]


def test_the_tower_sees_normalised_pixels_in_reading_order(model):
    pixels = torch.from_numpy(np.stack([np.zeros((3, SIDE, SIDE), np.uint8), np.full((3, SIDE, SIDE), 255, np.uint8)]))
    assert model.tower.normalise(pixels).amin() == pytest.approx(-2)
    assert model.tower.normalise(pixels).amax() == pytest.approx(2)
    config = model.vision_config
    with torch.no_grad():
        features = model.tower(pixels)
    assert features.shape == (2, config.grid**2, config.width)
    assert load_image(encoded_image(0)).size == (SIDE, SIDE)
