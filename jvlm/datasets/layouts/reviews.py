"""A folder of reviews (`jvlm.datasets.reviews`): accepted and mended answers as conversations, or mended as pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jvlm.datasets.layouts.record import Item
from jvlm.datasets.reviews import FILE, read_reviews, review_sample
from jvlm.errors import DataError
from jvlm.sample import Sample


@dataclass(frozen=True)
class Reviews:
    """The layout of conversations, or of preference `pairs`."""

    pairs: bool

    def items(self, source: Path, images: Path) -> Iterator[Item]:
        if not (source / FILE).is_file():
            raise DataError(f"no {FILE} in it", where=source, fix="name a folder of reviews that the app has written")
        wanted = ("mended",) if self.pairs else ("accepted", "mended")
        for number, review in read_reviews(source):
            if review.verdict in wanted:
                yield Item(f"{source / FILE}:{number}", review)

    def sample(self, item: Item, source: Path, images: Path) -> Sample:
        return review_sample(item.content, source, self.pairs)
