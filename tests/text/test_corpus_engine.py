"""The corpus build as a job: many processes, interruptions, chunks, profiles."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_text_corpus import rows, sentence, write

from jvlm.errors import DataError, JvlmError
from jvlm.files import lock
from jvlm.text import chunks
from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus

FILES = ("train.jsonl", "held_out.jsonl", "removed.jsonl", "sample.jsonl")


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> CorpusConfig:
    """Two sources with copies, near copies and bad lines, in many chunks."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4_000)
    texts = ["\n".join(sentence(n + 1000 * k) for k in range(3)) for n in range(120)]
    near = [text.replace("を見た", "を聞いた", 1) for text in texts[:40]]
    first = write(tmp_path / "in", "a", [*texts, "続きを読む", sentence(1) + "\nログイン | 会員登録"])
    second = write(tmp_path / "in", "b", [*near, *texts[40:60], sentence(7)])
    with open(second.path, "a") as file:
        file.write("{torn\n")
    exam = write(tmp_path / "in", "exam", [texts[100]])
    return CorpusConfig(inputs=[first, second], evaluation=[exam.path], held_out_share=0.1, workers=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def report(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "report.json").read_text())
    found["config"].pop("workers")
    return {name: value for name, value in found.items() if name not in ("seconds", "step_seconds")}


def test_the_bytes_do_not_depend_on_the_processes(config: CorpusConfig, tmp_path: Path) -> None:
    build_corpus(config, tmp_path / "one")
    assert {r["reason"] for r in rows(tmp_path / "one" / "removed.jsonl")} == {
        "boilerplate", "evaluation_text", "exact_duplicate", "near_duplicate"
    }  # fmt: skip
    build_corpus(config.model_copy(update={"workers": 3}), tmp_path / "three")
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert report(tmp_path / "one") == report(tmp_path / "three")
    assert not list(tmp_path.glob("*.work"))


def test_counts_and_verdicts_do_not_depend_on_the_size_of_a_chunk(
    config: CorpusConfig, tmp_path: Path, monkeypatch
) -> None:
    build_corpus(config, tmp_path / "small")
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 10**9)
    build_corpus(config, tmp_path / "large")
    small, large = (contents(tmp_path / name) for name in ("small", "large"))
    assert small["train.jsonl"] == large["train.jsonl"]
    assert sorted(small["removed.jsonl"].split(b"\n")) == sorted(large["removed.jsonl"].split(b"\n"))
    first, second = (report(tmp_path / name) for name in ("small", "large"))
    assert (first["total"], first["masked"]) == (second["total"], second["masked"])
    for reason in first["removed"]:
        assert first["removed"][reason]["lines"] == second["removed"][reason]["lines"]


class Stop(Exception):
    pass


