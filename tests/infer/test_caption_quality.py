"""What is said of a caption beside it: language, loops, the CLIP score, pictures that look the same."""

import random
from io import BytesIO

import numpy as np
import pytest
import torch
from caption_process import Hashing
from PIL import Image
from tiny import SEED, VISION, make_model, samples, shake

from jvlm.errors import UsageError
from jvlm.infer.caption.clip_score import ClipScores
from jvlm.infer.caption.duplicates import DISTANCE, FirstSeen, difference_hash
from jvlm.infer.caption.inputs import Item
from jvlm.infer.caption.plan import Settings
from jvlm.infer.caption.quality import quality, repetition, simplified_only
from jvlm.infer.caption.unit import Tools, caption_items
from jvlm.infer.identity import model_hash
from jvlm.model.contrast import caption_ids
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor
from jvlm.model.vision import VisionTower, build_clip


@pytest.mark.parametrize(
    ("text", "japanese", "chinese", "latin"),
    [
        ("白い猫が窓辺で寝ています。", 1.0, 0.0, 0.0),
        ("这张图片里有一只红色的圆。", 0.583, 0.417, 0.0),
        ("A red circle.", 0.0, 0.0, 1.0),
        ("ＭＲＩ画像です", 0.571, 0.0, 0.429),
        ("", 0.0, 0.0, 0.0),
        ("123、456。", 0.0, 0.0, 0.0),
    ],
)
def test_language(text, japanese, chinese, latin):
    found = quality(text)
    assert (found["japanese"], found["simplified_chinese"], found["latin"]) == (japanese, chinese, latin)
    assert found["n_characters"] == len(text)


def test_what_japanese_writes_is_not_simplified_chinese():
    assert len(simplified_only()) == 2056
    assert not set("国会体学来点医図円黄赤圧広売覚対馬車説") & simplified_only()
    assert set("图圆红马车说对这们吗") - set("车说对") <= simplified_only()


def test_repetition():
    assert repetition("赤い丸があります。青い四角があります。") == 0
    assert repetition("わーーーい、すごい！！！！") == 0
    assert repetition("赤い" * 20) == 1.0
    assert repetition("これは猫です。" + "とても" * 10) == pytest.approx(30 / 37)
    assert repetition("左に赤い丸。右に青い丸。左に赤い丸。") == pytest.approx(0)  # six characters: too short to tell
    assert repetition("左に赤い丸があります。右に青い丸。左に赤い丸があります。") == pytest.approx(11 / 28)


def photo(number, size=(120, 90)):
    """A smooth picture, unlike the others."""
    random_ = np.random.default_rng([SEED, number])
    small = Image.fromarray(random_.integers(0, 256, (6, 8, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def test_a_picture_keeps_its_hash_when_it_is_scaled_and_compressed():
    hashes = [difference_hash(photo(number)) for number in range(30)]
    for number, known in enumerate(hashes):
        file = BytesIO()
        photo(number).resize((480, 360), Image.Resampling.BICUBIC).save(file, "JPEG", quality=60)
        again = difference_hash(Image.open(file))
        assert (again ^ known).bit_count() <= DISTANCE
        assert all((again ^ other).bit_count() > DISTANCE for i, other in enumerate(hashes) if i != number)


def test_near_hashes_are_found_as_by_comparing_all():
    """Against a plain search over everything that was kept."""
    draw, index, kept = random.Random(3), FirstSeen(), []
    for number in range(3000):
        found = draw.getrandbits(64)
        if kept and draw.random() < 0.5:
            found = draw.choice(kept)[0]
            for bit in draw.sample(range(64), draw.randrange(6)):
                found ^= 1 << bit
        near = next((name for other, name in kept if (other ^ found).bit_count() <= DISTANCE), None)
        assert index.first_like(found, f"n{number}") == near
        if near is None:
            kept.append((found, f"n{number}"))
    assert 1000 < len(kept) < 2500


@pytest.fixture
def clip(tokenizer, tmp_path):
    processor = Processor(tokenizer, VISION)
    torch.manual_seed(0)
    model = shake(build_clip(VISION, tokenizer.vocab_size, processor.pad, processor.end), 5, 0.1).eval()
    save_model(tmp_path / "clip", model, processor)
    return tmp_path / "clip", model, processor


def test_clip_scores_are_the_cosines_of_the_model(clip, tokenizer, tmp_path):
    folder, model, processor = clip
    paths = []
    for sample in samples("captions_train", 5):
        paths.append(tmp_path / f"{len(paths)}.png")
        paths[-1].write_bytes(sample.images[0].read())
    (tmp_path / "bad.png").write_bytes(b"x")
    items = [Item(path.name, ("file", str(path))) for path in [*paths, tmp_path / "bad.png"]]
    settings = Settings("s", "m", clip_hash=model_hash(folder))
    rows = caption_items(items, Tools(Hashing(), ClipScores(folder)), settings)
    pixels = np.concatenate([processor.pixels(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        seen = model.encode_image(VisionTower(VISION, model.visual).normalise(torch.from_numpy(pixels)))
        read = model.encode_text(caption_ids(processor, [row["text"] for row in rows[:-1]], VISION.text_length))
        expected = torch.nn.functional.cosine_similarity(seen, read).tolist()
    assert [row["clip_score"] for row in rows[:-1]] == pytest.approx(expected, abs=6e-4)
    assert len(set(expected)) > 2
    assert rows[-1]["clip_score"] is None
    assert "clip_score" not in caption_items(items[:1], Tools(Hashing()), Settings("s", "m"))[0]
    save_model(tmp_path / "jvlm", make_model(tokenizer), Processor(tokenizer, VISION))
    with pytest.raises(UsageError, match="no CLIP"):
        ClipScores(tmp_path / "jvlm")
