"""Settings of each stage of a recipe: what a user can write under `stages:` in its YAML file."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from jvlm.config import Config
from jvlm.model.config import LanguageConfig, LoraConfig, ProjectorConfig, TilesConfig, VisionConfig
from jvlm.text.corpus import CorpusConfig, CorpusInput
from jvlm.train.config import LoopConfig, PackingConfig, TextPhase

Part = Literal["tower", "projector", "language"]


class DataStage(Config):
    """The embedded toy world, generated."""

    set: Literal["toyworld"] = "toyworld"
    """What the recipe is made of: the embedded world, or `real`, a folder of real data."""
    image_size: int = Field(64, ge=32, le=336)
    """Side of the images, in pixels."""
    text_bytes: int = Field(3_000_000, ge=10_000)
    """Size of the raw general text, in bytes."""
    captions_train: int = Field(12_000, ge=1)
    """Images with a caption, for CLIP and alignment."""
    captions_val: int = Field(200, ge=1)
    """Captioned images for validation."""
    captions_test: int = Field(500, ge=1)
    """Captioned images for testing; also those of the retrieval pools."""
    captions_compositional: int = Field(400, ge=1)
    """Captioned test images with a pair of colour and shape never seen in training."""
    singles_train: int = Field(4_000, ge=1)
    """Images of one object with a caption."""
    attributes_train: int = Field(8_000, ge=1)
    """Images with questions for the colour of one object by its shape, or the other way round."""
    look_ups_train: int = Field(8_000, ge=1)
    """Images with questions for the place, colour or shape of one object, two in three with a sign to be read."""
    instruct_train: int = Field(12_000, ge=1)
    """Images with a conversation."""
    vqa_val_per_kind: int = Field(40, ge=1)
    """Validation questions of each kind."""
    vqa_test_per_kind: int = Field(160, ge=1)
    """Test questions of each kind (8 kinds)."""
    pages_train: int = Field(200, ge=1)
    """Pages of general text with two to four pictures in it."""
    preference_pool: int = Field(1_500, ge=1)
    """Images for which the model's own answers are judged."""
    medical_pages: int = Field(1_500, ge=1)
    """Textbook pages and case reports with a picture."""
    medical_training: int = Field(5_000, ge=1)
    """Exam-style training conversations."""
    dialogues_train: int = Field(1_000, ge=1)
    """Conversations without an image about what the textbook says."""
    dialogue_pairs: int = Field(500, ge=1)
    """The same with a right and a wrong answer."""
    textbook_editions: int = Field(12, ge=1)
    """Wordings of the whole textbook."""
    case_reports: int = Field(600, ge=1)
    """Case reports without a picture."""
    exam_test: int = Field(480, ge=1)
    """Exam questions of the test paper."""
    exam_twohop: int = Field(60, ge=1)
    """Exam questions on facts that only the textbook states."""
    caption_folder: int = Field(48, ge=1)
    """Loose image files for the captioning job."""
    workers: int = Field(2, ge=1)
    """Processes that draw; the bytes do not depend on it."""


def _data_root() -> Path | None:
    """Read with the recipe, so that a run begun with one folder is not continued with another."""
    named = os.environ.get("JVLM_DATA_ROOT")
    return Path(named).absolute() if named else None


class RealDataStage(Config):
    """Real text, pictures and exams from a folder."""

    set: Literal["real"]
    """Marks these settings as those of real data."""
    root: Path | None = Field(default_factory=_data_root)
    """The folder of text/, en_text/, medical_text/, images/, medical_images/, evals/; default: JVLM_DATA_ROOT."""
    source_chars: int = Field(500_000, ge=1_000)
    """Characters taken of each Japanese source of text, at most."""
    english_chars: int = Field(200_000, ge=1_000)
    """Characters taken of each English source, at most."""
    medical_chars: int = Field(500_000, ge=1_000)
    """Characters taken of each medical source, at most."""


def _data_set(settings: object) -> str:
    found = settings.get("set", "toyworld") if isinstance(settings, dict) else getattr(settings, "set", "toyworld")
    return found if isinstance(found, str) else "toyworld"


AnyDataStage = Annotated[
    Annotated[DataStage, Tag("toyworld")] | Annotated[RealDataStage, Tag("real")], Discriminator(_data_set)
]
"""The data stage of a recipe, told apart by `set`."""


class CorpusStage(CorpusConfig):
    """Cleaning of the raw text. Without `inputs` it reads the text that the data stage left."""

    inputs: list[CorpusInput] = Field(default=[])
    """The sources, in order of precedence; empty for the text of the data stage."""


class TokenizerStage(Config):
    """The tokenizer's size."""

    vocab_size: int = Field(1536, ge=300)
    """Pieces, control tokens and bytes included."""
    split_scripts: bool = True
    """Let no piece cross from one script to another: better for a small corpus; a large one is shorter without."""


