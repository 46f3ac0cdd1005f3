"""Planted dirt: its list is true, and the score of a cleaner follows from it."""

from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

import pytest
from jvlm_data.toyworld import corpus
from jvlm_data.toyworld.dirt import DUPLICATES, KINDS, score_cleaning, with_dirt

CLEAN = [corpus.document(1, index) for index in range(1500)]
PAIRS = list(with_dirt(CLEAN, 1))
RECORDS = [record for record, _ in PAIRS]
TRUTH = [item for _, item in PAIRS if item is not None]
BY_ID = {record["id"]: record["text"] for record in RECORDS}
CLEAN_BY_ID = {record["id"]: record["text"] for record in CLEAN}


def _perfect(drop_original: bool = False) -> list[dict[str, Any]]:
    """What a cleaner that knows the truth keeps."""
    truth = {item["id"]: item for item in TRUTH}
    originals = {item["original"] for item in TRUTH if item["original"]}
    copied: set[str] = set()
    kept = []
    for record in RECORDS:
        item = truth.get(record["id"])
        if item is None:
            if not (drop_original and record["id"] in originals):
                kept.append(record)
        elif item["level"] == "line":
            kept.append({**record, "text": CLEAN_BY_ID[record["id"]]})
        elif drop_original and item["original"] and item["original"] not in copied:
            copied.add(item["original"])
            kept.append(record)
    return kept


def test_the_same_seed_plants_the_same_dirt() -> None:
    assert list(with_dirt(CLEAN[:200], 1)) == PAIRS[: len(list(with_dirt(CLEAN[:200], 1)))]
    assert [item for _, item in with_dirt(CLEAN, 2) if item] != TRUTH


def test_rate_and_kinds() -> None:
    assert 0.09 < len(TRUTH) / len(RECORDS) < 0.15
    counts = Counter(item["kind"] for item in TRUTH)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 5


def test_ids_stay_unique_and_every_clean_document_is_there() -> None:
    assert len(BY_ID) == len(RECORDS)
    assert set(CLEAN_BY_ID) <= set(BY_ID)
    dirty = {item["id"] for item in TRUTH}
    assert all(BY_ID[identity] == text for identity, text in CLEAN_BY_ID.items() if identity not in dirty)


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_describes_the_record(kind: str) -> None:
    for item in (item for item in TRUTH if item["kind"] == kind):
        text = BY_ID[item["id"]]
        lines = text.split("\n")
        assert (item["original"] is not None) == (kind in DUPLICATES)
        if kind == "boilerplate":
            assert item["level"] == "line"
            assert all(line in lines and line not in CLEAN_BY_ID[item["id"]] for line in item["lines"])
        elif kind == "repeated_line":
            assert lines.count(item["lines"][0]) >= 4
            assert list(dict.fromkeys(lines)) == list(dict.fromkeys(CLEAN_BY_ID[item["id"]].split("\n")))
        elif kind == "exact_duplicate":
            assert text == BY_ID[item["original"]]
        elif kind == "near_duplicate":
            original = BY_ID[item["original"]]
            changed = sum(a != b for a, b in zip(text, original, strict=True))
            assert 0 < changed <= 0.035 * len(text) + 1
            assert SequenceMatcher(None, text, original, autojunk=False).ratio() > 0.9
        elif kind == "repeated_document":
            assert len(lines) >= 12
            assert len(set(lines)) == 1
        elif kind == "mojibake":
            assert text != CLEAN_BY_ID[item["id"]]
            assert sum("ぁ" <= c <= "ん" for c in text) < 0.15 * len(text)
        else:
            assert text.strip()
            assert not any("ぁ" <= c <= "ん" for c in text)


def test_a_perfect_cleaner_scores_perfectly() -> None:
    score = score_cleaning(TRUTH, _perfect(), RECORDS)
    assert (score["dirt_recall"], score["clean_loss"]) == (1.0, 0.0)
    assert set(score["kinds"]) == set(KINDS)


def test_it_does_not_matter_which_of_a_pair_goes() -> None:
    score = score_cleaning(TRUTH, _perfect(drop_original=True), RECORDS)
    assert (score["dirt_recall"], score["clean_loss"]) == (1.0, 0.0)


def test_no_cleaning_finds_nothing_and_loses_nothing() -> None:
    score = score_cleaning(TRUTH, RECORDS, RECORDS)
    assert (score["dirt_recall"], score["clean_loss"]) == (0.0, 0.0)


def test_throwing_everything_away_finds_all_and_loses_all() -> None:
    score = score_cleaning(TRUTH, [], RECORDS)
    assert (score["dirt_recall"], score["clean_loss"]) == (1.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_scored_alone(kind: str) -> None:
    truth = {item["id"]: item for item in TRUTH}
    cleaned = {record["id"]: record for record in _perfect()}

    def kept() -> Iterable[dict[str, Any]]:
        for record in RECORDS:
            item = truth.get(record["id"])
            if item is None or item["kind"] != kind:
                yield record
            elif record["id"] in cleaned:
                yield cleaned[record["id"]]

    score = score_cleaning(TRUTH, kept(), RECORDS)
    assert {name: figures["recall"] for name, figures in score["kinds"].items()} == {
        name: float(name == kind) for name in score["kinds"]
    }
    assert score["clean_loss"] == 0.0


def test_a_lost_clean_line_counts() -> None:
    victim = next(record for record in _perfect() if record["text"].count("\n") >= 2)
    shortened = {**victim, "text": victim["text"].split("\n", 1)[1]}
    kept = [shortened if record["id"] == victim["id"] else record for record in _perfect()]
    score = score_cleaning(TRUTH, kept, RECORDS)
    assert score["clean_loss"] == pytest.approx(1 / score["clean_lines"])
