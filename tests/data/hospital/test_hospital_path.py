"""The page docs/hospital.md from its first command to its last, on small made data, with sockets blocked throughout."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import socket_guard
import torch
from dicom_files import dicom_file
from hospital_page import run_page
from open_clip.model import CLIP
from safetensors.torch import save_file
from tiny import encoded_image, samples, shake
from transformers import LlamaConfig, LlamaForCausalLM

import jvlm.recipe
from jvlm.files import read_json, read_json_lines, sha256_file, write_json
from jvlm.stages.__main__ import run_stage

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "hospital.md"
pytest.importorskip("torchao", reason="the extra quant is not installed")
pytest.importorskip("streamlit", reason="the app extra is not installed")

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1},
}
SMALL = {"steps": 2, "checkpoint_every": 2}
PATIENTS, QUESTIONS = 28, 3  # of 19 in the test part 7 tell what the calibration is worth: 20 questions are the least
FINDINGS = ("肺炎", "気胸", "正常")


def public_parts(folder, tokenizer):
    """A language model and a CLIP as others publish them, captions, and a benchmark."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=128, max_position_embeddings=512,
    )  # fmt: skip
    shake(LlamaForCausalLM(config), size=0.05).save_pretrained(folder / "language")
    tokenizer.save(folder / "language")
    (folder / "clip").mkdir()
    save_file(dict(CLIP(**MODEL).state_dict()), folder / "clip" / "open_clip_model.safetensors")
    write_json(folder / "clip" / "open_clip_config.json", {"model_cfg": MODEL})
    (folder / "captions").mkdir()
    for number, sample in enumerate(samples("captions_train", 12)):
        (folder / "captions" / f"{number}.png").write_bytes(sample.images[0].read())
        (folder / "captions" / f"{number}.txt").write_text(sample.messages[-1].text)
    rows = [
        {"q_id": n, "question": f"{n}番の果物は？", "label": n % 5}
        | {f"choice{c}": f"果物{(n + c) % 9}" + "の実" * c for c in range(5)}
        for n in range(12)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for split in ("train", "valid", "test"):
        path = folder / "jglue" / "datasets" / "jcommonsenseqa-v1.3" / f"{split}-v1.3.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("番", f"番{split}"), encoding="utf-8")


def hospital_files(folder):
    """Pictures whose brightness is the finding, DICOM and PNG, and a table with one faulty line."""
    folder.mkdir()
    generator, rows = np.random.default_rng(0), []
    for patient in range(PATIENTS):
        for question in range(QUESTIONS):
            truth = (patient + question) % 3
            frame = np.clip(60 + 80 * truth + generator.integers(-20, 20, (32, 32)), 0, 255).astype(np.uint8)
            name = f"scan-{patient}-{question}.dcm"
            told = {"PatientName": f"患者^{patient}", "Modality": "CR", "SpecificCharacterSet": "ISO_IR 192"}
            (folder / name).write_bytes(dicom_file(frame, Rows=32, Columns=32, **told))
            rows.append([f"{patient:04d}", name, "この画像の所見はどれか。", FINDINGS[truth], "|".join(FINDINGS)])
    (folder / "open.png").write_bytes(encoded_image(3))
    rows.append(["0001", "open.png", "画像を説明してください。", "特記すべき所見はない。", ""])
    rows.append(["0002", "absent.png", "画像を説明してください。", "所見なし。", ""])
    with open(folder / "questions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["patient", "image", "question", "answer", "choices"], *rows])
    (folder / "settings.yaml").write_text("test_share: 0.5\nallow_patient_tags: made for a test, nobody is on it\n")


@pytest.fixture
def place(tmp_path, tokenizer, monkeypatch):
    """A folder with all that the page begins with, as the current one; what the guard refuses is counted apart."""
    public_parts(tmp_path / "public", tokenizer)
    hospital_files(tmp_path / "hospital-files")
    (tmp_path / "hospital-new").mkdir()
    (tmp_path / "hospital-new" / "a.png").write_bytes(encoded_image(9))
    (tmp_path / "hospital-new" / "b.dcm").write_bytes(dicom_file(np.full((24, 32), 99, np.uint8)))
    monkeypatch.setenv(socket_guard.LEDGER, str(tmp_path / "refused"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "JVLM_MODELS"):
        monkeypatch.setenv(name, "")  # what the page sets is taken back
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smaller():
    """More arguments by command: smaller sizes, and bfloat16, recomputed blocks, int4 and dropout as they are."""
    loop = [f"{key}={value}" for key, value in SMALL.items()]
    packing = ["row_length=256", "rows=2", "accumulation=1"]
    stages = ("align", "medical.phases.questions")
    small = [f"stages.{s}.loop.{one}" for s in stages for one in loop]
    small += [f"stages.{s}.packing.{one}" for s in stages for one in packing]
    return {"run": [*small, "threads=1"], "caption": ["--max-new-tokens", "4"]}


def holds(place, printed):
    """What the page promises of what its commands leave."""
    assert read_json_lines(place / "data" / "hospital" / "errors.jsonl") == [
        {"where": f"questions.csv:{PATIENTS * QUESTIONS + 3}", "error": "image absent.png: no such file"}
    ]
    phi = read_json_lines(place / "data" / "hospital.phi.jsonl")
    assert len(phi) == PATIENTS * QUESTIONS
    assert phi[0]["findings"] == ["PatientName", "BurnedInAnnotation is absent"]

    adapter, base = (place / "runs" / "medical-lora" / name for name in ("model", "align/model"))
    record = read_json(adapter / "config.json")
    assert record["model_type"] == "jvlm_adapter"
    assert record["lora"]["base_weights"] == "int4"
    assert record["base"]["hashes"]["model.safetensors"] == sha256_file(base / "model.safetensors")
    merged = float(printed.split("the largest change of a logit is ")[1].split()[0])
    assert merged <= 1e-5
    assert read_json(place / "models" / "hospital" / "config.json")["model_type"] == "jvlm"

    exam = read_json(place / "out" / "exam" / "results.json")["hospital"]
    assert exam["all"]["n"] > 40
    assert exam["not_asked"] == {}
    assert {"removed", "blank"} <= exam["audits"].keys()
    assert exam["calibration"]["n"] >= 20
    assert 0 <= exam["calibration"]["ece"] <= 1
    change = read_json(place / "out" / "change" / "compare.json")
    for kind, name in (("exams", "hospital"), ("tasks", "jcommonsenseqa")):
        found = change[kind][name]
        assert found["change"] == pytest.approx(found["after"] - found["before"])
        assert found["interval"][0] <= found["change"] <= found["interval"][1]
    assert change["exams"]["hospital"]["after"] == exam["all"]["value"]
    rows = read_json_lines(place / "out" / "captions" / "captions.jsonl")
    assert [row["status"] for row in rows] == ["ok", "ok"]
    (refused,) = socket_guard.refusals()  # the page's reader tries itself, once
    assert "192.0.2.1" in refused


def in_this_process(recipe, run, stages):
    """The stages of a run without the processes of their own: torch is imported here already."""
    for stage in stages:
        assert run_stage(run, stage.name, stage.key) == 0


def test_every_command_of_the_page_runs_and_nothing_leaves_the_machine(place, capfd, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(jvlm.recipe, "_start", in_this_process)
    try:
        run_page(PAGE, smaller())
    finally:
        torch.set_num_threads(threads)
    holds(place, capfd.readouterr().out)


@pytest.mark.long
def test_the_page_runs_in_a_process_without_network_from_its_first_import(place):
    write_json(place / "extra.json", smaller())
    driver = [sys.executable, str(HERE / "hospital_page.py"), str(PAGE)]
    done = subprocess.run(driver, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    holds(place, done.stdout)
