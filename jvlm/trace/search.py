"""Evidence for an answer: `Trace.open(folder).evidence(answer, image)`."""

from dataclasses import replace
from pathlib import Path

from jvlm.images.load import load_image
from jvlm.images.source import Source
from jvlm.text.normalise import normalise
from jvlm.trace.embedded import EmbeddedIndex
from jvlm.trace.spans import verbatim_spans
from jvlm.trace.types import MOST_ORIGINS, Evidence, Origin, Passage, Picture, TraceIndex

_LOOKED_AT = 40  # passages of each search that are merged
_FLATNESS = 10  # of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)
_VECTOR = 2.0  # what a rank by vector weighs beside one by keyword
_COPIES = 4  # times as many pictures are looked at as are shown: some are the same
_LONGEST_ANSWER = 4_000  # characters that are looked for


class Trace:
    """Looks in an index of training data for what an answer may come from."""

    def __init__(self, index: TraceIndex) -> None:
        self.index = index

    @classmethod
    def open(cls, folder: Path | str) -> "Trace":
        """The index of `jvlm trace build`. Raises DataError for a damaged one, UsageError without the extra `trace`."""
        return cls(EmbeddedIndex(Path(folder)))

    def evidence(
        self, answer: str, image: Source | None = None, *, max_passages: int = 10, max_images: int = 6
    ) -> Evidence:
        """Verbatim spans, nearest passages and, for an image, nearest pictures.

        Of a longer answer the first 4,000 characters are looked for. Raises DataError for an image that cannot be read.
        """
        text = normalise(answer)[:_LONGEST_ANSWER].rstrip()
        images = () if image is None else self._images(image, max_images)
        return Evidence(text, tuple(verbatim_spans(text, self.index)), self._passages(text, max_passages), images)

    def _passages(self, text: str, limit: int) -> tuple[Passage, ...]:
        """By reciprocal rank fusion of both searches; passages with the same text are one."""
        if not text.strip():
            return ()
        keyword = _ranks(self.index.keyword(text, _LOOKED_AT))
        vector = _ranks(self.index.nearest(text, _LOOKED_AT))
        scores: dict[int, float] = {}
        for ranks, weight in ((keyword, 1.0), (vector, _VECTOR)):
            for number, rank in ranks.items():
                scores[number] = scores.get(number, 0.0) + weight / (_FLATNESS + rank)
        groups: dict[str, list[int]] = {}  # passages by their text, the best first
        for number in sorted(scores, key=lambda number: (-scores[number], number)):
            groups.setdefault(self.index.passage(number).strip(), []).append(number)
        return tuple(
            Passage(found, self._origins(numbers), scores[(n := numbers[0])], keyword.get(n), vector.get(n))
            for found, numbers in list(groups.items())[:limit]
        )

    def _origins(self, passages: list[int]) -> tuple[Origin, ...]:
        records = dict.fromkeys(self.index.place(number).record for number in passages)
        return tuple(map(self.index.origin, list(records)[:MOST_ORIGINS]))

    def _images(self, image: Source, limit: int) -> tuple[Picture, ...]:
        """Of pictures that look the same, as one that stands in several sets, the first."""
        found: dict[bytes, Picture] = {}
        for number, similarity in self.index.nearest_images(load_image(image), _COPIES * limit):
            record, thumbnail = self.index.picture(number)
            origin = replace(self.index.origin(record), thumbnail=thumbnail)  # not the record's first picture
            found.setdefault(thumbnail, Picture(self.index.text(record), (origin,), similarity))
        return tuple(found.values())[:limit]


def _ranks(passages: list[int]) -> dict[int, int]:
    """The rank of each, from 1."""
    return {number: rank for rank, number in enumerate(passages, 1)}
