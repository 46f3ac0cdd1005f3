"""What the container file promises, read from it: nothing here can build one."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer

from jvlm.cli import app

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "offline"}
OFFLINE |= {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """(instruction, argument) in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in text.splitlines() if line.strip()]


def test_the_base_is_of_a_version_that_the_package_allows(steps: list[tuple[str, str]]) -> None:
    assert steps[0][0] == "FROM"
    found = re.fullmatch(r"python:(3\.\d+)-slim-\w+", steps[0][1])
    assert found
    assert tuple(map(int, found[1].split("."))) >= (3, 11)


def test_what_is_installed_exists_and_is_pinned(steps: list[tuple[str, str]]) -> None:
    (install,) = [argument for name, argument in steps if name == "RUN"]
    assert install.startswith("pip install -c constraints.txt ")
    extras = re.findall(r"'\.\[([\w,]+)\]'", install)[0].split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) >= {"app", "medical", "quant"}
    assert set(extras) <= known.keys()
    assert (ROOT / "constraints.txt").is_file()
    assert not any(name == "ADD" or "curl" in argument or "wget" in argument for name, argument in steps)


def test_it_runs_as_a_user_without_rights_and_offline(steps: list[tuple[str, str]]) -> None:
    names = [name for name, _ in steps]
    user = next(argument for name, argument in steps if name == "USER")
    assert int(user) > 1000
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(argument for name, argument in steps if name == "ENV")))
    assert environment.items() >= OFFLINE.items()
    last_install = max(i for i, name in enumerate(names) if name == "RUN")
    offline = next(i for i, (name, argument) in enumerate(steps) if name == "ENV" and "OFFLINE" in argument)
    assert offline > last_install


def test_what_it_starts_is_a_command_there_is_and_its_health_is_looked_at(steps: list[tuple[str, str]]) -> None:
    found = dict(steps)
    assert json.loads(found["ENTRYPOINT"]) == ["jvlm"]
    command = json.loads(found["CMD"])
    options = {
        name: {option for parameter in one.params for option in parameter.opts}
        for name, one in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    }
    assert command[0] == "app"
    assert {word for word in command if word.startswith("--")} <= options["app"]
    opened = typer.main.get_command(app).commands["app"]  # type: ignore[attr-defined]
    port = next(parameter.default for parameter in opened.params if "--port" in parameter.opts)
    assert found["EXPOSE"] == str(port)
    assert f"127.0.0.1:{port}/_stcore/health" in found["HEALTHCHECK"]


def test_models_and_patients_stay_out_of_it() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    left_out = [line for line in lines if not line.startswith("#")]
    assert {".git", ".venv", "runs", "models", "hospital-files", "data/hospital/train"} <= set(left_out)
    assert not {"jvlm", "data", "configs", "evals", "apps", "data/hospital"} & set(left_out)
