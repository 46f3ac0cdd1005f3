"""What a user gets from the wheel: built offline, installed in an empty folder, imported from there."""

import sys
import tomllib
from pathlib import Path

from wheel import ROOT, TRAVELLING, run_command


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
    printed = run_command(
        sys.executable, "-c", script, str(installed_wheel), cwd=tmp_path, PYTHONPATH=str(installed_wheel)
    )
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
