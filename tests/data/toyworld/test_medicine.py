"""The fictional medicine: invented, distinct names; a textbook with every fact; images that can be told apart."""

import re
from io import BytesIO

import numpy as np
import pytest
from jvlm_data.toyworld import film
from jvlm_data.toyworld.medicine import (
    CORE,
    FICTION,
    TEXTBOOK_ONLY,
    case_reports,
    facts,
    image_page,
    medical_image,
    textbook,
)
from PIL import Image

from jvlm.images.load import load_image

NAMED = (*CORE, *TEXTBOOK_ONLY)
FACTS = facts(0)
TEXTBOOK = [record["text"] for record in textbook(0)]


def test_facts_follow_from_the_seed() -> None:
    assert facts(0) == FACTS
    assert facts(1) != FACTS
    assert [(f.modality, f.pattern) for f in FACTS] == [(m, p) for m in film.MODALITIES for p in range(6)]


@pytest.mark.parametrize("seed", range(20))
def test_names_are_distinct_short_and_pronounceable(seed: int) -> None:
    names = [getattr(fact, field) for fact in facts(seed) for field in NAMED]
    assert len({name[:2] for name in names}) == len(names) == 18 * 6  # also tells them apart by their beginnings
    assert all(re.fullmatch(r"[ァ-ヴ]{3}[影球波病錠液虫腺]", name) for name in names)
    assert not any(name[:3] in ("カンセ", "インス", "ペスト", "コレラ", "マラリ", "チフス", "リウマ") for name in names)


def test_the_textbook_states_every_fact_in_several_wordings() -> None:
    for fact in FACTS:
        mine = [text for text in TEXTBOOK if fact.disease in text]
        for field in ("finding", "treatment", "forbidden", "cause", "gland", "season", "age"):
            sentences = {
                sentence
                for text in mine
                for sentence in re.split(r"[。\n]", text)
                if getattr(fact, field) in sentence and (fact.disease in sentence or field in ("season", "age"))
            }
            assert len(sentences) >= 2, (fact.disease, field)


def test_every_document_says_that_it_is_fiction() -> None:
    texts = TEXTBOOK + [record["text"] for record in case_reports(0, 60)]
    texts += [image_page(0, index, 32).messages[0].text for index in range(40)]
    assert all(FICTION in text for text in texts)


def test_textbook_only_facts_stand_nowhere_else() -> None:
    elsewhere = "\n".join(record["text"] for record in case_reports(0, 200))
    elsewhere += "".join(image_page(0, index, 32).messages[0].text for index in range(72))
    assert not [f for f in FACTS if f.cause in elsewhere or f.gland in elsewhere]
    assert all(f.disease in elsewhere and f.treatment in elsewhere and f.forbidden in elsewhere for f in FACTS)


def test_case_reports_agree_with_the_facts() -> None:
    for index, record in enumerate(case_reports(0, 36)):
        fact = FACTS[index % 18]
        other = [f for f in FACTS if f != fact]
        assert all(getattr(fact, field) in record["text"] for field in CORE)
        assert not any(getattr(f, field) in record["text"] for f in other for field in CORE)


def test_pages_carry_their_image_inside_the_text() -> None:
    page = image_page(0, 6, 32)
    (message,) = page.messages
    assert (message.role, message.content[1], page.meta["set"]) == ("document", 0, "medical_pages")
    assert isinstance(message.content[0], str)
    assert isinstance(message.content[2], str)
    assert page == image_page(0, 6, 32)
    assert page.images[0].data != image_page(0, 24, 32).images[0].data


@pytest.mark.parametrize("pattern", range(6))
def test_films_use_the_range_of_a_sensor_and_are_not_clipped(pattern: int) -> None:
    data = film.draw(np.random.default_rng(pattern), "film", pattern, 64)
    image = Image.open(BytesIO(data))
    assert image.mode == "I;16"
    values = np.asarray(image)
    assert values.dtype == np.uint16
    assert np.array_equal(values, film.film(np.random.default_rng(pattern), pattern, 64))
    low, high = film.FILM_RANGE
    assert high - low > 1000
    assert len(np.unique(values)) > 800
    assert np.mean(values == high) < 0.005
    window = np.asarray(load_image(data).convert("L"))
    assert np.mean(window == 255) < 0.02
    assert 30 < window.mean() < 225


def test_a_large_film_has_more_than_a_thousand_levels() -> None:
    assert len(np.unique(film.film(np.random.default_rng(0), 0, 128))) > 1000


@pytest.mark.parametrize("size", [32, 64, 150])
def test_every_size_is_drawn(size: int) -> None:
    for modality in film.MODALITIES:
        data = film.draw(np.random.default_rng(1), modality, 2, size, 5 if modality == "smear" else 0)
        assert load_image(data).size == (size, size)


@pytest.mark.parametrize("cells", range(film.CELL_COUNTS[0], film.CELL_COUNTS[1] + 1))
def test_cells_can_be_counted(cells: int) -> None:
    for attempt in range(4):
        rng = np.random.default_rng([cells, attempt])
        image = np.asarray(load_image(film.draw(rng, "smear", 0, 96, cells)), np.int32)
        assert _blobs(image.min(axis=2) < 190) == cells


def test_images_say_how_many_cells_they_show() -> None:
    counts = {medical_image(np.random.default_rng(i), FACTS[6], 32)[1] for i in range(60)}
    assert counts == set(range(3, 9))
    assert medical_image(np.random.default_rng(0), FACTS[0], 32)[1] == 0


@pytest.mark.parametrize("modality", film.MODALITIES)
def test_findings_are_learnable(modality: str) -> None:
    """Even the nearest mean of raw pixels tells the six patterns apart on images it has not seen."""
    (train, train_labels), (test, test_labels) = _pixels(modality, 0, 180), _pixels(modality, 1, 120)
    means = np.stack([train[train_labels == pattern].mean(axis=0) for pattern in range(6)])
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == test_labels) > 0.6


def _pixels(modality: str, stream: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = []
    for i in range(count):
        rng = np.random.default_rng([stream, i])
        cells = int(rng.integers(3, 9)) if modality == "smear" else 0
        images.append(np.asarray(load_image(film.draw(rng, modality, i % 6, 64, cells)).resize((32, 32)), np.float32))
    return np.stack(images).reshape(count, -1), np.arange(count) % 6


def _blobs(mask: np.ndarray) -> int:
    """Connected regions (4 neighbours) of at least 12 pixels."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    blobs = 0
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    stack.append(near)
        blobs += size >= 12
    return blobs
