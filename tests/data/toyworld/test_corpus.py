"""The text corpus: size, determinism, variety, and that what it says of a picture stays true to the end."""

import re
from collections import Counter

from jvlm_data.toyworld import corpus
from jvlm_data.toyworld.lexicon import ADJECTIVES, COUNTERS, counted, kanji
from jvlm_data.toyworld.world import ALL_PAIRS, COLOURS, HELD_OUT_PAIRS, POSITIONS, SHAPES

DOCUMENTS = [corpus.document(3, index) for index in range(1200)]


def test_reaches_the_size_asked_for_and_no_further() -> None:
    documents = list(corpus.documents(0, 50_000))
    sizes = [len(record["text"].encode()) for record in documents]
    assert sum(sizes) >= 50_000 > sum(sizes[:-1])
    assert list(corpus.documents(0, 20_000)) == documents[: len(list(corpus.documents(0, 20_000)))]


def test_same_seed_same_text_other_seed_other_text() -> None:
    assert corpus.document(3, 7) == DOCUMENTS[7]
    assert corpus.document(4, 7)["text"] != DOCUMENTS[7]["text"]


def test_ids_are_unique_and_all_sources_occur_evenly() -> None:
    assert len({record["id"] for record in DOCUMENTS}) == len(DOCUMENTS)
    counts = Counter(record["source"] for record in DOCUMENTS)
    assert set(counts) == set(corpus.SOURCES)
    assert min(counts.values()) > len(DOCUMENTS) / 5


def test_documents_have_the_length_of_a_paragraph() -> None:
    lengths = sorted(len(record["text"]) for record in DOCUMENTS)
    assert lengths[0] > 80
    assert 180 < lengths[len(lengths) // 2] < 400
    assert lengths[-1] < 700


def test_clean_documents_are_not_near_duplicates_of_each_other() -> None:
    shingles = [{text[i : i + 5] for i in range(len(text) - 4)} for text in (r["text"] for r in DOCUMENTS[:250])]
    highest = max(len(a & b) / len(a | b) for i, a in enumerate(shingles) for b in shingles[:i])
    assert highest < 0.65


def test_few_lines_recur() -> None:
    lines = Counter(line for record in DOCUMENTS for line in record["text"].split("\n"))
    assert sum(count for count in lines.values() if count > 1) / lines.total() < 0.03


def test_no_held_out_pair_is_named() -> None:
    text = "\n".join(record["text"] for record in DOCUMENTS)
    named = {(colour, shape) for colour, shape in ALL_PAIRS if ADJECTIVES[colour] + shape in text}
    assert named == set(ALL_PAIRS) - set(HELD_OUT_PAIRS)


def test_dialogues_answer_by_the_picture_first_described() -> None:
    checked = 0
    for text in (record["text"] for record in DOCUMENTS if record["source"] == "dialogue"):
        places = "|".join(POSITIONS)
        described = dict(re.findall(rf"({places})に([^、。]+?)(?=、|が)", text.split("\n")[0]))
        answers = re.findall(rf"：({places})にあるのは([^、。]+?)(?:です|だよ)。", text)
        answers += [(place, name) for name, place in re.findall(rf"：([^、。：]+)は({places})にある(?:よ)?。", text)]
        for place, name in answers:
            if "の" + place not in name and name in described.values():
                assert described[place] == name, text
                checked += 1
    assert checked > 200


def test_every_colour_shape_and_position_occurs() -> None:
    text = "\n".join(record["text"] for record in DOCUMENTS)
    assert all(word in text for word in (*COLOURS, *SHAPES, *POSITIONS, *COUNTERS))


def test_sums_are_right() -> None:
    text = "\n".join(record["text"] for record in DOCUMENTS)
    numbers = {kanji(n): n for n in range(30)}
    digits = "([一二三四五六七八九十]+)"
    sums = re.findall(f"{digits}に{digits}を足すと{digits}になります", text)
    assert len(sums) > 20
    assert all(numbers[a] + numbers[b] == numbers[c] for a, b, c in sums)


def test_counters() -> None:
    assert [counted(3, "傘"), counted(3, "丸"), counted(12, "猫")] == ["三本", "三個", "十二匹"]
    assert [counted(3, "丸", 1), counted(3, "傘", 1)] == ["三つ", "三本"]
    assert [kanji(n) for n in (0, 10, 20, 47)] == ["〇", "十", "二十", "四十七"]
