"""Template, labels, image geometry: what a sample becomes before a model sees it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import LANGUAGE, PROJECTOR, SIDE, VISION, ask, encoded_image, make_model, samples
from transformers import PreTrainedTokenizerFast

from jvlm.errors import DataError, UsageError
from jvlm.model.config import ProjectorConfig, VisionConfig
from jvlm.model.directory import save_model
from jvlm.model.geometry import Grid
from jvlm.model.processor import IGNORED, PADDING_GREY, Processor
from jvlm.sample import ImageRef, Message
from jvlm.text.tokenizer import SPECIAL_TOKENS

many = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SET_NAMES = ("captions_train", "instruct_train", "vqa_val", "preference_pool")


def conversations():
    """Every form the toy world has: captions, dialogues, two images, questions, prompts without answer."""
    found = [sample for name in SET_NAMES for sample in samples(name, 40)]
    assert {sample.meta["kind"] for sample in found} >= {"caption", "dialogue", "two_images", "page"}
    return [sample for sample in found if sample.meta["kind"] != "page"]


def trained_ids(encoded):
    return [token for token, trained in zip(encoded.ids, encoded.trained, strict=True) if trained]


def split_at(ids, mark):
    """Ids between marks; what follows the last mark must be nothing."""
    pieces, piece = [], []
    for token in ids:
        if token == mark:
            pieces.append(piece)
            piece = []
        else:
            piece.append(token)
    assert piece == []
    return pieces


def test_the_trained_ids_are_exactly_the_assistant_turns_with_their_end_marks(processor):
    for sample in conversations():
        answers = [message.text for message in sample.messages if message.role == "assistant"]
        pieces = split_at(trained_ids(processor.encode(sample.messages)), processor.end)
        assert [processor.tokenizer.decode(piece) for piece in pieces] == answers


def enlarged(sample, rng):
    """The sample with pictures of other sizes, most of them in need of tiles."""
    sizes = [tuple(int(n) for n in rng.integers(1, 5 * SIDE, 2)) for _ in sample.images]
    return replace(sample, images=[ImageRef(encoded_image(n, size)) for n, size in enumerate(sizes)])


def test_with_tiles_the_trained_ids_are_the_same(processor, tiled):
    rng, grids = np.random.default_rng(0), set()
    for sample in [enlarged(sample, rng) for sample in samples("instruct_train", 60)]:
        whole, encoded = processor.encode(sample.messages), tiled.encode_sample(sample)
        assert trained_ids(encoded) == trained_ids(whole)
        assert encoded.images == whole.images
        grids.update(encoded.grids)
        image = set(tiled.image_ids)
        assert [t for t in encoded.ids if t not in image] == [t for t in whole.ids if t not in image]
    assert len(grids) > 5


def test_a_page_trains_its_text_and_no_image_token(processor):
    pages = [sample for sample in samples("instruct_train", 200) if sample.meta["kind"] == "page"]
    assert pages
    for sample in pages:
        encoded = processor.encode(sample.messages)
        (piece,) = split_at(trained_ids(encoded), processor.eos)
        assert processor.tokenizer.decode(piece) == sample.messages[0].text
        assert encoded.images == [0, 1]


def test_labels_are_the_next_token_where_it_is_trained(processor):
    encoded = processor.encode(samples("instruct_train", 1)[0].messages)
    inputs, labels = encoded.shifted("x")
    assert inputs == encoded.ids[:-1]
    expected = [t if on else IGNORED for t, on in zip(encoded.ids, encoded.trained, strict=True)]
    assert labels == expected[1:]
    assert processor.length(samples("instruct_train", 1)[0]) == len(inputs)


# --- the same template in transformers -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fast(tokenizer, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "model"
    save_model(folder, make_model(tokenizer), processor)
    assert (folder / "chat_template.jinja").is_file()
    return PreTrainedTokenizerFast.from_pretrained(folder)


def as_hugging_face(messages, grids=None):
    """Messages as transformers takes them; `grids` of the images in order of appearance."""
    left = iter(grids or ())

    def part(content):
        if isinstance(content, str):
            return {"type": "text", "text": content}
        return {"type": "image"} | (next(left)._asdict() if grids else {})

    return [{"role": m.role, "content": [part(p) for p in m.content]} for m in messages]


def template_ids(fast, messages, prompt=False):
    return fast.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)


def test_apply_chat_template_gives_the_same_ids(fast, processor):
    for sample in conversations():
        for prompt in (False, True):
            ours = processor.encode(sample.messages, generation_prompt=prompt).ids
            assert template_ids(fast, as_hugging_face(sample.messages), prompt) == ours
    system = [Message("system", ["短く答えてください。"]), Message("user", ["赤い丸は何個ですか。"])]
    assert template_ids(fast, as_hugging_face(system), True) == processor.encode(system, True).ids
    plain = [{"role": m.role, "content": m.text} for m in system]
    assert template_ids(fast, plain, True) == processor.encode(system, True).ids


def test_apply_chat_template_gives_the_same_ids_for_every_grid(fast, tiled):
    rng, seen = np.random.default_rng(1), set()
    for sample in [enlarged(sample, rng) for sample in samples("instruct_train", 40)]:
        for prompt in (False, True):
            encoded = tiled.encode_sample(sample, generation_prompt=prompt)
            assert template_ids(fast, as_hugging_face(sample.messages, encoded.grids), prompt) == encoded.ids
        seen.update(encoded.grids)
    assert len(seen) > 5
    messages = [Message("user", [0, "何ですか。"])]
    for rows in range(1, 5):
        for columns in range(1, 5):
            ids = template_ids(fast, as_hugging_face(messages, [Grid(rows, columns)]))
            assert ids.count(tiled.image_token) == 4 * (1 + rows * columns)
            assert ids.count(tiled.image_ids.row) == rows


def test_apply_chat_template_of_a_language_model_gives_the_same_ids(tokenizer, tmp_path):
    save_model(tmp_path / "model", make_model(tokenizer).language, Processor(tokenizer))
    fast, processor = PreTrainedTokenizerFast.from_pretrained(tmp_path / "model"), Processor(tokenizer)
    messages = [Message("user", ["赤い丸は\n何個ですか。"]), Message("assistant", [" 2個です。"])]
    for prompt in (False, True):
        assert template_ids(fast, as_hugging_face(messages), prompt) == processor.encode(messages, prompt).ids


def test_apply_chat_template_of_a_document_gives_the_same_ids(fast, processor):
    messages = [Message("document", ["赤い丸があります。\n"])]
    assert template_ids(fast, as_hugging_face(messages)) == processor.encode(messages).ids


@given(cuts=st.sets(st.integers(1, 10)))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_apply_chat_template_gives_the_same_ids_however_text_is_cut_into_parts(fast, processor, cuts):
    text, at = "四角は何個ありますか。", [0, *sorted(cuts), None]
    messages = [Message("user", [0, *(text[a:b] for a, b in pairwise(at))])]
    assert messages[0].text == text
    assert template_ids(fast, as_hugging_face(messages)) == processor.encode(messages).ids


# --- user text never becomes a control token --------------------------------------------------------------------

FULL_WIDTH = str.maketrans({"<": "\uff1c", ">": "\uff1e", "|": "\uff5c", "/": "\uff0f"})
literals = st.sampled_from(SPECIAL_TOKENS)
disguised = st.one_of(
    literals,
    literals.map(lambda token: token.translate(FULL_WIDTH)),
    literals.flatmap(lambda t: st.integers(1, len(t) - 1).map(lambda at: t[:at] + "\u200b" + t[at:])),
    literals.map(lambda token: "\u200b".join(token)),
    literals.map(lambda token: token[1:]),
    literals.map(lambda token: token * 2),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
hostile = st.lists(disguised, min_size=1, max_size=6).map("".join)


def check_hostile(processor, question, answer, grid):
    """Every control token is the template's own, and the trained ids are the answer."""
    special, size = processor.tokenizer.special, (grid[1] * SIDE, grid[0] * SIDE)
    messages = [Message("system", [answer]), Message("user", [0, question]), Message("assistant", [answer])]
    encoded = processor.encode(messages, True, sizes=[size])
    control = [token for token in encoded.ids if token in set(special.values())]
    view = [special["<|image|>"]] * processor.num_image_tokens
    rows = [*view * grid[1], special["<|image_row|>"]] * grid[0] if grid != (1, 1) else []
    image = [special["<|image_start|>"], *view, *rows, special["<|image_end|>"]]
    end, assistant = special["<|end|>"], special["<|assistant|>"]
    user = [special["<|system|>"], end, special["<|user|>"], *image, end]
    assert control == [special["<s>"], *user, assistant, end, assistant]
    (piece,) = split_at(trained_ids(processor.encode(messages)), end)
    assert processor.tokenizer.decode(piece) == answer
    document = processor.encode([Message("document", [question, 0, answer])])
    assert [t for t in document.ids if t in set(special.values()) - set(processor.image_ids)] == [
        special["<s>"],
        special["</s>"],
    ]


