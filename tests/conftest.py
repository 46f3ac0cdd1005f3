"""Rules of the whole suite: no network, real data and GPUs only where they are, with the reason when skipped."""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WDS_SECURE", "1")

pytest_plugins = ["tally", "tiny", "wheel"]

_ROOT = Path(__file__).resolve().parent.parent


class NetworkUse(BaseException):
    """A test reached for the network. No Exception, so that no library's retry logic swallows it."""


def _is_local(host: Any) -> bool:
    if not isinstance(host, str | bytes):
        return True  # None and families without host names
    name = host.decode() if isinstance(host, bytes) else host
    if name in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback or name in ("0.0.0.0", "::")
    except ValueError:
        return False


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = arguments[0], arguments[-1]
        if sock.family in (socket.AF_INET, socket.AF_INET6) and address and not _is_local(address[0]):
            raise NetworkUse(f"{event} to {address}")
    elif event == "socket.getaddrinfo" and not _is_local(arguments[0]):
        raise NetworkUse(f"{event} of {arguments[0]}")


sys.addaudithook(_guard)  # the lowest place to stand: it also sees what C extensions of the standard library do


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
