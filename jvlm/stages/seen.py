"""At which steps a run's pretraining saw a document."""

from pathlib import Path

from jvlm.config import load_config
from jvlm.errors import DataError
from jvlm.model.processor import Processor
from jvlm.recipe import Recipe
from jvlm.stages.context import StageContext
from jvlm.text.shards import TokenShards
from jvlm.text.tokenizer import Tokenizer
from jvlm.train.curriculum import Sighting, sightings, text_curriculum


def seen_in_pretraining(run: Path, identity: str) -> list[Sighting]:
    """The sightings of the document of that id, by the run's recipe; none when the steps ended before its turn.

    Raises DataError when the run holds no pretraining, or no such document.
    """
    recipe = load_config(Recipe, run / "recipe.yaml")
    config, folder = recipe.stages.pretrain, run / "pretrain" / "tokens"
    if config is None or not folder.is_dir():
        raise DataError("no pretraining in this run", where=run, fix="run the recipe's pretrain stage")
    shards = TokenShards(folder)
    found = {number for number in range(shards.num_documents) if shards.identity(number)["id"] == identity}
    if not found:
        fix = f"ids look like {shards.identity(0)['id']}"
        raise DataError("no such document was trained on", where=identity, fix=fix)
    processor = Processor(Tokenizer.load(StageContext(run, "pretrain", recipe).tokenizer))
    rows = text_curriculum(config.phases, config.packing, config.loop.steps, shards, processor, recipe.seed)
    return sightings(rows, found, config.packing.rows, config.loop.steps)
