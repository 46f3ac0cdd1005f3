"""Shapes of the parts of a model. Free of torch, so that a recipe can be read and checked in no time."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from jvlm.config import Config
from jvlm.errors import UsageError
from jvlm.model.architectures import architecture, default_input, fixed_shape


class LanguageConfig(Config):
    """Shape of a Llama, or with experts of a Mixtral."""

    hidden_size: int = Field(128, ge=8)
    """Width of the residual stream."""
    num_layers: int = Field(4, ge=1)
    """Decoder blocks."""
    num_heads: int = Field(4, ge=1)
    """Query heads; `hidden_size` must divide by it."""
    num_kv_heads: int | None = None
    """Key and value heads (grouped-query attention); as many as query heads when left out."""
    intermediate_size: int = Field(352, ge=8)
    """Width of the SwiGLU feed-forward."""
    max_length: int = Field(1024, ge=16)
    """Longest sequence, in tokens."""
    rope_theta: float = 10000.0
    """Base of the rotary position embedding."""
    tie_embeddings: bool = True
    """One matrix for input and output embeddings."""
    num_experts: int = Field(0, ge=0)
    """Feed-forwards of each block, of which a router chooses for each token (Mixtral); 0: one, for all tokens."""
    experts_per_token: int = Field(2, ge=1)
    """Experts that a token goes to. Their shares sum to one, so with a single one the router learns from its balance
    alone, not from the text."""
    balance: float = Field(0.3, ge=0)
    """Coefficient of the loss that keeps experts equally busy; it is not that of other programs' product of loads and
    odds."""
    router_z: float = Field(0.001, ge=0)
    """Coefficient of the loss that keeps the router's scores small."""

    @model_validator(mode="after")
    def _enough_experts(self) -> "LanguageConfig":
        if 0 < self.num_experts < self.experts_per_token:
            raise ValueError(f"experts_per_token {self.experts_per_token} of num_experts {self.num_experts}")
        return self


