"""Nothing is sent anywhere by default: the variables are set, and they are those that the libraries read."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jvlm import offline
from jvlm.cli import app

NAMES = (*offline.QUIET, *offline.OFFLINE)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a user who has set none of it; what the command sets is taken back."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_the_command_goes_offline_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = CliRunner().invoke(app, ["data", "list", "--json"])
    assert asked.exit_code == 0
    assert {name: os.environ.get(name) for name in NAMES} == offline.QUIET | offline.OFFLINE
    for name in NAMES:
        monkeypatch.delenv(name)
    CliRunner().invoke(app, ["--online", "data", "list", "--json"])
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == offline.QUIET


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    offline.stay_here()
    assert os.environ["WANDB_MODE"] == "online"


@pytest.mark.parametrize("online", [False, True])
def test_huggingface_hub_reads_it_so(online: bool) -> None:
    script = (
        f"from jvlm import offline; offline.stay_here({online})\n"
        "from huggingface_hub import constants as c\n"
        "import json; print(json.dumps([c.HF_HUB_OFFLINE, c.HF_HUB_DISABLE_TELEMETRY]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [not online, True]


@pytest.mark.parametrize(
    ("package", "file", "name"),
    [
        ("ray", "_common/usage/usage_constants.py", "RAY_USAGE_STATS_ENABLED"),
        ("transformers", "utils/hub.py", "is_offline_mode"),  # which is the hub's own
        ("huggingface_hub", "constants.py", "DO_NOT_TRACK"),
    ],
)
def test_the_libraries_still_know_the_names(package: str, file: str, name: str) -> None:
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    assert name in (Path(found.origin).parent / file).read_text(encoding="utf-8")


def test_streamlit_reads_it_so() -> None:
    if find_spec("streamlit") is None:
        pytest.skip("streamlit is not installed")
    offline.stay_here()
    command = [sys.executable, "-m", "streamlit", "config", "show"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\ngatherUsageStats = false\n" in done.stdout
