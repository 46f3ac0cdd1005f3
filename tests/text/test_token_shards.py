import json
from pathlib import Path

import numpy as np
import pytest

from jvlm.errors import DataError
from jvlm.files import verify_folder
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.text.tokenizer import Tokenizer, train_tokenizer

DOCUMENTS = [
    Document(f"s:{n}", "赤い丸がある。\n" * (n % 4) + f"{n}番", "s", "CC0", "x.jsonl", n + 1) for n in range(600)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = [f"赤い丸と青い四角が{n}個ある。" for n in range(50)]
    return train_tokenizer(texts, 378, tmp_path_factory.mktemp("t") / "tok", threads=1)


def test_documents_and_identities_come_back(tmp_path: Path, tokenizer: Tokenizer) -> None:
    card = write_token_shards(iter(DOCUMENTS), tokenizer, tmp_path / "shards")
    verify_folder(tmp_path / "shards")
    shards = TokenShards(tmp_path / "shards")
    shards.check(tokenizer)
    assert shards.num_documents == len(DOCUMENTS)
    assert card["dtype"] == "uint16"
    assert shards.lengths.dtype == np.int64
    assert shards.lengths.sum() == card["tokens"]
    for index in (0, 1, 255, 256, 599):
        assert tokenizer.decode(shards.tokens(index).tolist()) == DOCUMENTS[index].text
        assert len(shards.tokens(index)) == shards.lengths[index]
        assert shards.identity(index) == {
            "id": f"s:{index}", "source": "s", "licence": "CC0", "path": "x.jsonl", "line": index + 1
        }  # fmt: skip
    with pytest.raises(IndexError):
        shards.tokens(600)


def test_the_fingerprint_follows_content_order_and_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def fingerprint(documents: list[Document]) -> str:
        write_token_shards(documents, tokenizer, tmp_path / "f")
        return TokenShards(tmp_path / "f").fingerprint

    first = fingerprint(DOCUMENTS)
    assert fingerprint(DOCUMENTS) == first
    assert fingerprint(DOCUMENTS[::-1]) != first
    other = train_tokenizer(["青い四角がある。"] * 20, 374, tmp_path / "tok", threads=1)
    with pytest.raises(DataError, match="another tokenizer"):
        TokenShards(tmp_path / "f").check(other)


def test_broken_folders_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="no documents"):
        write_token_shards([], tokenizer, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    with pytest.raises(DataError):
        TokenShards(tmp_path / "absent")
    folder = tmp_path / "cut"
    write_token_shards(DOCUMENTS[:5], tokenizer, folder)
    content = (folder / "tokens.bin").read_bytes()
    (folder / "tokens.bin").write_bytes(content[:-2])
    with pytest.raises(DataError, match="do not match"):
        TokenShards(folder)
    (folder / "tokens.bin").write_bytes(content)
    card = json.loads((folder / "card.json").read_text()) | {"format": 99}
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="format"):
        TokenShards(folder)