class VisionConfig(Config):
    """Shape of a CLIP-style image tower and of its partner for text.

    With `open_clip` the tower's shape is that architecture's: of the fields up to `std` only image_size, mean, std and
    those of the text partner can then be set.
    """

    open_clip: str | None = None
    """Name of a ViT that open_clip describes: ViT-B-32, ViT-L-14-336, ViT-B-16-SigLIP2, EVA02-L-14, …"""
    open_clip_cfg: dict[str, Any] | None = None
    """open_clip's description of the image tower: taken from its list by the name, or from the folder of a model."""
    image_size: int = Field(64, ge=8)
    """Side of the square input, in pixels."""
    patch_size: int = Field(8, ge=2)
    """Pixels, along one side, that one feature stands for: a ViT's patch, or the stride of a trunk's stage."""
    width: int = Field(128, ge=16)
    """Width of the features of one layer: a ViT's, or the channels of a trunk's stage."""
    timm_model: str | None = None
    """Name of a timm trunk, without downloaded weights; a ViT of `layers` blocks when left out."""
    layers: int = Field(4, ge=1)
    """Blocks of the ViT, or stages of the timm trunk."""
    head_width: int = Field(32, ge=8)
    """Width of one attention head of the ViT."""
    embed_dim: int = Field(128, ge=8)
    """Width of the joint space of images and texts."""
    text_width: int = Field(128, ge=16)
    """Width of CLIP's text tower."""
    text_layers: int = Field(2, ge=1)
    """Blocks of CLIP's text tower."""
    text_length: int = Field(64, ge=8)
    """Longest caption, in tokens, for CLIP's text tower."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from pixels in 0..1, per channel."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Divides the centred pixels, per channel."""
    feature_layers: list[int] = Field(default=[-1], min_length=1)
    """Blocks (or stages of a timm trunk) whose features the language model sees, side by side; -1 is the last."""
    feature_norm: bool = True
    """Send the features of every layer through a ViT's last norm (a timm trunk's stages have none)."""

    @model_validator(mode="before")
    @classmethod
    def _shape_of_open_clip(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name, description = values.get("open_clip"), values.get("open_clip_cfg")
        if name is None and description is None:
            return values
        if values.get("timm_model") is not None:
            raise ValueError("open_clip and timm_model both name the tower: leave one out")
        description = description or architecture(str(name))
        fixed = fixed_shape(description)
        if wrong := [field for field, value in fixed.items() if values.get(field, value) != value]:
            shape = ", ".join(f"{field} {fixed[field]}" for field in wrong)
            raise ValueError(f"the tower has {shape}: leave {' and '.join(wrong)} out")
        return default_input(description) | values | fixed | {"open_clip_cfg": description}

    @model_validator(mode="after")
    def _known_layers(self) -> "VisionConfig":
        places = [layer % self.layers for layer in self.feature_layers if -self.layers <= layer < self.layers]
        if len(places) < len(self.feature_layers) or len(set(places)) < len(places):
            raise ValueError(f"feature_layers {self.feature_layers}: each is to be another one of {self.layers} layers")
        if self.feature_norm and ((self.open_clip_cfg or {}).get("vision_cfg") or {}).get("attentional_pool"):
            raise ValueError("the tower's last norm is one of pooled features: set feature_norm: false")
        return self

    def changed(self, **changes: Any) -> "VisionConfig":
        """The same tower with other values of some fields, checked again."""
        return VisionConfig(**(self.model_dump() | changes))

    @property
    def feature_width(self) -> int:
        """Width of what the tower gives for one patch: the features of all `feature_layers`."""
        return self.width * len(self.feature_layers)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


OWN_SETTINGS = {"pixel_shuffle": ("shuffle", 2), "resampler": ("queries", 64)}
"""What only one kind of projector has, and its value when left out."""


class ProjectorConfig(Config):
    """Shape of the bridge between tower and language model."""

    kind: Literal["linear", "mlp", "pixel_shuffle", "resampler"] = "pixel_shuffle"
    """`linear` and `mlp` (LLaVA's two layers) give a token for each patch, `pixel_shuffle` one for each block of
    patches, `resampler` (cross-attention from learned queries) as many as there are queries."""
    shuffle: int | None = Field(None, ge=1)
    """Of `pixel_shuffle` alone: patches folded into one token along each side; 2 when left out."""
    queries: int | None = Field(None, ge=1)
    """Of `resampler` alone: tokens of one view; 64 when left out."""

    @model_validator(mode="before")
    @classmethod
    def _settings_of_its_kind(cls, given: Any) -> Any:
        own = OWN_SETTINGS.get(str(given.get("kind", "pixel_shuffle"))) if isinstance(given, dict) else None
        return given if own is None or given.get(own[0]) is not None else {**given, own[0]: own[1]}

    @model_validator(mode="after")
    def _none_of_another_kind(self) -> "ProjectorConfig":
        for kind, (name, _) in OWN_SETTINGS.items():
            if kind != self.kind and getattr(self, name) is not None:
                raise ValueError(f"{name} belongs to {kind}: a projector of kind {self.kind} has none")
        return self


class TilesConfig(Config):
    """Whether a picture larger than one view is shown in tiles as well."""

    per_image: int = Field(0, ge=0)
    """Tiles of one image at most, beside the view of it whole; 0: none."""
    per_sample: int | None = Field(None, ge=0)
    """Tiles of all images of a sample together, at most; as many as its images may have when left out."""


class LoraConfig(Config):
    """Low-rank adapters in the place of a part's weights: these stay as they are."""

    rank: int = Field(16, ge=1)
    """Rank of the update of a matrix."""
    alpha: float = Field(32.0, gt=0)
    """An update is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of what an adapter sees that is left out in training."""
    targets: Literal["language", "tower", "both"] | Annotated[list[str], Field(min_length=1)] = "language"
    """Where adapters are: on every matrix of the blocks of the language model, of the tower, or of both; or on the
    layers of these names, such as q_proj, v_proj, attn, or a whole path."""
    rate: float = Field(1.0, gt=0)
    """Learning rate of the adapters as a share of the others'."""
    base_weights: Literal["float32", "int8", "int4"] = "float32"
    """How the language model's adapted matrices are held in training: int4 are the normal floats of QLoRA (Dettmers et
    al. 2023). What was learned is later added to the weights as they were, not to the rounded ones."""

    @property
    def scaling(self) -> float:
        """What an update is multiplied by."""
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, float, str]:
        """What two configs must share for one to go on with the adapters of the other."""
        return self.rank, self.alpha, str(self.targets)


def num_image_tokens(vision: VisionConfig, projector: ProjectorConfig) -> int:
    """Tokens one view of an image takes in the language model: the only place this is computed."""
    fold = projector.shuffle or 1
    if vision.image_size % vision.patch_size or vision.grid % fold:
        raise UsageError(
            f"{vision.image_size} px in patches of {vision.patch_size} px do not fold by {fold}",
            fix="choose image_size divisible by patch_size × shuffle",
        )
    return projector.queries or (vision.grid // fold) ** 2
