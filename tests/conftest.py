"""Rules of the whole suite: no network, real data and GPUs only where they are, with the reason when skipped."""

import os
import tempfile
from pathlib import Path

import pytest
import socket_guard

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WDS_SECURE", "1")

pytest_plugins = ["tally", "tiny", "wheel"]

_ROOT = Path(__file__).resolve().parent.parent
socket_guard.install()


def pytest_configure() -> None:
    """Children stand under the guard too, and what it refuses anywhere is counted."""
    handle, os.environ[socket_guard.LEDGER] = tempfile.mkstemp(prefix="jvlm-refused-")
    os.close(handle)
    children = str(_ROOT / "tests" / "in_children")
    os.environ["PYTHONPATH"] = os.pathsep.join([children, *filter(None, [os.environ.get("PYTHONPATH")])])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A refusal that no test saw, because something swallowed it, fails the suite."""
    if socket_guard.refusals():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in socket_guard.refusals():
        terminalreporter.write_line(f"FAILED network use: {line}", red=True)


def pytest_unconfigure() -> None:
    Path(os.environ[socket_guard.LEDGER]).unlink(missing_ok=True)


def _data_root() -> tuple[Path | None, str]:
    named = os.environ.get("JVLM_DATA_ROOT")
    if named:
        return (Path(named), "") if Path(named).is_dir() else (None, f"JVLM_DATA_ROOT={named} is not a folder")
    beside = _ROOT.parent / "shared" / "data"
    return (beside, "") if beside.is_dir() else (None, "JVLM_DATA_ROOT is not set and ../shared/data does not exist")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data; the test is skipped with the reason where there is none."""
    root, reason = _data_root()
    if root is None:
        pytest.skip(reason)
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root, reason = _data_root()
    if root is None:
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason=reason))
    on_gpu = [item for item in items if item.get_closest_marker("cuda")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA GPU"))
