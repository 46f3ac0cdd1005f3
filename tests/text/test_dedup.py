import numpy as np
import pytest

from jvlm.text.dedup import EXACT, NEAR, Deduplicator, jaccard
from jvlm.text.raw import Document

KANA = [chr(code) for code in range(0x3041, 0x3094)]


def random_text(seed: int, length: int) -> str:
    return "".join(np.random.default_rng([seed, 3]).choice(KANA, length))


def edited(text: str, share: float, seed: int) -> str:
    rng = np.random.default_rng([seed, 4])
    characters = list(text)
    for place in rng.choice(len(text), max(1, int(len(text) * share)), replace=False):
        characters[place] = "漢"
    return "".join(characters)


def run(texts: list[str], threshold: float = 0.8) -> list[tuple[str, str] | None]:
    documents = [Document(str(n), text, "s") for n, text in enumerate(texts)]
    return [(d.kind, d.of) if d else None for _, d in Deduplicator(threshold, seed=1).filter(documents)]


def test_exact_copies_go_whatever_the_white_space() -> None:
    texts = ["赤い丸がある。", "青い星。", "赤い丸が\n ある。", "青い星。"]
    assert run(texts) == [None, None, (EXACT, "0"), (EXACT, "1")]


def test_near_copies_are_found_and_the_earlier_stays() -> None:
    originals = [random_text(n, 60 + 17 * n) for n in range(60)]
    found = run(originals + [edited(text, 0.015, n) for n, text in enumerate(originals)])
    assert found[:60] == [None] * 60
    assert found[60:] == [(NEAR, str(n)) for n in range(60)]


def test_only_what_the_exact_similarity_confirms_goes() -> None:
    texts = []
    for n in range(40):
        texts += [random_text(n, 300), edited(random_text(n, 300), 0.004 * (n % 12), n)]
    found = run(texts)
    for n in range(0, 80, 2):
        copy = jaccard(texts[n], texts[n + 1]) >= 0.8
        assert (found[n + 1] is not None) == copy
    assert 0 < sum(f is None for f in found[1::2]) < 40


def test_a_different_number_is_a_different_finding_in_a_short_text() -> None:
    assert run(["血圧は120の80。", "血圧は130の90。"]) == [None, None]


@pytest.mark.parametrize("text", ["", "あ", "あいうえ", "あいうえお"])
def test_short_texts(text: str) -> None:
    assert run([text, text + "か", text]) == [None, None, (EXACT, "0")]


def test_documents_far_longer_than_a_block_and_batches_of_many() -> None:
    long = random_text(1, 30_000)
    texts = [random_text(n, 80) for n in range(10, 400)]
    found = run([long, *texts, edited(long, 0.01, 1), edited(texts[5], 0.02, 2)])
    assert found[:391] == [None] * 391
    assert found[391:] == [(NEAR, "0"), (NEAR, "6")]


def test_jaccard_by_hand() -> None:
    assert jaccard("abcdefg", "abcdefX") == 2 / 4  # abcde bcdef cdefg | abcde bcdef cdefX
    assert jaccard("あいうえおか", "あい うえ\nおか") == 1


def test_deterministic() -> None:
    texts = [edited(random_text(n % 20, 200), 0.01 * (n // 20), n) for n in range(80)]
    assert run(texts) == run(texts)
