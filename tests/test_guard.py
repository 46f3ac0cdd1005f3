"""The suite's own rule: no test reaches the network, and neither does what answers a visitor."""

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import socket_guard

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = "192.0.2.1"  # TEST-NET-1 of RFC 5737: nobody answers there


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is provoked here is not counted among what the suite did."""
    monkeypatch.setenv(socket_guard.LEDGER, str(tmp_path / "ledger"))


def test_outside_addresses_are_refused_before_a_packet_leaves() -> None:
    with pytest.raises(BaseException, match=r"socket\.getaddrinfo of example\.invalid"):
        socket.getaddrinfo("example.invalid", 80)
    with socket.socket() as tcp, pytest.raises(BaseException, match=r"socket\.connect to"):
        tcp.connect((OUTSIDE, 80))
    with socket.socket(type=socket.SOCK_DGRAM) as udp, pytest.raises(BaseException, match=r"socket\.sendto to"):
        udp.sendto(b"x", (OUTSIDE, 53))
    assert len(socket_guard.refusals()) == 3


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as client:
        connection, _ = server.accept()
        client.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        connection.close()


def test_a_child_stands_under_the_guard_too_and_is_counted() -> None:
    script = f"""
import socket
try:
    socket.create_connection(({OUTSIDE!r}, 80), timeout=1)
except BaseException as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "NetworkUse\n"
    (line,) = socket_guard.refusals()
    assert OUTSIDE in line


def test_a_refusal_that_was_swallowed_fails_the_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    test = tmp_path / "test_swallowed.py"
    test.write_text(
        f"import socket\n\ndef test_it():\n    try:\n        socket.create_connection(({OUTSIDE!r}, 80))\n"
        "    except BaseException:\n        pass\n"
    )
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{ROOT}", prepend=":")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "1 passed" in done.stdout
    assert "network use: socket." in done.stdout
    assert done.returncode == 1


ANSWERING = ("apps/*.py", "jvlm/infer/*.py", "jvlm/infer/serve/*.py", "jvlm/images/*.py", "jvlm/model/processor.py")
FETCHING = ("urllib.request", "http.client", "requests", "httpx", "aiohttp", "fsspec", "huggingface_hub", "jvlm.fetch")


def test_what_answers_a_visitor_has_nothing_to_fetch_with() -> None:
    """Server and pages take images as bytes; no module of theirs imports what could follow an address."""
    files = [path for pattern in ANSWERING for path in sorted(ROOT.glob(pattern))]
    assert len(files) > 30
    found = [
        f"{path.relative_to(ROOT)}: {name}" for path in files for name in _imports(path) if name.startswith(FETCHING)
    ]
    assert found == []


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names
