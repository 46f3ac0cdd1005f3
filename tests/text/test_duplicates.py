"""The duplicate search over chunks on disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from jvlm.text import duplicates
from jvlm.text.chunks import Chunk
from jvlm.text.dedup import MinHash, Sieve, band_keys, digest, folded, jaccard, shingle_hashes
from jvlm.text.duplicates import EXACT, NEAR, find_duplicates

KANA = [chr(code) for code in range(0x3041, 0x3094)]


def random_text(seed: int, length: int) -> str:
    return "".join(np.random.default_rng([seed, 3]).choice(KANA, length))


def edited(text: str, share: float, seed: int) -> str:
    rng = np.random.default_rng([seed, 4])
    characters = list(text)
    for place in rng.choice(len(text), max(1, int(len(text) * share)), replace=False):
        characters[place] = "漢"
    return "".join(characters)


def chunks_of(texts: list[str], folder: Path, size: int) -> list[Chunk]:
    """Chunks of `size` documents, written by hand."""
    minhash, chunks = MinHash(1), []
    for number, start in enumerate(range(0, len(texts), size)):
        part = [folded(text) for text in texts[start : start + size]]
        place = folder / f"{number:06d}"
        place.mkdir(parents=True)
        rows = [(json.dumps({"id": "", "text": text, "source": "s"}) + "\n").encode() for text in part]
        (place / "rows.jsonl").write_bytes(b"".join(rows))
        np.save(place / "offsets.npy", np.cumsum([0, *map(len, rows)]))
        signatures = minhash.signatures([shingle_hashes(text) for text in part])
        np.save(place / "signatures.npy", signatures)
        np.save(place / "bands.npy", band_keys(signatures))
        digests = np.frombuffer(b"".join(map(digest, part)), "<u8")
        np.save(place / "digests.npy", digests.reshape(-1, 2))
        chunks.append(Chunk(place, start))
    return chunks


def run(texts: list[str], folder: Path, threshold: float = 0.8, size: int = 50) -> list[tuple[str, int] | None]:
    verdicts = find_duplicates(chunks_of(texts, folder, size), threshold, 1, folder)
    found = [verdicts.duplicate(number) for number in range(len(texts))]
    return [(duplicate.kind, duplicate.of) if duplicate else None for duplicate in found]


def test_exact_copies_go_whatever_the_white_space(tmp_path: Path) -> None:
    texts = ["赤い丸がある。", "青い星。", "赤い丸が\n ある。", "青い星。"]
    assert run(texts, tmp_path, size=3) == [None, None, (EXACT, 0), (EXACT, 1)]


def test_near_copies_are_found_and_the_earlier_stays(tmp_path: Path) -> None:
    originals = [random_text(n, 60 + 17 * n) for n in range(60)]
    found = run(originals + [edited(text, 0.015, n) for n, text in enumerate(originals)], tmp_path)
    assert found[:60] == [None] * 60
    assert found[60:] == [(NEAR, n) for n in range(60)]


def test_only_what_the_exact_similarity_confirms_goes(tmp_path: Path) -> None:
    texts = []
    for n in range(40):
        texts += [random_text(n, 300), edited(random_text(n, 300), 0.004 * (n % 12), n)]
    found = run(texts, tmp_path)
    for n in range(0, 80, 2):
        copy = jaccard(texts[n], texts[n + 1]) >= 0.8
        assert (found[n + 1] is not None) == copy
    assert 0 < sum(f is None for f in found[1::2]) < 40


def test_a_different_number_is_a_different_finding_in_a_short_text(tmp_path: Path) -> None:
    assert run(["血圧は120の80。", "血圧は130の90。"], tmp_path) == [None, None]


@pytest.mark.parametrize("text", ["", "あ", "あいうえ", "あいうえお"])
def test_short_texts(text: str, tmp_path: Path) -> None:
    assert run([text, text + "か", text], tmp_path) == [None, None, (EXACT, 0)]


def test_a_chain_is_judged_by_what_stays(tmp_path: Path) -> None:
    """b is near a, c near b but not near a: b goes, so c stays; a copy of b is one of a, and c's copy one of c."""
    a = random_text(1, 400)
    b, c = a[44:], a[88:]
    assert min(jaccard(a, b), jaccard(b, c)) > 0.85
    assert jaccard(a, c) < 0.8
    assert run([a, b, c, b, c], tmp_path) == [None, (NEAR, 0), None, (NEAR, 0), (EXACT, 2)]


def test_the_verdicts_do_not_depend_on_parts_groups_slices_or_chunks(tmp_path: Path, monkeypatch) -> None:
    texts = [edited(random_text(n % 30, 150), 0.012 * (n // 30), n) for n in range(240)]
    whole = run(texts, tmp_path / "whole")
    assert 30 < sum(found is not None for found in whole) < 210
    for name, value in (("_PART", 50), ("_GROUP", 64), ("_SLICE", 8), ("_ESTIMATED_AT_ONCE", 7)):
        monkeypatch.setattr(duplicates, name, value)
    assert run(texts, tmp_path / "cut", size=17) == whole


def test_the_verdicts_are_those_of_one_document_after_another(tmp_path: Path) -> None:
    """A slow search by definition: each document against all that stay."""
    texts = [edited(random_text(n % 12, 250), 0.004 * (n % 7), n) for n in range(84)]
    slow: list[int | None] = []
    for n, text in enumerate(texts):
        near = [m for m in range(n) if slow[m] is None and jaccard(texts[m], text) >= 0.8]
        slow.append(near[0] if near else None)
    found = run(texts, tmp_path)
    assert [f is None for f in found] == [s is None for s in slow]
    assert 12 < sum(s is None for s in slow) < 70


def test_many_of_a_kind_are_compared_with_the_earliest(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(duplicates, "_MOST", 2)
    base = random_text(5, 600)
    texts = [edited(base, 0.004, n) for n in range(30)]
    found = run(texts, tmp_path)
    assert found[0] is None
    assert set(found[1:]) == {(NEAR, 0)}


def test_jaccard_by_hand() -> None:
    assert jaccard("abcdefg", "abcdefX") == 2 / 4  # abcde bcdef cdefg | abcde bcdef cdefX
    assert jaccard("あいうえおか", "あい うえ\nおか") == 1


@pytest.mark.parametrize("length", [1, 2, 5, 13, 32])
def test_a_run_has_one_hash_wherever_it_stands(length: int) -> None:
    rng = np.random.default_rng(length)
    text = "".join(rng.choice(["あ", "い", "𠮷"], 300))
    hashes = shingle_hashes(text, length)
    by_text: dict[str, set[int]] = {}
    for i, value in enumerate(hashes.tolist()):
        by_text.setdefault(text[i : i + length], set()).add(value)
    assert len(hashes) == len(text) - length + 1
    assert all(len(values) == 1 for values in by_text.values())
    assert len(set().union(*by_text.values())) == len(by_text)
    assert len(shingle_hashes(text[: length - 1], length)) == 1


def test_a_sieve_lets_its_own_through_and_little_else() -> None:
    rng = np.random.default_rng(0)
    own, others = rng.integers(2**64, size=(2, 100_000), dtype=np.uint64)
    sieve = Sieve(own)
    assert np.array_equal(sieve.passing(own), own)
    assert len(sieve.passing(others)) < len(others) / 8
    assert len(Sieve(own[:0]).passing(others)) == 0
