"""What the model of a stage is made of: the data it learns from and the models it began as, each with its licence."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from jvlm.assets import asset
from jvlm.cards import licence_of, model_part, parse_card, parts_of, shard_parts, write_model_card
from jvlm.errors import DataError
from jvlm.files import read_json, read_json_lines
from jvlm.images.shards import ShardReader, open_shards
from jvlm.licences import Part, note, refuse
from jvlm.recipe import Recipe, Stages, stage_record
from jvlm.settings import Source
from jvlm.stages.context import StageContext

LEARNING = ("pretrain", "clip", "align", "pretrain_vl", "instruct", "prefer", "medical", "combine")
"""Stages that make a model, in order."""


def before(stages: Stages, name: str) -> list[str]:
    """The stages of the run whose models this one begins as."""
    if name == "combine":
        return stages.combine.of_the_run if stages.combine else []
    if name == "align":
        return [stage for stage in ("pretrain", "clip") if getattr(stages, stage) is not None]
    earlier = {
        "pretrain_vl": ("align",),
        "instruct": ("pretrain_vl", "align", "pretrain"),
        "prefer": ("instruct",),
        "medical": ("prefer", "instruct", "align"),
    }.get(name, ())
    return [next(stage for stage in earlier if getattr(stages, stage) is not None)] if earlier else []


def lineage(stages: Stages, name: str) -> list[str]:
    """The stages that the model of this one went through, in order, itself the last."""
    found, todo = {name}, [name]
    while todo:
        new = set(before(stages, todo.pop())) - found
        found |= new
        todo += new
    return [stage for stage in LEARNING if stage in found]


def settle(context: StageContext) -> list[Part]:
    """The parts of the model that this stage is about to make.

    Raises UsageError when it would learn from what the recipe's `licences` does not allow; the first stage that learns
    tells it for those after it too, as far as their data are there.
    """
    stages = context.recipe.stages
    own = _own(context, context.name)
    refuse(own, context.recipe.licences, where=f"stages.{context.name}")
    learning = [name for name in LEARNING if getattr(stages, name) is not None]
    for name in learning[1:] if context.name == learning[0] else ():
        with suppress(DataError):  # of what is not there yet its own stage tells
            refuse(_own(context, name), context.recipe.licences, where=f"stages.{name}")
    parts = [part for name in before(stages, context.name) for part in _recorded(context, name)]
    return list(dict.fromkeys([*parts, *own]))


def write_card(recipe: Recipe, run: Path, name: str, model: Path) -> None:
    """Write the card of a stage's model, which may have been copied to `model`."""
    write_model_card(run, model, lineage(recipe.stages, name), _languages(recipe))


def data_licence(recipe: Recipe) -> str:
    """The licence of what the data stage leaves and says nothing of: of real data every source says its own."""
    data = recipe.stages.data
    return str(_data_card(recipe)["licence"]) if data is not None and data.set != "real" else ""


def _own(context: StageContext, name: str) -> list[Part]:
    """What the stage adds to the models of the stages before it."""
    config = getattr(context.recipe.stages, name)
    if name == "pretrain":
        return [*_corpus(context), *([model_part(config.start_from)] if config.start_from else [])]
    if name == "clip":
        return [*_corpus(context), *_shards(context, "captions_train")]  # its tokenizer is the corpus's
    if name == "prefer":
        return _shards(context, config.shards or "preference_pool")
    if name == "combine":
        named = [*([config.base] if config.base else []), *(ingredient.model for ingredient in config.models)]
        return [model_part(Path(model)) for model in named if "/" in model]
    phases = [config] if name in ("align", "pretrain_vl") else list(config.phases.values())
    parts = []
    if name == "align":
        parts += [model_part(config.language)] if config.language else []
        parts += [_tower(config.tower.start_from)] if config.tower.start_from else []
    for source in {(source.shards, source.text): source for phase in phases for source in phase.data}.values():
        parts += _source(context, source)
    return parts


def _source(context: StageContext, source: Source) -> list[Part]:
    if source.shards is not None:
        return _shards(context, source.shards)
    return _corpus(context) if source.text == "general" else _medical(context)


def _corpus(context: StageContext) -> list[Part]:
    report = context.run / "corpus" / "text" / "report.json"
    origins = read_json(report).get("origins") if report.is_file() else None
    # a corpus that was built before they were counted says nothing of them
    return parts_of(origins or {"corpus": {"": 0}}, "corpus", "", "documents")


def _medical(context: StageContext) -> list[Part]:
    origins: dict[str, dict[str, int]] = {}
    for row in read_json_lines(context.data / "text" / "medical.jsonl"):
        note(origins, str(row.get("source") or ""), str(row.get("licence") or ""))
    return parts_of(origins, "medical", data_licence(context.recipe), "documents")


def _shards(context: StageContext, name: str) -> list[Part]:
    reader = open_shards(context.shard_folder(name))
    card = dict(reader.card)
    if "origins" not in card:
        card["origins"] = _counted(reader)
    if "/" not in name and not card.get("licence"):
        card["licence"] = data_licence(context.recipe)
    return shard_parts(card, Path(name).name)


def _counted(reader: ShardReader) -> dict[str, dict[str, int]]:
    """Of a set that was written before its card counted them."""
    origins: dict[str, dict[str, int]] = {}
    for number in range(len(reader)):
        meta = reader.record(number).get("meta") or {}
        note(origins, str(meta.get("source") or ""), str(meta.get("licence") or ""))
    return origins


def _tower(source: str) -> Part:
    """A ready tower; one of the hub by the card it has there, and unknown where that is not to be had."""
    from jvlm.model.adopt_tower import HUB, hub_card

    if not source.startswith(HUB):
        return model_part(Path(source))
    front, _ = parse_card(hub_card(source))
    return Part(source.removeprefix(HUB), licence_of(front) or "unknown", 0, "model")


def _recorded(context: StageContext, name: str) -> list[Part]:
    """The parts that another stage has recorded; where it has none nothing is known of its data."""
    found = (stage_record(context.run, name) or {}).get("sources")
    return [Part(**part) for part in found] if found else [Part(f"stage {name}", "", 0, "model")]


def _languages(recipe: Recipe) -> list[str]:
    card = _data_card(recipe)
    return [language.strip() for language in str(card.get("language", "ja")).split(",")]


def _data_card(recipe: Recipe) -> dict[str, Any]:
    if recipe.stages.data is None:
        return {}
    card: dict[str, Any] = yaml.safe_load(
        asset("data", recipe.stages.data.set, "card.yaml").read_text(encoding="utf-8")
    )
    return card