class PretrainStage(Config):
    """Language-model pretraining on the cleaned corpus."""

    language: LanguageConfig | None = None
    """Shape of the model."""
    start_from: Path | None = None
    """A model directory to go on from, with its own tokenizer: continual pretraining, not from scratch."""
    loop: LoopConfig = LoopConfig()
    """Steps and optimizer."""
    packing: PackingConfig = PackingConfig()
    """Rows of a step."""
    phases: list[TextPhase] = Field(default=[TextPhase()], min_length=1)
    """What is read when: the first from token 0, and then perhaps a last one of the best sources, in which a schedule
    with a decay ends."""
    watch: int = Field(0, ge=0)
    """Held-out documents whose bits per character are measured after every checkpoint, in `scores.jsonl`."""
    ngram_order: int | None = Field(5, ge=2, le=7)
    """Order of the character n-gram the model is measured against; none for a corpus that does not fit into memory."""

    @property
    def shape(self) -> LanguageConfig:
        """Shape of a model that starts from scratch."""
        return self.language or LanguageConfig()


class ClipStage(Config):
    """Contrastive pretraining of the image tower."""

    vision: VisionConfig = VisionConfig()
    """Shape of the tower and of its text partner."""
    loop: LoopConfig = LoopConfig()
    """Steps and optimizer."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """CLIP's, over the batch's captions and images, or SigLIP's, pair by pair; it begins with a scale and bias of its
    own."""
    batch_size: int = Field(96, ge=2)
    """Pairs in a batch, of all processes; the others of the batch are a pair's negatives."""
    source_block: int = Field(1, ge=1)
    """So many pairs of one source stand together: a batch has negatives of a pair's own source; 1: in random order."""
    crop: float = Field(1.0, gt=0, le=1)
    """Of a picture a part at random is seen, of at least so much of its area; 1: all of it. Nothing is flipped."""
    accumulation: int = Field(1, ge=1)
    """Pieces in which each process encodes its pairs, each once more in the backward pass: less memory, same loss."""


def _is_none(value: Any) -> bool:
    """A setting that came later and is not used is left out of a stage's key: what ran before goes on."""
    return value is None


def _is_one(value: Any) -> bool:
    """As `_is_none`."""
    return bool(value == 1)


class Source(Config):
    """One ingredient of a mixture: a set of shards (conversations, with images or without) or a set of documents."""

    shards: str | None = None
    """Name of a set of shards that the data stage left, or the path, with a slash, of one of your own."""
    text: Literal["general", "medical"] | None = None
    """Documents: the cleaned general corpus or the medical texts."""
    repeat: float = Field(1.0, gt=0)
    """How often the set is seen in one epoch of the mixture; may be a fraction."""
    crop: float = Field(1.0, gt=0, le=1, exclude_if=_is_one)
    """Of a picture a part at random is seen, another each time, of at least so much of its area; 1: all of it. Against
    learning few pictures by heart, where no answer depends on a place in them. Nothing is flipped."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        if (self.shards is None) == (self.text is None):
            raise ValueError("give either shards or text")
        if self.text is not None and self.crop < 1:
            raise ValueError(f"crop {self.crop}: documents have no pictures")
        return self

    @property
    def from_data_stage(self) -> bool:
        """Whether the data stage leaves it."""
        return self.text == "medical" or (self.shards is not None and "/" not in self.shards)


class Learning(Config):
    """Which parts of a model learn."""

    train: list[Part] = Field(default=["projector", "language"], min_length=1)
    """Parts that learn; the others stay as they are. A language model without images is one part, `language`."""
    tower_layers: int | None = Field(None, ge=1)
    """Of the tower learn the uppermost blocks that features come through, so many, and its last norm; None: all."""
    tower_rate: float = Field(1.0, gt=0)
    """Learning rate of the tower as a share of the others'."""
    lora: LoraConfig | None = Field(None, exclude_if=_is_none)
    """Adapters that learn in the place of the weights of parts that `train` names."""

    @model_validator(mode="after")
    def _tower_learns(self) -> "Learning":
        if self.tower_layers is not None and "tower" not in self.train:
            raise ValueError(f"tower_layers {self.tower_layers}, but the tower does not learn: add it to train")
        return self

    @model_validator(mode="after")
    def _adapted_parts_learn(self) -> "Learning":
        if self.lora is None:
            return self
        named = {"language": ["language"], "tower": ["tower"], "both": ["language", "tower"]}
        parts = named[self.lora.targets] if isinstance(self.lora.targets, str) else []
        if lacking := [part for part in parts if part not in self.train]:
            text = f"lora.targets is {self.lora.targets}, but the {lacking[0]} does not learn"
            raise ValueError(f"{text}: add it to train")
        if self.tower_layers is not None:
            raise ValueError("tower_layers counts blocks that learn whole: with lora name layers in lora.targets")
        return self


def _rounded_on_one_device(settings: Any) -> Any:
    """Of settings that also have a `loop`."""
    rounded = settings.lora is not None and settings.lora.base_weights != "float32"
    if rounded and settings.loop.engine.zero is not None:
        raise ValueError("lora.base_weights are for one device: leave loop.engine.zero out")
    return settings


