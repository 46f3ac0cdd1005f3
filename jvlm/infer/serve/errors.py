"""Errors as OpenAI's API gives them: a status and ``{"error": {message, type, param, code}}``, without internals."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from jvlm.errors import JvlmError
from jvlm.infer.service import Busy, Cancelled, Failed

RETRY_SECONDS = 1


class ApiError(Exception):
    """What a client is told. `param` is the field that is wrong, `code` what programs look at."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def body(self) -> dict[str, Any]:
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def api_error(error: JvlmError) -> ApiError:
    """The same to a client. Where it happened is left out: it may be a path of this machine."""
    if isinstance(error, Busy):
        headers = {"Retry-After": str(RETRY_SECONDS)}
        return ApiError(429, "too many requests are waiting; try again in a moment", code="busy", headers=headers)
    if isinstance(error, Failed):
        return ApiError(500, "the answer failed")
    if isinstance(error, Cancelled):
        return ApiError(503, "the server is shutting down")
    return ApiError(400, error.what)
