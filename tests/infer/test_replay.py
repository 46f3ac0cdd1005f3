import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import encoded_image, make_model
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import DataError, UsageError
from jvlm.infer.conversation import Conversation, Settings, Turn
from jvlm.infer.generate import load_model
from jvlm.infer.identity import model_hash
from jvlm.model.directory import save_model


@pytest.fixture
def held(tokenizer, processor, tmp_path: Path) -> tuple[Path, Path]:
    """A model's folder and a conversation of two turns with it, saved."""
    folder, path = tmp_path / "model", tmp_path / "talk.jsonl"
    save_model(folder, make_model(tokenizer), processor)
    settings = Settings(max_new_tokens=12, temperature=0.8, top_p=0.9, seed=3)
    talk = Conversation("demo", model_hash(folder), [Turn("何色ですか。", [encoded_image(0)], settings)])
    model = load_model(folder)
    for number in range(2):
        if number:
            talk.turns.append(Turn("形は？", [], replace(settings, temperature=0.0)))
        turn = talk.turns[number]
        engine = model.engine(rows=1)
        engine.admit(talk.request(number), "turn")
        while engine.busy:
            said = next((event.generation for event in engine.step() if event.generation), None)
        assert said is not None
        turn.answer, turn.finish_reason, turn.num_tokens = said.text, said.finish_reason, said.num_tokens
    path.write_text(talk.to_jsonl(), encoding="utf-8")
    return folder, path


def test_the_same_answers_come_again(held) -> None:
    folder, path = held
    told = CliRunner().invoke(app, ["replay", str(path), str(folder)])
    assert told.exit_code == 0, told.output
    talk = Conversation.read(path)
    assert all(turn.answer.splitlines()[0] in told.output for turn in talk.turns if turn.answer.strip())
    assert "instead of" not in told.output


def test_another_answer_is_told(held) -> None:
    folder, path = held
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[1]["answer"] = "別の答え"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert CliRunner().invoke(app, ["replay", str(path), str(folder), "--turn", "1"]).exit_code == 0
    told = CliRunner().invoke(app, ["replay", str(path), str(folder), "--turn", "2"])
    assert told.exit_code == 1
    assert "instead of: 別の答え" in told.output


def test_a_folder_that_holds_no_model_is_told(held, tmp_path: Path) -> None:
    _, path = held
    told = CliRunner().invoke(app, ["replay", str(path), str(tmp_path / "none")])
    assert isinstance(told.exception, DataError)


def test_another_model_is_refused(held, tokenizer, processor, tmp_path: Path) -> None:
    _, path = held
    other = make_model(tokenizer)
    other.projector.requires_grad_(False)
    next(other.parameters()).data.add_(1)
    save_model(tmp_path / "other", other, processor)
    told = CliRunner().invoke(app, ["replay", str(path), str(tmp_path / "other")])
    assert isinstance(told.exception, UsageError)
