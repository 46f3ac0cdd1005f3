"""The acceptance test: the whole recipe, shrunk to about a minute.

It runs twice: undisturbed, from the wheel installed in an empty folder; and from here with a kill or a Ctrl-C in the
middle of every stage. Both must come to the same figures.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from wheel import ROOT

from jvlm.recipe import STAGES

TRAINED = ("pretrain", "clip", "align", "pretrain_vl", "prefer")
PHASES = (
    "instruct/1-captions",
    "instruct/2-look_up",
    "instruct/3-conversations",
    "medical/1-pretrain",
    "medical/2-instruct",
)
JVLM = (sys.executable, "-c", "from jvlm.cli import main; main()")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def undisturbed(installed_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole run by the installed wheel, in an empty folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests' / 'in_children'}{os.pathsep}{installed_wheel}"}
    done = subprocess.run(
        [*JVLM, "run", "minute.yaml"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "runs" / "minute"


def headline(run: Path) -> dict[str, float]:
    figures = json.loads((run / "report.json").read_text())["headline"]
    return {name: value for name, value in figures.items() if name not in ("seconds", "peak_gib")}


def test_every_metric_moves_the_right_way(undisturbed: Path) -> None:
    for stage in TRAINED + PHASES:
        lines = (undisturbed / stage / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        assert losses[-1] < losses[0], stage
    gain = load_file(undisturbed / "align" / "model" / "model.safetensors")["projector.gain"]
    assert float((gain - 1).abs().max()) > 0.5  # fitted to the images: a few steps of training do not come that far
    figures = headline(undisturbed)
    assert figures["dirt_recall"] >= 0.9
    assert figures["clean_loss"] <= 0.01
    assert figures["bpc_model"] < 8  # bits: a uniform guess among the text's characters
    assert figures["exam_image_before"] <= 0.45
    captions = [json.loads(line) for line in (undisturbed / "caption" / "captions.jsonl").read_text().splitlines()]
    assert len(captions) == 8
    assert all(row["status"] == "ok" and isinstance(row["text"], str) for row in captions)
    page = (undisturbed / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert (undisturbed / "model" / "config.json").is_file()


def test_killed_in_the_middle_of_every_stage_it_comes_to_the_same(undisturbed: Path, tmp_path: Path) -> None:
    command = [*JVLM, "run", "minute.yaml"]
    run = tmp_path / "runs" / "minute"
    killed = []
    for number, stage in enumerate(STAGES[:-1]):
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )
        assert wait_for_middle(run, stage, process), process.communicate()[0][-3000:]
        if number % 2:
            os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole foreground group
        else:
            process.kill()
        process.wait(timeout=60)
        killed.append(not (run / stage / "done.json").exists())
        wait_until_unlocked(run / stage)
    assert sum(killed) >= len(STAGES) - 4, killed  # a stage of a second may be done before the signal arrives
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert headline(run) == headline(undisturbed)
    captions = [(where / "caption" / "captions.jsonl").read_bytes() for where in (run, undisturbed)]
    assert captions[0] == captions[1]


def heed_ctrl_c() -> None:
    """A job in the background of a shell, as a test run may be, is started deaf to Ctrl-C and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_middle(run: Path, stage: str, process: subprocess.Popen[str]) -> bool:
    """Until the stage has written a checkpoint, or something else of its own; False when the run ended before."""
    folder = run / stage
    while process.poll() is None:
        begun = [path.name for path in folder.glob("*")] if folder.is_dir() else []
        # not rglob: it would walk into folders that the stage is about to rename
        if any(folder.glob("checkpoints/step-*")) or (stage not in TRAINED and set(begun) - {"key", ".lock"}):
            return True
        if "done.json" in begun:
            return True
        time.sleep(0.02)
    return False


def wait_until_unlocked(folder: Path) -> None:
    import fcntl

    for _ in range(500):
        with open(folder / ".lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.02)
    raise AssertionError(f"a process still holds {folder}")
