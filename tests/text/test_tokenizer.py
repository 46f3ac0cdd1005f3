import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvlm.errors import DataError, UsageError
from jvlm.text import sentencepiece_twin
from jvlm.text.characters import required_characters
from jvlm.text.model_proto import read_pieces, write_pieces
from jvlm.text.stats import tokenizer_figures
from jvlm.text.tokenizer import SPECIAL_TOKENS, Tokenizer, train_tokenizer

WORDS = [
    "赤い",
    "青い",
    "丸",
    "四角",
    "星",
    "が",
    "は",
    "に",
    "を",
    "ある。",
    "ない。",
    "右上",
    "左下",
    "患者",
    "血圧",
    "mmHg",
    "CT",
    "10⁻³",
    "㎎",
    "①",
    "(´･ω･`)",
    "ー",
    "ーー",
    "…",
    "……",
]
CONTROLS = "".join(SPECIAL_TOKENS)
TORTURE = [
    "",
    " ",
    "  先頭と末尾の空白  ",
    "改行\n\n二つ\n",
    "タブ\t\tと\r\n復帰",
    "　全角空白　　",
    "10⁻³ Ca²⁺ ㎎ ㎠ ½ ①② ﾌｪﾆﾄｲﾝ か\u3099",
    "(´･ω･`) ＼(^o^)／ （＾ｖ＾） ｷﾀ━━(ﾟ∀ﾟ)━━!!",
    "👨‍👩‍👧‍👦🇯🇵👍🏽 😀",
    "ーーーーーーーーーー……………………wwwwwwwwww、、、、、",
    "……………" * 50,
    "a" * 300 + " " * 40 + "い" * 300,
    "<|user|>こんにちは<|end|></s><s><unk><pad><|image|>",
    "<0x0A><0x41><0xE3><0x81><0x82>",
    "𠮷野家 鷗 膵 髙 﨑 齟齬",
    "العربية ไทย עברית हिन्दी 한국어 简体",
    "\u200b\u200d\ufeff\u00a0\u2028\u0001",
    "1234567890 3.14 -0.5",
]


