"""Tars that came from anywhere: what must not stand in one is named, and nothing of it is read."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jvlm.files import read_json, sha256_file, write_json
from jvlm.images.shards import check_shards, write_shards
from jvlm.images.shards.format import fingerprint_of
from jvlm.images.shards.members import members
from jvlm.sample import ImageRef, Message, Sample


def member(name: str, data: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def write_tar(path: Path, *content: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, data in content:
            tar.addfile(info, io.BytesIO(data))
    return path


HOSTILE = {
    "a pickle": member("b.pyd"),
    "a pickle in capitals": member("b.0.PKL"),
    "weights": member("b.pth"),
    "a soft link": member("b.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("b.jpg", b"", type=tarfile.LNKTYPE, linkname="a.jpg"),
    "a device": member("b.jpg", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": member("b.jpg", b"", type=tarfile.FIFOTYPE),
    "an absolute name": member("/b.jpg"),
    "a name that climbs": member("x/../../b.jpg"),
    "a giant": member("b.jpg", b"x" * 101),
    "a member twice": member("a.txt"),
    "a line break": member("b\n.jpg"),
}
FAULTS = {
    "a pickle": "a pickle, which runs code",
    "a pickle in capitals": "a pickle, which runs code",
    "weights": "a pickle, which runs code",
    "a soft link": "a link",
    "a hard link": "a link",
    "a device": "a device, a pipe",
    "a pipe": "a device, a pipe",
    "an absolute name": "leads out of the folder",
    "a name that climbs": "leads out of the folder",
    "a giant": "larger than",
    "a member twice": "stands twice",
    "a line break": "not printable",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_must_not_be_there_is_named_and_the_rest_stays(tmp_path: Path, kind: str) -> None:
    tar = write_tar(tmp_path / "x.tar", member("a.jpg", b"one"), member("a.txt"), HOSTILE[kind], member("c.jpg"))
    found = list(members(tar, max_bytes=100))
    assert [bool(m.fault) for m in found] == [False, False, True, False]
    assert FAULTS[kind] in str(found[2].fault)
    assert (found[0].key, found[0].field) == ("a", "jpg")
    assert tar.read_bytes()[found[0].offset :][: found[0].size] == b"one"


def test_a_key_that_comes_again_is_another_sample_of_that_name(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", member("a.jpg"), member("b.jpg"), member("a.txt"))
    assert [m.fault for m in members(tar)] == [None, None, "the key stands twice"]


def test_keys_are_webdatasets(tmp_path: Path) -> None:
    names = ["x/a.0.jpg", "x/a.Json", "b.c/d.txt", "README", ".hidden", "x/.dot"]
    tar = write_tar(tmp_path / "x.tar", member("x", b"", type=tarfile.DIRTYPE), *map(member, names))
    found = [(m.key, m.field) for m in members(tar)]
    assert found[:3] == [("x/a", "0.jpg"), ("x/a", "json"), ("b.c/d", "txt")]
    assert [field for _, field in found[3:]] == ["", "", ""]
    from webdataset.tariterators import base_plus_ext

    theirs = [base_plus_ext(name) for name in names]
    assert [(key, field.lower()) for key, field in theirs[:3]] == found[:3]


@pytest.mark.parametrize("cut", [700, 1100, 100])
def test_a_damaged_tar_is_read_up_to_there(tmp_path: Path, cut: int) -> None:
    tar = write_tar(tmp_path / "x.tar", member("a.jpg"), member("b.jpg", b"y" * 900))
    tar.write_bytes(tar.read_bytes()[:cut])
    *whole, last = members(tar)
    assert [m.key for m in whole] == ["a"][: cut > 512]
    assert "damaged from here on" in str(last.fault)
    (missing,) = members(tmp_path / "none.tar")
    assert missing.fault == "the shard is missing"


def test_a_shard_with_members_of_others_is_faulty(tmp_path: Path) -> None:
    """The hashes agree: whoever put them there wrote the card too."""
    picture = io.BytesIO()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(picture, "PNG")
    folder = tmp_path / "set"
    sample = Sample("a", [Message("user", [0, "何"])], [ImageRef(data=picture.getvalue())])
    write_shards([sample], folder)
    tar = folder / "SHARD-000000.tar"
    with tarfile.open(tar, "a") as appended:
        for info, data in (member("a.pkl"), member("q.jpg"), member("/etc/x.jpg")):
            appended.addfile(info, io.BytesIO(data))
    card = read_json(folder / "dataset.json")
    card["shards"][0] |= {"sha256": sha256_file(tar), "bytes": tar.stat().st_size}
    card["fingerprint"] = fingerprint_of([card["shards"][0]["sha256"]])
    write_json(folder / "dataset.json", card)
    assert [fault.removeprefix(f"{tar}:") for fault in check_shards(folder)] == [
        "a:pkl: a pickle, which runs code when it is read",
        "q:jpg: the index does not know it",
        "/etc/x:jpg: the name leads out of the folder",
    ]


def test_a_member_whose_content_the_tar_does_not_hold_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "cut.tar", member("a.jpg"), member("b.jpg", bytes(1000)))
    tar.write_bytes(tar.read_bytes()[: 2 * 512 + 512 + 999])
    whole, cut, *rest = members(tar)
    assert (whole.key, whole.fault) == ("a", None)
    assert cut.key == "b"
    assert "cut short" in str(cut.fault)
    assert all(member.fault for member in rest)
