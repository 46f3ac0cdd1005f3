import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from exam_items import make_item, multi, numeric
from page_tags import HOSTILE, Tags
from PIL import Image

from jvlm.errors import DataError
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.exam import score_exam
from jvlm.eval.report import headline_table, write_report
from jvlm.eval.statistics import accuracy

TOY_KEYS = (
    "caption_exact_test", "caption_exact_compositional", "caption_exact_drop_prefer", "vqa_test",
    "vqa_removed_over_constant", "vqa_forgetting", "retrieval_r1_of_100", "bpc_model", "bpc_ngram",
    "exam_image_before", "exam_image_after", "exam_image_removed", "exam_twohop_unseen", "hallucination_before",
    "hallucination_after", "dirt_recall", "clean_loss", "seconds", "peak_gib",
)  # fmt: skip


def score(right: int, n: int, chance: float | None = None, constant: float | None = None) -> dict[str, Any]:
    return accuracy([i < right for i in range(n)], chance=chance, best_constant=constant)


def audit(gain: int, harm: int, n: int = 100) -> dict[str, Any]:
    first = {str(i): i < 30 + gain for i in range(n)}
    second = {str(i): i < 30 or n - harm <= i for i in range(n)}
    return image_removal_audit(first, second)


def general(exact: int, hallucinated: int, vqa: int) -> dict[str, Any]:
    kinds = {kind: score(right, 125, 0.125, 0.14) for kind, right in (("colour", 120), ("shape", 110), ("count", 95))}
    blind = {kind: {**score(20, 125, 0.125, 0.14)} for kind in kinds}
    removed = {**score(600, 3000, 0.2, 0.15), "kinds": blind, "over_constant": 0.05, "over_constant_max": 0.07}
    return {
        "captions_test": {"exact": score(exact, 500, None, 0.01), "hallucination": score(hallucinated, 500)},
        "captions_compositional": {"exact": score(150, 500, None, 0.01)},
        "vqa_test": {**score(vqa, 1000, 0.2, 0.22), "kinds": kinds, "removed": removed, "audit": audit(40, 2)},
    }


def exam(right: int, removed: int, answers: str) -> dict[str, Any]:
    items = [make_item(f"B{i}", section="B", required=True, points=3 if i > 4 else 1, kinki=["e"]) for i in range(10)]
    items += [make_item(f"A{i}", images=["i.png"]) for i in range(10)] + [multi("m", "ab"), numeric("n", "7")]
    marks = {item.id: list(answers) if item.answer_type == "mcq_single" else None for item in items}
    return {
        "exam_image": {
            "image": score(right, 360, 0.2, 0.21), "removed": score(removed, 360, 0.2, 0.21), "audit": audit(35, 5)
        },
        "exam_paper": {"image": score(right, 400, 0.18, 0.2), "sheet": score_exam(items, marks, 0.6).to_record()},
        "exam_twohop": {"image": score(30, 100, 0.2, 0.22)},
    }  # fmt: skip


