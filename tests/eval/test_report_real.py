"""The report of a run on real data: its headline, targets and page."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from exam_items import make_item
from page_tags import HOSTILE, Tags
from PIL import Image

from jvlm.eval.exam import score_exam
from jvlm.eval.report import write_report
from jvlm.eval.statistics import accuracy


def score(right: int, n: int, chance: float | None = 0.1, constant: float | None = 0.05) -> dict[str, Any]:
    return accuracy([i < right for i in range(n)], chance=chance, best_constant=constant)


def arms(image: int, other: int, removed: int, constant: str) -> dict[str, Any]:
    scored = {"image": score(image, 100), "other_image": score(other, 100), "removed": score(removed, 100)}
    return scored | {"constant": constant, "answers": 81}


def paper(right: int) -> dict[str, Any]:
    items = [make_item(f"A{i}") for i in range(100)]
    sheet = score_exam(items, {item.id: ["a"] if i < right else ["b"] for i, item in enumerate(items)}, 0.6)
    assert sheet.needed("general") == 60
    marks = {"constant": {"mcq_single": "a"}, "parse_failures": 2, "ties": 0}
    result = {"all": score(right, 100, 0.2, 0.25) | marks, "image": score(9, 40, 0.2, 0.25) | marks}
    return result | {
        "not_asked": {"A7": HOSTILE},
        "sheet": sheet.to_record() | {"points_missing": 7, "taboo_known": False},
    }


def general(bits: float, right: int) -> dict[str, Any]:
    pictures = {
        "naming_test": {"naming": arms(right, 6, 4, HOSTILE)},
        "counting_test": {"count_white": arms(50, 40, 40, "1")},
    }
    return {"pictures": pictures, "bpc": {"general": 3.0 + bits / 10, "exam": bits}}


RETRIEVAL = {
    "k": 10, "over_chance": 1.8, "interval": [1.5, 2.1], "source_only_over_chance": 12.0, "left_out": {},
    "sources": {"photos": {"n": 120, "captions": 60, "r_at_k": 0.3, "chance": 0.1666, "over_chance": 1.8}},
}  # fmt: skip
METRICS: dict[str, dict[str, Any]] = {
    "data": {
        "set": "real", "captions_train": 8465,
        "faults": [{"error": f"torn {HOSTILE}", "n": 1234, "first": "images/photos.jsonl:7"}],
    },
    "corpus": {"total": {"train": {"documents": 9, "chars": 3_882_106}}, "removed": {}},
    "pretrain": {
        "bpc_model": 3.9, "bpc_ngram": 3.7, "bpc_model_minus_ngram": {"value": 0.2, "n": 40, "interval": [-0.1, 0.4]},
    },
    "clip": {"retrieval_within_source": RETRIEVAL},
    "eval": {
        "models": {"instruct": general(5.0, 10), "medical": general(4.5, 30)},
        "exams": {"instruct": {"119": paper(20)}, "medical": {"119": paper(22)}},
        "bpc_change": {"exam": {"value": -0.5, "n": 900, "interval": [-0.6, -0.4]}},
    },
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "real-small"
    for stage, metrics in METRICS.items():
        (folder / stage).mkdir(parents=True)
        done = {"stage": stage, "seconds": 10.0, "peak_gib": 0.5, "metrics": metrics}
        (folder / stage / "done.json").write_text(json.dumps(done))
    (folder / "eval" / "images").mkdir()
    with open(folder / "eval" / "samples.jsonl", "w") as file:
        for i in range(20):
            record = {
                "id": f"photos-{i:06d}-caption",
                "model": "medical",
                "task": "shown",
                "arm": "image",
                "kind": "photos",
            }
            record |= {
                "question": "この画像を説明してください。",
                "output": HOSTILE,
                "gold": "城の写真",
                "correct": None,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            buffer = BytesIO()
            Image.new("RGB", (8, 8), (i, 90, 160)).save(buffer, "PNG")
            (folder / "eval" / "images" / f"{record['id']}.png").write_bytes(buffer.getvalue())
    return folder


def test_the_headline_of_real_data(run: Path) -> None:
    report = write_report(run)
    assert report["headline"] == {
        "bpc_model": 3.9,
        "bpc_ngram": 3.7,
        "general_bpc_before": 3.5,
        "general_bpc_after": pytest.approx(3.45),
        "exam_bpc_before": 5.0,
        "exam_bpc_after": 4.5,
        "retrieval_within_source_over_chance": 1.8,
        "grocery_accuracy": 0.3,
        "grocery_accuracy_other_image": 0.06,
        "grocery_accuracy_removed": 0.04,
        "grocery_best_constant": 0.05,
        "seconds": 50.0,
        "peak_gib": 0.5,
    }
    met = {row["name"]: row["met"] for row in report["targets"]}
    assert met == {
        "bpc_model": True,  # 3.9 is below 1.10 × 3.7
        "exam_bpc_after": True,
        "retrieval_within_source_over_chance": True,
        "grocery_accuracy": True,  # six times the constant
        "grocery_accuracy_other_image": True,
    }
    assert len(report["examples"]) == 20


def test_targets_missed_are_said_to_be(run: Path) -> None:
    changed = {
        "pretrain": {"bpc_model": 4.08, "bpc_ngram": 3.7},
        "clip": {"retrieval_within_source": RETRIEVAL | {"over_chance": 1.49}},
    }
    for stage, metrics in changed.items():
        done = {"stage": stage, "seconds": 10.0, "peak_gib": 0.5, "metrics": metrics}
        (run / stage / "done.json").write_text(json.dumps(done))
    report = write_report(run)
    missed = [row["name"] for row in report["targets"] if row["met"] is False]
    assert missed == ["bpc_model", "retrieval_within_source_over_chance"]


def test_the_page_tells_limits_yardsticks_and_papers(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    parsed = Tags(page)
    assert parsed.open == []
    assert "<script" not in page
    for said in (
        "3,882,106 字",
        "8,465 枚",
        "law, old essays",
        "12.0 ×",
        "不合格 failed",
        "22 / 100 <small>≥ 60</small>",
        "1.80 ×",
        "≥ 1.5 ×",
        "-0.500 <small>-0.600 – -0.400, n = 900</small>",
        "<td>1,234</td><td>images/photos.jsonl:7</td>",
    ):
        assert said in page, said
    assert len([tag for tag, _ in parsed.tags if tag == "img"]) == 20
    assert "≥ 5 grocery_best_constant" in parsed.text


def test_what_was_learned_is_judged_by_the_whole_interval(run: Path) -> None:
    changed = METRICS["eval"] | {
        "models": {
            "medical": {
                "pictures": {
                    "naming_test": {"naming": arms(30, 6, 4, "茶")},  # 0.22 to 0.40, the constant has 0.05
                    "counting_test": {"count_red": arms(8, 6, 4, "3")},  # 0.04 to 0.15 holds it
                    "vqa_rad_test": {"OPEN": arms(0, 0, 0, "肺")},  # 0 to 0.04
                },
                "bpc": {"general": 3.0, "exam": 5.1},
            },
            "instruct": {"bpc": {"general": 3.0, "exam": 5.0}},
        },
        "bpc_change": {"exam": {"value": 0.1, "n": 900, "interval": [0.05, 0.15]}},
        "exams": {"medical": {"119": paper(33), "120": paper(5)}},  # 0.25 to 0.43: above chance, not the constant
    }
    (run / "eval" / "done.json").write_text(json.dumps({"stage": "eval", "seconds": 1, "metrics": changed}))
    write_report(run)
    page = (run / "report.html").read_text()
    start = page.index("できること、できないこと")
    rows = page[start : page.index("</section>", start)].split("<tr>")[2:]
    verdicts = [next(v for v in ("learned", "no better", "worse") if v in row.rsplit("<td>", 1)[1]) for row in rows]
    # text (the difference holds 0), exam questions, retrieval, naming, red cells, open questions, the exams
    assert verdicts == ["no better", "worse", "learned", "learned", "no better", "worse", "no better", "worse"]


def test_a_caption_is_neither_right_nor_wrong(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    assert "×</span>" not in page
    assert "○</span>" not in page
