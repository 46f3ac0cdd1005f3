"""Who may ask: a page in a browser must not reach a server on its own machine, nor anybody without the key."""

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from jvlm.infer.serve.errors import ApiError

OPEN_PATHS = ("/healthz",)
"""Need no key: whoever watches over the server asks here."""


class Guard:
    """ASGI middleware before everything else.

    Args:
        app: what is guarded.
        key: what requests must carry as ``Authorization: Bearer KEY``; None lets everybody in.
        hosts: names in the Host header that are answered to; None for any. With DNS rebinding a page has its own name
            lead to 127.0.0.1, and the browser sends that name here.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Collection[str] | None) -> None:
        self._app, self._key, self._hosts = app, key, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["path"], Headers(scope=scope))
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> None:
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            raise ApiError(403, "this host name is not answered to; the server's option --allow-host adds one")
        if self._key is None or path in OPEN_PATHS:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key.encode()):
            what = "the API key is missing or wrong"
            raise ApiError(401, what, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _host(header: str) -> str | None:
    """The name without the port, in small letters."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
