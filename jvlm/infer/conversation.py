"""A conversation about images: what was asked and answered under which settings, to be continued, kept and replayed.

A file of a conversation has one JSON line a turn, with its images inside, so that it can be sent to somebody else and
replayed there: `jvlm replay FILE MODEL`.
"""

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from jvlm.errors import DataError, UsageError
from jvlm.images.load import image_size, load_image
from jvlm.infer.types import Request
from jvlm.sample import ImageRef, Message, Part, Sample

Finish = Literal["", "stop", "length", "stopped"]
_KNOWN = ConfigDict(extra="forbid")
_STYLE = "body{font-family:sans-serif;max-width:45em;margin:2em auto}img{max-width:20em}pre{white-space:pre-wrap}"


@dataclass(frozen=True)
class Settings:
    """How an answer is generated; temperature 0 is greedy."""

    __pydantic_config__: ClassVar = _KNOWN

    max_new_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass
class Turn:
    """A question with the images that came with it, and the answer so far.

    `finish_reason`: "" while it is not answered, "stop" at its end mark, "length" at the cap, "stopped" by the user.
    `seconds`: until the answer ended; `first_seconds`: until its first text.
    """

    __pydantic_config__: ClassVar = _KNOWN

    question: str
    images: list[bytes] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    answer: str = ""
    finish_reason: Finish = ""
    num_tokens: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0


@dataclass
class Conversation:
    """Turns in order, all with one model. `model_hash` tells it from all others (`jvlm.infer.identity`)."""

    model: str = ""
    model_hash: str = ""
    turns: list[Turn] = field(default_factory=list)

    def sample(self, number: int) -> Sample:
        """What is put to the model for the answer of turn `number`: all turns before it, then its question."""
        images: list[ImageRef] = []
        messages: list[Message] = []
        for turn in self.turns[: number + 1]:
            shown: list[Part] = list(range(len(images), len(images) + len(turn.images)))
            images += [ImageRef(data=data) for data in turn.images]
            messages += [Message("user", [*shown, turn.question]), Message("assistant", [turn.answer])]
        return Sample(f"turn-{number}", messages[:-1], images)

    def request(self, number: int) -> Request:
        """The same with the settings of that turn."""
        return Request(self.sample(number), **asdict(self.turns[number].settings))

    def to_jsonl(self) -> str:
        """One line a turn, the file that `read` reads."""
        about = {"model": self.model, "model_hash": self.model_hash}
        rows = [
            asdict(turn) | {"images": [base64.b64encode(data).decode() for data in turn.images]} | about
            for turn in self.turns
        ]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def to_markdown(self) -> str:
        """For reading. What was typed or generated stands in fenced blocks: it is text, never markup."""
        parts = [f"# {self.model}\n"]
        for number, turn in enumerate(self.turns, 1):
            pictures = [f"![画像]({_data_uri(data)})\n" for data in turn.images]
            parts += [f"## {number}\n", *pictures, _fenced(turn.question), _fenced(turn.answer)]
            parts.append(f"{_settings_line(turn)}\n")
        return "\n".join(parts)

    def to_html(self) -> str:
        """For reading: one page that loads nothing from anywhere."""
        body = []
        for turn in self.turns:
            pictures = "".join(f'<img src="{_data_uri(data)}" alt="">' for data in turn.images)
            texts = [f"<pre>{html.escape(text)}</pre>" for text in (turn.question, turn.answer)]
            body.append(
                f"<section>{pictures}<h2>Q</h2>{texts[0]}<h2>A</h2>{texts[1]}<p>{_settings_line(turn)}</p></section>"
            )
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            f'<!doctype html><html lang="ja"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
            f'content="{policy}"><title>{html.escape(self.model)}</title><style>{_STYLE}</style>'
            f"<h1>{html.escape(self.model)}</h1>{''.join(body)}</html>\n"
        )

    @classmethod
    def read(cls, path: Path) -> "Conversation":
        """Inverse of `to_jsonl`. Raises DataError with file:line for what is no turn, or one nobody could answer."""
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=path) from None
        found = cls()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                turn, *model = _turn(line)
                if found.turns and model != [found.model, found.model_hash]:
                    raise DataError(f"held with another model than the turns before it: {model[0]}")
                found.model, found.model_hash = model
                found.turns.append(turn)
                found.request(len(found.turns) - 1)
            except (DataError, UsageError) as error:
                fix = "take the line out, or save the conversation in the app again"
                what = f"not a turn of this conversation: {error.what}"
                raise DataError(what, where=f"{path}:{number}", fix=fix) from None
        if not found.turns:
            raise DataError("no turn in it", where=path, fix="give a conversation saved as JSONL in the app")
        return found


def _turn(line: bytes) -> tuple[Turn, str, str]:
    """A line of a file: the turn, its model, and that model's hash. Raises DataError."""
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # an escape may stand for half a character
    except (ValueError, RecursionError):
        raise DataError("not JSON in Unicode") from None
    if not isinstance(row, dict):
        raise DataError("not a JSON object")
    try:
        model, model_hash = row.pop("model"), row.pop("model_hash")
        row["images"] = [base64.b64decode(data, validate=True) for data in row["images"]]
        turn = TypeAdapter(Turn).validate_python(row)
    except KeyError as error:
        raise DataError(f"{error} is missing") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise DataError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, TypeError):  # of the decoder
        raise DataError("images: not a list of base64 texts") from None
    if not isinstance(model, str) or not isinstance(model_hash, str):
        raise DataError("model and model_hash are not both texts")
    for data in turn.images:
        image_size(ImageRef(data=data))
    return turn, model, model_hash


def png(data: bytes, window: str | None = None) -> bytes:
    """An image of any kind that is read here, as browsers show it; a DICOM by its own window or a named one."""
    buffer = BytesIO()
    load_image(data, window=window).save(buffer, "PNG")
    return buffer.getvalue()


def _data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(data)).decode()}"


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}\n"


def _settings_line(turn: Turn) -> str:
    settings: Sequence[tuple[str, Any]] = list(asdict(turn.settings).items())
    told = " ".join(f"{name}={value}" for name, value in settings)
    return f"{told} finish_reason={turn.finish_reason} num_tokens={turn.num_tokens} seconds={turn.seconds:.1f}"