METRICS: dict[str, dict[str, Any]] = {
    "corpus": {
        "dirt_recall": 0.97, "clean_loss": 0.004,
        "kinds": {"mojibake": {"recall": 0.99, "items": 310}, "boilerplate": {"recall": 0.953, "items": 64}},
        "total": {"read": {"documents": 12000, "chars": 9}, "train": {"documents": 11000, "chars": 5_000_000}},
        "removed": {
            "mojibake": {"documents": 321, "lines": 0, "examples": [{"excerpt": "譁�"}, {"excerpt": HOSTILE}]},
            "boilerplate": {"documents": 0, "lines": 5, "examples": []},
        },
    },
    "tokenizer": {"vocab_size": 4096, "chars_per_token": 2.345, "byte_share": 0.0123, "roundtrip": 0.998},
    "pretrain": {"bpc_model": 1.234, "bpc_ngram": 1.987},
    "clip": {
        "retrieval": {
            "r1": 0.61, "image_to_text": 0.66, "text_to_image": 0.61, "image_to_text_interval": [0.63, 0.69],
            "text_to_image_interval": [0.58, 0.64], "pools": 10, "pool_size": 100, "chance": 0.01,
        }
    },
    "instruct": {}, "prefer": {}, "medical": {},
    "eval": {
        "models": {
            "instruct": general(380, 60, 880), "prefer": general(375, 30, 890), "medical": general(370, 35, 875)
        },
        "exam": {"before": exam(90, 80, "b"), "after": exam(300, 120, "a")},
    },
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    for number, (stage, metrics) in enumerate(METRICS.items()):
        (folder / stage).mkdir(parents=True)
        done = {"stage": stage, "seconds": 10.0 + number, "peak_gib": 0.5 + number / 10, "metrics": metrics}
        (folder / stage / "done.json").write_text(json.dumps(done))
        if stage in ("pretrain", "clip", "instruct", "prefer", "medical"):
            lines = [
                {"step": s, "loss": 7 / (1 + s / 40) + 0.2 * (s % 7 == 0), "lr": 1e-3, "tokens_per_s": 9}
                for s in range(400)
            ]
            (folder / stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "eval" / "images").mkdir()
    with open(folder / "eval" / "samples.jsonl", "w") as file:
        for i in range(20):
            name = f"vqa_test-{i:06d}"
            output = HOSTILE if i == 3 else f"答え{i}です。"
            for model, text in (("instruct", "古い答え"), ("medical", output)):
                record = {"id": name, "model": model, "task": "vqa_test", "arm": "image", "kind": "colour"}
                record |= {"question": f"何色ですか{i}。", "output": text, "gold": "赤", "correct": i % 3 > 0}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            if i < 12:
                buffer = BytesIO()
                Image.new("RGB", (64, 64), (20 * i, 90, 160)).save(buffer, "PNG")
                (folder / "eval" / "images" / f"{name}.png").write_bytes(buffer.getvalue())
    return folder


def change(run: Path, stage: str, *keys: str, value: Any) -> None:
    path = run / stage / "done.json"
    done = json.loads(path.read_text())
    inner = done["metrics"] if keys[0] not in done else done
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(done))


def test_every_headline_figure_is_found(run: Path) -> None:
    report = write_report(run)
    headline = report["headline"]
    assert headline == {
        "caption_exact_test": 370 / 500,
        "caption_exact_compositional": 150 / 500,
        "caption_exact_drop_prefer": pytest.approx(0.01),
        "vqa_test": 0.875,
        "vqa_removed_over_constant": 0.05,
        "vqa_forgetting": pytest.approx(0.015),
        "retrieval_r1_of_100": 0.61,
        "bpc_model": 1.234,
        "bpc_ngram": 1.987,
        "exam_image_before": 0.25,
        "exam_image_after": 300 / 360,
        "exam_image_removed": 120 / 360,
        "exam_twohop_unseen": 0.3,
        "hallucination_before": 0.12,
        "hallucination_after": 0.06,
        "dirt_recall": 0.97,
        "clean_loss": 0.004,
        "seconds": sum(10 + i for i in range(8)),
        "peak_gib": pytest.approx(1.2),
    }
    assert tuple(headline) == TOY_KEYS
    assert all(row["met"] for row in report["targets"])
    assert json.loads((run / "report.json").read_text())["headline"] == headline


def test_targets_not_met_and_the_terminal_table(run: Path) -> None:
    for keys, value in (
        (("exam", "after", "exam_image", "image", "value"), 0.69),
        (("models", "prefer", "captions_test", "hallucination", "value"), 0.081),
        (("models", "prefer", "vqa_test", "value"), 0.905),
    ):
        change(run, "eval", *keys, value=value)
    change(run, "pretrain", "bpc_ngram", value=1.234)
    table = {name: (value, target, met) for name, value, target, met in headline_table(write_report(run))}
    assert table["exam_image_after"] == (0.69, "≥ 0.7", False)
    assert table["hallucination_after"] == (0.081, "≤ 2/3 hallucination_before", False)
    assert table["vqa_forgetting"][2] is True  # 0.905 - 0.875 is a hair above 0.03 in floating point
    assert table["bpc_model"][1:] == ("< bpc_ngram", False)  # equal is not below
    assert table["bpc_ngram"][1:] == ("", None)
    assert table["seconds"][2] is None
    assert list(table) == list(TOY_KEYS)
    assert "未達 not met" in (run / "report.html").read_text()


