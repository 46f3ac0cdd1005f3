"""A plan as it is asked for in words: on the command line, and in the first lines of a recipe, from where the pages of
`docs/` take it."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from jvlm.assets import asset
from jvlm.errors import DataError, UsageError
from jvlm.files import write_text
from jvlm.model.config import VisionConfig
from jvlm.plan import published
from jvlm.plan.gpus import GPUS, gpu_named
from jvlm.plan.report import lines, report
from jvlm.plan.work import TEXT_PER_VIEW, Like
from jvlm.recipe import load_recipe

_ASKED = re.compile(r"^# (jvlm plan .*)$", re.MULTILINE)
_MARKS = "<!-- {name}: made by `python -m jvlm.plan.ask docs` -->"


def like_of(language: str | None, tower: str | None, text_per_view: int | None) -> Like:
    """`language` is a recipe of configs/sizes, `tower` an architecture of open_clip. Raises UsageError for others."""
    shape, vocab, vision = None, 0, None
    if language is not None:
        size = load_recipe(asset("configs", "sizes", f"{language}.yaml"), []).stages
        assert size.pretrain is not None
        assert size.tokenizer is not None
        shape, vocab = size.pretrain.shape, size.tokenizer.vocab_size
    if tower is not None:
        try:
            vision = VisionConfig(open_clip=tower)
        except ValueError as error:
            raise UsageError(f"no such tower: {error}", where=tower) from None
    return Like(shape, vocab, vision, text_per_view or TEXT_PER_VIEW)


def planned(recipe: Path) -> tuple[str, dict[str, Any]]:
    """The command in the first lines of a recipe, and its report. Raises DataError for a recipe without one."""
    found = _ASKED.search(recipe.read_text(encoding="utf-8"))
    if found is None:
        raise DataError("no line '# jvlm plan … --gpus N --gpu NAME'", where=recipe)
    words = shlex.split(found[1])[3:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    like = like_of(given.get("--like"), given.get("--tower-like"), None)
    return found[1], report(load_recipe(recipe, []), gpu_named(given["--gpu"]), int(given["--gpus"]), like=like)


def recipe_files() -> list[Path]:
    """The recipes for public models: those of configs/recipes/ and the hospital's."""
    return [*sorted(asset("configs", "recipes").glob("*.yaml")), asset("configs", "medical-lora.yaml")]


def recipes_block() -> str:
    """Each of them with its plan."""
    out: list[str] = []
    for recipe in recipe_files():
        command, record = planned(recipe)
        out += [f"## {recipe.stem}", "", "```", f"$ {command}", *lines(record), "```", ""]
    return "\n".join(out).rstrip()


def gpus_block() -> str:
    """The table of GPUs."""
    head = ["| `--gpu` | bfloat16 | float32 | memory | bandwidth | power | source |", "|---|---|---|---|---|---|---|"]
    rows = (
        f"| {g.name} | {g.bfloat16:g} | {g.float32:g} | {g.memory_gib:g} GiB | {g.bandwidth:g} TB/s | {g.watts:g} W "
        f"| {g.source} |"
        for g in GPUS.values()
    )
    return "\n".join([*head, *rows])


BLOCKS = {
    "recipes.md": {"recipes": recipes_block},
    "planning.md": {"gpus": gpus_block, "published": published.table},
}
"""What is made of each page, by the name of its place there."""


def page(text: str, name: str) -> str:
    """The page `name` with everything in it that is made made anew. Raises DataError where a place is missing."""
    for block, make in BLOCKS[name].items():
        begin, end = _MARKS.format(name=block), f"<!-- end of {block} -->"
        before, mark, rest = text.partition(begin)
        _, closing, after = rest.partition(end)
        if not mark or not closing:
            raise DataError(f"no place for '{block}'", where=name, fix=f"put {begin} and {end} there")
        text = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    for file in (Path(sys.argv[1]) / name for name in BLOCKS):
        write_text(file, page(file.read_text(encoding="utf-8"), file.name))
