"""An exam evaluation killed at any moment goes on where it stopped: nothing lost, nothing asked twice."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from exam_folder import exam_items, write_exam
from examinees import Random

from jvlm.eval.exams import evaluate_exam_set
from jvlm.files import read_json_lines

KILLS = 20
ARMS = ("removed", "blank", "other_image", "order", "prompts")


class Slow(Random):
    """Takes a little time for each question, so that a kill comes between two of them, and within the writing."""

    def choice_log_likelihoods(self, samples, choices):
        time.sleep(0.001 * len(samples))
        return super().choice_log_likelihoods(samples, choices)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jvlm.eval.requests.BATCH_SIZE", 3)


def evaluate(folder: Path, out: Path) -> None:
    evaluate_exam_set(Slow(1), folder, out, name="slow", arms=ARMS)


def lines(out: Path) -> list[str]:
    path = out / "samples.jsonl"
    return sorted(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []


def test_killed_twenty_times_and_resumed(tmp_path: Path, small_batches: None) -> None:
    folder = write_exam(tmp_path / "made", exam_items("112", 40))
    evaluate(folder, tmp_path / "whole")
    whole, out = lines(tmp_path / "whole"), tmp_path / "killed"
    assert len(whole) == len(set(whole)) > 250

    draw, fork = random.Random(0), multiprocessing.get_context("fork")
    killed, moments = 0, set()
    for number in range(KILLS):
        child = fork.Process(target=evaluate, args=(folder, out))
        child.start()
        # at once, or when some more questions are answered, and a moment later
        wanted = len(lines(out)) + (0 if number % 5 == 0 else draw.randint(1, len(whole) // KILLS))
        while child.is_alive() and len(lines(out)) < wanted:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.005))
        if child.is_alive():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        assert len(lines(out)) == len(set(lines(out)))
        moments.add(len(lines(out)))
    assert killed == KILLS
    assert len(moments) > KILLS // 2  # the kills came at different moments of the work
    evaluate(folder, out)
    assert lines(out) == whole


def test_a_line_torn_by_a_power_failure_is_asked_again(tmp_path: Path) -> None:
    folder = write_exam(tmp_path / "made", exam_items("112", 20))
    evaluate_exam_set(Random(1), folder, tmp_path / "out", name="m")
    whole = lines(tmp_path / "out")
    path, draw = tmp_path / "out" / "samples.jsonl", random.Random(1)
    for _ in range(5):
        data = path.read_bytes()
        path.write_bytes(data[: draw.randrange(len(data))])
        evaluate_exam_set(Random(1), folder, tmp_path / "out", name="m")
        assert lines(tmp_path / "out") == whole


def test_a_finished_exam_is_scored_again_without_a_question(tmp_path: Path) -> None:
    class Silent(Random):
        def choice_log_likelihoods(self, samples, choices):
            raise AssertionError("asked again")

        generate = choice_log_likelihoods

    folder = write_exam(tmp_path / "made", exam_items("112", 20))
    first = evaluate_exam_set(Random(1), folder, tmp_path / "out", name="m", arms=ARMS)
    again = evaluate_exam_set(Silent(1), folder, tmp_path / "out", name="m", arms=ARMS)
    assert json.dumps(first) == json.dumps(again)
    assert len(read_json_lines(tmp_path / "out" / "samples.jsonl")) > 100