def sentences(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng([seed, 77])
    return ["".join(rng.choice(WORDS, rng.integers(1, 25))) + " " * int(rng.integers(0, 3)) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer") / "tok"
    train_tokenizer(sentences(0, 1500), 560, out, seed=1, threads=1)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


def test_special_ids(tokenizer: Tokenizer) -> None:
    assert list(tokenizer.special.items()) == [(token, i) for i, token in enumerate(SPECIAL_TOKENS)]
    assert SPECIAL_TOKENS[:4] == ("<unk>", "<s>", "</s>", "<pad>")
    assert SPECIAL_TOKENS[9:] == ("<|image|>", "<|image_start|>", "<|image_end|>", "<|image_row|>")
    assert tokenizer.vocab_size == 560
    assert len(tokenizer.byte_ids) == 256
    assert tokenizer.decode([tokenizer.byte_ids[0x41]]) == "A"


def test_the_twin_gives_the_ids_of_sentencepiece(folder: Path, tokenizer: Tokenizer) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    lines = TORTURE + sentences(5, 2000)
    assert tokenizer.encode_batch(lines) == [tokenizer.encode(line) for line in lines]
    for line in lines:
        assert tokenizer.encode(line) == reference.encode(line), line


@pytest.mark.parametrize("text", [*TORTURE, "▁▁ 下線 ▁", CONTROLS])
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


any_text = st.text(st.one_of(st.sampled_from("▁ \n\t<|>userー…あ漢ｱ1"), st.characters(codec="utf-8")))


@settings(max_examples=1_000, deadline=None)
@given(any_text)
def test_every_unicode_string_comes_back_without_a_control_id(tokenizer: Tokenizer, text: str) -> None:
    check_round_trip(tokenizer, text)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None)
@given(any_text)
def test_every_unicode_string_of_20_000_comes_back_without_a_control_id(tokenizer: Tokenizer, text: str) -> None:
    check_round_trip(tokenizer, text)


def check_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert min(ids, default=13) >= 13


@pytest.mark.parametrize("text", [CONTROLS, *SPECIAL_TOKENS, "x<|user|>y", "<|image|>" * 20, "<0x0A>", "<0x00>"])
def test_typed_control_tokens_stay_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert min(ids) >= 13
    assert not set(ids) & set(tokenizer.byte_ids)


def test_decode_skips_control_ids_and_survives_broken_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([1, *tokenizer.encode("赤い丸"), 8, 2]) == "赤い丸"
    assert tokenizer.decode([tokenizer.byte_ids[0xE3]]) == "\ufffd"


def test_a_space_is_a_piece_even_when_never_seen(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    texts = [text.replace(" ", "") for text in sentences(3, 300)]
    trained = train_tokenizer(texts, 450, tmp_path / "t", threads=1)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t" / "spm.model"))
    assert trained.encode("赤い 丸") == reference.encode("赤い 丸")
    assert not set(trained.encode(" ")) & set(trained.byte_ids)


def test_no_piece_crosses_scripts(tokenizer: Tokenizer) -> None:
    scripts = (r"[一-鿿々]", r"[ぁ-ゟ]", r"[ァ-ヿ]", r"[A-Za-z]")
    words = [tokenizer.decode([number]) for number in range(tokenizer.byte_ids.stop, tokenizer.vocab_size)]
    assert sum(len(word) > 1 for word in words) > 50
    for word in words:
        assert sum(re.search(script, word) is not None for script in scripts) <= 1, word


def test_without_the_boundary_pieces_cross_scripts(tmp_path: Path) -> None:
    trained = train_tokenizer(sentences(0, 1500), 560, tmp_path / "t", seed=1, threads=1, split_scripts=False)
    words = [trained.decode([number]) for number in range(trained.byte_ids.stop, trained.vocab_size)]
    assert any(re.search("[一-鿿][ぁ-ゟ]", word) for word in words)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large") / "tok"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentencepiece_twin, "LARGE", 9000)
        train_tokenizer(sentences(0, 6000), 9000, out, seed=1, threads=1, split_scripts=False)
    return out


def test_a_large_vocabulary_knows_japanese_characters_and_runs_of_spaces(large: Path) -> None:
    tokenizer = Tokenizer.load(large)
    for character in required_characters() + "嚥痰瘻臀剝𠮟㎎⁻³½①ﾌωД":
        assert not set(tokenizer.encode(character)) & set(tokenizer.byte_ids), character
    for length in range(2, 17):
        assert len(tokenizer.encode(" " * length)) == 1
        assert len(tokenizer.encode(f"赤い\n{' ' * length}青い丸")) == len(tokenizer.encode("赤い\n青い丸")) + 1
    assert len(tokenizer.encode(" " * 35)) == 3


def test_the_twin_of_a_large_vocabulary_gives_the_same_ids(large: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(large / "spm.model"))
    tokenizer = Tokenizer.load(large)
    assert reference.get_piece_size() == tokenizer.vocab_size == 9000
    rng = np.random.default_rng(2)
    characters = np.array([*required_characters(), *" " * 4000, *"\n\tab01"])
    mixed = ["".join(rng.choice(characters, 60)) for _ in range(400)]
    for line in [*TORTURE, *sentences(5, 2000), *mixed]:
        assert tokenizer.encode(line) == reference.encode(line), line
        assert tokenizer.decode(tokenizer.encode(line)) == line


def test_pieces_are_written_as_they_were_read(folder: Path) -> None:
    model = (folder / "spm.model").read_bytes()
    assert write_pieces(model, read_pieces(model)) == model


def test_transformers_loads_it_and_agrees(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*sentences(6, 50), "▁ \n  x"):
        assert loaded(text, add_special_tokens=False).input_ids == tokenizer.encode(text)
        assert loaded.decode(tokenizer.encode(text)) == text
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, 2, 3)
    assert loaded("<|user|>", add_special_tokens=False).input_ids == [5]  # chat templates need this; ours does not


def test_deterministic_and_saved_byte_for_byte(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    again = train_tokenizer(sentences(0, 1500), 560, tmp_path / "again", seed=1, threads=1)
    assert again.fingerprint == tokenizer.fingerprint
    assert (tmp_path / "again" / "spm.model").read_bytes() == (folder / "spm.model").read_bytes()
    tokenizer.save(tmp_path / "copy")
    assert Tokenizer.load(tmp_path / "copy").fingerprint == tokenizer.fingerprint
    (tmp_path / "copy" / "spm.model").unlink()
    assert Tokenizer.load(tmp_path / "copy").encode("赤い丸") == tokenizer.encode("赤い丸")


def test_user_errors(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="set vocab_size to at most"):
        train_tokenizer(["あいう"] * 10, 5000, tmp_path / "t", threads=1)
    with pytest.raises(UsageError, match="too small"):
        train_tokenizer(sentences(0, 50), 300, tmp_path / "t", threads=1)
    with pytest.raises(DataError, match="no text"):
        train_tokenizer([], 500, tmp_path / "t", threads=1)
    assert not (tmp_path / "t").exists()
    with pytest.raises(DataError, match="no tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(DataError, match="Unicode"):
        Tokenizer.load(folder).encode("\ud800")
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["model"]["vocab"][5][0] = "<|other|>"
    definition["added_tokens"] = []
    with pytest.raises(DataError, match="control token"):
        Tokenizer(json.dumps(definition).encode(), b"{}")


def test_figures(tokenizer: Tokenizer) -> None:
    text = "赤い丸がある。"
    figures = tokenizer_figures(tokenizer, [text, ""])
    assert figures["roundtrip"] == 1
    assert figures["byte_share"] == 0
    assert figures["chars_per_token"] == len(text) / len(tokenizer.encode(text))
    assert tokenizer_figures(tokenizer, ["驫"]) == {"chars_per_token": 1 / 3, "byte_share": 1.0, "roundtrip": 1.0}
    with pytest.raises(DataError):
        tokenizer_figures(tokenizer, [""])
