"""Trainings in processes of their own."""

from collections.abc import Iterator

import pytest
from forked import Forked
from tiny import corpus_texts

from jvlm.text.raw import Document
from jvlm.text.shards import write_token_shards
from jvlm.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def forked(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    """Starts trainings of a small language model, one at a time."""
    home = tmp_path_factory.mktemp("forked")
    tokenizer.save(home / "data" / "tokenizer")
    documents = [Document(f"d{i}", text, "toyworld") for i, text in enumerate(corpus_texts(60))]
    write_token_shards(documents, tokenizer, home / "data" / "tokens")
    one = Forked(home)
    yield one
    one.end()
