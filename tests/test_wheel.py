"""What a user gets from the wheel: built offline, installed in an empty folder, imported from there."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRAVELLING = {"configs": "jvlm/configs", "evals": "jvlm/evals", "data": "jvlm_data", "apps": "jvlm_apps"}


def _run(*command: str, cwd: Path, **environment: str) -> str:
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
    _run(*pip, "wheel", str(source), *offline, "--no-build-isolation", "-w", str(base), cwd=base)
    (wheel,) = base.glob("*.whl")
    _run(*pip, "install", str(wheel), *offline, "--target", str(base / "site"), cwd=base)
    return base / "site"


def test_assets_are_found_in_the_installed_wheel(installed_wheel: Path, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import jvlm, jvlm_data.toyworld.world, jvlm_apps.launch
from jvlm.assets import asset
site = Path(sys.argv[1])
for module in (jvlm, jvlm_data.toyworld.world, jvlm_apps.launch):
    assert Path(module.__file__).is_relative_to(site), module.__file__
for folder in ("configs", "data", "evals", "apps"):
    assert asset(folder).is_relative_to(site), asset(folder)
assert asset("apps", "image_qa.py").is_file()
print("ok")
"""
    printed = _run(sys.executable, "-c", script, str(installed_wheel), cwd=tmp_path, PYTHONPATH=str(installed_wheel))
    assert printed == "ok\n"


def test_every_file_of_use_travels(installed_wheel: Path) -> None:
    wanted = {path.relative_to(ROOT) for path in (ROOT / "jvlm").rglob("*") if path.suffix in (".py", ".typed")}
    for folder, inside in TRAVELLING.items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                wanted.add(Path(inside) / path.relative_to(ROOT / folder))
    assert not [str(path) for path in sorted(wanted) if not (installed_wheel / path).is_file()]


def test_wheel_holds_nothing_else(installed_wheel: Path) -> None:
    top = {path.name for path in installed_wheel.iterdir() if not path.name.endswith(".dist-info")}
    assert top - {"bin"} == {"jvlm", "jvlm_data", "jvlm_apps"}


def test_every_package_is_listed() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    found = {"jvlm.configs", "jvlm.evals"}  # data alone, mapped from the clone's top
    for folder, package in (("jvlm", "jvlm"), ("data", "jvlm_data"), ("apps", "jvlm_apps")):
        for path in (ROOT / folder).rglob("*.py"):
            found.add(".".join((package, *path.parent.relative_to(ROOT / folder).parts)))
    assert listed == found
