"""A disk that is full, a kill at any step of a save, a loss that is not finite: nothing is lost or half-written."""

import shutil
import signal

import pytest
from forked import learned, said
from tally import times

from jvlm.errors import DataError
from jvlm.files import MANIFEST, read_json_lines, verify_folder

pytestmark = pytest.mark.slow
JOB = {"settings": {"steps": 3, "checkpoint_every": 2, "log_every": 3, "keep": 1}}


@pytest.fixture(scope="module")
def begun(forked, tmp_path_factory):
    """A run of three steps that was killed in the last, and what it learns when it is not."""
    home = tmp_path_factory.mktemp("begun")
    whole, folder = home / "whole", home / "begun"
    assert forked.run(whole, **JOB) == 0, said(whole)
    assert forked.run(folder, **JOB, fault={"kind": "kill", "call": 4, "rank": 0}) == -signal.SIGKILL  # 1: the dry step
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000002"]
    return folder, learned(whole)


@pytest.fixture(scope="module")
def steps(forked, begun, tmp_path_factory):
    """What a run that goes on from there does on the file system, in order."""
    folder = tmp_path_factory.mktemp("counted") / "run"
    shutil.copytree(begun[0], folder)
    assert forked.run(folder, **JOB, strike={"at": 0, "how": "count"}) == 0
    steps = [line for line in said(folder).splitlines() if line.startswith(("os.", "open ", "save_file "))]
    kinds = {line.split()[0] for line in steps}
    assert kinds >= {"os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.fsync", "open", "save_file"}
    return steps


def copy_of(begun, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(begun[0], folder)
    return folder


def whole_checkpoints(folder):
    """Names of those that are there; each must verify."""
    paths = sorted(path for path in (folder / "checkpoints").glob("step-*"))
    for path in paths:
        verify_folder(path)
    return [path.name for path in paths]


def leftovers(folder):
    return list(folder.rglob(".*"))


def test_killed_at_any_step_of_a_save_it_ends_the_same(forked, begun, steps, tmp_path, tally):
    newest = set()
    for at in range(1, len(steps) + 3):  # the writing of either file of tensors is two steps more
        folder = copy_of(begun, tmp_path / "run")
        assert forked.run(folder, **JOB, strike={"at": at, "how": "kill"}) == -signal.SIGKILL, at
        newest.add(whole_checkpoints(folder)[-1])
        assert forked.run(folder, **JOB, strike={"at": 0, "how": "kill"}) == 0, (at, said(folder))
        assert "damaged" not in said(folder)
        assert learned(folder) == begun[1], at
        verify_folder(folder / "model")
        assert not leftovers(folder / "model")
        tally["save_steps_killed"] = at
    assert newest == {"step-00000002", "step-00000003"}


def test_a_disk_full_from_any_step_on_is_an_error_and_nothing_is_lost(forked, begun, steps, tmp_path, tally):
    newest = set()
    writing = [step for step in steps if not step.startswith(("os.remove", "os.rmdir"))]
    for at in range(1, len(writing) + 1):
        folder = copy_of(begun, tmp_path / "run")
        assert forked.run(folder, **JOB, strike={"at": at, "how": "full"}) == 1, (at, said(folder))
        assert "cannot write: No space left on device (free disk space" in said(folder)
        assert not leftovers(folder)
        newest.add(whole_checkpoints(folder)[-1])
        if at % 3 == 0:
            assert forked.run(folder, **JOB, strike={"at": 0, "how": "kill"}) == 0, (at, said(folder))
            assert learned(folder) == begun[1], at
        tally["save_steps_without_space"] = at
    assert newest == {"step-00000002", "step-00000003"}


def test_a_file_that_the_kernel_lets_grow_no_further(forked, begun, tmp_path):
    """The real error in the middle of a real write: each file of a checkpoint is the first not to fit."""
    sizes = {file.stat().st_size for file in (begun[0] / "checkpoints" / "step-00000002").iterdir()}
    sizes = {size for size in sizes if size > 4096}  # what it prints goes into a file too
    assert len(sizes) >= 4
    for size in sorted(sizes):
        folder = copy_of(begun, tmp_path / "run")
        assert forked.run(folder, **JOB, limit=size - 1) == 1, (size, said(folder))
        assert "cannot write: " in said(folder)
        assert "File too large" in said(folder)
        assert whole_checkpoints(folder) == ["step-00000002"]
        assert not leftovers(folder)
        assert forked.run(folder, **JOB) == 0, said(folder)
        assert learned(folder) == begun[1]


def test_every_flipped_bit_of_a_checkpoint_is_seen(begun, tmp_path, tally):
    folder = copy_of(begun, tmp_path / "run") / "checkpoints" / "step-00000002"
    flips = 0
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        bits = range(0, 8 * len(data), 5 if file.name == MANIFEST else 8 * len(data) // 40)
        for bit in bits:
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            file.write_bytes(changed)
            with pytest.raises(DataError):
                verify_folder(folder)
            flips += 1
        file.write_bytes(data)
    assert flips > 1000
    tally["bits_flipped"] = flips
    verify_folder(folder)


def test_a_loss_that_is_not_finite_at_any_step(forked, tmp_path, tally):
    job = {"settings": {"steps": 20, "checkpoint_every": 3, "log_every": 1}}
    assert forked.run(tmp_path / "whole", **job) == 0
    whole, steps = learned(tmp_path / "whole"), range(1, 21, times(9, 1))
    for step in steps:
        folder = tmp_path / f"run-{step}"
        fault = {"kind": "nan", "call": step + 1, "rank": 0}  # the first call is the dry step
        assert forked.run(folder, **job, fault=fault) == 1, (step, said(folder))
        assert f"is not finite at step {step}; no weight was changed by it" in said(folder)
        assert [record["step"] for record in read_json_lines(folder / "not_finite.jsonl")] == [step]
        assert forked.run(folder, **job) == 0, (step, said(folder))
        assert learned(folder) == whole, step
    tally["steps_not_finite"] = len(steps)


def test_a_missing_file_and_a_missing_checkpoint(forked, begun, tmp_path):
    folder = copy_of(begun, tmp_path / "run")
    (folder / "checkpoints" / "step-00000002" / "optimizer.safetensors").unlink()
    assert forked.run(folder, **JOB) == 3
    assert "optimizer.safetensors: file is missing" in said(folder)
    assert "no checkpoint is whole" in said(folder)
    shutil.rmtree(folder / "checkpoints")
    must = {"settings": JOB["settings"] | {"resume": "must"}}
    assert forked.run(folder, **must) == 2
    assert "resume: must, but there is no checkpoint" in said(folder)
    assert not (folder / "checkpoints").exists()
    assert len(read_json_lines(folder / "metrics.jsonl")) == 0
