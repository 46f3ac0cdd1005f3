"""`kill -9` at random moments, several processes at one folder, Ray: always the bytes of a job that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from caption_process import run
from tiny import encoded_image

from jvlm.bench import caption_chaos
from jvlm.errors import EXIT_ITEM_ERRORS
from jvlm.files import read_json, read_json_lines
from jvlm.infer.caption.leases import Leases

PROCESS = Path(__file__).with_name("caption_process.py")
IMAGES, UNIT, SECONDS = 40, 4, 0.06


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 images, one of them cut short."""
    root = tmp_path_factory.mktemp("kills") / "images"
    root.mkdir()
    for number in range(IMAGES):
        data = encoded_image(number)
        (root / f"{number:03d}.png").write_bytes(data[:200] if number == 17 else data)
    return root


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run(folder, out, unit=UNIT)
    return (out / "captions.jsonl").read_bytes()


def start(folder, out, seconds=SECONDS):
    command = [sys.executable, str(PROCESS), str(folder), str(out), str(UNIT), str(seconds)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)


def finish(process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()[-2000:]


def test_killed_at_random_moments_and_started_again(folder, undisturbed, tmp_path):
    draw, kills, begun = random.Random(11), 0, 0
    while kills < 8:
        process = start(folder, tmp_path / "out")
        deadline = time.monotonic() + draw.uniform(0.2, 0.8)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        begun += (tmp_path / "out" / "plan").exists()
    finish(start(folder, tmp_path / "out", 0))
    assert kills >= 3
    assert begun
    assert (tmp_path / "out" / "captions.jsonl").read_bytes() == undisturbed
    ids = [row["id"] for row in read_json_lines(tmp_path / "out" / "captions.jsonl")]
    assert ids == sorted({path.name for path in folder.iterdir()})


def test_three_processes_share_the_units_and_one_is_killed(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    running = [start(folder, out) for _ in range(3)]
    while len(list((out / "units").glob("[0-9]*.json")) if out.exists() else []) < 2:
        time.sleep(0.01)
    os.killpg(running[0].pid, signal.SIGKILL)
    running[0].communicate()
    for process in running[1:]:
        finish(process)
    assert (out / "captions.jsonl").read_bytes() == undisturbed
    workers = {read_json(path)["worker"] for path in (out / "units").glob("[0-9]*.json")}
    assert len(workers) >= 2


def test_a_lease_ends_with_its_process(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom jvlm.infer.caption.leases import Leases\n"
        f"with Leases(Path({str(tmp_path / 'leases')!r})).hold(3) as ours:\n"
        "    print(ours, flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"True\n"
    with Leases(tmp_path / "leases") as leases:
        with leases.hold(3) as ours, leases.hold(4) as other:
            assert (ours, other) == (False, True)
        process.kill()
        process.wait()
        with leases.hold(3, wait=True) as ours:
            assert ours


def test_a_file_system_without_locks_is_worked_on_all_the_same(folder, undisturbed, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("jvlm.infer.caption.leases.fcntl.lockf", refuse)
    run(folder, tmp_path / "out", unit=UNIT)
    assert (tmp_path / "out" / "captions.jsonl").read_bytes() == undisturbed


@pytest.mark.long
def test_the_bench_finds_nothing_lost():
    """Real processes of the command with a small model, killed; leases; Ray with a worker killed."""
    pytest.importorskip("ray")
    script = "import json\nfrom jvlm.bench import caption_chaos\nprint(json.dumps(caption_chaos.run(300, None, print)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failed_are_planted"]
    for way in (result, result["leases"], result["ray"]):
        assert (way["rows"], way["missing"], way["duplicate"], way["torn"]) == (300, 0, 0, 0)
        assert way["same_bytes"]
        assert way["kills"] >= 2


@pytest.mark.long
def test_ray_does_the_same_and_goes_on_on_two_processors(folder, tmp_path, tokenizer, processor):
    """With as many workers as Ray has places; stopped by a kill of everything, then again to its end."""
    pytest.importorskip("ray")
    from tiny import make_model

    from jvlm.model.directory import save_model

    save_model(tmp_path / "model", make_model(tokenizer), processor)
    command = [*caption_chaos._CAPTION, str(tmp_path / "model"), str(folder), "--unit", "4", "--max-new-tokens", "3"]
    command += ["--threads", "1", "--json"]
    assert subprocess.run([*command, "--out", str(tmp_path / "one")], timeout=200).returncode == EXIT_ITEM_ERRORS
    ray = [*command, "--out", str(tmp_path / "ray"), "--ray", "2"]
    process = subprocess.Popen(ray, start_new_session=True)
    while not list((tmp_path / "ray" / "units").glob("[0-9]*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run(ray, timeout=200).returncode == EXIT_ITEM_ERRORS
    first, second = (tmp_path / name / "captions.jsonl" for name in ("one", "ray"))
    assert first.read_bytes() == second.read_bytes()
