"""Stages in order, each in a process of its own: ``python -m jvlm.stages RUN STAGE:KEY …``.

What stages import (several seconds) is imported once, before they are forked; nothing is computed before that, for
threads do not survive a fork.
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvlm.config import load_config
from jvlm.errors import EXIT_FAILURE, JvlmError
from jvlm.files import lock, write_json, write_text
from jvlm.process import die_with_parent
from jvlm.recipe import Recipe
from jvlm.stages.context import StageContext

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
    if name in ("align", "instruct", "medical"):
        from jvlm.stages import vision_language

        return {
            "align": vision_language.align,
            "instruct": vision_language.instruct,
            "medical": vision_language.medical,
        }[name]
    if name == "prefer":
        from jvlm.stages.prefer import prefer

        return prefer
    from jvlm.stages import finish

    return {"eval": finish.evaluate, "caption": finish.caption, "report": finish.report}[name]


def main(run: Path, stages: list[tuple[str, str]]) -> int:
    """Fork one stage (name, key) after the other; returns 0, or the exit code of the first that fails."""
    try:
        for name, key in stages:
            stage_function(name)
            sys.stdout.flush()
            child = os.fork()
            if not child:
                die_with_parent()
                sys.exit(run_stage(run, name, key))
            if status := os.waitpid(child, 0)[1]:
                return max(os.waitstatus_to_exitcode(status), EXIT_FAILURE)
    except KeyboardInterrupt:  # the stage was interrupted as well
        return EXIT_FAILURE
    return 0


def run_stage(run: Path, name: str, key: str) -> int:
    """Run one stage and leave its `done.json`; returns the exit code."""
    started = time.perf_counter()
    try:
        recipe = load_config(Recipe, run / "recipe.yaml")
        context = StageContext(run, name, recipe)
        with lock(context.folder):
            write_text(context.folder / "key", key)
            if name not in ("data", "corpus", "report", "caption"):
                _set_up_torch(recipe)
            metrics = stage_function(name)(context)
            usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            seconds = time.perf_counter() - started
            # children run side by side with their parent: the sum is the honest bound
            record = {"stage": name, "key": key, "seconds": seconds, "peak_gib": sum(usage) / 2**20, "metrics": metrics}
            write_json(context.folder / "done.json", record)
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


if __name__ == "__main__":
    die_with_parent()
    folder, *pairs = sys.argv[1:]
    sys.exit(main(Path(folder), [(name, key) for name, key in (pair.split(":") for pair in pairs)]))
