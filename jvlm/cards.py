"""Cards of models and data sets: `README.md` with the front matter that Hugging Face reads. Nothing is typed in.

A model's card is written from the audit trail of its run and the recipe kept there, a data set's from its
`dataset.json`, the card of what was made from other models from theirs. What stands in data is shown as text: no name
of a source can become markup. A model's card stands beside the files that `hashes.json` lists: it may be added to.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from jvlm import audit
from jvlm.errors import DataError
from jvlm.files import read_json, write_text
from jvlm.licences import Part, Terms, Unit, joined, terms_of, written

README = "README.md"
MAX_BYTES = 2**18
_MAX_FRONT = 2**15  # characters: parsing YAML is slow, and slower by the square of what is nested
_MAX_BRACKETS = 500
_NESTED = re.compile(r"(?:[-?:][ \t]+){8}")
_ROWS = 100  # of a table
_CELL = 200  # characters
_HUB_NAMES = ("cc0-1.0", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "unknown")
_KINDS = {
    "jvlm": ("A vision-language model", "image-text-to-text"),
    "jvlm_clip": ("An image tower with its text partner", "zero-shot-image-classification"),
    "jvlm_tower": ("An image tower", "image-feature-extraction"),
    "llava": ("A vision-language model", "image-text-to-text"),
}
_LANGUAGE_MODEL = ("A language model", "text-generation")
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)(.*)\Z", re.DOTALL)
_WARNING = "What it says may be wrong or harmful. It is for research; nothing of it is for diagnosis or treatment."


def write_model_card(run: Path, model: Path, stages: Sequence[str], languages: Sequence[str]) -> None:
    """Write the card of `model`, which the last of these stages of a run left, from the run's trail.

    Args:
        stages: those that the model went through, in order.

    Raises DataError when the trail does not know the last of them.
    """
    rows = audit.rows(run)
    done = {row["stage"]: row for row in rows if row.get("event") == audit.STAGE}
    if stages[-1] not in done:
        fix = "see `jvlm audit verify`"
        raise DataError(f"stage '{stages[-1]}' is not in the trail", where=run / audit.FILE, fix=fix)
    last = done[stages[-1]]
    earlier = reversed(rows[: last["number"]])
    started: dict[str, Any] = next((row for row in earlier if row.get("event") == audit.STARTED), {})
    parts = [Part(**part) for part in last.get("sources", [])] or [Part("nothing is recorded", "", 0, "model")]
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    figures = _figures(done.get("report", {}).get("metrics", {}).get("headline") or last.get("metrics", {}))
    front = _front(model, joined(parts)) | {
        "language": list(languages),
        "base_model": _names(part.name for part in parts if part.unit == "model"),
        "datasets": _names(part.name for part in parts if part.unit != "model"),
        "metrics": _names(figures),
    }
    packages = started.get("packages", {})
    code = started.get("code", {})
    facts = {
        "run": f"{recipe['name']}, stage {stages[-1]}",
        "seed": started.get("seed"),
        "recipe": f"sha256 {started.get('recipe_sha256')}",
        "code": f"jvlm {code.get('version')}, sha256 {code.get('sha256')}",
        "with": ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers") if name in packages),
        "trail": f"line {last.get('number')}, hash {last.get('hash')}",
    }
    went = [[name, done[name].get("at"), done[name].get("metrics", {}).get("loss")] for name in stages if name in done]
    body = [
        f"# {_cell(recipe['name'])}",
        f"{_kind(model)[0]} for {', '.join(languages)}, trained by jvlm. {_WARNING}",
        _data_section(parts),
        "## How it was made\n\n" + _table(["", ""], [[name, value] for name, value in facts.items()]),
        _table(["stage", "done at", "loss at the end"], went),
        "## Figures\n\n" + (_table(["figure", "value"], figures.items()) if figures else "None were computed."),
    ]
    write_text(model / README, _page(front, body))


def carry_card(sources: Sequence[Path], target: Path, how: str) -> None:
    """Write the card of a model directory that was made from others: their terms together, and what their cards say.

    Args:
        how: a sentence that says how it was made.
    """
    found = [read_card(folder) for folder in sources]
    parts = [model_part(folder) for folder in sources]
    front = _front(target, joined(parts)) | {
        key: _names(name for given, _ in found for name in _listed(given.get(key)))
        for key in ("language", "datasets", "metrics")
    }
    front["base_model"] = _names(part.name for part in parts)
    body = [f"# {_cell(target.resolve().name)}", f"{_kind(target)[0]}. {how}", _data_section(parts)]
    body += [text.strip() for _, text in found]
    write_text(target / README, _page(front, body))


def data_card(card: dict[str, Any]) -> str:
    """The dataset card of a set of shards, from its `dataset.json`: the same wherever the set lies."""
    parts = shard_parts(card, "this set")
    samples = int(card["num_samples"])
    front = {**_licence(joined(parts)), "size_categories": [_size(samples)]}
    facts = {
        "samples": samples,
        "images": card["num_images"],
        "bytes": card["num_bytes"],
        "shards": len(card["shards"]),
        "layout": card.get("layout"),
        "source": card.get("source"),
        "fingerprint": card["fingerprint"],
    }
    listed = [[key, value] for key, value in facts.items() if value is not None]
    return _page(front, ["# A set of shards", _table(["", ""], listed), _data_section(parts)])


def shard_parts(card: dict[str, Any], name: str) -> list[Part]:
    """What a set of shards consists of, by source and licence; `origins` counts what its samples say themselves."""
    stated = str(card.get("licence") or "")
    origins = card.get("origins") or {"": {"": card["num_samples"]}}
    return parts_of(origins, name, stated, "samples")


def parts_of(origins: dict[str, dict[str, int]], name: str, licence: str, unit: Unit) -> list[Part]:
    """Counts by source and licence as parts; what names no source or licence has those that are given."""
    return [
        Part(source or name, own or licence, amount, unit)
        for source, licences in origins.items()
        for own, amount in licences.items()
    ]


def model_part(folder: Path) -> Part:
    """A model directory as a part of another model: its last two names and the licence that its card names."""
    return Part("/".join(folder.resolve().parts[-2:]), licence_of(read_card(folder)[0]), 0, "model")


def licence_of(front: dict[str, Any]) -> str:
    """The words of a front matter that name the licence."""
    named, words = _listed(front.get("license_name")), _listed(front.get("license"))
    return ", ".join(named or words)


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of a directory's card; nothing of one that is absent or cannot be read."""
    try:
        with open(folder / README, "rb") as file:
            return parse_card(file.read(MAX_BYTES).decode("utf-8", errors="replace"))
    except OSError:
        return {}, ""


