import numpy as np
from jvlm_data.toyworld import captions
from jvlm_data.toyworld.captions import CAPTION_PROMPTS, SIZE_FORMS, TEXTURE_FORMS, caption, describe
from jvlm_data.toyworld.judge import caption_is_exact
from jvlm_data.toyworld.scene import SPLITS, sample_split_scene
from jvlm_data.toyworld.world import POSITIONS


def test_every_caption_reads_back_to_the_truth() -> None:
    rng = np.random.default_rng(1)
    for index in range(1200):
        scene = sample_split_scene(rng, SPLITS[index % 2 * 3], sign=index % 3 == 0)
        for text in (caption(scene, rng), describe(scene, rng)):
            assert caption_is_exact(text, scene.truth), (text, scene.truth)


def test_every_wording_reads_back_to_the_truth() -> None:
    rng = np.random.default_rng(2)
    for wording, _ in captions._WORDINGS:
        for count in (1, 2, 3):
            for _ in range(12):
                scene = sample_split_scene(rng, "train", count=count)
                phrases = [(thing.position, captions._phrase(thing, rng)) for thing in scene.things]
                text = wording(phrases, rng)
                assert caption_is_exact(text, scene.truth), text


def test_captions_vary_are_short_and_in_reading_order() -> None:
    rng = np.random.default_rng(3)
    scene = sample_split_scene(rng, "train", count=3)
    texts = [caption(scene, rng) for _ in range(200)]
    assert len(set(texts)) > 60
    lengths = [len(text) for text in texts]
    assert max(lengths) < 75
    assert 15 <= np.median(lengths) <= 45
    assert {text.endswith("す。") for text in texts} == {True, False}  # polite and plain
    for text in texts:
        places = [text.index(thing.shape) for thing in scene.things if text.count(thing.shape) == 1]
        assert places == sorted(places)


def test_size_and_texture_are_mentioned_now_and_then() -> None:
    rng = np.random.default_rng(4)
    extras = [*(form for forms in SIZE_FORMS.values() for form in forms), *TEXTURE_FORMS.values()]
    things = mentions = 0
    for _ in range(800):
        scene = sample_split_scene(rng, "train")
        text = caption(scene, rng)
        things += len(scene.things)
        mentions += sum(text.count(extra) for extra in extras)
    assert 0.05 < mentions / things < 0.2 + 0.03


def test_a_sign_is_mentioned_and_never_read_out() -> None:
    rng = np.random.default_rng(5)
    mentioned = 0
    for _ in range(300):
        scene = sample_split_scene(rng, "train", sign=True)
        assert scene.sign is not None
        text = caption(scene, rng)
        mentioned += "看板" in text
        assert len(scene.sign) == 1 or scene.sign not in text  # one character alone is also in 2つ or ハート
        assert "看板" not in caption(sample_split_scene(rng, "train"), rng)
    assert 200 < mentioned < 290


def test_prompts_are_distinct_and_name_no_position() -> None:
    assert len(set(CAPTION_PROMPTS)) >= 6
    assert not any(position in prompt for prompt in CAPTION_PROMPTS for position in POSITIONS if len(position) == 2)
