"""Mutated tars and tars made to do harm: what is wrong is told and passed over, nothing is run or written elsewhere."""

import io
import tarfile
from pathlib import Path

from hammer import hammer
from mutations import leak, mutated
from tally import times
from tiny import samples

from jvlm.errors import JvlmError
from jvlm.images.shards import ShardReader, check_shards, write_shards
from jvlm.images.shards.members import members

MEMORY_MIB = 200


def test_mutated_tars_from_anywhere(tmp_path: Path, tally) -> None:
    write_shards(samples("captions_train", 4), tmp_path / "set")
    (whole,) = (path.read_bytes() for path in (tmp_path / "set").glob("*.tar"))

    def attack(number: int) -> str | None:
        path = tmp_path / "mutated.tar"
        path.write_bytes(mutated(whole, number))
        for member in members(path):
            if member.fault is not None:
                if told := leak(member.fault):
                    return told
            elif member.size > len(whole) + 10_000 or ("/" in member.key and ".." in member.key):
                return f"accepted {member}"
        return None

    count = times(800, 20_000)
    outcome = hammer(attack, count)
    tally |= {"shards_mutated": count, "shard_crashes": len(outcome.crashes) + len(outcome.hangs)}
    assert (outcome.crashes, outcome.hangs, outcome.slow, outcome.faults) == ([], [], [], [])
    assert outcome.peak_mib < MEMORY_MIB


def test_mutated_sets_of_our_own(tmp_path: Path, tally) -> None:
    """Every file of a set in turn: opened and read through, or told."""
    folder = tmp_path / "set"
    write_shards(samples("captions_train", 4), folder)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def attack(number: int) -> str | None:
        name = list(files)[number % len(files)]
        (folder / name).write_bytes(mutated(files[name], number))
        try:
            check_shards(folder)
            reader = ShardReader(folder)
            for index in range(len(reader)):
                reader.read(index)
        except JvlmError as error:
            return leak(str(error))
        finally:
            (folder / name).write_bytes(files[name])
        return None

    count = times(300, 5_000)
    outcome = hammer(attack, count)
    tally |= {"shard_sets_mutated": count, "shard_set_crashes": len(outcome.crashes) + len(outcome.hangs)}
    assert (outcome.crashes, outcome.hangs, outcome.faults) == ([], [], [])


def test_a_header_that_promises_terabytes(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 2**40
    path = tmp_path / "giant.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))

    def attack(_: int) -> str | None:
        found = list(members(path))
        return None if all(member.fault for member in found) else "a terabyte was accepted"

    outcome = hammer(attack, 1)
    assert (outcome.crashes, outcome.hangs, outcome.slow, outcome.faults) == ([], [], [], [])
    assert outcome.peak_mib < MEMORY_MIB


def test_a_compressed_tar_is_not_opened(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = 50_000_000
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    path = tmp_path / "bomb.tar"
    path.write_bytes(stream.getvalue())
    assert [member.fault is not None for member in members(path)] == [True]
