"""The composition: image features stand exactly where the image tokens are, and nothing leaks along a row."""

import numpy as np
import pytest
import torch
from tiny import PROJECTOR, SIDE, VISION, ask, encoded_image, make_language, samples, weights

from jvlm.images.load import load_image
from jvlm.model.jvlm import JvlmModel
from jvlm.model.packed import Example, pack
from jvlm.model.projector import build_projector
from jvlm.model.vision import build_tower


def example(processor, sample):
    encoded = processor.encode_sample(sample)
    inputs, labels = encoded.shifted(sample.id)
    shown = zip(encoded.images, encoded.grids, strict=True)
    pixels = [processor.pixels(load_image(sample.images[image]), grid) for image, grid in shown]
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


def test_packed_rows_of_tiles_equal_each_sample_alone(model, tiled):
    one, two, three = (
        example(tiled, ask(f"s{n}", "違いは何ですか。", range(len(sizes)), "色です。", sizes=sizes))
        for n, sizes in enumerate(
            [[(90, 60), (20, 20)], [(33, 160)], [(64, 64), (64, 32), (10, 33)]],
        )
    )
    assert [len(p) for e in (one, two, three) for p in e.pixels] == [7, 1, 6, 5, 3, 3]
    text_only = example(tiled, ask("text", "空は何色ですか。", answer="青です。"))
    rows = [[three, text_only], [one, two]]
    row_length = max(sum(len(e.inputs) for e in row) for row in rows) + 2
    logits = forward(model, tiled, rows, row_length)
    for r, row in enumerate(rows):
        at = 0
        for document in row:
            stop = at + len(document.inputs)
            torch.testing.assert_close(logits[r, at:stop], alone(model, tiled, document), atol=1e-5, rtol=1e-5)
            at = stop
    pixels = two.pixels[0].copy()
    pixels[-1] = 255 - pixels[-1]  # the last tile of the last image
    changed = forward(model, tiled, [rows[0], [one, two._replace(pixels=[pixels])]], row_length)
    stop = len(one.inputs)
    assert torch.equal(changed[0], logits[0])
    assert torch.equal(changed[1, :stop], logits[1, :stop])
    assert not torch.allclose(changed[1, stop:], logits[1, stop:])


def test_a_tile_changes_what_comes_after_it_and_nothing_before(model, tiled):
    sample = ask("tiles", "何ですか。", [1], "丸です。", sizes=[(3 * SIDE, 2 * SIDE)])
    first = example(tiled, sample)
    (views,) = first.pixels
    number = tiled.num_image_tokens
    places = np.flatnonzero(np.array(first.inputs) == tiled.image_token).reshape(-1, number)
    assert len(places) == len(views) == 7
    logits = alone(model, tiled, first)
    for view in range(7):
        pixels = views.copy()
        pixels[view] = 255 - pixels[view]
        changed = alone(model, tiled, first._replace(pixels=[pixels]))
        begin = int(places[view][0])
        assert torch.equal(changed[:begin], logits[:begin])
        assert (changed != logits).any(-1)[begin:].all()


def test_marks_have_embeddings_of_their_own(model, tiled):
    """In the place of the three marks stand the marks' own rows; the language model's table is not asked for them."""
    encoded = tiled.encode_sample(ask("x", "何ですか。", [1, 2], sizes=[(3 * SIDE, 2 * SIDE), (SIDE, 9)]))
    ids = torch.tensor([encoded.ids])
    with torch.no_grad():
        embeddings = model.embed_tokens(ids)[0]
        table = model.language.get_input_embeddings().weight
        for number, mark in enumerate(tiled.image_ids.marks):
            places = ids[0] == mark
            assert int(places.sum()) == 2  # two images, one of them with two rows of tiles
            assert (embeddings[places] == model.markers.weight[number]).all()
            assert not torch.allclose(model.markers.weight[number], table[mark])
        others = ~torch.isin(ids[0], torch.tensor(tiled.image_ids.marks))
        assert torch.equal(embeddings[others], table[ids[0][others]])
        assert torch.equal(model.embed_tokens(ids[:, :0]), embeddings[None, :0])


def test_marks_begin_as_the_language_models_own(tokenizer, tiled):
    """A model that is given eyes reads them as before, and its random numbers do not depend on them."""
    language = make_language(tokenizer)
    torch.manual_seed(1)
    model = JvlmModel(language, build_tower(VISION), PROJECTOR, tiled.image_ids)
    after = torch.rand(1)
    ids = torch.arange(tokenizer.vocab_size)[None]
    with torch.no_grad():
        assert torch.equal(model.embed_tokens(ids), language.get_input_embeddings()(ids))
        model.markers.weight.zero_()
        assert language.get_input_embeddings().weight[list(tiled.image_ids.marks)].abs().min() > 0
    torch.manual_seed(1)
    build_tower(VISION)
    build_projector(PROJECTOR, VISION, language.config.hidden_size)
    assert torch.equal(torch.rand(1), after)
    assert "markers.weight" in weights(model)


def test_changing_an_image_changes_what_comes_after_and_nothing_before(model, processor):
    sample = next(s for s in samples("instruct_train", 200) if s.meta["kind"] == "page")
    first = example(processor, sample)
    places = np.flatnonzero(np.array(first.inputs) == processor.image_token)
    assert len(places) == 2 * processor.num_image_tokens
    logits = alone(model, processor, first)
    for number in (0, 1):
        pixels = list(first.pixels)
        assert pixels[number].shape == (1, 3, SIDE, SIDE)
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
        separate = [model.image_features(torch.tensor(p))[0] for p in two.pixels]
        together = model.embed(ids, model.image_features(torch.from_numpy(np.concatenate(two.pixels))))[0]
        swapped = model.embed(ids, model.image_features(torch.from_numpy(np.concatenate(exchanged.pixels))))[0]
    places = ids[0] == processor.image_token
    torch.testing.assert_close(together[places], torch.cat(separate), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(swapped[places], torch.cat(separate[::-1]), atol=1e-6, rtol=1e-5)
    assert torch.equal(together[~places], model.embed_tokens(ids)[0][~places])


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