def test_a_build_goes_on_where_it_stopped(config: CorpusConfig, tmp_path: Path, monkeypatch) -> None:
    build_corpus(config, tmp_path / "whole")
    made: list[Path] = []
    clean_chunk = chunks._clean_chunk

    def stopping(task: chunks.Task) -> None:
        if len(made) == 3:
            raise Stop
        made.append(task.folder)
        clean_chunk(task)

    monkeypatch.setattr(chunks, "_clean_chunk", stopping)
    with pytest.raises(Stop):
        build_corpus(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    cleaned: list[Path] = []
    monkeypatch.setattr(chunks, "_clean_chunk", lambda task: (cleaned.append(task.folder), clean_chunk(task)))
    build_corpus(config, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert cleaned
    assert set(made).isdisjoint(cleaned)


def test_other_settings_or_another_file_start_afresh(config: CorpusConfig, tmp_path: Path, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise Stop

    real = chunks._clean_chunk
    for change in ("settings", "file"):
        with monkeypatch.context() as patch:
            patch.setattr("jvlm.text.corpus.find_duplicates", stop)
            with pytest.raises(Stop):
                build_corpus(config, tmp_path / change)
        if change == "settings":
            config = config.model_copy(update={"min_chars": 21})
        else:
            with open(config.inputs[0].path, "a") as file:
                file.write(json.dumps({"text": sentence(77)}) + "\n")
        cleaned: list[Path] = []
        with monkeypatch.context() as patch:
            patch.setattr(chunks, "_clean_chunk", lambda task, to=cleaned: (to.append(task.folder), real(task)))
            build_corpus(config, tmp_path / change)
        build_corpus(config, tmp_path / f"{change}-at-once")
        assert len(cleaned) > 5
        assert contents(tmp_path / change) == contents(tmp_path / f"{change}-at-once")


def test_one_build_of_a_corpus_at_a_time(config: CorpusConfig, tmp_path: Path) -> None:
    with lock(tmp_path / "out.work"), pytest.raises(JvlmError, match="in use"):
        build_corpus(config, tmp_path / "out")


def test_a_torn_evaluation_file_is_told_and_nothing_is_built(config: CorpusConfig, tmp_path: Path) -> None:
    config.evaluation[0].write_text("{torn")
    with pytest.raises(DataError, match=r"exam\.jsonl"):
        build_corpus(config.model_copy(update={"workers": 2}), tmp_path / "out")


@pytest.mark.parametrize("wanted", [5, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_random_moments_the_same_bytes(config: CorpusConfig, tmp_path: Path, wanted: int) -> None:
    """The command is killed, whatever it is doing, and started again, until it is through; so many kills in all."""
    settings = tmp_path / "corpus.yaml"
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json") | {"workers": 2}))
    program = (
        "import sys; from pathlib import Path; from jvlm.config import load_config; from jvlm.text import chunks;"
        "from jvlm.text.corpus import CorpusConfig, build_corpus; chunks.CHUNK_BYTES = 4_000;"
        "print('ready', flush=True);"
        f"build_corpus(load_config(CorpusConfig, Path({str(settings)!r}), []), Path(sys.argv[1]))"
    )

    def start(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    begun = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    whole_time = time.monotonic() - begun
    rng, kills, builds = np.random.default_rng(4), 0, 0
    while kills < wanted:
        builds += 1
        out = tmp_path / f"out-{builds}"
        for _ in range(3):
            process = start(out)
            time.sleep(float(rng.uniform(0, whole_time)))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        assert start(out).wait() == 0
        assert contents(out) == contents(tmp_path / "whole")


def test_code_keeps_its_lines(tmp_path: Path) -> None:
    program = "def main():\n\n\n    # メニューを開く\n    return 'ログイン'\n    return 'ログイン'\n\tx = '１２３'"
    packed = "var a=" + "b(1,2);" * 200
    item = write(tmp_path / "in", "a", [program, packed])
    item.profile = "code"
    build_corpus(CorpusConfig(inputs=[item], held_out_share=0, workers=1), tmp_path / "out")
    assert [row["text"] for row in rows(tmp_path / "out" / "train.jsonl")] == [program]


def test_a_chart_may_repeat_and_count(tmp_path: Path) -> None:
    chart = "経過：血圧 120/80 mmHg\n経過：血圧 120/80 mmHg\n異常なし"
    values = "4.1 12.3 140 3.9 101\n4.2 12.1 141 4.0 100\n4.0 12.9 139 3.8 103 mg"
    kept = {}
    for profile in ("medical", "general"):
        item = write(tmp_path / "in", profile, [chart, values])
        item.profile = profile  # type: ignore[assignment]
        build_corpus(CorpusConfig(inputs=[item], held_out_share=0, workers=1), tmp_path / profile)
        kept[profile] = [row["text"] for row in rows(tmp_path / profile / "train.jsonl")]
    assert kept["medical"] == [chart, values]
    assert kept["general"] == [chart.replace("経過：血圧 120/80 mmHg\n", "", 1)]


def test_pairs_stay_whole_or_go(tmp_path: Path) -> None:
    english = "In 1909 his name was registered for printing a book which she had issued."
    japanese = "1909年、彼の名が、彼女の出した本の印刷名義人として届け出られた。"
    bad = [english, japanese, f"{english}\n本。", f"{english}\n{japanese}\nログイン | 会員登録"]
    item = write(tmp_path / "in", "a", [f"{english}\n{japanese}", *bad])
    item.profile = "parallel"
    build_corpus(CorpusConfig(inputs=[item], held_out_share=0, workers=1), tmp_path / "out")
    assert [row["text"] for row in rows(tmp_path / "out" / "train.jsonl")] == [f"{english}\n{japanese}"]
    reasons = {row["id"]: row["reason"] for row in rows(tmp_path / "out" / "removed.jsonl") if row["line"] is None}
    assert list(reasons.values()) == ["not_parallel", "not_parallel", "not_parallel", "boilerplate"]


def test_small_text_files_share_a_chunk(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(9):
        (tmp_path / "in" / f"{n}.txt").write_text(sentence(n))
    found: list[int] = []
    config = CorpusConfig(inputs=[CorpusInput(path=tmp_path / "in", source="x")], held_out_share=0, workers=1)
    for task in chunks._tasks(config, tmp_path, []):
        found.append(len(task.rows))
    assert found == [9]
    assert build_corpus(config, tmp_path / "out")["total"]["train"]["documents"] == 9
