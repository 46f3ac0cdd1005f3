"""The wheel, built offline and installed in a folder of its own, for the tests that use what a user gets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRAVELLING = {"configs": "jvlm/configs", "evals": "jvlm/evals", "data": "jvlm_data", "apps": "jvlm_apps"}


def run_command(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder holding the installed wheel; the build reads a copy, so that it leaves nothing in the clone."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("jvlm", *TRAVELLING):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-index")
    run_command(*pip, "wheel", str(source), *offline, "--no-build-isolation", "-w", str(base), cwd=base)
    (wheel,) = base.glob("*.whl")
    run_command(*pip, "install", str(wheel), *offline, "--target", str(base / "site"), cwd=base)
    return base / "site"