def parse_card(page: str) -> tuple[dict[str, Any], str]:
    """Front matter and text of a card."""
    match = _FRONT.match(page)
    if match is None:
        return {}, page
    try:
        front = yaml.safe_load(match[1]) if _is_quick(match[1]) else None
    except (yaml.YAMLError, ValueError, RecursionError):  # a ValueError: a date that is none
        front = None
    return front if isinstance(front, dict) else {}, match[2]


def _is_quick(front: str) -> bool:
    brackets = front.count("[") + front.count("{")
    return len(front) <= _MAX_FRONT and brackets <= _MAX_BRACKETS and not _NESTED.search(front)


def _front(model: Path, terms: Terms) -> dict[str, Any]:
    return {"language": [], **_licence(terms), "library_name": "jvlm", "pipeline_tag": _kind(model)[1]}


def _licence(terms: Terms) -> dict[str, str]:
    """`license`, and `license_name` where Hugging Face has no name for it."""
    words = written(terms)
    return {"license": words} if words in _HUB_NAMES else {"license": "other", "license_name": words}


def _kind(model: Path) -> tuple[str, str]:
    """What a directory holds, in words and as Hugging Face's task."""
    return _KINDS.get(str(read_json(model / "config.json").get("model_type")), _LANGUAGE_MODEL)


def _data_section(parts: Sequence[Part]) -> str:
    rows = sorted({(p.name, p.licence, p.amount, p.unit) for p in parts})
    terms, told = joined(parts), []
    if Terms.CLOSED in terms:
        told.append("What is closed is its owner's own, or nobody has said a licence: do not give this away.")
    if Terms.UNKNOWN in terms:
        told.append("Of some of it the licence is not clear: ask before you use this.")
    if Terms.NO_TRADE in terms:
        told.append("Not for commercial purposes.")
    table = _table(
        ["made of", "licence", "how much"],
        [[name, licence or "closed", f"{amount:,} {unit}" if amount else unit] for name, licence, amount, unit in rows],
    )
    owed = [Part(*row) for row in rows if terms_of(row[1]) & (Terms.NOTICE | Terms.NAME)]
    lines = dict.fromkeys(f"- {_cell(part.name)}: {_cell(part.licence)}" for part in owed[:_ROWS])
    named = "\n\nTo be named:\n\n" + "\n".join(lines) if lines else ""
    said = " ".join([f"{written(terms)}, the strictest of what it is made of.", *told])
    return f"## Licence\n\n{said}\n\n{table}{named}"


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    """The plain numbers of a record, by their names."""
    return {
        name: value for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _page(front: dict[str, Any], body: Iterable[str]) -> str:
    filled = {key: value for key, value in front.items() if value}
    head = yaml.safe_dump(filled, allow_unicode=True, sort_keys=False, width=1000)
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    listed = list(rows)
    shown = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in listed[:_ROWS])]
    more = f"\n\nand {len(listed) - _ROWS:,} more" if len(listed) > _ROWS else ""
    return "\n".join(f"| {' | '.join(row)} |" for row in shown) + more


def _cell(value: Any) -> str:
    """Text in which nothing is markup."""
    if isinstance(value, float):
        return f"{value:.4g}"
    plain = " ".join(str("–" if value is None else value).split())[:_CELL]
    return re.sub(r"([\\`*_\[\]<>|!#])", r"\\\1", plain)


def _listed(value: Any) -> list[str]:
    """The words of a field that may hold one or several; what is no word is left out."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str) and item]


def _names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(" ".join(str(name).split())[:_CELL] for name in names))[:_ROWS]


def _size(samples: int) -> str:
    """Hugging Face's word for a number of rows."""
    bounds = [(10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M")]
    below = "n"
    for bound, word in bounds:
        if samples < bound:
            return f"{below}<n<{word}" if below != "n" else f"n<{word}"
        below = word
    return "n>100M"
