"""Mutated model directories whose hashes were made to fit: a model or a typed error, quickly, in little memory."""

import json
from pathlib import Path

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
        data = mutated(files[name], number)
        (folder / name).write_bytes(data)
        if name != MANIFEST:
            hashes = json.loads(files[MANIFEST])
            hashes[name] = {"sha256": sha256_bytes(data), "bytes": len(data)}
            (folder / MANIFEST).write_text(json.dumps(hashes))
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
