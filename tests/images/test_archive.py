import io
from contextlib import suppress
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from jvlm.errors import DataError
from jvlm.images.archive import images_in_zip
from jvlm.images.load import load_image
from jvlm.images.source import Limits


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_members_named_like_images_come_in_order() -> None:
    data = _zip({"b.PNG": b"2", "a/a.jpg": b"1", "notes.txt": b"x", "__MACOSX/a.jpg": b"x"})
    assert images_in_zip(data, 10) == [("a/a.jpg", b"1"), ("b.PNG", b"2")]


def test_a_bomb_is_read_to_the_limit_of_an_image_and_then_refused() -> None:
    limits = Limits(max_bytes=1000)
    ((_, data),) = images_in_zip(_zip({"a.png": bytes(10_000_000)}), 10, limits=limits)
    assert len(data) == 1001
    with pytest.raises(DataError, match="larger than"):
        load_image(data, limits=limits)


def test_too_many_images_are_refused() -> None:
    with pytest.raises(DataError, match="3 images"):
        images_in_zip(_zip({f"{i}.png": b"x" for i in range(3)}), 2)


def test_every_damage_is_a_clear_error() -> None:
    good = _zip({"a.png": b"abcdefgh" * 50})
    with pytest.raises(DataError):
        images_in_zip(b"no zip", 10)
    for place in range(0, len(good), 3):
        bad = bytearray(good)
        bad[place] ^= 0xFF
        with suppress(DataError):
            images_in_zip(bytes(bad), 10)
