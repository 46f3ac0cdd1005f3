"""Mutated model directories whose hashes were made to fit: a model or a typed error, quickly, in little memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hammer import hammer
from mutations import leak, mutated
from tally import times
from tiny import PROJECTOR, VISION, make_model

from jvlm.errors import JvlmError
from jvlm.files import MANIFEST, sha256_bytes
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor

MEMORY_MIB = 100
READ = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "spm.model", MANIFEST)


@pytest.fixture
def folder(tokenizer, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    load_directory(tmp_path / "model")  # what is imported on the way is not the attack's memory
    return tmp_path / "model"


def test_mutated_model_files(folder: Path, tally) -> None:
    files = {name: (folder / name).read_bytes() for name in READ if (folder / name).is_file()}

    def attack(number: int) -> str | None:
        name = list(files)[number % len(files)]
        _write(folder, files, name, mutated(files[name], number))
        try:
            load_directory(folder)
        except JvlmError as error:
            return leak(str(error))
        finally:
            (folder / name).write_bytes(files[name])
            (folder / MANIFEST).write_bytes(files[MANIFEST])
        return None

    count = times(120, 10_000)
    outcome = hammer(attack, count, slow_seconds=1.0)
    tally |= {
        "model_files_mutated": count,
        "model_file_crashes": len(outcome.crashes) + len(outcome.hangs),
        "model_file_untyped_errors": len(outcome.faults),
        "model_file_peak_mib": outcome.peak_mib,
    }
    assert (outcome.crashes, outcome.hangs, outcome.slow, outcome.faults) == ([], [], [], [])
    assert outcome.peak_mib < MEMORY_MIB


NASTY = (
    None,
    True,
    -1,
    0,
    1,
    7,
    10**9,
    10**30,
    0.5,
    -1e300,
    "",
    "x",
    "../../etc/passwd",
    [],
    [10**9] * 3,
    {},
    {"a": 1},
)


def _leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in a JSON value, itself included."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        yield from _leaves(below, (*path, key))


def _with(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    out = value.copy()
    out[path[0]] = _with(value[path[0]], path[1:], new)
    return out


def test_nasty_values_in_the_settings(folder: Path, tally) -> None:
    """Every value of every JSON file but the tokenizer's table, replaced by each of a list."""
    names = ("config.json", "tokenizer_config.json", MANIFEST)
    files = {name: (folder / name).read_bytes() for name in names}
    cases = [
        (name, path, new) for name in names for path in _leaves(json.loads(files[name])) for new in NASTY
    ]  # fmt: skip
    cases = cases[:: times(7, 1)]

    def attack(number: int) -> str | None:
        name, path, new = cases[number]
        _write(folder, files, name, json.dumps(_with(json.loads(files[name]), path, new)).encode())
        try:
            load_directory(folder)
        except JvlmError as error:
            return leak(str(error))
        finally:
            for kept, data in files.items():
                (folder / kept).write_bytes(data)
        return None

    outcome = hammer(attack, len(cases))
    tally |= {
        "model_settings_attacked": len(cases),
        "model_settings_crashes": len(outcome.crashes) + len(outcome.hangs),
    }
    assert (outcome.crashes, outcome.hangs, outcome.slow, outcome.faults) == ([], [], [], [])
    assert outcome.peak_mib < MEMORY_MIB


def _write(folder: Path, files: dict[str, bytes], name: str, data: bytes) -> None:
    """A file of the directory with the hash that fits it."""
    (folder / name).write_bytes(data)
    if name != MANIFEST:
        hashes = json.loads(files[MANIFEST])
        hashes[name] = {"sha256": sha256_bytes(data), "bytes": len(data)}
        (folder / MANIFEST).write_text(json.dumps(hashes))
