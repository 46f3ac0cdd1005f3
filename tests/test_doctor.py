import json

import pytest

from jvlm import doctor


def test_report_is_json_and_every_line_has_a_value() -> None:
    facts = doctor.report()
    assert json.loads(json.dumps(facts)) == facts
    text = "\n".join(doctor.lines(facts))
    names = ("python", "torch", "CUDA", "attention", "xformers", "deepspeed", "open_clip_torch", "memory", "disk")
    assert [name for name in names if f"{name} " not in text] == []
    assert "None" not in text
    assert facts["memory_gib"]["total"] > 0


def test_what_is_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(doctor, "_torch", lambda: {"error": "torch cannot be imported: broken"})
    monkeypatch.setattr(doctor, "_attention", lambda device: {"error": f"cannot be resolved on {device}"})
    text = "\n".join(doctor.lines(doctor.report()))
    assert "no-such-package  not installed" in text
    assert "torch cannot be imported: broken" in text
    assert "cannot be resolved on cpu" in text


def test_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"cuda_build": "13.2", "gpus": [{"name": "Some GPU", "memory_gib": 80.0}], "threads": 2}
    monkeypatch.setattr(doctor, "_torch", lambda: facts)
    monkeypatch.setattr(doctor, "_attention", lambda device: {"backend": "xformers", "reason": f"runs on {device}"})
    text = "\n".join(doctor.lines(doctor.report()))
    assert "built for 13.2; Some GPU, 80.0 GiB" in text
    assert "xformers (runs on cuda)" in text
