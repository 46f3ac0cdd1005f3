"""The keyword index: BM25 over pairs of neighbouring characters, in tantivy.

Japanese has no spaces, and pairs of characters find words that no dictionary knows; Latin text is found by them as
well. Small and capital letters are one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tantivy
from tantivy import Occur, Query

from jvlm.errors import DataError

HEAP_BYTES = 64_000_000  # what tantivy gathers in memory before it writes a segment
MOST_GRAMS = 48  # of a query: the rarest
_FIELD, _NUMBER = "grams", "number"


def _analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.ngram(2, 2))
    return builder.filter(tantivy.Filter.lowercase()).build()


class KeywordWriter:
    """Makes the index of a folder; passages come in order, their numbers count from 0."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        builder = tantivy.SchemaBuilder()
        builder.add_text_field(_FIELD, tokenizer_name=_FIELD, index_option="freq")
        builder.add_unsigned_field(_NUMBER, fast=True)
        index = tantivy.Index(builder.build(), str(folder))
        index.register_tokenizer(_FIELD, _analyzer())
        self._folder, self._writer, self._number = folder, index.writer(HEAP_BYTES, num_threads=1), 0

    def add(self, text: str) -> None:
        document = tantivy.Document()
        document.add_text(_FIELD, text)
        document.add_unsigned(_NUMBER, self._number)
        self._writer.add_document(document)
        self._number += 1

    def finish(self) -> None:
        self._writer.commit()
        self._writer.wait_merging_threads()
        for lock in self._folder.glob(".tantivy-*.lock"):  # they hold nothing, and come and go with their user
            lock.unlink()


class Keywords:
    """Searches an index of `KeywordWriter`. Raises DataError when tantivy cannot read it."""

    def __init__(self, folder: Path) -> None:
        try:
            index = tantivy.Index.open(str(folder))
            index.register_tokenizer(_FIELD, _analyzer())
            self._schema, self._searcher = index.schema, index.searcher()
        except (ValueError, OSError) as error:
            raise DataError(f"unreadable keyword index: {error}", where=folder, fix="build it again") from None
        self._grams = _analyzer()

    def best(self, text: str, limit: int) -> list[int]:
        """Passages that share the rarest pairs of `text`, by BM25."""
        return self._search([(Occur.Should, gram) for gram in self._rarest(text)], limit)

    def holding(self, piece: str, near: str, limit: int) -> list[int]:
        """Passages with every pair of `piece`; those that share most with `near` first."""
        grams = dict.fromkeys(self._grams.analyze(piece))
        more = [(Occur.Should, gram) for gram in self._rarest(near) if gram not in grams]
        return self._search([(Occur.Must, gram) for gram in grams] + more, limit) if grams else []

    def _rarest(self, text: str) -> list[str]:
        """The rarest of the pairs that stand in the index at all."""
        counts = {gram: self._searcher.doc_freq(_FIELD, gram) for gram in set(self._grams.analyze(text))}
        known = sorted((count, gram) for gram, count in counts.items() if count)
        return [gram for _, gram in known[:MOST_GRAMS]]

    def _search(self, grams: Sequence[tuple[Any, str]], limit: int) -> list[int]:
        if not grams or not self._searcher.num_docs:
            return []
        terms = [(occur, Query.term_query(self._schema, _FIELD, gram, "freq")) for occur, gram in grams]
        hits = self._searcher.search(Query.boolean_query(terms), limit, count=False).hits
        found = self._searcher.fast_field_values(_NUMBER, [address for _, address in hits])
        return [int(number) for number in found if number is not None]
