"""The Japanese Wikipedia, as WikiExtractor leaves it → text per split.

Layout: what ``wikiextractor --json`` makes of a dump: ``AA/wiki_00``, ``AA/wiki_01``, …, each line one article with id,
url, title and text. There is no official split.
"""

from collections.abc import Iterator
from pathlib import Path

from jvlm_data.rows import Fault, read_rows, text, value
from jvlm_data.text_sets import TextEntry, write_text_set

from jvlm.errors import DataError

NAME, LICENCE = "wikipedia_ja", "CC-BY-SA"
LAYOUT = "what `wikiextractor --json` writes: AA/wiki_00 … (without -c, not compressed)"


def convert(source: Path, out: Path) -> dict[str, int]:
    """One document per article, its title as the first line. Counts per split, of `removed` and `errors`.

    Articles without text (WikiExtractor leaves redirects so) are recorded as errors. Raises DataError when nothing in
    `source` is usable.
    """
    return write_text_set(lambda faults: _entries(source, faults), NAME, out, source, LAYOUT)


def _entries(source: Path, faults: list[Fault]) -> Iterator[TextEntry]:
    for path in sorted(path for path in source.rglob("wiki_*") if path.is_file() and not path.suffix):
        for where, row in read_rows(path, source, faults):
            try:
                title, body = text(row, "title"), text(row, "text")
                entry_id = f"{NAME}/{value(row, 'id', int | str)}"
            except DataError as error:
                faults.append({"where": where, "error": error.what})
                continue
            if body.partition("\n")[0] != title:  # some versions of WikiExtractor print it, some do not
                body = f"{title}\n\n{body}"
            yield TextEntry(entry_id, where, body, LICENCE)
