"""What a client may ask, checked before anything is computed.

As in OpenAI's API null is as good as absent and an unknown field is refused. What would change the answer and is not
offered here is refused too, unless it asks for what is done anyway; what concerns their accounts alone is ignored.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from jvlm.images.load import DEFAULT_LIMITS
from jvlm.infer.serve.errors import ApiError
from jvlm.infer.types import Request
from jvlm.sample import ImageRef, Message, Part, Role, Sample

IGNORED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
)
NOT_OFFERED: dict[str, list[Any]] = {
    "n": [1],
    "logprobs": [False],
    "top_logprobs": [0],
    "logit_bias": [{}],
    "presence_penalty": [0],
    "frequency_penalty": [0],
    "response_format": [{"type": "text"}],
    "modalities": [["text"]],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "audio": [],
    "prediction": [],
    "reasoning_effort": ["none"],
    "verbosity": [],
    "web_search_options": [],
}
"""Fields of theirs, each with the values that ask for nothing."""


@dataclass(frozen=True)
class Limits:
    """What one request may hold at most. `characters` counts all its text; `new_tokens` is for the answer."""

    body_bytes: int = 32 * 2**20
    images: int = 8
    image_bytes: int = DEFAULT_LIMITS.max_bytes
    turns: int = 256
    characters: int = 16_000
    choices: int = 64
    new_tokens: int = 1024
    default_new_tokens: int = 256


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ImageUrl(_Strict):
    """`detail` is accepted and ignored: an image has the tiles that its size gives it."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


class Turn(_Strict):
    """`name` and `annotations` are ignored: the latter is what their client sends back of an answer."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]
    name: str | None = None
    annotations: list[Any] = []


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class Chat(_Strict):
    """The body of ``POST /v1/chat/completions``. `choices` is our own: the answer is one of these texts."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    choices: list[str] | None = None


def read_chat(body: bytes) -> Chat:
    """Raises ApiError for anything that is no such body."""
    try:
        record = _without_nulls(from_json(body, allow_inf_nan=False))
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON") from None
    if not isinstance(record, dict):
        raise ApiError(400, "the body is not a JSON object")
    for name in IGNORED:
        record.pop(name, None)
    for name, nothing in NOT_OFFERED.items():
        if name in record and record.pop(name) not in nothing:
            why = f"only {' or '.join(map(json.dumps, nothing))} is possible" if nothing else "leave it out"
            raise ApiError(400, f"'{name}' is not offered here: {why}", param=name, code="unsupported_parameter")
    try:
        return Chat.model_validate(record)
    except ValidationError as error:
        raise _invalid(error) from None


def to_request(chat: Chat, limits: Limits) -> Request:
    """The engine's request. Raises ApiError when it is above a limit or an image is not given with the request."""
    sample = _sample(chat.messages, limits)
    stop = (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop)
    choices = tuple(chat.choices or ())
    _check_texts("stop", stop, 4)
    _check_texts("choices", choices, limits.choices)
    if chat.choices is not None and (len(set(choices)) < len(choices) or not choices):
        raise ApiError(400, "'choices' are texts that differ, at least one", param="choices")
    if stop and choices:
        raise ApiError(400, "an answer out of 'choices' is always whole: 'stop' does not go with it", param="stop")
    characters = sum(len(message.text) for message in sample.messages) + sum(map(len, stop + choices))
    if characters > limits.characters:
        raise ApiError(400, f"the request has {characters} characters of text, {limits.characters} are allowed")
    tokens = chat.max_completion_tokens or chat.max_tokens or limits.default_new_tokens
    if tokens > limits.new_tokens:
        param = "max_completion_tokens" if chat.max_completion_tokens else "max_tokens"
        raise ApiError(400, f"'{param}' is {tokens}, at most {limits.new_tokens} are possible", param=param)
    seed = secrets.randbelow(2**31) if chat.seed is None else chat.seed
    return Request(sample, tokens, chat.temperature, chat.top_p, seed, stop, choices)


def _sample(turns: list[Turn], limits: Limits) -> Sample:
    if len(turns) > limits.turns:
        raise ApiError(400, f"there are {len(turns)} messages, {limits.turns} are allowed", param="messages")
    if turns[-1].role != "user":
        raise ApiError(400, "the last message must be the user's", param="messages")
    images: list[ImageRef] = []
    messages = []
    for number, turn in enumerate(turns):
        content: list[Part] = []
        for part in [turn.content] if isinstance(turn.content, str) else turn.content:
            if isinstance(part, str | TextPart):
                content.append(part if isinstance(part, str) else part.text)
                continue
            place = f"messages.{number}.content"
            if turn.role != "user":
                raise ApiError(400, "only messages of the user can hold images", param=place)
            if len(images) == limits.images:
                raise ApiError(400, f"there are more than {limits.images} images", param=place)
            content.append(len(images))
            images.append(ImageRef(data=_image(part.image_url.url, limits, place)))
        role: Role = "system" if turn.role == "developer" else turn.role
        messages.append(Message(role, content))
    return Sample("request", messages, images)


def _image(url: str, limits: Limits, place: str) -> bytes:
    """The bytes of a data: URI (RFC 2397). Nothing is ever fetched: an address could be one only this machine sees."""
    head, comma, data = url.partition(",")
    if head[:5].lower() != "data:":
        what = "image_url.url must be a data: URI with the image itself; addresses are not fetched"
        raise ApiError(400, what, param=place, code="invalid_image_url")
    if not comma or not head.lower().endswith(";base64"):
        what = "image_url.url must have the form data:image/png;base64,..."
        raise ApiError(400, what, param=place, code="invalid_image_url")
    if len(data) * 3 // 4 > limits.image_bytes + 2:  # padding
        what = f"the image is larger than {limits.image_bytes / 2**20:g} MiB"
        raise ApiError(413, what, param=place, code="image_too_large")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "the image is not valid base64", param=place, code="invalid_base64_image") from None


def _check_texts(name: str, texts: tuple[str, ...], most: int) -> None:
    if len(texts) > most or not all(texts):
        raise ApiError(400, f"'{name}' can hold at most {most} texts, none of them empty", param=name)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _invalid(error: ValidationError) -> ApiError:
    """The deepest of what pydantic found: of the forms a field may have, that which was meant."""
    first = max(error.errors(include_input=False, include_url=False), key=lambda one: len(one["loc"]))
    place = ".".join(_names(first["loc"]))[:200]
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unrecognized request argument supplied: {place}", param=place)
    if first["type"] == "missing":
        return ApiError(400, f"'{place}' is missing", param=place)
    return ApiError(400, f"'{place}': {first['msg']}", param=place)


def _names(location: tuple[int | str, ...]) -> Iterator[str]:
    """Without what pydantic puts in: types, and a part's kind before the field of that name."""
    before: int | str = ""
    for part in location:
        if part != before and not (part == "str" or str(part).startswith("list[")):
            yield str(part)
        before = part
