"""A recipe: its schema, and running its stages in order, each in a process of its own.

Each stage leaves `done.json` with a key that covers its settings and everything before it. A stage that is done
with the same key is skipped, so the same command finishes an interrupted run; a stage whose settings changed is
refused rather than overwritten.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from jvlm import audit
from jvlm.cards import README
from jvlm.config import Config, dump_config, load_config
from jvlm.errors import EXIT_FAILURE, EXIT_STOPPED, JvlmError, Stopped, UsageError
from jvlm.files import MANIFEST, lock, new_folder, read_json, verify_folder, write_text
from jvlm.licences import Allowed
from jvlm.process import hand_on_sigterm
from jvlm.settings import (
    AlignStage,
    AnyDataStage,
    CaptionStage,
    ClipStage,
    CombineStage,
    CorpusStage,
    EvalStage,
    ImagePhase,
    Part,
    Phase,
    PhasedStage,
    PreferStage,
    PretrainStage,
    ReportStage,
    TokenizerStage,
)

STAGES = (
    "data",
    "corpus",
    "tokenizer",
    "pretrain",
    "clip",
    "align",
    "pretrain_vl",
    "instruct",
    "prefer",
    "medical",
    "combine",
    "eval",
    "caption",
    "report",
)
SHARED_STAGES = ("pretrain", "clip", "align", "pretrain_vl", "instruct", "prefer", "medical")
"""Stages whose training several processes can share."""
MODEL_STAGES = ("combine", "medical", "prefer", "instruct", "pretrain_vl", "align", "pretrain")
"""Stages that leave a model, the last first: that one is published as the run's model."""


class Stages(Config):
    """The stages of a recipe. One that is left out is not run; those that build on it must be left out too."""

    data: AnyDataStage | None = None
    """Builds or finds the raw data."""
    corpus: CorpusStage | None = None
    """Cleans, deduplicates and mixes text."""
    tokenizer: TokenizerStage | None = None
    """Trains the tokenizer."""
    pretrain: PretrainStage | None = None
    """Pretrains the language model."""
    clip: ClipStage | None = None
    """Trains the image tower with CLIP's objective."""
    align: AlignStage | None = None
    """Bridges the tower of `clip`, or a ready one, to the language model."""
    pretrain_vl: ImagePhase | None = None
    """Trains on interleaved pages of text and images, mixed with text; `instruct` goes on from it."""
    instruct: PhasedStage | None = None
    """Trains on captions until the model sees, then on image conversations; without `align`, on text alone."""
    prefer: PreferStage | None = None
    """Direct preference optimisation on the model's own answers, or on given pairs."""
    medical: PhasedStage | None = None
    """Continual pretraining on medicine, then exam-style instruction, with replay."""
    combine: CombineStage | None = None
    """Makes one model of several checkpoints, without training."""
    eval: EvalStage | None = None
    """Scores the models of the stages above."""
    caption: CaptionStage | None = None
    """Captions a folder of images."""
    report: ReportStage | None = None
    """Writes report.json and report.html."""


class Recipe(Config):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run's folder under `runs/`."""
    seed: int = Field(7, ge=0)
    """Seed of everything that is drawn."""
    threads: int = Field(2, ge=1)
    """Threads of each process of a stage; results on a CPU are identical only for the same number."""
    processes: int = Field(1, ge=1)
    """Processes of each training stage, one for each GPU of this machine: torchrun starts them. A run may go on with
    another number."""
    attention: Literal["auto", "xformers", "sdpa"] = "auto"
    """Attention backend; one that cannot run here is an error."""
    licences: Allowed = "open"
    """What may be trained on besides what is open or one's own: `non_commercial` (and research only, and no
    derivatives), or `unknown`, whatever is said of it; the card of the model tells what it is bound by."""
    stages: Stages
    """What is run, in this order."""


@dataclass(frozen=True)
class StageKey:
    """A stage to run and the key that says under which settings, its own and its predecessors'."""

    name: str
    key: str


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """Read a recipe and check that its stages go together. Raises UsageError with every fault."""
    recipe = load_config(Recipe, path, overrides)
    given = {name for name in STAGES if getattr(recipe.stages, name) is not None}
    missing = [
        f"stage '{name}' needs stage '{need}', which the recipe does not have"
        for name, needed in _needs(recipe.stages).items()
        if name in given
        for need in needed
        if need not in given
    ]
    if missing:
        raise UsageError("\n".join(missing), where=path, fix="add it or leave both out")
    if faults := [*_start_faults(recipe.stages), *_text_faults(recipe.stages)]:
        raise UsageError("\n".join(faults), where=path)
    return recipe


