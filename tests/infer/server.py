"""A server on a loopback port, in a thread of the test's process, and ways to ask it."""

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import openai
import uvicorn
from fastapi import FastAPI

from jvlm.infer.serve.run import uvicorn_settings

KEY = "a key of the tests"


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of the server."""
    server = uvicorn.Server(uvicorn.Config(app, **uvicorn_settings("127.0.0.1", 0)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < end
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def client(url: str, **options: Any) -> openai.OpenAI:
    """The official client; nothing is tried twice and no proxy is asked."""
    options = {"api_key": KEY, "max_retries": 0, "timeout": 30} | options
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", http_client=http_client, **options)


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of a raw request; a body that is not bytes is sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | (headers or {})
    return ask("POST", f"{url}/v1/chat/completions", body, headers)


def ask(
    method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, parts.path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        given = {name.lower(): value for name, value in response.headers.items()}
        is_json = given.get("content-type", "").startswith("application/json")
        return response.status, json.loads(text) if is_json else text, given
    finally:
        connection.close()


def data_uri(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def user(*parts: str | bytes) -> dict[str, Any]:
    """A turn of texts and images."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_uri(part)}}
        for part in parts
    ]
    return {"role": "user", "content": content}
