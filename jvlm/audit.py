"""The audit trail of a run: who did what, when, with which code, packages, settings, data and result.

`audit.jsonl` is only ever appended to. Each line carries the hash of the one before it and of itself, so that a line
changed, removed or moved breaks the chain; what the lines say of files is compared with the files, so that lines cut
off the end leave stages without a record. Who can rewrite the whole folder can forge it all: keep the last hash, which
the run prints, somewhere else, and give it to `jvlm audit verify --head`.
"""

import getpass
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jvlm.errors import DataError, JvlmError
from jvlm.files import MANIFEST, append_json_line, read_json_lines, sha256_file, verify_folder

FILE = "audit.jsonl"
STARTED, STAGE, PUBLISHED = "run started", "stage done", "model published"
_NOTHING = "0" * 64
_DEPTH = 4


def record(run: Path, event: str, facts: dict[str, Any]) -> str:
    """Append an event; returns its hash. Raises DataError when the last line of the trail is not one."""
    found = rows(run)
    previous = found[-1].get("hash") if found else _NOTHING
    if not isinstance(previous, str):
        raise DataError("the trail's last line has no hash", where=run / FILE, fix="see `jvlm audit verify`")
    row = {
        "number": len(found),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": _user(),
        "event": event,
        **facts,
        "previous": previous,
    }
    row["hash"] = _hash(row)
    append_json_line(run / FILE, row)
    return str(row["hash"])


def started(run: Path, recipe: str, seed: int) -> str:
    """Record the start of a run, or its going on, under a resolved recipe."""
    facts = {"recipe_sha256": hashlib.sha256(recipe.encode()).hexdigest(), "seed": seed, "code": _code()}
    return record(run, STARTED, facts | {"python": platform.python_version(), "packages": _packages()})


def stage_done(run: Path, stage: str, metrics: dict[str, Any], sources: Sequence[dict[str, Any]] = ()) -> str:
    """Record a finished stage: its figures, what its model is made of (`jvlm.licences.Part`), and the hashes of its
    `done.json` and of every list of hashes below it.

    What is recorded already as it is now is not recorded again: after a kill the next start fills in what is missing.
    """
    facts = {"stage": stage, "metrics": metrics, "sources": list(sources)}
    return _once(run, STAGE, facts | {"files": dict(_manifests(run, run / stage))})


def published(run: Path) -> str:
    """Record the model that the run has published, and its card; once, as `stage_done`."""
    card = run / "model" / "README.md"
    files = dict(_manifests(run, run / "model")) | ({"model/README.md": sha256_file(card)} if card.is_file() else {})
    return _once(run, PUBLISHED, {"files": files})


def rows(run: Path) -> list[dict[str, Any]]:
    """The events of a run, in order; none without a trail."""
    return read_json_lines(run / FILE)


def head(run: Path) -> str | None:
    """The hash of the trail's last line; None without a trail."""
    found = rows(run)
    return str(found[-1].get("hash")) if found else None


def verify(run: Path, kept_head: str | None = None) -> list[str]:
    """Every fault of the trail and of what it speaks of; none found is an empty list.

    Args:
        kept_head: the hash that the last line is to have, kept elsewhere.

    Raises DataError when there is no trail.
    """
    if not (run / FILE).is_file():
        raise DataError("no audit trail", where=run / FILE, fix="name the folder of a run")
    found = rows(run)
    faults = list(_chain_faults(found))
    if kept_head is not None and (not found or found[-1].get("hash") != kept_head):
        faults.append(f"the last line does not have the hash {kept_head}")
    stages = {row.get("stage"): row for row in found if row.get("event") == STAGE}
    published_as = [row for row in found if row.get("event") == PUBLISHED]
    for row in [*stages.values(), *published_as[-1:]]:
        faults += _file_faults(run, row)
    for done in sorted(run.glob("*/done.json")):
        if done.parent.name not in stages:
            faults.append(f"{done.parent.name}: done, but not in the trail")
    if (run / "model").is_dir() and not published_as:
        faults.append("model: published, but not in the trail")
    return faults


def _once(run: Path, event: str, facts: dict[str, Any]) -> str:
    """Append an event, unless the last of its kind says the same of the same files."""
    same_kind = [row for row in rows(run) if row.get("event") == event and row.get("stage") == facts.get("stage")]
    if same_kind and same_kind[-1].get("files") == facts["files"]:
        return str(same_kind[-1]["hash"])
    return record(run, event, facts)


def _chain_faults(rows: list[dict[str, Any]]) -> Iterator[str]:
    previous = _NOTHING
    for number, row in enumerate(rows):
        if row.get("number") != number or row.get("previous") != previous:
            yield f"{FILE}:{number + 1}: it does not follow the line before it"
        if row.get("hash") != _hash({key: value for key, value in row.items() if key != "hash"}):
            yield f"{FILE}:{number + 1}: it was changed"
        previous = str(row.get("hash"))


def _file_faults(run: Path, row: dict[str, Any]) -> Iterator[str]:
    for name, digest in row.get("files", {}).items():
        path = run / name
        if not path.is_file():
            yield f"{name}: missing"
        elif sha256_file(path) != digest:
            yield f"{name}: differs from the trail"
        elif path.name == MANIFEST:
            try:
                verify_folder(path.parent)
            except JvlmError as error:
                yield str(error)


def _manifests(run: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """`done.json` of a stage and the lists of hashes of what it made; those of checkpoints come and go."""
    found = [folder / "done.json", *(path for depth in range(_DEPTH) for path in folder.glob("*/" * depth + MANIFEST))]
    for path in found:
        name = path.relative_to(run)
        if path.is_file() and "checkpoints" not in name.parts:
            yield str(name), sha256_file(path)


def _hash(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"


@cache
def _code() -> dict[str, str]:
    """The version of jvlm and a hash of its sources as they are now."""
    import jvlm

    total, root = hashlib.sha256(), Path(jvlm.__file__).parent
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)} {sha256_file(path)}\n".encode())
    return {"version": jvlm.__version__, "sha256": total.hexdigest()}


@cache
def _packages() -> dict[str, str]:
    return {name: found.version for found in metadata.distributions() if (name := found.metadata["Name"])}