def _needs(stages: Stages) -> dict[str, tuple[str, ...]]:
    """The stages that each stage builds on, as the others are set."""
    tokenizer = ("pretrain",) if stages.pretrain and stages.pretrain.start_from else ("tokenizer",)
    before_medicine = "instruct" if stages.instruct or not stages.align else "align"
    on_policy = ("align", "data") if stages.prefer and stages.prefer.shards is None else ()
    return {
        "data": (),
        "corpus": () if stages.corpus and stages.corpus.inputs else ("data",),
        "tokenizer": ("corpus",),
        "pretrain": ("corpus",) if tokenizer == ("pretrain",) else tokenizer,
        "clip": (*tokenizer, "data"),
        "align": _align_needs(stages),
        "pretrain_vl": ("align", *_data_needed([stages.pretrain_vl] if stages.pretrain_vl else [])),
        "instruct": ("align" if stages.clip or stages.align else "pretrain", *_data_needed(_phases(stages.instruct))),
        "prefer": ("instruct", *on_policy),
        "medical": (before_medicine, *_data_needed(_phases(stages.medical))),
        "combine": ("corpus", *_combine_needed(stages.combine)),
        "eval": ("medical", "align"),
        "caption": ("medical", "align"),
        "report": (),
    }


def _align_needs(stages: Stages) -> tuple[str, ...]:
    ready = stages.align
    language = () if ready and ready.language else ("pretrain",)
    return language if ready and ready.tower.start_from else (*language, "clip")


def _phases(stage: PhasedStage | None) -> list[Phase]:
    return list(stage.phases.values()) if stage else []


def _data_needed(phases: Sequence[Phase]) -> tuple[str, ...]:
    return ("data",) if any(source.from_data_stage for phase in phases for source in phase.data) else ()


def _combine_needed(stage: CombineStage | None) -> tuple[str, ...]:
    return (*stage.of_the_run, *(("data",) if stage.exam else ())) if stage else ()


def _start_faults(stages: Stages) -> list[str]:
    faults = []
    if stages.pretrain is not None and stages.pretrain.start_from is not None:
        if stages.pretrain.language is not None:
            faults.append("pretrain.start_from brings its shape with it: leave pretrain.language out")
        if stages.tokenizer is not None:
            faults.append("pretrain.start_from brings its tokenizer with it: leave the stage 'tokenizer' out")
    if stages.align is not None and stages.align.language is not None and stages.pretrain is not None:
        faults.append("align.language is a ready language model: leave the stage 'pretrain' out")
    if stages.align is not None and stages.align.tower.start_from is not None and stages.clip is not None:
        faults.append("align.tower.start_from is a ready tower: leave the stage 'clip' out")
    return faults


def _text_faults(stages: Stages) -> list[str]:
    """What a recipe without images cannot have: a plain language model has one part."""
    if stages.align is not None:
        return []
    phases = {
        f"{name}.phases.{phase}": found
        for name, stage in (("instruct", stages.instruct), ("medical", stages.medical))
        for phase, found in (stage.phases if stage else {}).items()
    }
    parts: dict[str, list[Part]] = {name: phase.train for name, phase in phases.items()}
    if stages.prefer is not None:
        parts["prefer"] = stages.prefer.train
    return [
        f"{name}.train is {found}, and without stage 'align' there is a language model alone: train: [language]"
        for name, found in parts.items()
        if found != ["language"]
    ] + [
        f"{name}.tiles: without stage 'align' there are no images to be shown in tiles: leave it out"
        for name, phase in phases.items()
        if phase.tiles is not None
    ]


def stage_keys(recipe: Recipe) -> list[StageKey]:
    """The recipe's stages in order; a key changes when anything that could change the result does."""
    keys: list[StageKey] = []
    chain = json.dumps([recipe.seed, recipe.threads, recipe.attention])
    for name in STAGES:
        stage = getattr(recipe.stages, name)
        if stage is not None:
            chain = hashlib.sha256(f"{chain} {name} {stage.model_dump_json()}".encode()).hexdigest()
            keys.append(StageKey(name, chain))
    return keys


