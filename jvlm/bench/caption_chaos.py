"""A captioning job killed again and again, against the same job left alone: no row missing, none double, none torn.

Pictures of the toy world, one in a hundred cut short, are captioned four times, always to a new folder: undisturbed by
one process; by one whose whole group is killed at random moments and started again; by three processes that share the
units, one of them killed now and then; by two workers of Ray, one of them killed now and then.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvlm_data.toyworld import general

from jvlm.errors import EXIT_ITEM_ERRORS, JvlmError
from jvlm.files import read_json, sha256_bytes, sha256_file
from jvlm.infer.caption.inputs import list_items
from jvlm.process import die_with_parent

SEED, SIDE = 7, 72
KILLS, LEASE_KILLS, RAY_KILLS = 30, 5, 5
LEASE_WORKERS, RAY_WORKERS = 3, 2
MAX_NEW_TOKENS = 16  # random weights never end a caption by themselves
ONE_BAD_IN = 100
_CAPTION = (sys.executable, "-c", "from jvlm.cli import main; main()", "caption")
_SAY = Callable[[str], None]


def run(count: int, model: Path | None, say: _SAY) -> dict[str, Any]:
    """Rows, kills, missing, duplicate and torn of each way, and whether its bytes are those of the undisturbed job.

    Those of the killed process stand at the top. With fewer than 10,000 images there are fewer kills.
    """
    kills = max(min(KILLS, count * KILLS // 10_000), 3)
    few = max(min(RAY_KILLS, kills // 2), 2)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        planted = _make_images(work / "images", count)
        chaos = _Chaos(work, model or _random_model(work / "model"), max(count // 100, 5), random.Random(SEED), say)
        began = time.perf_counter()
        chaos.alone()
        seconds = time.perf_counter() - began
        say(f"undisturbed: {seconds:.0f} s")
        chaos.killed(seconds, kills)
        chaos.shared(seconds, few)
        chaos.on_ray(seconds, few)
        result = chaos.compared()
        failed = [row["id"] for row in _rows(work / "undisturbed")[0] if row["error_code"] is not None]
    return {
        "images": count,
        "unit": chaos.unit,
        **result.pop("killed"),
        "undisturbed_seconds": round(seconds, 1),
        "planted": len(planted),
        "failed_are_planted": sorted(failed) == sorted(planted),
        **result,
    }


class _Chaos:
    """The ways in which one job is done, each to a folder of its own."""

    def __init__(self, work: Path, model: Path, unit: int, draw: random.Random, say: _SAY) -> None:
        self.work, self.unit, self._draw, self._say = work, unit, draw, say
        self._model = model
        self._spent: dict[str, tuple[int, float]] = {}

    def alone(self) -> None:
        self._wait(self._start("undisturbed"))

    def killed(self, seconds: float, kills: int) -> None:
        """The process and all it started, at a random moment, from its start-up on, and started again."""
        began, done = time.perf_counter(), 0
        share = 1.4 * seconds / (kills + 1)  # 0.7 of it on average: the last kill comes before the end
        while done < kills:
            process = self._start("killed")
            pause = self._draw.uniform(0, _start_up(self.work, seconds)) + self._draw.uniform(0, share)
            if _ended(process, pause):
                raise JvlmError(f"the job was done after {done} kills", fix="give more images with --count")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
        self._wait(self._start("killed"))
        self._note("killed", done, began)

    def shared(self, seconds: float, kills: int) -> None:
        """Three processes at the same folder; one of them is killed, and another comes in its place."""
        began, done = time.perf_counter(), 0
        running = [self._start("leases") for _ in range(LEASE_WORKERS)]
        while done < kills and not _ended(running[-1], self._draw.uniform(0.2, 1) * seconds / kills / 2):
            process = running.pop(self._draw.randrange(LEASE_WORKERS))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            running.append(self._start("leases"))
        for process in running:
            self._wait(process)
        self._note("leases", done, began)

    def on_ray(self, seconds: float, kills: int) -> None:
        """Two workers of Ray; one that has committed a unit is killed, and Ray starts it again."""
        began, done, dead = time.perf_counter(), 0, set[int]()
        process = self._start("ray", "--ray", str(RAY_WORKERS))
        while done < kills and process.poll() is None:
            _ended(process, self._draw.uniform(0.2, 1) * seconds / kills / 4)
            alive = sorted(_workers(self.work / "ray") - dead - {process.pid})
            if alive and process.poll() is None:
                pid = self._draw.choice(alive)
                dead.add(pid)
                done += _kill(pid)
        self._wait(process)
        self._note("ray", done, began)

    def compared(self) -> dict[str, Any]:
        """Each way by its name, held against the undisturbed one and against the input."""
        expected = {item.id for item in list_items(str(self.work / "images"))}
        whole = sha256_file(self.work / "undisturbed" / "captions.jsonl")
        result: dict[str, Any] = {}
        for name, (kills, seconds) in self._spent.items():
            rows, torn = _rows(self.work / name)
            ids = Counter(row["id"] for row in rows)
            result[name] = {
                "rows": len(rows),
                "kills": kills,
                "missing": len(expected - ids.keys()),
                "duplicate": sum(count - 1 for count in ids.values()),
                "torn": torn,
                "same_bytes": sha256_file(self.work / name / "captions.jsonl") == whole,
                "seconds": round(seconds, 1),
            }
        return result

    def _start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        settings = ["--unit", str(self.unit), "--max-new-tokens", str(MAX_NEW_TOKENS), "--threads", "1", "--json"]
        command = [*_CAPTION, str(self._model), str(self.work / "images"), "--out", str(self.work / name)]
        with open(self.work / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [*command, *settings, *more],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if code != EXIT_ITEM_ERRORS:
            told = "".join(path.read_text(encoding="utf-8")[-600:] for path in self.work.glob("*.log"))
            raise JvlmError(f"the job ended with exit code {code}, expected was {EXIT_ITEM_ERRORS}: {told}")

    def _note(self, name: str, kills: int, began: float) -> None:
        self._spent[name] = (kills, time.perf_counter() - began)
        self._say(f"{name}: {kills} kills, {self._spent[name][1]:.0f} s")


def _make_images(folder: Path, count: int) -> list[str]:
    """Pictures in folders of a thousand; the ids of those that were cut short."""
    planted = []
    for index in range(count):
        data = general.make("captions_val", SEED, index, SIDE).images[0].read()
        path = folder / f"{index // 1000:03d}" / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % ONE_BAD_IN == ONE_BAD_IN // 2:
            planted.append(path.relative_to(folder).as_posix())
            data = data[: len(data) // 2]
        path.write_bytes(data)
    return planted


def _random_model(folder: Path) -> Path:
    """A model directory of the demo's shape, with random weights."""
    import torch
    import yaml

    from jvlm.assets import asset
    from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig
    from jvlm.model.directory import save_model
    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.language import build_language_model
    from jvlm.model.processor import Processor
    from jvlm.model.vision import build_tower
    from jvlm.text.tokenizer import train_tokenizer

    stages = yaml.safe_load(asset("configs", "demo.yaml").read_text(encoding="utf-8"))["stages"]
    texts = [message.text for n in range(300) for message in general.make("captions_train", SEED, n, SIDE).messages]
    tokenizer = train_tokenizer(texts, 500, folder.with_name("tokenizer"), seed=SEED, threads=1)
    torch.manual_seed(SEED)
    special = tokenizer.special
    ids = special["<pad>"], special["<s>"], special["</s>"]
    language = build_language_model(LanguageConfig(**stages["pretrain"]["language"]), tokenizer.vocab_size, *ids)
    vision, projector = VisionConfig(**stages["clip"]["vision"]), ProjectorConfig(**stages["align"]["projector"])
    processor = Processor(tokenizer, vision, projector)
    model = JvlmModel(language, build_tower(vision), projector, processor.image_ids)
    save_model(folder, model, processor)
    return folder


def _rows(job: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a job's output, and how many lines and units are not whole."""
    rows, torn = [], 0
    for line in (job / "captions.jsonl").read_bytes().splitlines(keepends=True):
        try:
            rows.append(json.loads(line))
            torn += not line.endswith(b"\n")
        except ValueError:
            torn += 1
    for path in (job / "units").glob("[0-9]*.json"):
        torn += sha256_bytes(path.with_suffix(".jsonl").read_bytes()) != read_json(path)["sha256"]
    return rows, torn


def _start_up(work: Path, seconds: float) -> float:
    """Seconds before the undisturbed job's first unit."""
    spent = sum(read_json(path)["seconds"] for path in (work / "undisturbed" / "units").glob("[0-9]*.json"))
    return max(seconds - float(spent), 0.0)


def _workers(job: Path) -> set[int]:
    """Processes that have committed a unit of a job, by its records."""
    records = [read_json(path) for path in (job / "units").glob("[0-9]*.json")]
    return {int(record["worker"].rpartition(":")[2]) for record in records}


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process ends within so many seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