def test_page_is_self_contained_and_well_formed(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    assert "http" not in page
    parsed = Tags(page)
    assert parsed.open == []
    names = [tag for tag, _ in parsed.tags]
    assert not {"script", "link", "iframe", "object", "base"} & set(names)
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert all(
            (value or "").startswith("data:image/png;base64,") for name, value in attributes.items() if name == "src"
        )
    assert not re.search(r"url\(|@import", page)
    assert names.count("img") == 12
    assert names.count("polyline") == 10  # five stages, raw and averaged


def test_model_and_corpus_text_is_escaped(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    assert "<script" not in page
    assert "onerror=" not in page.replace("onerror=&quot;", "")
    assert Tags(page).text.count(HOSTILE) == 2  # as text: one answer, one removed line


def test_page_shows_the_parts(run: Path) -> None:
    report = write_report(run)
    text = Tags((run / "report.html").read_text()).text
    for shown in (
        "74.0%", "87.5%", "1.234", "66.0%", "321", "4,096", "2.35", "合格 passed", "不合格 failed", "20 / 20", "≥ 80%",
        "何色ですか0。", "何色ですか11。", "答え11です。", "正解 gold: 赤", "画像を除く比較",
        "Image-removal comparison", "colour", "95.3%", "95 %", "5,000,000",
    ):  # fmt: skip
        assert shown in text, shown
    assert "何色ですか12。" not in text
    assert "古い答え" not in text
    assert [example["id"] for example in report["examples"]] == [f"vqa_test-{i:06d}" for i in range(12)]


@pytest.mark.parametrize(
    ("stage", "keys", "value", "shown"),
    [
        ("pretrain", ("bpc_model",), 1.777, "1.777"),
        ("corpus", ("clean_loss",), 0.9876, "98.8%"),
        ("eval", ("models", "medical", "vqa_test", "value"), 0.512, "51.2%"),
        ("eval", ("exam", "after", "exam_image", "removed", "value"), 0.4321, "43.2%"),
        ("clip", ("retrieval", "image_to_text"), 0.987, "98.7%"),
        ("tokenizer", ("vocab_size",), 7777, "7,777"),
        ("medical", ("peak_gib",), 3.77, "3.77"),
    ],
)
def test_changing_a_metric_changes_the_page(
    run: Path, stage: str, keys: tuple[str, ...], value: float, shown: str
) -> None:
    write_report(run)
    before = Tags((run / "report.html").read_text()).text
    change(run, stage, *keys, value=value)
    write_report(run)
    after = Tags((run / "report.html").read_text()).text
    assert shown not in before
    assert shown in after


def test_same_run_gives_the_same_bytes(run: Path) -> None:
    write_report(run)
    first = [(run / name).read_bytes() for name in ("report.json", "report.html")]
    write_report(run)
    assert [(run / name).read_bytes() for name in ("report.json", "report.html")] == first


def test_missing_parts_are_said_to_be_missing(run: Path) -> None:
    for stage in list(METRICS)[1:]:
        (run / stage / "done.json").unlink()
    report = write_report(run)
    found = {name for name, value in report["headline"].items() if value is not None}
    assert found == {"dirt_recall", "clean_loss", "seconds", "peak_gib"}
    assert {row["name"] for row in report["targets"] if row["met"] is not None} == {"dirt_recall", "clean_loss"}
    page = (run / "report.html").read_text()
    parsed = Tags(page)
    assert parsed.open == []
    assert parsed.text.count("なし / n/a") > 20
    assert report["examples"] == []
    assert "nan" not in parsed.text.lower()


def test_partly_missing_metrics_do_not_break_the_page(run: Path) -> None:
    change(run, "eval", "exam", value={"before": {}, "after": {"exam_image": {"image": score(5, 10)}}})
    change(run, "eval", "models", value={"instruct": {"captions_test": {"exact": score(1, 2)}}})
    change(run, "clip", "retrieval", value={})
    change(run, "corpus", "removed", value=None)
    headline = write_report(run)["headline"]
    assert headline["exam_image_after"] == 0.5
    assert headline["exam_image_before"] is None
    assert headline["caption_exact_test"] is None  # the final figures are those of the medical model alone


def test_no_finished_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished stage"):
        write_report(tmp_path)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "done.json").write_text("[]")
    with pytest.raises(DataError, match="not a record of a finished stage"):
        write_report(tmp_path)
