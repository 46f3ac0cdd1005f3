"""`jvlm serve`: a model behind OpenAI's chat completions."""

from pathlib import Path
from typing import Annotated

import typer

from jvlm.commands.loading import Compile, Weights
from jvlm.commands.output import say_aside
from jvlm.errors import UsageError

KEY_VARIABLE = "JVLM_API_KEY"


def serve(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What clients call the model; the directory's name.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Requests answered at a time.")] = 8,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; more are told to come again.")] = 32,
    weights: Weights = "full",
    compile: Compile = False,
    max_images: Annotated[int, typer.Option(min=0, help="Images of a request.")] = 8,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters of text of a request.")] = 16_000,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 1024,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the key that clients must send.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name that clients reach it by.")] = None,
) -> None:
    """Serve a model to OpenAI clients (needs the extra 'serve'). The key can stand in JVLM_API_KEY as well."""
    import importlib.util
    import os

    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise UsageError("fastapi and uvicorn are not installed", fix="pip install 'jvlm[serve]'")
    from jvlm.infer.serve.run import read_key
    from jvlm.infer.serve.run import serve as start
    from jvlm.infer.serve.schema import Limits

    limits = Limits(
        images=max_images,
        characters=max_characters,
        new_tokens=max_new_tokens,
        default_new_tokens=min(max_new_tokens, Limits.default_new_tokens),
    )
    key = read_key(api_key_file) if api_key_file else os.environ.get(KEY_VARIABLE) or None
    start(
        model,
        host=host,
        port=port,
        name=name,
        rows=rows,
        queue=queue,
        weights=weights,
        compile=compile,
        limits=limits,
        key=key,
        hosts=allow_host or [],
        warn=say_aside,
    )
