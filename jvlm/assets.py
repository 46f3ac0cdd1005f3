"""Finds the files that travel with the package, in a clone or in the installed wheel."""

from importlib.util import find_spec
from pathlib import Path

from jvlm.errors import DataError

_IN_WHEEL = {"configs": "jvlm.configs", "data": "jvlm_data", "evals": "jvlm.evals", "apps": "jvlm_apps"}


def asset(*parts: str) -> Path:
    """Path of one of our files or folders, such as `asset("configs", "demo.yaml")`.

    The first part is `configs`, `data`, `evals` or `apps`. A clone around the package wins over installed copies,
    so that editing a file of the clone has its effect.

    Raises DataError listing every place that was looked at.
    """
    folder, *rest = parts
    assert folder in _IN_WHEEL, folder
    looked = [place.joinpath(*rest) for place in _places(folder)]
    for path in looked:
        if path.exists():
            return path
    raise DataError(
        f"{'/'.join(parts)} not found",
        fix="looked for " + ", ".join(map(str, looked)) if looked else "the package is not installed whole",
    )


def _places(folder: str) -> list[Path]:
    package = Path(__file__).resolve().parent
    places = []
    if (package.parent / "pyproject.toml").is_file() and (package.parent / folder).is_dir():
        places.append(package.parent / folder)
    name = _IN_WHEEL[folder]
    if name.startswith("jvlm."):
        places.append(package / folder)
    elif (spec := find_spec(name)) is not None:
        places.extend(Path(place) for place in spec.submodule_search_locations or ())
    return list(dict.fromkeys(places))
