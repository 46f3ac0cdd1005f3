"""`jvlm eval` killed at any moment goes on: exams, choices, generations and conversations, of a real (tiny) model."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exam_folder import exam_items, write_exam
from made_tasks import build_all
from tiny import LANGUAGE, make_model

from jvlm.commands import eval as command
from jvlm.eval import task as task_module
from jvlm.model.directory import save_model

NAMES = ["made", "jnli", "niilc", "ja_mt_bench"]


@pytest.fixture(scope="module")
def work(tokenizer, processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    build_all(folder)
    write_exam(folder / "data" / "exam" / "made", exam_items("112", 12))
    save_model(folder / "model", make_model(tokenizer, LANGUAGE.model_copy(update={"max_length": 1500})), processor)
    return folder


@pytest.fixture
def short(monkeypatch) -> None:
    """Small batches, so that there are many moments, and short answers."""
    monkeypatch.setattr("jvlm.eval.requests.BATCH_SIZE", 3)
    monkeypatch.setattr("jvlm.eval.text_tasks.CHUNK", 2)
    load = task_module.load_task
    monkeypatch.setattr(task_module, "load_task", lambda name: load(name).model_copy(update={"max_new_tokens": 4}))


def evaluate(work: Path, out: Path) -> None:
    import torch

    torch.set_num_threads(1)  # a forked child has none of its parent's threads
    exams = command._Exams(["removed"], [])
    command._evaluate(work / "model", NAMES, work / "data", out, "plain", None, 6, exams)


def records(out: Path) -> list[str]:
    files = sorted(out.rglob("samples.jsonl"))
    return sorted(line for file in files for line in file.read_text(encoding="utf-8").splitlines())


def test_killed_at_three_moments_and_resumed(work, tmp_path, short):
    evaluate(work, tmp_path / "whole")
    whole, out = records(tmp_path / "whole"), tmp_path / "killed"
    arms = {part.split('"arm": "')[1].split('"')[0] for part in whole}
    assert {"image", "removed", "answer", "turn 1", "turn 2"} <= arms
    draw, fork, moments = random.Random(3), multiprocessing.get_context("fork"), set()
    for _ in range(3):
        child = fork.Process(target=evaluate, args=(work, out))
        child.start()
        wanted = len(records(out)) + draw.randint(1, len(whole) // 4)
        while child.is_alive() and len(records(out)) < wanted:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.005))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert len(set(records(out))) == len(records(out)) < len(whole)
        moments.add(len(records(out)))
    assert len(moments) == 3
    evaluate(work, out)
    assert records(out) == whole


@pytest.mark.long
def test_the_command_killed_at_twenty_random_moments(work, tmp_path):
    def start(out: Path) -> subprocess.Popen:
        code = "import jvlm.eval.text_tasks as t, jvlm.eval.requests as r; t.CHUNK = r.BATCH_SIZE = 2\n"
        code += "from jvlm.cli import main; main()"
        arguments = ["eval", work / "model", "--tasks", "made,jnli,niilc", "--data", work / "data", "--out", out]
        return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    whole, out, draw = records(tmp_path / "whole"), tmp_path / "killed", random.Random(7)
    for _ in range(20):
        child = start(out)
        wanted = len(records(out)) + draw.randint(0, len(whole) // 20)
        while child.poll() is None and len(records(out)) < wanted:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert len(set(records(out))) == len(records(out))
    assert start(out).wait() == 0
    assert records(out) == whole
