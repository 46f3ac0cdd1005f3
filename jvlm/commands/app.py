"""`jvlm app`: the Streamlit pages; `jvlm replay`: a conversation from them once more."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jvlm.errors import EXIT_FAILURE, UsageError

DEMO = Path("runs/demo/model")


def start_app(
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="Model directories to choose from; the demo's.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on that address.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Where it listens; another than the loopback address only inside a container.")
    ] = "127.0.0.1",
    exam: Annotated[
        Path | None, typer.Option(help="Exam records (a folder or JSONL) to practise; those beside the model.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="results.json of `jvlm eval`: how sure the model may be; beside the model.")
    ] = None,
    reviews: Annotated[
        Path | None, typer.Option(help="Folder for ratings and accepted captions; without it nothing is kept.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="An index of `jvlm trace build`: evidence under answers.")] = None,
    examples: Annotated[Path | None, typer.Option(help="A folder of example images; those beside the model.")] = None,
) -> None:
    """Open the pages in a browser: image Q&A, exam practice, captions (needs the extra 'app')."""
    import importlib.util
    import os
    import subprocess

    from jvlm.assets import asset

    if importlib.util.find_spec("streamlit") is None:
        raise UsageError("streamlit is not installed", fix="pip install 'jvlm[app]'")
    folders = models or [DEMO]
    for folder in folders:
        if not (folder / "config.json").is_file():
            raise UsageError("not a model directory", where=folder, fix="run `make demo` first or name another")
    from jvlm_apps.launch import streamlit_flags

    beside = folders[0].parent / "data"
    places = {
        "EXAM": exam or beside / "exam",
        "RESULTS": results or folders[0].with_name(folders[0].name + "-eval") / "results.json",
        "REVIEWS": reviews,
        "TRACE": trace,
        "EXAMPLES": examples or beside / "folder",
    }
    given = {f"JVLM_{name}": str(path.resolve()) for name, path in places.items() if path is not None}
    given["JVLM_MODELS"] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    page = asset("apps", "image_qa.py")
    flags = [*streamlit_flags(address), "--server.port", str(port)]
    command = [sys.executable, "-m", "streamlit", "run", str(page), *flags]
    sys.exit(subprocess.call(command, env=os.environ | given))


def replay(
    conversation: Annotated[Path, typer.Argument(help="A conversation saved in the app as JSONL.")],
    model: Annotated[Path, typer.Argument(help="The model directory it was held with.")],
    turn: Annotated[int | None, typer.Option(min=1, help="Only this turn.")] = None,
) -> None:
    """Ask a model once more what it was asked in the app, under the same settings; exit code 1 if it answers otherwise.

    Each turn is asked after the answers that stand in the file. One that was stopped is compared as far as it goes.
    """
    import jvlm
    from jvlm.infer.conversation import Conversation
    from jvlm.infer.identity import model_hash

    talk = Conversation.read(conversation)
    if talk.model_hash != model_hash(model):
        raise UsageError("the conversation was held with another model", where=model, fix=f"name that of {talk.model}")
    if turn is not None and turn > len(talk.turns):
        raise UsageError(f"the conversation has {len(talk.turns)} turns", where=conversation)
    engine = jvlm.load(model).engine(rows=1)
    differ = 0
    for number in range(len(talk.turns)) if turn is None else [turn - 1]:
        engine.admit(talk.request(number), number)
        text = ""
        while engine.busy:
            for event in engine.step():
                text = event.generation.text if event.generation is not None else text
        said = talk.turns[number]
        same = text.startswith(said.answer) if said.finish_reason == "stopped" else text == said.answer
        differ += not same
        print(f"{number + 1}: {text}" + ("" if same else f"\n   instead of: {said.answer}"))
    if differ:
        raise typer.Exit(EXIT_FAILURE)
