"""What the trace benchmark asks: sentences that do not stand in the text, that stand there once, and paraphrases.

Whether a sentence stands there is found by going through the whole text, without the index.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jvlm_data.toyworld.captions import caption
from jvlm_data.toyworld.scene import canonical, sample_split_scene

from jvlm.errors import UsageError
from jvlm.text.dedup import Sieve, shingle_hashes
from jvlm.text.normalise import normalise
from jvlm.text.raw import Document
from jvlm.trace.spans import LEAST

SHORTEST, LONGEST = 20, 100  # characters of a sentence
SAME, NEARLY_SAME = 4.5, 4.0  # mean of several people's marks, of which 5 is for equal meaning
_EDIT_EVERY = LEAST - 3
_SENTENCE = re.compile("[^。！？\n]+[。！？]")
Query = tuple[str, str]
"""What is asked, and the id of the record to be found."""


def sentences(text: str) -> list[str]:
    """The sentences of a text that have a plain length."""
    found = (match[0].strip() for match in _SENTENCE.finditer(text))
    return [sentence for sentence in found if SHORTEST <= len(sentence) <= LONGEST]


def drawn_sentences(documents: Sequence[Document], count: int, rng: np.random.Generator) -> Iterator[Query]:
    """Sentences of documents drawn at random, one of each, at most `count`."""
    for number in rng.permutation(len(documents)):
        if found := sentences(documents[number].text):
            yield found[int(rng.integers(len(found)))], documents[number].id
            count -= 1
        if not count:
            return


def altered(sentence: str, rng: np.random.Generator) -> str:
    """A sentence of which every ninth character is another kana, so that no long run of it is left."""
    characters = list(sentence)
    for place in range(int(rng.integers(_EDIT_EVERY)), len(sentence), _EDIT_EVERY):
        code = ord("あ") + int(rng.integers(80))
        characters[place] = chr(code + (chr(code) == sentence[place]))
    return "".join(characters)


def absent(texts: Sequence[str], documents: Sequence[Document]) -> list[str]:
    """Those of `texts` of which no run of `LEAST` characters stands in a document."""
    runs = [np.unique(shingle_hashes(text, LEAST)) for text in texts]
    wanted = np.unique(np.concatenate(runs))
    sieve, seen = Sieve(wanted), np.zeros(len(wanted), bool)
    for document in documents:
        if len(document.text) >= LEAST:
            found = sieve.passing(shingle_hashes(document.text, LEAST))
            places = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
            seen[places[wanted[places] == found]] = True
    return [text for text, own in zip(texts, runs, strict=True) if not seen[np.searchsorted(wanted, own)].any()]


def caption_pairs(root: Path) -> tuple[list[Document], dict[str, list[Query]]]:
    """One caption of each picture of JSTS, and other captions of the picture that people call its equal in meaning.

    The pairs are two people's captions of one photograph (JGLUE's JSTS, of the YJ captions). A query never has the
    words of the caption that is indexed. Of a picture the first caption is indexed.
    """
    files = sorted((root / "evals" / "jglue" / "datasets").glob("jsts-*/*.json"))
    rows = [json.loads(line) for file in files if "test" not in file.name for line in file.read_text().splitlines()]
    if not rows:
        raise UsageError("no JSTS", where=root, fix="put JGLUE below evals/jglue")
    indexed: dict[str, str] = {}
    queries: dict[str, list[Query]] = {"same": [], "nearly_same": []}
    for row in rows:
        picture, first, second = row["yjcaptions_id"].split("-")[0], row["sentence1"], row["sentence2"]
        if "_" in picture:  # captions of two pictures
            continue
        indexed.setdefault(picture, first)
        if indexed[picture] == first and normalise(first) != normalise(second) and row["label"] >= NEARLY_SAME:
            queries["same" if row["label"] >= SAME else "nearly_same"].append((second, f"jsts-{picture}"))
    return [Document(f"jsts-{name}", text, "jsts", "CC BY-SA 4.0") for name, text in indexed.items()], queries


def toy_captions(count: int, rng: np.random.Generator) -> tuple[list[Document], list[Query]]:
    """Captions of `count` scenes of the toy world, no two alike in what they hold, and of each another wording."""
    documents: list[Document] = []
    queries: list[Query] = []
    seen: set[str] = set()
    while len(documents) < count:
        scene = sample_split_scene(rng, "train")
        if (truth := canonical(scene.truth)) in seen:
            continue
        seen.add(truth)
        text, other = caption(scene, rng), caption(scene, rng)
        while other == text:
            other = caption(scene, rng)
        documents.append(Document(f"toy-{len(documents)}", text, "toyworld"))
        queries.append((other, documents[-1].id))
    return documents, queries
