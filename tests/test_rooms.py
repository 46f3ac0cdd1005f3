"""The floors of the house: a room imports only from floors below, and the light rooms do not load torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    0: ("errors", "files", "config", "assets", "sample", "process", "audit", "licences", "offline", "cards"),
    1: ("text", "images", "fetch"),
    2: ("model",),
    3: ("datasets", "train", "infer"),
    4: ("eval", "trace"),
    5: ("recipe", "settings", "stages", "plan", "scale", "doctor", "bench"),
    6: ("commands",),
    7: ("cli", "__main__"),
}
ONE_ROOM = (FLOORS[0], ("recipe", "settings", "stages", "plan", "scale"))  # a recipe, its settings, stages, forecast
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
LIGHT_ROOMS = (*FLOORS[0], *FLOORS[1], "eval", "commands", "cli")
HEAVY = ("torch", "torchvision", "transformers", "open_clip", "xformers", "deepspeed", "webdataset", "peft")

MODULES = sorted((ROOT / "jvlm").rglob("*.py"))


def _room(path: Path) -> str:
    parts = path.relative_to(ROOT / "jvlm").with_suffix("").parts
    return parts[0]


def _targets(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names a statement imports; `from jvlm import x` gives `jvlm.x`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module) if part)
        yield from (f"{module}.{alias.name}" for alias in node.names)


def _rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for target in _targets(node, package):
            parts = target.split(".")
            if parts[0] == "jvlm" and len(parts) > 1 and parts[1] in FLOOR_OF:
                yield node.lineno, parts[1]  # type: ignore[attr-defined]


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements run by importing the module: also those inside `if` and `try`, but not under TYPE_CHECKING."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _top_level(statement.orelse)
            continue
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.ClassDef):
            for block in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, block, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level(handler.body)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path: Path) -> None:
    room = _room(path)
    if room == "__init__":  # the front door `jvlm.load` reaches up, but only when it is called
        imported = [t for s in _top_level(ast.parse(path.read_text()).body) for t in _targets(s, ("jvlm",))]
        assert not [target for target in imported if target.startswith("jvlm.")]
        return
    assert room in FLOOR_OF, f"give the room {room!r} a floor in {__file__}"
    floor = FLOOR_OF[room]
    upward = [
        f"line {line} imports jvlm.{other} (floor {FLOOR_OF[other]})"
        for line, other in _rooms_imported(path)
        if other != room and FLOOR_OF[other] >= floor and not any({room, other} <= set(one) for one in ONE_ROOM)
    ]
    assert not upward, f"{room} is on floor {floor}: {upward}"


@pytest.mark.parametrize("folder", ["jvlm", "data"])
def test_nothing_inside_imports_the_pages(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            used = [t for t in _targets(node, ("jvlm",)) if t.split(".")[0] == "jvlm_apps" and "launch" not in t]
            assert not used, f"{path}: {used}"


def test_a_forbidden_import_is_seen() -> None:
    """The checker itself: every spelling of an import of an upper room is found."""
    absolute = ("import jvlm.train", "from jvlm.train import loop", "from jvlm import train")
    for spelling in (*absolute, "from ..train import loop"):
        (target,) = _targets(ast.parse(spelling).body[0], ("jvlm", "images"))
        assert target.split(".")[:2] == ["jvlm", "train"], spelling


LIGHT_MODULES = [path for path in MODULES if _room(path) in LIGHT_ROOMS]


@pytest.mark.parametrize("path", LIGHT_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_light_rooms_import_heavy_libraries_only_when_used(path: Path) -> None:
    statements = _top_level(ast.parse(path.read_text(encoding="utf-8")).body)
    heavy = [t for s in statements for t in _targets(s, ("jvlm", _room(path))) if t.split(".")[0] in HEAVY]
    assert not heavy


def test_importing_every_light_room_loads_no_torch() -> None:
    """Transitively too, in a fresh interpreter."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in LIGHT_MODULES]
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    assert not found, f'{name} loads {found}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
