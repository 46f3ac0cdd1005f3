"""Stages of a run in order, each in a process of its own: ``python -m jvlm.stages RUN STAGE …``.

What stages import (several seconds) is imported once, before they are forked; nothing is computed before that, for
threads do not survive a fork. Where the recipe asks for several processes, torchrun starts those of a training stage:
each is ``python -m jvlm.stages RUN STAGE`` in torchrun's environment. On several machines that share the run's folder
torchrun is started by hand, with what it needs to know of them:
``torchrun --nnodes 2 --nproc_per_node 8 … -m jvlm.stages RUN STAGE``.
"""

import atexit
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from jvlm import audit, offline
from jvlm.config import load_config
from jvlm.errors import EXIT_FAILURE, EXIT_STOPPED, JvlmError, UsageError
from jvlm.files import lock, write_json, write_text
from jvlm.process import die_with_parent, hand_on_sigterm
from jvlm.recipe import SHARED_STAGES, Recipe, stage_keys, stage_record
from jvlm.stages.context import StageContext
from jvlm.stages.origins import LEARNING, settle, write_card

Stage = Callable[[StageContext], dict[str, Any]]


def stage_function(name: str) -> Stage:
    """The function of a stage; its module, and most of what that needs, is imported here and not before."""
    if name in ("data", "corpus", "tokenizer"):
        from jvlm.stages import corpus

        return {"data": corpus.data, "corpus": corpus.corpus, "tokenizer": corpus.tokenizer}[name]
    if name == "pretrain":
        from jvlm.stages.pretrain import pretrain

        return pretrain
    if name == "clip":
        from jvlm.stages.clip import clip

        return clip
    if name in ("align", "pretrain_vl", "instruct", "medical"):
        from jvlm.stages import vision_language

        return {
            "align": vision_language.align,
            "pretrain_vl": vision_language.pretrain_vl,
            "instruct": vision_language.instruct,
            "medical": vision_language.medical,
        }[name]
    if name == "prefer":
        from jvlm.stages.prefer import prefer

        return prefer
    if name == "combine":
        from jvlm.stages.combine import combine

        return combine
    from jvlm.stages import finish

    return {"eval": finish.evaluate, "caption": finish.caption, "report": finish.report}[name]


def main(run: Path, stages: list[str]) -> int:
    """Start one stage after the other; returns 0, or the exit code of the first that fails."""
    recipe = load_config(Recipe, run / "recipe.yaml")
    keys = {stage.name: stage.key for stage in stage_keys(recipe)}
    if "RANK" in os.environ:
        return _one_of_several(run, stages, keys)
    try:
        for name in stages:
            shared = recipe.processes > 1 and name in SHARED_STAGES
            if not shared:
                stage_function(name)
            sys.stdout.flush()
            child = os.fork()
            if not child:
                die_with_parent()
                sys.exit(_launch(run, name, recipe.processes) if shared else run_stage(run, name, keys[name]))
            with hand_on_sigterm(child):
                status = os.waitpid(child, 0)[1]
            if status:
                return max(os.waitstatus_to_exitcode(status), EXIT_FAILURE)
    except KeyboardInterrupt:  # the stage was interrupted as well
        return EXIT_FAILURE
    return 0


def _launch(run: Path, name: str, processes: int) -> int:
    """Run a stage in several processes of this machine; returns 0 or the exit code of those that failed."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # torchrun itself would kill what has not saved its work half a minute after a SIGTERM
    settings = ["--standalone", f"--nproc_per_node={processes}", "--signals_to_handle=SIGHUP,SIGQUIT"]
    signal.signal(signal.SIGTERM, _hand_on_to_children)
    try:
        torchrun.run(torchrun.parse_args([*settings, "-m", "jvlm.stages", str(run), name]))
    except ChildFailedError as error:
        # where one process failed, others may have ended for want of it, with a code that says nothing
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if EXIT_FAILURE < code <= EXIT_STOPPED), EXIT_FAILURE)
    except KeyboardInterrupt:
        return EXIT_FAILURE
    return 0


def _hand_on_to_children(number: int, frame: object) -> None:
    """SIGTERM to the processes of a stage, each of which torchrun gave a session of its own (Linux's list of them)."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)


def _one_of_several(run: Path, stages: list[str], keys: dict[str, str]) -> int:
    """The part of one of torchrun's processes."""
    try:
        if len(stages) != 1 or stages[0] not in SHARED_STAGES:
            fix = f"name one of {', '.join(SHARED_STAGES)}; `jvlm train` runs the others"
            raise UsageError(f"torchrun was started for {' '.join(stages) or 'no stage'}", fix=fix)
        (name,) = stages
        if name not in keys:
            raise UsageError(f"the recipe has no stage '{name}'", where=run / "recipe.yaml")
    except UsageError as error:
        print(f"jvlm: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if stage_record(run, name) else run_stage(run, name, keys[name])


def run_stage(run: Path, name: str, key: str) -> int:
    """Run one stage, or one process's part of it, and leave its `done.json`; returns the exit code."""
    started = time.perf_counter()
    try:
        recipe = load_config(Recipe, run / "recipe.yaml")
        context = StageContext(run, name, recipe)
        first = context.rank == 0
        with lock(context.folder) if first else nullcontext():
            if first:
                write_text(context.folder / "key", key)
            if name not in ("data", "corpus", "report", "caption"):
                _set_up_torch(recipe)
            sources = settle(context) if first and name in LEARNING else []
            metrics = stage_function(name)(context)
            if not first:
                return 0
            usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            seconds = time.perf_counter() - started
            # children run side by side with their parent: the sum is the honest bound
            record = {"stage": name, "key": key, "seconds": seconds, "peak_gib": sum(usage) / 2**20, "metrics": metrics}
            parts = [asdict(part) for part in sources]
            write_json(context.folder / "done.json", record | {"sources": parts})
            audit.stage_done(run, name, metrics, parts)
            if name in LEARNING:
                write_card(recipe, run, name, context.folder / "model")
            context.say(f"done in {seconds:.0f} s")
    except JvlmError as error:
        print(f"jvlm: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_FAILURE
    return 0


def _set_up_torch(recipe: Recipe) -> None:
    import torch

    from jvlm.model.attention import resolve

    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    resolve(recipe.attention, device)


def _end(code: int) -> NoReturn:
    """Leave. A thread by which processes speak may still run when the libraries are taken down, which ends a process of
    several with an abort instead of its code: those leave once everything registered for the end is done."""
    if "torch.distributed" in sys.modules:
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    die_with_parent()
    offline.stay_here()
    _end(main(Path(sys.argv[1]), sys.argv[2:]))
