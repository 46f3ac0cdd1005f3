"""`jvlm bench`: what is compared is measured side by side in one run."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from jvlm.commands.output import Json, print_record, say_aside
from jvlm.errors import UsageError


class Options(NamedTuple):
    """What the command was given."""

    threads: int
    data_root: Path | None
    out: Path
    litgpt_python: Path | None
    model: Path | None
    images: int
    lm_eval_python: Path | None

    @property
    def root(self) -> Path:
        """The folder of real data, which the command has asked for."""
        assert self.data_root is not None
        return self.data_root


def _ablation(options: Options) -> dict[str, Any]:
    from jvlm.bench import ablation

    _set_threads(options)
    return ablation.run(options.root, options.threads, options.out, say_aside)


def _attention(options: Options) -> dict[str, Any]:
    from jvlm.bench import attention

    _set_threads(options)
    return attention.run()


def _caption_chaos(options: Options) -> dict[str, Any]:
    from jvlm.bench import caption_chaos

    return caption_chaos.run(options.images, options.model, say_aside)


def _corpus(options: Options) -> dict[str, Any]:
    from jvlm.bench import corpus  # before torch is there: its memory is not the corpus build's

    return corpus.run(options.root, options.threads)


def _data(options: Options) -> dict[str, Any]:
    from jvlm.bench import data

    return data.run(options.data_root, options.threads, data.Plan())


def _eval(options: Options) -> dict[str, Any]:
    from jvlm.bench import eval as bench_eval

    _set_threads(options)
    rival = options.lm_eval_python or Path(sys.executable)
    return bench_eval.run(options.root, options.threads, options.model, rival)


def _generate(options: Options) -> dict[str, Any]:
    from jvlm.bench import generate

    return generate.run(options.model, options.threads, say_aside, generate.Plan())


def _moe(options: Options) -> dict[str, Any]:
    from jvlm.bench import moe

    _set_threads(options)
    return moe.run(options.root, options.threads, say_aside)


def _pretrain(options: Options) -> dict[str, Any]:
    from jvlm.bench import pretrain

    return pretrain.run(options.root, options.threads, options.litgpt_python, say_aside, pretrain.FULL)


def _tokenizer(options: Options) -> dict[str, Any]:
    from jvlm.bench import tokenizer

    _set_threads(options)
    return tokenizer.run(options.root, options.threads)


def _trace(options: Options) -> dict[str, Any]:
    from jvlm.bench import trace

    return trace.run(options.root, say_aside, trace.Plan())


def _train_vl(options: Options) -> dict[str, Any]:
    from jvlm.bench import train_vl

    return train_vl.run(options.root, options.threads, say_aside, train_vl.FULL)


BENCHMARKS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "ablation": _ablation,
    "attention": _attention,
    "caption-chaos": _caption_chaos,
    "corpus": _corpus,
    "data": _data,
    "eval": _eval,
    "generate": _generate,
    "moe": _moe,
    "pretrain": _pretrain,
    "tokenizer": _tokenizer,
    "trace": _trace,
    "train-vl": _train_vl,
}
WITHOUT_DATA = ("attention", "caption-chaos", "data", "generate")
"""Those that do without a folder of real data."""


def bench(
    name: Annotated[str, typer.Argument(help=", ".join(BENCHMARKS))],
    as_json: Json = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads, or processes of the corpus build.")] = 2,
    data_root: Annotated[
        Path | None,
        typer.Option(envvar="JVLM_DATA_ROOT", help=f"A folder of real data; {', '.join(WITHOUT_DATA)} do without."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where ablation keeps its models, to go on from.")] = Path("runs/ablation"),
    litgpt_python: Annotated[
        Path | None, typer.Option(help="Python of an environment that has litgpt, a rival of pretrain.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The model that eval, generate or caption-chaos asks; random weights of real-small's shape, "
            "the demo's, or a tiny one."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=100, help="Images of caption-chaos.")] = 10_000,
    lm_eval_python: Annotated[
        Path | None, typer.Option(help="Python of an environment that has lm_eval, the rival of eval; this one.")
    ] = None,
) -> None:
    """Run a benchmark: what is compared is measured side by side in one run."""
    if name not in BENCHMARKS:
        raise UsageError(f"no benchmark '{name}'", fix=f"known: {', '.join(BENCHMARKS)}")
    if name not in WITHOUT_DATA and data_root is None:
        raise UsageError("no folder of real data", fix="give --data-root or set JVLM_DATA_ROOT")
    result = BENCHMARKS[name](Options(threads, data_root, out, litgpt_python, model, count, lm_eval_python))
    from jvlm.bench.machine import machine

    print_record({"bench": name, "machine": machine()} | result, as_json)


def _set_threads(options: Options) -> None:
    import torch

    torch.set_num_threads(options.threads)
