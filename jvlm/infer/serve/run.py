"""Starting the server: the model, the service, and uvicorn around the application."""

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from jvlm.errors import UsageError
from jvlm.infer.generate import load_model
from jvlm.infer.serve.app import make_app
from jvlm.infer.serve.schema import Limits
from jvlm.infer.service import Service
from jvlm.model.quantized import Weights

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
CONNECTIONS = 512


def serve(
    model: Path,
    *,
    host: str,
    port: int,
    name: str | None,
    rows: int,
    queue: int,
    weights: Weights,
    compile: bool,
    limits: Limits,
    key: str | None,
    hosts: list[str],
    warn: Callable[[str], None],
) -> None:
    """Serve a model directory until it is stopped. `hosts` are further names the server is reached by.

    Raises UsageError where nothing can listen, before the model is loaded.
    """
    check_free(host, port)
    local = is_loopback(host)
    if not local and key is None:
        warn("warning: anybody who reaches this address can ask; give an API key (--api-key-file)")
    allowed = {one.lower() for one in [*LOOPBACK_NAMES, host, *hosts]} if local or hosts else None
    name = name or model.resolve().name
    if compile:
        warn("compiling what writes answers, which takes half a minute")
    service = Service(load_model(model, weights=weights, compile=compile), rows=rows, capacity=queue)
    try:
        warn(f"serving {name} at http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        uvicorn.run(make_app(service, name, limits, key=key, hosts=allowed), **uvicorn_settings(host, port))
    finally:
        service.close()


def check_free(host: str, port: int) -> None:
    """Raises UsageError when the port is taken, or the address is none of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        fix = "give another --port, or end what listens there"
        raise UsageError(f"cannot listen: {error.strerror}", where=f"{host}:{port}", fix=fix) from None


def uvicorn_settings(host: str, port: int) -> dict[str, Any]:
    """No log of who asked, no name of the program in the headers, no trust in what a client says of its address."""
    return {
        "host": host,
        "port": port,
        "ws": "none",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "limit_concurrency": CONNECTIONS,
        "timeout_graceful_shutdown": 5,
    }


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_key(file: Path) -> str:
    """The first line of a file. Raises UsageError when there is none."""
    try:
        lines = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        raise UsageError("cannot read the API key", where=file) from None
    if len(lines) != 1:
        raise UsageError("must hold the API key and nothing else", where=file)
    return lines[0]
