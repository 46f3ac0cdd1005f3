"""The command line: quick to start, one line for a mistake, exit codes that can be relied on."""

import gc
import json
import resource
import subprocess
import sys

import pytest
from tiny import encoded_image, make_model

from jvlm import cli
from jvlm.errors import EXIT_BAD_DATA, EXIT_ITEM_ERRORS, EXIT_USAGE
from jvlm.files import read_json_lines
from jvlm.images.shards import ShardReader
from jvlm.settings import DataStage

HEAVY = ("torch", "transformers", "open_clip", "webdataset", "streamlit")
LIGHT = (["--help"], ["plan", "minute.yaml", "--json"], ["data", "list", "--json"])


@pytest.fixture
def jvlm(monkeypatch, capsys):
    """Runs a command in this process; gives (exit code, output, errors)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jvlm", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        finally:
            gc.enable()  # a command counts on its process to end
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def test_help_takes_less_than_half_a_second_of_processor_time():
    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv = ['jvlm', '--help']; from jvlm.cli import main; main()"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0
        assert "caption" in done.stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize("arguments", LIGHT, ids=str)
def test_light_commands_import_nothing_heavy(arguments):
    script = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('HEAVY', [n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr))\n"
        f"sys.argv = ['jvlm', *{arguments!r}]\n"
        "from jvlm.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stderr


# --- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["run"], ["plan"], ["train", None, "data"]], ids=str)
def test_an_unknown_key_is_named_with_its_place_and_the_likely_one(jvlm, tmp_path, command):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nstages:\n  data: {}\n  corpus:\n    min_char: 3\n")
    verb, *rest = command
    arguments = [file if a is None else a for a in rest] or [file]
    code, _, error = jvlm(verb, *arguments, *([] if verb == "plan" else ["--runs", tmp_path / "runs"]))
    assert code == EXIT_USAGE
    assert f"{file}:5:5 stages.corpus.min_char: unknown key, did you mean 'min_chars'?" in error
    assert error.startswith("jvlm: error: ")
    assert not (tmp_path / "runs").exists()


def test_other_wrong_commands_are_usage_errors(jvlm, tmp_path):
    (tmp_path / "m").mkdir()
    for arguments in (
        ["run", "minute.yaml", "stages.data.text_byte=5"],
        ["run", "minute.yaml", "threads=0"],
        ["train", "minute.yaml", "pretraining"],
        ["bench", "nonsense"],
        ["no-such-command"],
        ["plan"],
        ["data", "build", "no-such-set", "--out", tmp_path / "out"],
        ["app", tmp_path / "m"],
        ["export", tmp_path / "m", tmp_path / "out", "--format", "gguf"],
    ):
        code, _, error = jvlm(*arguments)
        assert code == EXIT_USAGE, arguments
        assert error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_config_that_does_not_exist_is_a_usage_error(jvlm, tmp_path):
    code, _, error = jvlm("plan", tmp_path / "nowhere.yaml")
    assert "nowhere.yaml" in error
    assert code == EXIT_USAGE


def test_data_that_is_missing_is_bad_data(jvlm, tmp_path, tokenizer, processor):
    from jvlm.model.directory import save_model

    save_model(tmp_path / "model", make_model(tokenizer), processor)
    missing = tmp_path / "missing"
    for arguments in (
        ["caption", tmp_path / "model", missing, "--out", tmp_path / "c"],
        ["caption", missing, tmp_path, "--out", tmp_path / "c"],
        ["ask", tmp_path / "model", missing, "何ですか。"],
        ["ask", missing, missing, "何ですか。"],
        ["data", "check", missing],
        ["data", "build", tmp_path / "missing.jsonl", "--out", tmp_path / "out"],
        ["tokenizer", "train", missing, "--out", tmp_path / "out"],
        ["export", missing, tmp_path / "out", "--format", "llama"],
    ):
        code, output, error = jvlm(*arguments)
        assert code == EXIT_BAD_DATA, arguments
        assert "missing" in error + output
    assert not (tmp_path / "out").exists()


# --- work -------------------------------------------------------------------------------------------------------


def test_the_toy_world_is_built_with_settings(jvlm, tmp_path):
    few = [f"{name}=2" for name in DataStage.model_fields if name not in ("set", "image_size", "text_bytes", "workers")]
    settings = [*few, "text_bytes=10000", "workers=1", "image_size=32"]
    code, output, _ = jvlm("data", "build", "toyworld", "--out", tmp_path / "toy", *settings, "--json")
    assert code == 0
    assert json.loads(output)["shards/dialogue_pairs"] == {"samples": 2, "images": 0}
    assert len(ShardReader(tmp_path / "toy" / "shards" / "captions_train")) == 2


def test_a_size_is_found_by_its_name(jvlm):
    code, output, _ = jvlm("plan", "10m.yaml", "--json")
    assert code == 0
    assert json.loads(output)["stages"][0]["parameters"] == pytest.approx(10e6, rel=0.03)


def test_captions_with_bad_rows_are_built_and_the_exit_code_says_so(jvlm, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded_image(1))
    rows = ['{"image": "a.png", "text": "赤い丸です。"}', '{"image": "a.png"}', '{"image": "b.png", "text": "青"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    code, output, _ = jvlm("data", "build", tmp_path / "rows.jsonl", "--out", tmp_path / "set", "--json")
    assert code == EXIT_ITEM_ERRORS
    assert json.loads(output) == {"samples": 1, "errors": 2}
    assert len(ShardReader(tmp_path / "set")) == 1
    code, output, _ = jvlm("data", "check", tmp_path / "set", "--json")
    assert (code, json.loads(output)) == (0, {"faults": []})
    (tmp_path / "good.jsonl").write_text(rows[0] + "\n")
    assert jvlm("data", "build", tmp_path / "good.jsonl", "--out", tmp_path / "good")[0] == 0
    shard = next((tmp_path / "set").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    code, output, _ = jvlm("data", "check", tmp_path / "set", "--json")
    assert code == EXIT_BAD_DATA
    assert "content differs" in json.loads(output)["faults"][0]


def test_a_public_layout_is_built_in_several_processes(jvlm, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.png").write_bytes(encoded_image(number))
    (source / "0.txt").write_text("赤い丸です。")
    (source / "2.txt").write_text("青い丸です。")
    card = ["--licence", "CC0", "--origin", "https://example.org"]
    how = ["--workers", 2, "--samples-per-shard", 2, *card, "--json"]
    build = ["data", "build", source, "--out", tmp_path / "set", *how]
    code, output, _ = jvlm(*build)
    assert (code, json.loads(output)) == (EXIT_ITEM_ERRORS, {"samples": 2, "errors": 1})
    (row,) = read_json_lines(tmp_path / "set.errors.jsonl")
    assert row["where"] == str(source / "1.png")
    made = ShardReader(tmp_path / "set").card
    assert (made["layout"], made["licence"], made["source"]) == ("folder", "CC0", "https://example.org")
    assert [shard["samples"] for shard in made["shards"]] == [1, 1]
    assert jvlm("data", "check", tmp_path / "set")[:2] == (0, "no fault found\n")
    (source / "1.txt").write_text("緑の丸です。")
    assert jvlm(*build)[0] == 0
    assert not (tmp_path / "set.errors.jsonl").exists()
    known = ["toyworld", "--workers", 2], ["jaquad", "--source", source, "--licence", "CC0"]
    ours = [source / "0.png"], [source, "--layout", "csv"], [source, "text_bytes=5"], ["pipe:cat x.tar"]
    for wrong in (*known, *ours):
        code, _, error = jvlm("data", "build", *wrong, "--out", tmp_path / "out")
        assert code == EXIT_USAGE, wrong
        assert "give" in error or "leave" in error
    assert jvlm("data", "build", tmp_path / "none", "--layout", "folder", "--out", tmp_path / "out")[0] == EXIT_BAD_DATA


def test_building_shards_needs_no_torch(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded_image(1))
    (tmp_path / "in" / "a.txt").write_text("赤い丸です。")
    test_light_commands_import_nothing_heavy(["data", "build", str(tmp_path / "in"), "--out", str(tmp_path / "set")])


def test_an_exam_is_converted_and_the_exit_code_tells_of_faults(jvlm, tmp_path):
    row = {"id": "1", "exam": 58, "session": "am", "number": 1, "question": "どれか。", "choices": ["赤", "青"]}
    row |= {"choice_images": None, "images": [], "answer": [2], "flags": []}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n{\n")
    build = ["data", "build", "clinical_lab", "--out", tmp_path / "exam"]
    code, output, _ = jvlm(*build, "--source", tmp_path, "--json")
    assert code == EXIT_ITEM_ERRORS
    assert json.loads(output) == {"items": 1, "images": 0, "errors": 1}
    assert jvlm(*build)[0] == jvlm(*build, "--source", tmp_path, "text_bytes=5")[0] == EXIT_USAGE
    assert jvlm(*build, "--source", tmp_path / "nowhere")[0] == EXIT_BAD_DATA


def test_captioning_ask_and_export(jvlm, tmp_path, tokenizer, processor):
    from jvlm.model.directory import load_directory, save_model

    model = tmp_path / "model"
    save_model(model, make_model(tokenizer), processor)
    images, out = tmp_path / "images", tmp_path / "captions"
    images.mkdir()
    (images / "a.png").write_bytes(encoded_image(1))
    length = ["--max-new-tokens", 3]
    code, output, _ = jvlm("caption", model, images, "--out", out, *length, "--json")
    assert (code, json.loads(output)) == (0, {"rows": 1, "errors": 0, "written": 1, "complete": True})
    (images / "b.png").write_bytes(b"broken")
    more = ["--prompt", "何色？", "--prompt", "{name}は何？", "--format", "jsonl", "--format", "txt", *length]
    code, output, told = jvlm("caption", model, images, "--out", tmp_path / "two", *more)
    assert (code, json.loads(output)["errors"]) == (EXIT_ITEM_ERRORS, 2)
    assert "4 of 4 rows, 2 failed" in told
    statuses = [row["status"] for row in read_json_lines(tmp_path / "two" / "captions.jsonl")]
    assert statuses == ["ok", "ok", "error", "error"]
    code, output, _ = jvlm("caption", model, images, *length, "--dry-run", 9, "--json")
    seen = json.loads(output)
    assert (code, seen["items"], seen["tried"], seen["failed"]) == (0, 2, 2, 1)
    assert seen["hours"] == pytest.approx(2 / seen["images_per_s"] / 3600, abs=1e-3)
    assert seen["error_codes"] == {"not_an_image": 1}
    assert jvlm("caption", model, images, *length)[0] == EXIT_USAGE  # a job needs a folder
    assert jvlm("caption", model, images, "--out", out, "--max-new-tokens", 4)[0] == EXIT_USAGE
    assert jvlm("caption", model, images, "--out", tmp_path / "c.jsonl")[0] == EXIT_USAGE
    assert jvlm("caption", model, images, "--out", tmp_path / "x", "--max-failures", 0)[0] == EXIT_BAD_DATA
    assert jvlm("ask", model, tmp_path / "images" / "a.png", "何色ですか。", *length)[0] == 0
    assert jvlm("export", model, tmp_path / "llama", "--format", "llama")[0] == 0
    assert load_directory(tmp_path / "llama").kind == "llama"


def test_json_output_is_one_json_object(jvlm):
    code, output, _ = jvlm("plan", "minute.yaml", "--json")
    assert code == 0
    stages = json.loads(output)["stages"]
    assert {row["stage"] for row in stages} >= {"pretrain", "clip", "align", "instruct/3-conversations"}
    code, output, _ = jvlm("doctor", "--json")
    facts = json.loads(output)
    assert code == 0
    assert facts["attention"]["backend"] in ("sdpa", "xformers")
    code, output, _ = jvlm("data", "list", "--json")
    assert code == 0
    assert json.loads(output)["toyworld"]["licence"] == "Apache-2.0"
    assert "toyworld" in jvlm("data", "list")[1]
    assert "pretrain" in jvlm("plan", "minute.yaml")[1]
