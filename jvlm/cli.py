"""The `jvlm` command: parses, calls, prints. Nothing heavy is imported before a command needs it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from jvlm import offline
from jvlm.commands import audit as audit_commands
from jvlm.commands import data as data_commands
from jvlm.commands import judge as eval_commands
from jvlm.commands import trace as trace_commands
from jvlm.commands.app import replay, start_app
from jvlm.commands.bench import bench
from jvlm.commands.caption import caption
from jvlm.commands.combine import combine
from jvlm.commands.compare import compare
from jvlm.commands.merge import merge
from jvlm.commands.moe import upcycle
from jvlm.commands.multilinguality import multilinguality
from jvlm.commands.output import ConfigPath, Json, Overrides
from jvlm.commands.output import config_file as _config
from jvlm.commands.output import print_record as _print
from jvlm.commands.output import quiet as _quiet
from jvlm.commands.output import say as _say
from jvlm.commands.output import table as _table
from jvlm.commands.plan import plan
from jvlm.commands.scale import scale
from jvlm.commands.serve import serve
from jvlm.errors import EXIT_FAILURE, JvlmError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
text_app = typer.Typer(no_args_is_help=True, help="Text corpora.")
tokenizer_app = typer.Typer(no_args_is_help=True, help="Tokenizers.")
app.command()(bench)
app.command()(caption)
app.command()(combine)
app.command()(compare)
app.command()(merge)
app.command()(multilinguality)
app.command()(upcycle)
app.add_typer(eval_commands.app, name="eval")
app.add_typer(audit_commands.app, name="audit")
app.command(name="app")(start_app)
app.command()(replay)
app.command()(plan)
app.command()(scale)
app.command()(serve)
app.add_typer(data_commands.app, name="data")
app.add_typer(text_app, name="text")
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(trace_commands.app, name="trace")

Runs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]


def main() -> None:
    """Entry point: users' mistakes become one line and an exit code."""
    try:
        app()
    except JvlmError as error:
        print(f"jvlm: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("jvlm: interrupted", file=sys.stderr)
        sys.exit(EXIT_FAILURE)


@app.callback()
def start(
    online: Annotated[bool, typer.Option("--online", help="Let models be looked up on the Hugging Face hub.")] = False,
) -> None:
    """Nothing leaves this machine unless it is asked to."""
    offline.stay_here(online)


@app.command()
def run(config: ConfigPath, overrides: Overrides = None, runs: Runs = Path("runs")) -> None:
    """Run a whole recipe, or go on with one that was interrupted."""
    _run(config, overrides, runs, None)


@app.command()
def train(
    config: ConfigPath,
    stage: Annotated[str, typer.Argument(help="The last stage to run.")],
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
) -> None:
    """Run a recipe up to one stage."""
    _run(config, overrides, runs, stage)


@app.command()
def ask(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    image: Annotated[Path, typer.Argument(help="An image file.")],
    question: Annotated[str, typer.Argument(help="A question, in Japanese.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 96,
) -> None:
    """Ask a model about an image."""
    import gc

    gc.disable()  # one answer and the process ends: looking for garbage would take a sixth of the time
    import jvlm

    print(jvlm.load(model).chat([image], question, max_new_tokens=max_new_tokens))


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    out: Annotated[Path, typer.Argument(help="The directory to write.")],
    format: Annotated[
        str, typer.Option(help="hf: the language model alone, as the transformers class it is; llava: the whole model.")
    ],
) -> None:
    """Write a plain transformers directory."""
    from jvlm.model.export import export as write

    print(f"{out}: {write(model, out, format)}")


@app.command(name="import")
def adopt(
    source: Annotated[
        str,
        typer.Argument(
            help="A Hugging Face folder of a Llama, Mistral, Mixtral or Qwen 2 or 3, or a CLIP of "
            "open_clip: its folder, or hf-hub:NAME."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
) -> None:
    """Make a model directory of another program's language model, to train on from, or of a CLIP's image tower."""
    from jvlm.model.adopt import adopt as bring_in
    from jvlm.model.adopt_tower import adopt_tower, is_open_clip

    print(f"{out}: {adopt_tower(source, out) if is_open_clip(source) else bring_in(Path(source), out)}")


@app.command(name="convert-weights")
def convert_weights(
    file: Annotated[Path, typer.Argument(help="A pickled checkpoint: .bin, .pt or .pth.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Rewrite pickled weights, which are read nowhere else, as safetensors. Code in them is refused, not run."""
    from jvlm.model.pickled import convert_pickled

    print(f"{out}: {convert_pickled(file, out)} tensors")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine has: torch, CUDA, attention, DeepSpeed, open_clip, memory, disk."""
    from jvlm import doctor as examine

    report = examine.report()
    if as_json:
        print(json.dumps(report))
    else:
        print("\n".join(examine.lines(report)))


@app.command()
def seen(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    document: Annotated[str, typer.Argument(help="The id of a document of its corpus.")],
    as_json: Json = False,
) -> None:
    """Tell at which steps the pretraining of a run saw a document."""
    from jvlm.stages.seen import seen_in_pretraining

    found = seen_in_pretraining(run, document)
    if as_json:
        print(json.dumps([sighting._asdict() for sighting in found]))
    else:
        _table(["step", "row", "tokens"], [[str(number) for number in sighting] for sighting in found])


@app.command(name="eval-curve")
def eval_curve(run: Annotated[Path, typer.Argument(help="The folder of a run.")], as_json: Json = False) -> None:
    """Score every checkpoint of a run's pretraining on the held-out text, over the tokens it had seen."""
    from jvlm.eval.curve import evaluation_curve

    curve = evaluation_curve(run, _quiet if as_json else _say)
    if as_json:
        print(json.dumps(curve))
        return
    rows = [[f"{p['step']:,}", f"{p['tokens_seen']:,}", f"{p['bits_per_character']:.4f}"] for p in curve["points"]]
    _table(["step", "tokens seen", "bits per character"], rows)
    print(f"curve: {run / 'eval-curve.svg'}")


@text_app.command(name="build")
def text_build(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Clean, deduplicate and mix raw text."""
    from jvlm.config import load_config
    from jvlm.text.corpus import CorpusConfig, build_corpus

    _print(build_corpus(load_config(CorpusConfig, _config(config), overrides or []), out), as_json)


@text_app.command(name="score")
def text_score(as_json: Json = False) -> None:
    """Score the line rules of every profile on labelled lines: junk found, good lines kept."""
    from jvlm.assets import asset
    from jvlm.text.score import score_lines

    scores = score_lines(asset("evals", "lines.jsonl"))
    if as_json:
        print(json.dumps(scores, ensure_ascii=False))
        return
    kinds = list(scores["test"]["general"]["kept"])
    rows = []
    for split, profiles in scores.items():
        for profile, found in profiles.items():
            shares = [found["recall"], found["precision"], *(found["kept"].get(kind) for kind in kinds)]
            figures = ["–" if share is None else f"{share:.1%}" for share in shares]
            rows.append([split, profile, str(found["n"]), *figures])
    _table(["lines", "profile", "n", "junk found", "precision", *(f"{kind} kept" for kind in kinds)], rows)


@tokenizer_app.command(name="train")
def tokenizer_train(
    text: Annotated[Path, typer.Argument(help="A .txt or .jsonl file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    vocab_size: Annotated[int, typer.Option(min=300, help="Pieces, control tokens and bytes included.")] = 16000,
    seed: Annotated[int, typer.Option(help="Seed of the trainer.")] = 7,
    split_scripts: Annotated[
        bool, typer.Option(help="Let no piece cross from one script to another: for small corpora.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Train a tokenizer and print how it does on its own text."""
    from jvlm.text.raw import read_documents
    from jvlm.text.stats import tokenizer_figures
    from jvlm.text.tokenizer import train_tokenizer

    lines = [document.text for document in read_documents(text, "text", [])]
    tokenizer = train_tokenizer(lines, vocab_size, out, seed=seed, threads=2, split_scripts=split_scripts)
    _print({"vocab_size": tokenizer.vocab_size} | tokenizer_figures(tokenizer, lines[:2000]), as_json)


@tokenizer_app.command(name="extend")
def tokenizer_extend(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    text: Annotated[Path, typer.Argument(help="Text of the new domain: a file or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    pieces: Annotated[int, typer.Option(min=1, help="How many words get ids of their own.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the trainer.")] = 7,
    as_json: Json = False,
) -> None:
    """Give a model the words of a new domain, to go on with pretraining there."""
    from jvlm.model.extend import extend_model
    from jvlm.text.extend import extend_tokenizer
    from jvlm.text.raw import read_documents
    from jvlm.text.stats import tokenizer_figures
    from jvlm.text.tokenizer import Tokenizer

    lines = [document.text for document in read_documents(text, "text", [])]
    old = Tokenizer.load(model)
    tokenizer = extend_tokenizer(old, lines, pieces, seed=seed)
    extend_model(model, tokenizer, out)
    figures = {name: tokenizer_figures(t, lines[:2000]) for name, t in (("before", old), ("after", tokenizer))}
    _print({"vocab_size": tokenizer.vocab_size} | figures, as_json)


@tokenizer_app.command(name="compare")
def tokenizer_compare(
    tokenizers: Annotated[list[Path], typer.Argument(help="Tokenizer folders or SentencePiece .model files.")],
    text: Annotated[list[Path], typer.Option(help="A text file or folder; once for each domain.")],
    as_json: Json = False,
) -> None:
    """Characters per token, byte share and round trip of tokenizers on each domain of text."""
    from jvlm.text.compare import compare_tokenizers

    rows = compare_tokenizers(tokenizers, text)
    if as_json:
        print(json.dumps({"rows": rows}, ensure_ascii=False))
        return
    figures = [f"{r['chars_per_token']:.3f} {r['byte_share']:.3%} {r['roundtrip']:.2%}".split() for r in rows]
    named = [[Path(r["tokenizer"]).name, f"{r['vocab_size']:,}", r["domain"]] for r in rows]
    head = ["tokenizer", "pieces", "domain", "characters per token", "bytes", "round trip"]
    _table(head, [about + shares for about, shares in zip(named, figures, strict=True)])


def _run(config: Path, overrides: list[str] | None, runs: Path, until: str | None) -> None:
    from jvlm.recipe import STAGES, load_recipe, run_recipe

    if until is not None and until not in STAGES:
        raise UsageError(f"no stage '{until}'", fix=f"stages: {', '.join(STAGES)}")
    recipe = load_recipe(_config(config), overrides or [])
    folder = runs / recipe.name
    run_recipe(recipe, folder, _say, until)
    if until is None and (folder / "report.json").exists():
        _print_headline(folder)


def _print_headline(folder: Path) -> None:
    from jvlm.eval.report import headline_table
    from jvlm.files import read_json

    rows = headline_table(read_json(folder / "report.json"))
    _table(["figure", "value", "target", "met"], [[str(cell) for cell in row] for row in rows])
    print(f"report: {folder / 'report.html'}\nmodel: {folder / 'model'}")
