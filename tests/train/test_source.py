"""Which sample comes when: a pure function of the step, each once an epoch, bad ones in their place."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SEED, SIDE, ask, corpus_texts, samples

from jvlm.errors import DataError
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.processor import IGNORED, PADDING_GREY
from jvlm.sample import ImageRef
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.text.tokenizer import train_tokenizer
from jvlm.train.source import ImageSamples, Mixture, PackedRows, TokenDocuments


@pytest.fixture
def mixture(processor, text_shards, instruct_shards, caption_shards):
    """Makes a fresh mixture of documents, conversations (half of them) and captions (two and a half times)."""

    def make():
        sets = [TokenDocuments(text_shards, processor, max_length=100)]
        sets += [ImageSamples(shards, processor) for shards in (instruct_shards, caption_shards)]
        return Mixture(sets, [1, 0.5, 2.5])

    return make


def batches_equal(ours, theirs):
    for name in ("input_ids", "labels", "position_ids"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.doc_lens == theirs.doc_lens
    assert ours.sample_ids == theirs.sample_ids
    assert (ours.pixels is None) == (theirs.pixels is None)
    assert ours.pixels is None or torch.equal(ours.pixels, theirs.pixels)


def test_a_batch_is_a_pure_function_of_its_row_numbers(mixture, processor):
    def rows():
        return PackedRows(mixture(), 400, SEED, processor.pad)

    one = rows()
    wanted = [range(3 * step, 3 * step + 3) for step in range(12)]
    in_order = [one.batch(numbers) for numbers in wanted]
    assert len(one._ends) >= 2, "the rows run over the end of an epoch"
    again = rows()
    for step in np.random.default_rng(0).permutation(12):
        batches_equal(again.batch(wanted[step]), in_order[step])
        batches_equal(rows().batch(wanted[step]), in_order[step])
    other = PackedRows(mixture(), 400, SEED + 1, processor.pad)
    assert other.batch(wanted[0]).sample_ids != in_order[0].sample_ids


def epochs(rows, number):
    """Samples of each of the first `number` epochs, in order, with their tokens."""
    rows.row(0)
    found, row = [], 0
    for epoch in range(number):
        pieces = []
        while epoch >= len(rows._ends) or row < rows._ends[epoch]:
            pieces += rows.row(row)
            row += 1
        found.append(pieces)
    return found


def test_every_sample_comes_once_an_epoch_in_another_order(mixture, processor):
    data = mixture()
    first, second = epochs(PackedRows(data, 400, SEED, processor.pad), 2)
    for pieces in (first, second):
        assert sorted(p.sample for p in pieces) == list(range(len(data.lengths)))
        assert all((p.start, p.stop) == (0, data.lengths[p.sample]) for p in pieces)
    assert [p.sample for p in first] != [p.sample for p in second]


def test_every_token_of_documents_comes_once_an_epoch(text_shards, processor):
    data = TokenDocuments(text_shards, processor)
    for pieces in epochs(PackedRows(data, 64, SEED, processor.pad), 2):
        tokens = Counter((p.sample, t) for p in pieces for t in range(p.start, p.stop))
        assert set(tokens.values()) == {1}
        assert len(tokens) == data.lengths.sum()


def test_rows_of_a_long_document_are_spread_over_the_epoch(tmp_path, processor, tokenizer):
    texts = [*corpus_texts(40), "".join(corpus_texts(400)[40:])]
    write_token_shards([Document(str(i), text, "made") for i, text in enumerate(texts)], tokenizer, tmp_path)
    rows = PackedRows(TokenDocuments(TokenShards(tmp_path), processor), 64, SEED, processor.pad)
    rows.row(0)
    count = len(rows._rows)
    long = [any(piece.sample == 40 for piece in rows.row(number)) for number in range(count)]
    assert sum(long) > count / 2 > 10
    gaps = np.diff([-1, *np.flatnonzero(~np.array(long)), count])
    assert gaps.max() < sum(long) / 3
    assert [rows.row(number) for number in range(count)] != [rows.row(count + number) for number in range(count)]


def test_rows_hold_what_the_plan_says(mixture, processor):
    data = mixture()
    rows = PackedRows(data, 400, SEED, processor.pad)
    batch = rows.batch(range(4))
    assert batch.input_ids.shape == (4, 400)
    at = 0
    for number in range(4):
        for piece in rows.row(number):
            example = data.example(piece.sample)
            stop = at + len(example.inputs)
            assert batch.input_ids.flatten()[at:stop].tolist() == list(example.inputs)
            assert batch.labels.flatten()[at:stop].tolist() == list(example.labels)
            assert batch.position_ids.flatten()[at:stop].tolist() == list(range(stop - at))
            at = stop
        rest = (number + 1) * 400
        assert (batch.labels.flatten()[at:rest] == IGNORED).all()
        at = rest
    assert sum(batch.doc_lens) == 4 * 400


def test_planned_lengths_are_true(mixture):
    data = mixture()
    for index, length in enumerate(data.lengths):
        example = data.example(index)
        assert len(example.inputs) == len(example.labels) == length


def test_a_mixture_repeats_and_shares_as_asked(mixture):
    data = mixture()
    documents, conversations, captions = data.sets
    assert data.counts == [len(documents.lengths), 15, 30]
    seen = Counter(data.example(i).id for i in range(data.counts[0], len(data.lengths)))
    in_order = [seen[identity] for identity in captions.shards.ids]
    assert in_order == [3] * 6 + [2] * 6
    assert sum(seen[identity] for identity in conversations.shards.ids) == 15
    assert max(seen[identity] for identity in conversations.shards.ids) == 1
    assert data.example(0).id == "document-0"
    assert not data.cuttable


def test_a_mixture_of_documents_can_be_cut(text_shards, processor):
    documents = TokenDocuments(text_shards, processor)
    assert Mixture([documents, documents], [1, 2]).cuttable


def test_fingerprints_tell_data_and_shares_apart(mixture, text_shards, instruct_shards, processor):
    prints = [mixture().fingerprint, mixture().fingerprint]
    assert prints[0] == prints[1]
    images = ImageSamples(instruct_shards, processor)
    others = [
        TokenDocuments(text_shards, processor).fingerprint,
        TokenDocuments(text_shards, processor, max_length=50).fingerprint,
        TokenDocuments(text_shards, processor, max_length=60).fingerprint,
        images.fingerprint,
        Mixture([images], [1]).fingerprint,
        Mixture([images], [2]).fingerprint,
    ]
    assert len({prints[0], *others}) == 7


# --- documents --------------------------------------------------------------------------------------------------


def test_a_document_is_framed_and_shifted(text_shards, processor):
    documents = TokenDocuments(text_shards, processor)
    for index in range(text_shards.num_documents):
        tokens = text_shards.tokens(index).tolist()
        example = documents.example(index)
        assert list(example.inputs) == [processor.bos, *tokens]
        assert list(example.labels) == [*tokens, processor.eos]
    sample = processor.encode([replace(samples("captions_train", 1)[0].messages[1], role="document")])
    assert sample.shifted("x")[1][-1] == processor.eos


@pytest.mark.parametrize("limit", [1, 17, 64, 10_000])
def test_cut_documents_join_to_the_same_stream(text_shards, processor, limit):
    whole, cut = TokenDocuments(text_shards, processor), TokenDocuments(text_shards, processor, max_length=limit)
    assert cut.lengths.max() <= limit
    assert cut.lengths.min() >= 1
    assert not cut.cuttable
    for field in ("inputs", "labels"):
        streams = [
            [token for index in range(len(data.lengths)) for token in getattr(data.example(index), field)]
            for data in (whole, cut)
        ]
        assert streams[0] == streams[1]


def test_shards_of_another_tokenizer_are_refused(tmp_path, processor, tokenizer):
    other = train_tokenizer(corpus_texts(60), 640, tmp_path / "other", threads=1)

    write_token_shards([Document("a", "ひらがな", "x")], other, tmp_path / "tokens")
    with pytest.raises(DataError, match="another tokenizer"):
        TokenDocuments(TokenShards(tmp_path / "tokens"), processor)


# --- images that cannot be decoded ------------------------------------------------------------------------------


def test_a_bad_image_keeps_its_place_masked_and_recorded(tmp_path, processor):
    good = [ask(f"good-{n}", "何色ですか。", [n], "赤です。") for n in range(3)]
    whole = ask("bad", "違いは何ですか。", [5, 6], "色です。")
    data = whole.images[1].read()
    broken = replace(whole, images=[whole.images[0], ImageRef(data=data[: len(data) // 2])])
    readers = []
    for name, third in (("whole", whole), ("broken", broken)):
        write_shards([*good, third], tmp_path / name)
        readers.append(ImageSamples(ShardReader(tmp_path / name), processor))
    assert np.array_equal(readers[0].lengths, readers[1].lengths)
    example, expected = readers[1].example(3), readers[0].example(3)
    assert expected.error is None
    assert "truncated" in example.error
    assert list(example.inputs) == list(expected.inputs)
    assert set(example.labels) == {IGNORED}
    assert len(example.pixels) == 2
    assert all(p.shape == (1, 3, SIDE, SIDE) and (p == PADDING_GREY).all() for p in example.pixels)
    plans = [PackedRows(reader, 64, SEED, processor.pad) for reader in readers]
    assert [plans[0].row(n) for n in range(6)] == [plans[1].row(n) for n in range(6)]
    theirs, ours = (plan.batch(range(3)) for plan in plans)
    assert ours.sample_ids == theirs.sample_ids
    assert ours.weight < theirs.weight
    assert not theirs.undecoded
    assert {identity for identity, _ in ours.undecoded} == {"bad"}


# --- tiles, and samples longer than a row ------------------------------------------------------------------------

SIZES = [(SIDE, SIDE), (3 * SIDE, 2 * SIDE), (2 * SIDE, SIDE), (20, 6 * SIDE), (200, 150)]


@pytest.fixture(scope="module")
def large_shards(tmp_path_factory):
    """Twelve samples on one to three pictures of all sizes, and one without."""
    folder = tmp_path_factory.mktemp("shards") / "large"
    found = [ask("text", "空は何色ですか。", answer="青です。")]
    for number in range(12):
        count = 1 + number % 3
        sizes = [SIZES[(number + k) % len(SIZES)] for k in range(count)]
        found.append(ask(f"s{number}", "違いは何ですか。", range(count), "色です。" * number, sizes=sizes))
    write_shards(found, folder)
    return ShardReader(folder)


def test_lengths_and_views_are_planned_as_they_come(large_shards, tiled, processor):
    data = ImageSamples(large_shards, tiled)
    for index in range(len(data.lengths)):
        example = data.example(index)
        sample = large_shards.read(index)
        assert len(example.inputs) == data.lengths[index]
        assert sum(map(len, example.pixels)) == data.views[index]
        assert list(example.inputs).count(tiled.image_token) == 4 * data.views[index]
        grids = tiled.encode_sample(sample).grids
        assert [len(p) for p in example.pixels] == [grid.views for grid in grids]
        if example.pixels:
            assert (example.pixels[-1] == tiled.pixels(load_image(sample.images[-1]), grids[-1])).all()
    assert (data.views > 1).sum() > 8
    whole = ImageSamples(large_shards, processor)
    assert (whole.views <= 3).all()
    assert whole.fingerprint != data.fingerprint
    batch = PackedRows(data, 400, SEED, tiled.pad).batch(range(2))
    assert int((batch.input_ids == tiled.image_token).sum()) == 4 * len(batch.pixels)


def test_parts_of_pictures_are_other_ones_each_time_and_the_same_for_a_row(large_shards, tiled):
    whole, parts = (ImageSamples(large_shards, tiled, crop=crop) for crop in (1.0, 0.5))
    assert np.array_equal(whole.lengths, parts.lengths)
    assert whole.fingerprint != parts.fingerprint
    index = int(parts.views.argmax())
    first, again, other = (parts.example(index, seed) for seed in ((SEED, 0), (SEED, 0), (SEED, 1)))
    assert first.inputs == whole.example(index).inputs
    assert all(np.array_equal(one, two) for one, two in zip(first.pixels, again.pixels, strict=True))
    for changed in (other.pixels, whole.example(index).pixels):
        for one, two in zip(first.pixels, changed, strict=True):
            assert one.shape == two.shape  # as many tiles, so that the planned row stays what it is
            assert not np.array_equal(one, two)

    def rows():
        return PackedRows(Mixture([ImageSamples(large_shards, tiled, crop=0.5)], [2.0]), 400, SEED, tiled.pad)

    one = rows()
    seen = set()
    for number in range(len(one.views())):
        batches_equal(one.batch([number]), rows().batch([number]))
        seen |= {(e.id, e.pixels[0].tobytes()) for e in one.examples(number) if e.pixels}
    assert len(seen) > 1.5 * len({identity for identity, _ in seen}), "a sample's second showing is of another part"


def longest(data):
    return int(data.lengths.max())


def test_a_sample_longer_than_a_row_is_an_error_with_its_id(large_shards, tiled):
    free = ImageSamples(large_shards, tiled)
    (index,) = np.flatnonzero(free.lengths == longest(free))
    ImageSamples(large_shards, tiled, longest(free))
    with pytest.raises(DataError, match=r"raise row_length, or set packing\.overlong") as caught:
        ImageSamples(large_shards, tiled, longest(free) - 1)
    assert large_shards.ids[index] in str(caught.value)
    assert f"takes {longest(free)} tokens, a row has {longest(free) - 1}; 1 of 13" in str(caught.value)


def test_tiles_are_given_up_where_a_row_is_short(large_shards, tiled, processor):
    free, whole = ImageSamples(large_shards, tiled), ImageSamples(large_shards, processor)
    row_length = longest(whole)
    data = ImageSamples(large_shards, tiled, row_length, "fewer_tiles")
    assert longest(data) <= row_length < longest(free)
    assert data.dropped == []
    assert (whole.views <= data.views).all()
    assert (data.views <= free.views).all()
    fewer = np.flatnonzero(data.views < free.views)
    assert 0 < len(fewer) < len(free.views)
    assert (free.lengths[fewer] > row_length).all()
    for index in range(len(data.lengths)):
        example = data.example(index)
        assert len(example.inputs) == data.lengths[index]
        assert sum(map(len, example.pixels)) == data.views[index]
        trained = [label for label in example.labels if label != IGNORED]
        assert trained == [label for label in free.example(index).labels if label != IGNORED]
    assert data.fingerprint not in (free.fingerprint, whole.fingerprint)
    with pytest.raises(DataError, match="raise row_length"):
        ImageSamples(large_shards, tiled, row_length - 1, "fewer_tiles")


def test_a_sample_that_is_dropped_is_named_and_the_others_stay(large_shards, tiled):
    free = ImageSamples(large_shards, tiled)
    row_length = int(np.median(free.lengths))
    data = ImageSamples(large_shards, tiled, row_length, "drop")
    kept = np.flatnonzero(free.lengths <= row_length)
    assert 0 < len(kept) < 13
    assert data.dropped == [large_shards.ids[i] for i in range(13) if i not in kept]
    assert data.lengths.tolist() == free.lengths[kept].tolist()
    assert [data.example(n).id for n in range(len(kept))] == [large_shards.ids[i] for i in kept]
    rows = PackedRows(data, row_length, SEED, tiled.pad)
    seen = {identity for n in range(3 * len(kept)) for identity in rows.batch([n]).sample_ids}
    assert seen == {large_shards.ids[i] for i in kept}


def test_a_bad_image_has_as_many_grey_views_as_it_would_have_tiles(tmp_path, tiled):
    whole = ask("bad", "違いは何ですか。", [5, 6], "色です。", sizes=[(3 * SIDE, 2 * SIDE), (2 * SIDE, SIDE)])
    data = whole.images[0].read()
    broken = replace(whole, images=[ImageRef(data=data[: len(data) // 2]), whole.images[1]])
    write_shards([broken], tmp_path / "broken")
    samples = ImageSamples(ShardReader(tmp_path / "broken"), tiled)
    example = samples.example(0)
    assert "truncated" in example.error
    assert [len(p) for p in example.pixels] == [7, 3]
    assert all((p == PADDING_GREY).all() for p in example.pixels)
    assert len(example.inputs) == samples.lengths[0]
    assert set(example.labels) == {IGNORED}


def test_no_data_and_a_row_too_short_are_errors(processor, instruct_shards, text_shards):
    images = ImageSamples(instruct_shards, processor)
    with pytest.raises(DataError, match="empty"):
        PackedRows(Mixture([images], [0.001]), 400, SEED, processor.pad)
    with pytest.raises(DataError, match="raise row_length"):
        PackedRows(images, int(images.lengths.max()) - 1, SEED, processor.pad).row(0)
