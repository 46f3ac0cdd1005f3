"""How often the attacks of the suite were made and what came of them: `make fuzz` makes many and keeps the counts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from socket_guard import refusals

LONG = os.environ.get("JVLM_FUZZ") == "long"
OUT = Path(os.environ.get("JVLM_FUZZ_OUT", "reliability.json"))


def times(short: int, long: int) -> int:
    """How often something is tried: `short` in every run of the suite, `long` in `make fuzz`."""
    return long if LONG else short


@pytest.fixture(scope="session")
def tally() -> Iterator[dict[str, Any]]:
    """Counts by name, for all tests; the long form writes them down at its end."""
    counts: dict[str, Any] = {}
    yield counts
    counts["foreign_connections"] = len(refusals())
    if LONG:
        from jvlm.bench.machine import machine

        before = json.loads(OUT.read_text()) if OUT.is_file() else {}
        OUT.write_text(json.dumps(before | counts | {"machine": machine()}, indent=1) + "\n")
