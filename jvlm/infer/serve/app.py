"""The routes: ``/v1/chat/completions``, ``/v1/models``, ``/healthz``, ``/metrics``."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from jvlm.errors import JvlmError
from jvlm.infer.serve.errors import ApiError, api_error
from jvlm.infer.serve.guard import Guard
from jvlm.infer.serve.metrics import CONTENT_TYPE, metrics
from jvlm.infer.serve.replies import Reply, event
from jvlm.infer.serve.schema import Limits, read_chat, to_request
from jvlm.infer.service import Answer, Busy, Cancelled, Service

BODY_SECONDS = 60.0
"""A body that takes longer to arrive is refused."""
BODIES = 64
"""Bodies that may be arriving, or waiting to be read, at a time."""
DECODERS = 4
"""Threads that read bodies and decode images: the most memory is taken there."""


def make_app(
    service: Service,
    model: str,
    limits: Limits | None = None,
    *,
    key: str | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """The server's application.

    Args:
        service: what answers.
        model: the name under which clients ask for it.
        limits: of one request.
        key: the API key that clients must send; None lets everybody in.
        hosts: names that the server is reached by (`Guard`); None for any.
    """
    # no pages of documentation: they would have the browser load scripts from elsewhere
    app = FastAPI(title="jvlm", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, key=key, hosts=hosts)
    app.add_exception_handler(ApiError, lambda _, error: error.response())
    app.add_exception_handler(JvlmError, lambda _, error: api_error(error).response())
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(ClientDisconnect, lambda *_: Response(status_code=400))
    app.add_exception_handler(Exception, lambda *_: ApiError(500, "the server failed").response())
    endpoint = ChatEndpoint(service, model, limits or Limits())
    started = int(time.time())

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await endpoint(request)

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model(model, started)]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        _check_model(name, model)
        return JSONResponse(_model(model, started))

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok" if service.alive else "dead", 200 if service.alive else 503)

    @app.get("/metrics")
    async def counters() -> Response:
        return Response(metrics(service), media_type=CONTENT_TYPE)

    return app


class ChatEndpoint:
    """Reads a request, has it answered and gives the answer back, whole or as it is written.

    A client that goes away cancels its answer, at whatever point it is.
    """

    def __init__(self, service: Service, model: str, limits: Limits) -> None:
        self._service, self._model, self._limits = service, model, limits
        self._arriving = 0
        self._decoders = CapacityLimiter(DECODERS)

    async def __call__(self, request: Request) -> Response:
        ready, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(ready.set)

        streams, usage, answer = await self._submitted(request, tell)
        leaving = asyncio.create_task(_cancel_when_gone(request, answer))
        reply = Reply(self._model, usage=usage)
        if streams:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            stream = _events(reply, answer, ready, leaving)
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        try:
            async for _ in _pieces(answer, ready):
                pass
        finally:
            answer.cancel()
            leaving.cancel()
        return JSONResponse(reply.whole(answer))

    async def _submitted(self, request: Request, tell: Callable[[], None]) -> tuple[bool, bool, Answer]:
        """Whether the answer is wanted as a stream, whether with its usage, and the answer. Of the body, which may be
        large and whose answer may take its time, nothing else is kept.

        Refused before it is read: what nobody could answer now, and what a page of another site sends.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "the Content-Type must be application/json")
        self._service.check_room()
        if self._arriving >= BODIES:
            raise Busy("too many bodies are arriving")
        self._arriving += 1
        try:
            body = await _body(request, self._limits.body_bytes)
            return await to_thread.run_sync(self._submit, body, tell, limiter=self._decoders)
        finally:
            self._arriving -= 1

    def _submit(self, body: bytes, tell: Callable[[], None]) -> tuple[bool, bool, Answer]:
        chat = read_chat(body)
        _check_model(chat.model, self._model)
        answer = self._service.submit(to_request(chat, self._limits), tell)
        return chat.stream, chat.stream_options.include_usage, answer


async def _body(request: Request, most: int) -> bytes:
    length = request.headers.get("content-length", "")
    body = bytearray()
    too_large = ApiError(
        413, f"the body is larger than {most / 2**20:g} MiB", code="body_too_large", headers={"Connection": "close"}
    )
    if length.isdecimal() and int(length) > most:
        raise too_large
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():  # one without a length is counted as it comes
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time") from None
    return bytes(body)


async def _cancel_when_gone(request: Request, answer: Answer) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    answer.cancel()


async def _pieces(answer: Answer, ready: asyncio.Event) -> AsyncIterator[str]:
    """The text as it comes; ends with the answer, however that ends."""
    while True:
        ready.clear()
        done = answer.done  # before the text is taken: after it nothing comes
        if piece := answer.take():
            yield piece
        if done:
            return
        await ready.wait()


async def _events(
    reply: Reply, answer: Answer, ready: asyncio.Event, leaving: "asyncio.Task[None]"
) -> AsyncIterator[bytes]:
    try:
        yield reply.first()
        async for piece in _pieces(answer, ready):
            yield reply.piece(piece)
        with contextlib.suppress(Cancelled):
            yield reply.last(answer)
    except JvlmError as error:  # the status is sent: it can only be said in the stream
        yield event(api_error(error).body)
    finally:
        answer.cancel()
        leaving.cancel()


def _check_model(asked: str, model: str) -> None:
    if asked != model:
        what = f"there is no model of that name here; GET /v1/models tells what there is: {model}"
        raise ApiError(404, what, param="model", code="model_not_found")


def _model(name: str, started: int) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": started, "owned_by": "jvlm"}


def _plain(_: Request, error: Exception) -> Response:
    """No such path, no such method."""
    assert isinstance(error, HTTPException)
    return ApiError(error.status_code, str(error.detail), headers=error.headers).response()
