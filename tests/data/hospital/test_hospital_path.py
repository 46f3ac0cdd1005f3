"""The page docs/hospital.md from its first command to its last, on small made data, with sockets blocked throughout."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hospital_files import dicom_file
from open_clip.model import CLIP
from safetensors.torch import save_file
from tiny import encoded_image, samples, shake
from transformers import LlamaConfig, LlamaForCausalLM

from jvlm.files import read_json, read_json_lines, sha256_file, write_json

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.slow
pytest.importorskip("torchao", reason="the extra quantised is not installed")
pytest.importorskip("streamlit", reason="the app extra is not installed")

GUARD = '''
import os, sys, pathlib
class NetworkUse(BaseException):
    """A connection to another machine."""
def guard(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and arguments[-1]:
        sock, address = arguments[0], arguments[-1]
        if sock.family in (2, 10) and str(address[0]) not in ("127.0.0.1", "::1", "localhost", "0.0.0.0"):
            pathlib.Path(os.environ["GUARD_FOLDER"], f"blocked-{os.getpid()}").write_text(f"{event} {address}")
            raise NetworkUse(f"{event} {address}")
sys.addaudithook(guard)
pathlib.Path(os.environ["GUARD_FOLDER"], f"on-{os.getpid()}").touch()
'''
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1},
}
SMALL = {"steps": 6, "checkpoint_every": 3}
PATIENTS, QUESTIONS = 40, 3
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
            (folder / name).write_bytes(dicom_file(frame, PatientName=f"患者^{patient}", Modality="CR"))
            rows.append([f"{patient:04d}", name, "この画像の所見はどれか。", FINDINGS[truth], "|".join(FINDINGS)])
    (folder / "open.png").write_bytes(encoded_image(3))
    rows.append(["0001", "open.png", "画像を説明してください。", "特記すべき所見はない。", ""])
    rows.append(["0002", "absent.png", "画像を説明してください。", "所見なし。", ""])
    with open(folder / "questions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["patient", "image", "question", "answer", "choices"], *rows])
    (folder / "settings.yaml").write_text("test_share: 0.5\nallow_patient_tags: made for a test, nobody is on it\n")


def test_every_command_of_the_page_runs_and_nothing_leaves_the_machine(tmp_path, tokenizer):
    public_parts(tmp_path / "public", tokenizer)
    hospital_files(tmp_path / "hospital-files")
    (tmp_path / "hospital-new").mkdir()
    (tmp_path / "hospital-new" / "a.png").write_bytes(encoded_image(9))
    (tmp_path / "hospital-new" / "b.dcm").write_bytes(dicom_file(np.full((20, 30), 99, np.uint8)))
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    loop = [f"{key}={value}" for key, value in SMALL.items()]
    packing = ["row_length=256", "rows=2", "accumulation=1"]
    stages = ("align", "medical.phases.questions")
    small = [f"stages.{s}.loop.{one}" for s in stages for one in loop]
    small += [f"stages.{s}.packing.{one}" for s in stages for one in packing]
    small += [f"stages.{s}.loop.engine.{one}" for s in stages for one in ("precision=float32", "recompute=false")]
    write_json(tmp_path / "extra.json", {"run": [*small, "threads=1"], "caption": ["--max-new-tokens", "4"]})
    ours = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"GUARD_FOLDER": str(guard), "PYTHONPATH": os.pathsep.join([str(guard), ours])}
    driver = [sys.executable, str(HERE / "driver.py"), str(ROOT / "docs" / "hospital.md")]
    done = subprocess.run(driver, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    blocked = list(guard.glob("blocked-*"))
    assert len(blocked) == 1  # the driver's own try
    assert "192.0.2.1" in blocked[0].read_text()
    assert len(list(guard.glob("on-*"))) >= 2  # it and the run, whose stages are forked

    assert read_json_lines(tmp_path / "data" / "hospital" / "errors.jsonl") == [
        {"where": f"questions.csv:{PATIENTS * QUESTIONS + 3}", "error": "image absent.png: no such file"}
    ]
    phi = read_json_lines(tmp_path / "data" / "hospital.phi.jsonl")
    assert len(phi) == PATIENTS * QUESTIONS
    assert phi[0]["findings"] == ["PatientName", "BurnedInAnnotation is absent"]

    adapter, base = (tmp_path / "runs" / "medical-lora" / name for name in ("model", "align/model"))
    record = read_json(adapter / "config.json")
    assert record["model_type"] == "jvlm_adapter"
    assert record["lora"]["base_weights"] == "int4"
    assert record["base"]["hashes"]["model.safetensors"] == sha256_file(base / "model.safetensors")
    merged = float(done.stdout.split("the largest change of a logit is ")[1].split()[0])
    assert merged <= 1e-5
    assert read_json(tmp_path / "models" / "hospital" / "config.json")["model_type"] == "jvlm"

    exam = read_json(tmp_path / "out" / "exam" / "results.json")["hospital"]
    assert exam["all"]["n"] > 40
    assert exam["not_asked"] == {}
    assert {"removed", "blank"} <= exam["audits"].keys()
    assert exam["calibration"]["n"] >= 20
    assert 0 <= exam["calibration"]["ece"] <= 1
    change = read_json(tmp_path / "out" / "change" / "compare.json")
    for kind, name in (("exams", "hospital"), ("tasks", "jcommonsenseqa")):
        found = change[kind][name]
        assert found["change"] == pytest.approx(found["after"] - found["before"])
        assert found["interval"][0] <= found["change"] <= found["interval"][1]
    assert change["exams"]["hospital"]["after"] == exam["all"]["value"]
    captions = [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]
    assert [row["status"] for row in captions] == ["ok", "ok"]
    assert "app opened" in done.stdout
