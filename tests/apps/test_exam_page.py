import json
from dataclasses import asdict
from pathlib import Path

import pytest

from jvlm.eval.items import ExamItem, Option

pytest.importorskip("streamlit.testing.v1", reason="the app extra is not installed")

from fake_service import FakeService, open_app, png, texts


def _item(number: int, **changed: object) -> ExamItem:
    options = [Option(label, f"選択肢{label}") for label in "abcde"]
    fields = {
        "id": f"x-{number}", "exam": "toyworld-test", "section": "A", "number": number, "group_id": f"x-{number}",
        "stem": f"第{number}問はどれか。", "shared_text": "", "options": options, "images": [],
        "answer_type": "mcq_single", "n_select": 1,
        "accept": [["b"]], "excluded": "none", "points": 1, "required": False, "kinki": ["e"],
        "source": "made", "sha256": "0", "tags": [],
    }  # fmt: skip
    return ExamItem(**(fields | changed))  # type: ignore[arg-type]


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    (tmp_path / "figure.png").write_bytes(png())
    items = [
        _item(1, images=["figure.png"]),
        _item(2, answer_type="mcq_multi", n_select=2, accept=[["a", "c"]]),
        _item(3, answer_type="numeric", options=[], n_select=1, accept=[["36.5"]], kinki=[]),
    ]
    lines = [json.dumps(asdict(item), ensure_ascii=False) for item in items]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def _press(at, key: str):
    return next(b for b in at.button if b.key == key).click().run()


def test_the_model_is_asked_with_and_without_the_picture(monkeypatch, exam: Path) -> None:
    service = FakeService()
    shown: list[int] = []

    def shares(sample):
        shown.append(len(sample.images))
        return [0.6, 0.1, 0.1, 0.1, 0.1] if sample.images else [0.1, 0.6, 0.1, 0.1, 0.1]

    service.shares = shares
    at = open_app(monkeypatch, service, "exam", EXAM=exam)
    _press(at, "ask-x-1")
    assert not at.exception
    assert shown == [1, 0]
    marked = [text for text in texts(at) if text.startswith("●")]
    assert [text[2] for text in marked] == ["a", "b"]


def test_confidence_and_abstention_come_from_an_evaluation(monkeypatch, exam: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    said = {"calibration": {"temperature": 2.0, "abstention": {"threshold": 0.9}}}
    results.write_text(json.dumps({"toyworld-test": said}))
    at = open_app(monkeypatch, FakeService(), "exam", EXAM=exam, RESULTS=results)
    _press(at, "ask-x-1")
    assert at.warning  # 0.64 for the first is below the threshold
    assert any("43%" in text for text in texts(at))  # and 0.43 at temperature 2


def test_a_whole_paper_is_marked_by_the_rules(monkeypatch, exam: Path) -> None:
    at = open_app(monkeypatch, FakeService(), "exam", EXAM=exam)
    at.button_group[0].set_value("b").run()
    _press(at, "next")
    at.button_group[0].set_value(["a", "c"]).run()
    _press(at, "next")
    next(f for f in at.text_input if f.key == "number-x-3").set_value("３６.５ ℃").run()
    assert any("3 / 3" in c.value for c in at.caption)
    sheet = next(b for b in at.button if b.label == "採点する").click().run()
    assert sheet.success
    assert "3 / 3" in str(sheet.table[0].value)


def test_without_an_exam_the_page_says_how_to_name_one(monkeypatch) -> None:
    at = open_app(monkeypatch, FakeService(), "exam")
    assert "--exam" in at.info[0].value


def test_a_damaged_exam_is_told(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("{}\n")
    at = open_app(monkeypatch, FakeService(), "exam", EXAM=tmp_path)
    assert not at.exception
    assert any("fields missing" in text for text in texts(at))
