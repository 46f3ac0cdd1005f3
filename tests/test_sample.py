import json
from pathlib import Path
from typing import Any

import pytest

from jvlm.errors import DataError
from jvlm.sample import ImageRef, Message, Sample


def _sample() -> Sample:
    return Sample(
        "a",
        [
            Message("system", ["敬語で。"]),
            Message("user", [0, "と", 1, "の違いは？"]),
            Message("assistant", ["色です。"]),
        ],
        [ImageRef(data=b"x"), ImageRef(data=b"y")],
        rejected=[Message("assistant", ["形です。"])],
        meta={"set": "toy", "kind": "comparison"},
    )


def test_record_round_trip_through_json() -> None:
    sample = _sample()
    record = json.loads(json.dumps(sample.to_record()))
    assert Sample.from_record(record, sample.images) == sample
    assert record["num_images"] == 2


def test_text_leaves_images_out() -> None:
    assert _sample().messages[1].text == "との違いは？"


def test_plain_string_content_is_one_text_part() -> None:
    record = {"id": "a", "messages": [{"role": "document", "content": "本文"}]}
    assert Sample.from_record(record, []).messages == [Message("document", ["本文"])]


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"messages": []}, "not a sample record"),
        ({"id": "a", "messages": [{"role": "tool", "content": "x"}]}, "role 'tool' is none of"),
        ({"id": "a", "messages": [{"role": "user", "content": [1.5]}]}, "content must be"),
        ({"id": "a", "messages": [{"role": "user", "content": [True]}]}, "content must be"),
        ({"id": "a", "messages": [{"role": "user", "content": [1]}]}, "message names image 1, the sample has 1"),
        ({"id": "a", "messages": [{"role": "user", "content": [-1]}]}, "message names image -1"),
        ({"id": "a", "messages": [], "rejected": [{"role": "assistant", "content": [3]}]}, "message names image 3"),
        ({"id": "a", "messages": 3}, "not a sample record"),
    ],
)
def test_bad_records_are_data_errors(record: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        Sample.from_record(record, [ImageRef(data=b"x")], where="shard.tar:a:json")


def test_a_known_size_does_not_tell_image_references_apart() -> None:
    """A sample read back from a shard, whose index knows sizes, equals the one that was written."""
    assert ImageRef(data=b"x", size=(4, 3)) == ImageRef(data=b"x")
    assert ImageRef(data=b"x").size is None


def test_image_reference_reads_bytes_or_file(tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(b"pixels")
    assert ImageRef(path=str(tmp_path / "i")).read() == ImageRef(data=b"pixels").read()
    with pytest.raises(DataError, match="cannot read the image"):
        ImageRef(path=str(tmp_path / "absent")).read()
    with pytest.raises(DataError, match="neither bytes nor a path"):
        ImageRef().read()
