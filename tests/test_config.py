from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from jvlm.config import Config, dump_config, load_config
from jvlm.errors import UsageError


class Data(Config):
    shards: Path = Path("shards")
    weight: float = Field(1.0, gt=0)


class Align(Config):
    kind: Literal["align"] = "align"
    steps: int = Field(10, gt=0)


class Prefer(Config):
    kind: Literal["prefer"]
    beta: float = 0.1


class Recipe(Config):
    name: str
    lr: float = 1e-4
    data: Data = Data()
    sets: dict[str, Data] = Field(default_factory=dict)
    stages: list[Annotated[Align | Prefer, Field(discriminator="kind")]] = Field(default_factory=list)
    size: int | None = None
    note: Any = None

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if "/" in name:
            raise ValueError("Must not contain a slash")
        return name


FAULTY = """\
name: a/b
lr: fast

data:
  shrads: x
  weight: 0
stages:
  - kind: prefer
    bta: 3
  - {kind: align, steps: -1}
sets:
  toy: {wieght: 1}
zzz: 1
"""


def _load(tmp_path: Path, text: str, *overrides: str, **values: Any) -> Recipe:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(Recipe, path, overrides, values)


def _faults(tmp_path: Path, text: str, *overrides: str, **values: Any) -> list[str]:
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, text, *overrides, **values)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    note = "[1e-4, 1E5, .5, 1., -.inf, 0x1F, 0o17, 010, 1e, no, on, 12:30, 2024-01-01, ~, true, '1', <, =]"
    got = _load(tmp_path, f"name: a\nlr: 1e-4\nnote: {note}").note
    numbers = [1e-4, 1e5, 0.5, 1.0, float("-inf"), 31, 15, 10]
    expected = [*numbers, "1e", "no", "on", "12:30", "2024-01-01", None, True, "1", "<", "="]
    assert got == expected
    assert [type(x) for x in got] == [type(x) for x in expected]


def test_every_fault_in_one_go_with_its_place(tmp_path: Path) -> None:
    assert _faults(tmp_path, FAULTY, "data.shard=y", "nonsense", "lr.x=1") == [
        "override 'nonsense': write it as key.sub=value",
        "override 'lr.x=1': 'x' cannot be set inside a plain value",
        "file.yaml:1:1 name: must not contain a slash, not 'a/b'",
        "file.yaml:2:1 lr: input should be a valid number, unable to parse string as a number, not 'fast'",
        "file.yaml:6:3 data.weight: input should be greater than 0, not 0",
        "file.yaml:5:3 data.shrads: unknown key, did you mean 'shards'?",
        "override 'data.shard=y' data.shard: unknown key, did you mean 'shards'?",
        "file.yaml:12:9 sets.toy.wieght: unknown key, did you mean 'weight'?",
        "file.yaml:9:5 stages.0.bta: unknown key, did you mean 'beta'?",
        "file.yaml:10:19 stages.1.steps: input should be greater than 0, not -1",
        "file.yaml:13:1 zzz: unknown key",
    ]


def test_missing_key_is_placed_at_its_mapping(tmp_path: Path) -> None:
    assert _faults(tmp_path, "data:\n  weight: 1\n") == ["file.yaml:1:1 name: missing, a value is required"]
    assert _faults(tmp_path, "") == ["config name: missing, a value is required"]


def test_unknown_stage_kind_lists_the_known_ones(tmp_path: Path) -> None:
    (fault,) = _faults(tmp_path, "name: a\nstages:\n  - kind: algin\n")
    assert fault.startswith("file.yaml:3:5 stages.0: ")
    assert "'align', 'prefer'" in fault


def test_duplicate_keys_are_errors(tmp_path: Path) -> None:
    faults = _faults(tmp_path, "name: a\ndata: {weight: 1, weight: 2}\nname: b\n")
    assert faults == ["file.yaml:2:19 weight: this key stands twice", "file.yaml:3:1 name: this key stands twice"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: [", r"file\.yaml:1:8: not valid YAML"),
        ("name: !!python/object:os.system x", r"file\.yaml:1:7: not valid YAML: could not determine a constructor"),
        ("- a\n", r"file\.yaml:1:1: a config file holds `key: value` lines"),
        ("a: 1\n--- \nb: 2\n", r"not valid YAML"),
        ("name: \x07", r"file\.yaml: not valid YAML"),
        ("a: " + "[" * 2000, r"file\.yaml: not valid YAML"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        _load(tmp_path, text)


def test_absent_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the config file: No such file"):
        load_config(Recipe, tmp_path / "absent.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not valid YAML"):
        load_config(Recipe, tmp_path / "b.yaml")


def test_overrides_reach_into_mappings_lists_and_defaults(tmp_path: Path) -> None:
    text = "name: a\nstages:\n  - {kind: align}\n  - {kind: prefer, beta: 0.2}\n"
    recipe = _load(tmp_path, text, "stages.1.beta=1e-3", "data.weight=2", "size=null", "name=x=y", "size=7")
    assert recipe.stages[1] == Prefer(kind="prefer", beta=1e-3)
    assert recipe.stages[0] == Align()
    assert (recipe.data.weight, recipe.name, recipe.size) == (2, "x=y", 7)
    (fault,) = _faults(tmp_path, text, "stages.2.beta=1")
    assert fault == "override 'stages.2.beta=1': '2' is not one of the list's 2 places, counted from 0"
    assert _faults(tmp_path, text, "size=[") == ["override 'size=[': the value is not valid YAML"]


def test_override_does_not_leak_through_an_alias(tmp_path: Path) -> None:
    recipe = _load(tmp_path, "name: a\ndata: &d {weight: 2}\nsets: {toy: *d, other: {<<: *d}}\n", "data.weight=3")
    assert (recipe.data.weight, recipe.sets["toy"].weight, recipe.sets["other"].weight) == (3, 2, 2)


def test_values_stand_between_file_and_overrides(tmp_path: Path) -> None:
    recipe = _load(tmp_path, "name: file\nsize: 1\nlr: 1\n", "size=3", size=2, lr=2)
    assert (recipe.name, recipe.size, recipe.lr) == ("file", 3, 2)
    assert _faults(tmp_path, "name: a\n", lr="x")[0].startswith("config lr: input should be a valid number")
    assert load_config(Recipe, None, ["name=a"]) == Recipe(name="a")


def test_config_is_frozen() -> None:
    recipe = Recipe(name="a")
    with pytest.raises(ValidationError):
        recipe.name = "b"  # type: ignore[misc]


_texts = st.text(st.characters(codec="utf-8"), max_size=20)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts
_notes = st.dictionaries(_texts, st.lists(_scalars, max_size=3) | _scalars, max_size=4)


@settings(deadline=None, derandomize=True)
@example({"a\x85b": "\u2028", "": [float("inf"), "a\nb ", "yes", "0x1"]}, 1e16)
@given(_notes, st.floats(allow_nan=False))
def test_dump_loads_back_equal(tmp_path_factory: pytest.TempPathFactory, note: dict[str, Any], lr: float) -> None:
    recipe = Recipe(name="名前", lr=lr, stages=[Prefer(kind="prefer"), Align(steps=3)], note=note)
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_config(recipe), encoding="utf-8", newline="")
    assert load_config(Recipe, path) == recipe


def test_dump_is_complete_and_readable() -> None:
    text = dump_config(Recipe(name="名前", note=["1e-4", "no", "null", "07"]))
    assert "name: 名前" in text
    assert "shards: shards" in text
    assert "'1e-4'" in text
