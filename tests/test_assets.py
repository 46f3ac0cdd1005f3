from pathlib import Path

import pytest

from jvlm import assets
from jvlm.assets import asset
from jvlm.errors import DataError

ROOT = Path(assets.__file__).resolve().parent.parent


def test_clone_wins() -> None:
    assert asset("data", "toyworld", "world.py") == ROOT / "data" / "toyworld" / "world.py"
    assert asset("apps") == ROOT / "apps"


def test_absent_asset_lists_where_it_was_looked_for() -> None:
    with pytest.raises(DataError, match=r"configs/no-such\.yaml not found") as caught:
        asset("configs", "no-such.yaml")
    assert str(ROOT / "configs" / "no-such.yaml") in str(caught.value)
    assert str(ROOT / "jvlm" / "configs" / "no-such.yaml") in str(caught.value)


def test_installed_copy_is_used_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "jvlm"
    (package / "configs").mkdir(parents=True)
    (package / "configs" / "a.yaml").touch()
    monkeypatch.setattr(assets, "__file__", str(package / "assets.py"))
    assert asset("configs", "a.yaml") == package / "configs" / "a.yaml"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").touch()
    assert asset("configs", "a.yaml").parent.parent == package, "a folder of this name beside the package is no clone"
    (tmp_path / "pyproject.toml").touch()
    assert asset("configs", "a.yaml").parent == tmp_path / "configs"
