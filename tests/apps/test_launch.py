import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("streamlit", reason="the app extra is not installed")

from jvlm.cli import app


def test_the_app_is_started_with_its_places_on_loopback_alone(monkeypatch, tmp_path: Path) -> None:
    for name in ("a/model", "b/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    called: dict[str, object] = {}

    def call(command: list[str], env: dict[str, str]) -> int:
        called.update(command=command, env=env)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    models = [str(tmp_path / "a" / "model"), str(tmp_path / "b" / "model")]
    told = CliRunner().invoke(app, ["app", *models, "--reviews", str(tmp_path / "r"), "--port", "8600"])
    assert told.exit_code == 0
    command, env = called["command"], called["env"]
    assert isinstance(command, list)
    assert isinstance(env, dict)
    for guard in (
        "--server.address=127.0.0.1",
        "--server.allowedHosts=127.0.0.1",
        "--server.allowedHosts=localhost",
        "--server.maxUploadSize=20",
        "--server.enableXsrfProtection=true",
        "--server.enableCORS=true",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
    ):
        assert guard in command
    assert env["JVLM_MODELS"] == os.pathsep.join(models)
    assert env["JVLM_REVIEWS"] == str(tmp_path / "r")
    assert env["JVLM_EXAM"] == str(tmp_path / "a" / "data" / "exam")
    assert "JVLM_TRACE" not in env
