"""Reading and writing typed configs: YAML file → overrides → pydantic schema, every error in one go.

YAML is read by the 1.2 core rules, so `1e-4` is a number and `no` is text. Each room declares its schema as a
subclass of `Config`; nothing here knows what a config means.
"""

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from jvlm.errors import UsageError

T = TypeVar("T", bound=BaseModel)
Keys = tuple[str | int, ...]


class Config(BaseModel):
    """Base of every config schema: unknown keys are errors and values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of YAML 1.2 in place of those of 1.1."""


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the strings `_Loader` would take for something else."""


_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("merge", r"<<", "<"),
)
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _name, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # PyYAML reads these rare line separators back from double quotes only
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _represent)
_Loader.add_constructor(_TAG + "int", lambda _, n: int(n.value, {"0x": 16, "0o": 8}.get(n.value[:2], 10)))


def load_config(
    schema: type[T], path: Path | None, overrides: Sequence[str] = (), values: dict[str, Any] | None = None
) -> T:
    """Build `schema` from a YAML file, then `values`, then overrides written `key.sub=value` (later ones win).

    Args:
        schema: a pydantic model, normally a `Config`.
        path: the file; None starts from nothing.
        overrides: each value is read as YAML; a number in the key indexes a list (`stages.0.steps=10`).
        values: top-level keys set by a program.

    Raises:
        UsageError: names every fault at once, one per line, as
            `file.yaml:5:3 data.shrads: unknown key, did you mean 'shards'?`.
    """
    faults: list[str] = []
    node, data = _read(path, faults) if path is not None else (None, {})
    values = values or {}
    data = {**data, **values}
    applied: list[tuple[list[str], str]] = []
    for text in overrides:
        try:
            names, value = _parse_override(text)
            data = _replaced(data, names, value)
            applied.insert(0, (names, f"override {text!r}"))
        except ValueError as error:
            faults.append(f"override {text!r}: {error}")
    try:
        model = schema.model_validate(data)
        if not faults:
            return model
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            keys = _real_keys(data, detail["loc"], detail["type"])
            place = next((by for names, by in applied if [str(key) for key in keys[: len(names)]] == names), None)
            if place is None:
                place = f"{path}:{_mark(node, keys)}" if node and keys[:1] not in [(v,) for v in values] else "config"
            dotted = ".".join(map(str, keys)) or "(whole file)"
            faults.append(f"{place} {dotted}: {_message(schema, data, keys, detail)}")
    raise UsageError("\n".join(dict.fromkeys(faults)))


def dump_config(model: BaseModel) -> str:
    """YAML text of every field, defaults included; `load_config` reads it back equal."""
    plain = model.model_dump(mode="json", round_trip=True)
    return yaml.dump(plain, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100)


def _read(path: Path, faults: list[str]) -> tuple[yaml.Node | None, dict[str, Any]]:
    """The node tree (for line numbers) and the plain data of a file; duplicate keys are added to `faults`."""
    try:
        loader = _Loader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None, {}
        for key in _duplicates(node, set()):
            faults.append(f"{path}:{_line(key)} {key.value}: this key stands twice")
        data = loader.construct_document(node)
    except OSError as error:
        raise UsageError(f"cannot read the config file: {error.strerror}", where=path) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or type(error).__name__
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise UsageError(f"not valid YAML: {problem}", where=place) from None
    if not isinstance(data, dict):
        raise UsageError("a config file holds `key: value` lines", where=f"{path}:{_line(node)}")
    return node, data


def _line(node: yaml.Node) -> str:
    return f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _duplicates(node: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):  # seen: an alias of a node looked at before
        return
    seen.add(id(node))
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(None, value) for value in node.value]
    keys = set()
    for key, value in pairs:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in keys:
                yield key
            keys.add((key.tag, key.value))
        yield from _duplicates(value, seen)


def _parse_override(text: str) -> tuple[list[str], Any]:
    name, sign, value = text.partition("=")
    names = name.strip().split(".")
    if not sign or not all(names):
        raise ValueError("write it as key.sub=value")
    try:
        return names, yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        raise ValueError("the value is not valid YAML") from None


def _replaced(data: Any, names: Sequence[str], value: Any) -> Any:
    """A copy of `data` with one value replaced; the original, perhaps shared by YAML aliases, is untouched."""
    if not names:
        return value
    name, rest = names[0], names[1:]
    if isinstance(data, list):
        if not name.isdecimal() or int(name) >= len(data):
            raise ValueError(f"{name!r} is not one of the list's {len(data)} places, counted from 0")
        return [_replaced(old, rest, value) if place == int(name) else old for place, old in enumerate(data)]
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"{name!r} cannot be set inside a plain value")
    return {**(data or {}), name: _replaced((data or {}).get(name), rest, value)}


def _real_keys(data: Any, loc: Keys, kind: str) -> Keys:
    """pydantic's location without the names of union members it puts between the keys."""
    keys: list[str | int] = []
    for position, part in enumerate(loc):
        if part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int):
            keys.append(part)
            data = data[part]
        elif kind == "missing" and position == len(loc) - 1:
            keys.append(part)
    return tuple(keys)


def _mark(node: yaml.Node, keys: Keys) -> str:
    """`line:column` of the key, or of the nearest enclosing one for a key that is missing."""
    place = node
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            place = node = node.value[key]
        elif isinstance(node, yaml.MappingNode):
            place, node = next((pair for pair in node.value if pair[0].value == str(key)), (place, node))
    return _line(place)


def _message(schema: type[BaseModel], data: Any, keys: Keys, detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(keys[-1]), _known_keys(schema, data, keys[:-1]), n=1)
        return f"unknown key, did you mean {near[0]!r}?" if near else "unknown key"
    if detail["type"] == "missing":
        return "missing, a value is required"
    text, given = detail["msg"].removeprefix("Value error, "), detail["input"]
    shown = f", not {given!r}" if isinstance(given, str | int | float | None) else ""
    return f"{text[:1].lower()}{text[1:]}{shown[:80]}"


def _known_keys(annotation: Any, data: Any, keys: Keys) -> list[str]:
    """Names of the fields allowed at `keys`, following models, unions, lists and mappings."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType, Annotated):
        members = arguments[:1] if origin is Annotated else arguments
        return [name for member in members for name in _known_keys(member, data, keys)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(data, dict):
        fields = annotation.model_fields
        tags = {name: get_args(f.annotation) for name, f in fields.items() if get_origin(f.annotation) is Literal}
        if any(data.get(name, allowed[0]) not in allowed for name, allowed in tags.items()):
            return []  # another member of a tagged union
        if not keys:
            return list(fields)
        return _known_keys(fields[str(keys[0])].annotation, data[keys[0]], keys[1:]) if keys[0] in fields else []
    if keys and arguments and isinstance(data, dict | list):
        return _known_keys(arguments[-1 if isinstance(data, dict) else 0], data[keys[0]], keys[1:])  # type: ignore[index]
    return []