def run_recipe(recipe: Recipe, run: Path, say: Callable[[str], None], until: str | None = None) -> None:
    """Run or continue every stage in `run`, then publish the last model as ``run/model``.

    Raises JvlmError when a stage fails (its own message is on the terminal already) or its settings changed.
    """
    stages = stage_keys(recipe)
    if until is not None and until not in [stage.name for stage in stages]:
        raise UsageError(f"the recipe has no stage '{until}'", fix=f"it has: {', '.join(s.name for s in stages)}")
    with lock(run):
        for stage in stages:
            _refuse_changed(run, stage)
        resolved = dump_config(recipe)
        write_text(run / "recipe.yaml", resolved)
        audit.started(run, resolved, recipe.seed)
        if until is not None:
            stages = stages[: [stage.name for stage in stages].index(until) + 1]
        for stage in stages:
            if done := _told(recipe, run, stage.name):
                say(f"{stage.name}: done ({done['seconds']:.0f} s)")
        _start(recipe, run, [stage for stage in stages if stage_record(run, stage.name) is None])
        for stage in stages:
            _told(recipe, run, stage.name)
        if until is None and (published := publish_model(recipe, run)):
            _write_card(recipe, run, published, run / "model")
            audit.published(run)
        say(f"audit trail: {audit.head(run)}")


def stage_record(run: Path, name: str) -> dict[str, Any] | None:
    """`done.json` of a finished stage, else None."""
    path = run / name / "done.json"
    return read_json(path) if path.exists() else None


def _told(recipe: Recipe, run: Path, name: str) -> dict[str, Any] | None:
    """What a finished stage leaves last, its line in the trail and the card of its model: a kill may have come before.

    Returns its record, None for a stage that is not finished.
    """
    done = stage_record(run, name)
    if done is not None:
        audit.stage_done(run, name, done.get("metrics", {}), done.get("sources", ()))
        if name in MODEL_STAGES and (run / name / "model").is_dir():
            _write_card(recipe, run, name, run / name / "model")
    return done


def _write_card(recipe: Recipe, run: Path, name: str, model: Path) -> None:
    from jvlm.stages.origins import write_card  # a room that reads recipes

    write_card(recipe, run, name, model)


def publish_model(recipe: Recipe, run: Path) -> str | None:
    """Copy the last model to ``run/model``, verified, unless it is there; the stage it is of, None without one."""
    for name in MODEL_STAGES:
        source = run / name / "model"
        if getattr(recipe.stages, name) is None or not source.is_dir():
            continue
        verify_folder(source)
        target = run / "model"
        if target.is_dir() and read_json(target / MANIFEST) == read_json(source / MANIFEST):
            return name
        with new_folder(target) as new:
            for file in source.iterdir():
                if file.name not in (MANIFEST, README):
                    shutil.copy2(file, new / file.name)
        return name
    return None


def _refuse_changed(run: Path, stage: StageKey) -> None:
    folder = run / stage.name
    begun = folder / "key"
    if begun.exists() and begun.read_text() != stage.key:
        raise UsageError(
            f"stage '{stage.name}' was run here with other settings, or on other results",
            where=folder,
            fix=f"remove {folder} to run it again, or give the recipe another name",
        )


def _start(recipe: Recipe, run: Path, stages: list[StageKey]) -> None:
    """Run these stages in order, in one child process that starts one or several for each."""
    if not stages:
        return
    threads = str(recipe.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, "-m", "jvlm.stages", str(run), *(stage.name for stage in stages)]
    process = subprocess.Popen(command, env=environment)
    code: int | None
    try:
        with hand_on_sigterm(process.pid):
            code = process.wait()
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        code = None
    if code == 0:
        return
    stopped = next((stage.name for stage in stages if stage_record(run, stage.name) is None), stages[-1].name)
    if code is None:
        raise JvlmError(f"interrupted in stage '{stopped}'", where=run, fix="the same command goes on from there")
    if code == EXIT_STOPPED:
        raise Stopped(f"ended in stage '{stopped}'", where=run, fix="the same command goes on from there")
    error = JvlmError(
        f"stage '{stopped}' failed", where=run / stopped, fix="mend it; the same command goes on from there"
    )
    error.exit_code = code if 0 < code < EXIT_STOPPED else EXIT_FAILURE
    raise error
