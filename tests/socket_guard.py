"""No test reaches the network: whatever would leave this machine raises, in this process and in every Python it starts.

An audit hook is the lowest place to stand: it also sees what C extensions of the standard library do. Each refusal is a
line of the ledger that `LEDGER` names, so that one that a library swallowed, or that a child met, is counted as well.
"""

import os
import socket
import sys
from typing import Any

LEDGER = "JVLM_SOCKET_LEDGER"


class NetworkUse(BaseException):
    """A test reached for the network. No Exception, so that no library's retry logic swallows it."""


def install() -> None:
    """Stand guard in this process. It cannot be taken back."""
    sys.addaudithook(_guard)


def refusals() -> list[str]:
    """What was refused so far, in all processes."""
    try:
        with open(os.environ[LEDGER], encoding="utf-8") as ledger:
            return ledger.read().splitlines()
    except (KeyError, FileNotFoundError):
        return []


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = arguments[0], arguments[-1]
        if sock.family in (socket.AF_INET, socket.AF_INET6) and address and not _is_local(address[0]):
            _refuse(f"{event} to {address}")
    elif event == "socket.getaddrinfo" and not _is_local(arguments[0]):
        _refuse(f"{event} of {arguments[0]}")


def _refuse(what: str) -> None:
    if LEDGER in os.environ:
        with open(os.environ[LEDGER], "a", encoding="utf-8") as ledger:
            test = os.environ.get("PYTEST_CURRENT_TEST", "no test")
            ledger.write(f"{what}, {test}, process {os.getpid()}: {' '.join(sys.argv)[:200]!r}\n")
    raise NetworkUse(what)


def _is_local(host: Any) -> bool:
    if not isinstance(host, str | bytes):
        return True  # None and families without host names
    name = host.decode() if isinstance(host, bytes) else host
    if name in ("", "localhost", socket.gethostname()):
        return True
    import ipaddress  # only where something connects: every child of the suite reads this file

    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback or name in ("0.0.0.0", "::")
    except ValueError:
        return False