grids = st.sampled_from([(1, 1), (1, 2), (2, 3), (3, 2), (6, 1)])


@given(question=hostile, answer=hostile, grid=grids)
@many
def test_no_text_ever_yields_a_control_id(tiled, question, answer, grid):
    check_hostile(tiled, question, answer, grid)


@pytest.mark.long
@given(question=hostile, answer=hostile, grid=grids)
@settings(many, max_examples=10_000)
def test_no_text_of_10_000_ever_yields_a_control_id(tiled, question, answer, grid):
    check_hostile(tiled, question, answer, grid)


# --- images -----------------------------------------------------------------------------------------------------


@given(
    patch=st.sampled_from([4, 7, 8, 14]),
    fold=st.integers(1, 4),
    blocks=st.integers(1, 4),
    images=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_image_tokens_are_what_the_geometry_says(tokenizer, patch, fold, blocks, images):
    side = patch * fold * blocks
    vision = VisionConfig(image_size=max(side, 8), patch_size=patch)
    if side < 8:
        return
    processor = Processor(tokenizer, vision, ProjectorConfig(shuffle=fold))
    assert processor.num_image_tokens == blocks**2
    encoded = processor.encode([Message("user", [*range(images), "何個ですか。"])], True)
    assert encoded.ids.count(processor.image_token) == images * blocks**2
    assert encoded.images == list(range(images))


def test_sizes_that_do_not_fold_are_an_error_with_a_remedy(tokenizer):
    with pytest.raises(UsageError, match="divisible"):
        Processor(tokenizer, VISION.model_copy(update={"image_size": 40}), PROJECTOR)


@given(width=st.integers(1, 200), height=st.integers(1, 200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_image_is_letterboxed_and_never_cropped(processor, width, height):
    """Its four corners are of four colours; all of them must be in the result, the margin grey and even."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 0)]  # no blue: no mixture of them is grey
    image = Image.new("RGB", (2, 2))
    image.putdata(colours)
    (view,) = processor.pixels(image.resize((width, height), Image.Resampling.NEAREST))
    pixels = view.transpose(1, 2, 0)
    assert pixels.shape == (SIDE, SIDE, 3)
    grey = (pixels == PADDING_GREY).all(-1)
    rows, columns = np.flatnonzero(~grey.all(1)), np.flatnonzero(~grey.all(0))
    scale = SIDE / max(width, height)
    assert len(rows) == max(1, round(height * scale))
    assert len(columns) == max(1, round(width * scale))
    assert abs(rows[0] - (SIDE - 1 - rows[-1])) <= 1
    assert abs(columns[0] - (SIDE - 1 - columns[-1])) <= 1
    if min(width, height) * scale >= 4 and min(width, height) > 1:
        inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        corners = [inside[0, 0], inside[0, -1], inside[-1, 0], inside[-1, -1]]
        assert np.abs(np.array(corners, int) - np.array(colours)).max() < 60


@given(
    width=st.integers(1, 6 * SIDE), height=st.integers(1, 6 * SIDE), rows=st.integers(1, 4), columns=st.integers(1, 4)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tiles_laid_side_by_side_are_the_picture(processor, width, height, rows, columns):
    """Whole view first, as without tiles; the tiles joined are the picture scaled to fit, nothing twice or left out."""
    noise = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    views = processor.pixels(image, Grid(rows, columns))
    assert views.shape == (1 + rows * columns, 3, SIDE, SIDE)
    assert views.dtype == np.uint8
    assert (views[:1] == processor.pixels(image)).all()
    joined = np.concatenate(
        [np.concatenate(views[1 + r * columns : 1 + (r + 1) * columns], axis=2) for r in range(rows)], axis=1
    ).transpose(1, 2, 0)
    scale = min(columns * SIDE / width, rows * SIDE / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (columns * SIDE - size[0]) // 2, (rows * SIDE - size[1]) // 2
    inside = joined[top : top + size[1], left : left + size[0]].copy()
    expected = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    assert (inside == expected).all()
    joined[top : top + size[1], left : left + size[0]] = PADDING_GREY
    assert (joined == PADDING_GREY).all()


def test_a_picture_that_just_fills_its_tiles_is_not_resampled(tiled):
    noise = np.random.default_rng(0).integers(0, 256, (2 * SIDE, 3 * SIDE, 3), np.uint8)
    views = tiled.pixels(Image.fromarray(noise), Grid(2, 3))
    for number, tile in enumerate(views[1:]):
        row, column = divmod(number, 3)
        part = noise[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        assert (tile.transpose(1, 2, 0) == part).all()


def test_tiles_are_given_up_until_a_sample_fits(tiled):
    sample = ask("x", "何ですか。", [0, 1], "丸です。", sizes=[(3 * SIDE, 2 * SIDE), (2 * SIDE, SIDE)])
    free = tiled.encode_sample(sample)
    assert free.grids == [Grid(2, 3), Grid(1, 2)]
    found = {}
    for room in range(len(free.ids) + 1, 0, -1):
        encoded = tiled.encode_sample(sample, room)
        assert encoded.grids == [Grid(0, 0)] * 2 or len(encoded.ids) <= room
        assert trained_ids(encoded) == trained_ids(free)
        found[tuple(encoded.grids)] = len(encoded.ids)
    fewer = [(Grid(2, 2), Grid(1, 2)), (Grid(1, 2), Grid(1, 2)), (Grid(0, 0), Grid(0, 0))]
    assert list(found) == [tuple(free.grids), *fewer]
    assert list(found.values()) == sorted(found.values(), reverse=True)


# --- refusals ---------------------------------------------------------------------------------------------------


def test_a_sample_without_an_answer_is_refused_with_its_id(processor):
    sample = samples("preference_pool", 1)[0]
    with pytest.raises(DataError, match="no assistant or document text") as caught:
        processor.encode(sample.messages).shifted(sample.id)
    assert sample.id in str(caught.value)


def test_a_language_model_takes_no_images(tokenizer):
    with pytest.raises(DataError, match="cannot take images"):
        Processor(tokenizer).encode([Message("user", [0, "何ですか。"])])


def test_the_longest_conversation_fits_the_tiny_model(processor):
    assert max(processor.length(sample) for sample in samples("instruct_train", 30)) < LANGUAGE.max_length
