"""`jvlm data build real`: the folder's input with the shares of a small recipe."""

from pathlib import Path
from typing import Any

from jvlm_data.real.build import RealConfig, build


def convert(source: Path, out: Path) -> dict[str, Any]:
    """Build from `source`, see `build`; what a recipe takes is set there (`configs/real-small.yaml`)."""
    return build(RealConfig(source, source_chars=500_000, english_chars=200_000, medical_chars=500_000), out)