class Phase(Learning):
    """One training phase of the vision-language model, or of a language model alone."""

    data: list[Source] = Field(min_length=1)
    """What is mixed."""
    tiles: TilesConfig | None = None
    """Tiles of large pictures, from here on; as it was in the phase before when left out, at first none."""
    loop: LoopConfig = LoopConfig()
    """Steps and optimizer."""
    packing: PackingConfig = PackingConfig()
    """Rows of a step."""

    _rounded = model_validator(mode="after")(_rounded_on_one_device)


class ImagePhase(Phase):
    """A phase that cannot do without images."""

    @model_validator(mode="after")
    def _has_images(self) -> "ImagePhase":
        if not any(source.shards for source in self.data):
            raise ValueError("it needs at least one set of image shards")
        return self


class TowerStart(Config):
    """The image tower that is bridged: what stage `clip` trained, or a ready one. A plain text is its `start_from`."""

    start_from: str | None = None
    """A model directory with a tower, or a model of open_clip: its folder or hf-hub:NAME; else that of stage `clip`."""
    image_size: int | None = Field(None, ge=8)
    """Side of its input, where not the one it was trained at: its position embedding is interpolated."""
    feature_layers: list[int] | None = Field(None, min_length=1)
    """Blocks whose features the language model sees, where not those of the tower's own config; -1 is the last."""
    feature_norm: bool | None = None
    """Whether they go through the tower's last norm, where not as its own config has it."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"start_from": value} if isinstance(value, str) else value

    @property
    def changes(self) -> dict[str, Any]:
        """The fields of the tower's config that are to have other values."""
        return self.model_dump(exclude={"start_from"}, exclude_none=True)


class AlignStage(ImagePhase):
    """Bridges the tower to the language model: by default only the projector learns."""

    train: list[Part] = Field(default=["projector"], min_length=1)
    """Parts that learn; the others stay as they are."""
    language: Path | None = Field(None, exclude_if=_is_none)
    """The directory of a language model to bridge, in the place of what stage `pretrain` left."""
    tower: TowerStart = TowerStart()
    """The tower: without more, that of stage `clip`."""
    projector: ProjectorConfig = ProjectorConfig()
    """Shape of the projector."""


class PhasedStage(Config):
    """Phases of training one after the other, each going on from the model of the one before."""

    phases: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Phase] = Field(min_length=1)
    """By name, in order."""

    @property
    def folders(self) -> dict[str, Phase]:
        """By the folder each leaves its model in, below the stage's own."""
        return {f"{number}-{name}": phase for number, (name, phase) in enumerate(self.phases.items(), 1)}


class PreferStage(Learning):
    """DPO on given pairs, or on the model's own answers judged by the world's own truth."""

    shards: str | None = None
    """Preference pairs: a set that the data stage left, or the path, with a slash, of one of your own; left out, pairs
    of the model's own answers."""
    samples: int = Field(4, ge=2)
    """Answers drawn for each image of the pool."""
    temperature: float = Field(1.0, gt=0)
    """Temperature they are drawn at."""
    exact_chosen: bool = True
    """Only pairs whose chosen answer is wholly right; otherwise the better of two wrong ones may be chosen."""
    beta: float = Field(0.1, gt=0)
    """Strength of the pull towards the reference model."""
    alpha: float = Field(1.0, ge=0)
    """Weight of the likelihood of the chosen answer."""
    pairs: int = Field(16, ge=1)
    """Preference pairs in a batch."""
    loop: LoopConfig = LoopConfig()
    """Steps and optimizer."""

    _rounded = model_validator(mode="after")(_rounded_on_one_device)


class Ingredient(Config):
    """A model that is combined with others, and how much it counts."""

    model: str
    """Name of a stage of the run, or the path, with a slash, of a model directory."""
    weight: float = 1.0
    """How much it counts; what a mean is divided by is the sum of all."""


class CombineStage(Config):
    """Several checkpoints of one architecture as one model, scored before and after."""

    method: Literal["linear", "task_arithmetic"] = "linear"
    """The weighted mean, or what each model has learned since `base`, times its weight, added to it."""
    models: list[Ingredient] = Field(min_length=1)
    """What is combined."""
    base: str | None = None
    """Of `task_arithmetic` alone: what the models were trained from; named as they are."""
    exam: bool = False
    """Have each of them, and what comes of them, sit the exam of the data stage too; they must see."""

    @property
    def of_the_run(self) -> list[str]:
        """The stages of the run whose models are combined."""
        named = [*([self.base] if self.base else []), *(ingredient.model for ingredient in self.models)]
        return [name for name in dict.fromkeys(named) if "/" not in name]

    @model_validator(mode="after")
    def _base_where_there_is_one(self) -> "CombineStage":
        if (self.base is None) == (self.method == "task_arithmetic"):
            raise ValueError("task_arithmetic needs a base" if self.base is None else "a mean has no base")
        return self


class EvalStage(Config):
    """Which scores are computed."""

    batch_size: int = Field(64, ge=1)
    """Prompts generated together."""
    exam_cutoff: float = Field(0.6, gt=0, le=1)
    """Share of the general part's points needed to pass."""


class CaptionStage(Config):
    """The captioning job at the end of the recipe."""

    max_new_tokens: int = Field(96, ge=1)
    """Longest caption, in tokens."""


class ReportStage(Config):
    """The run's report has no settings."""
