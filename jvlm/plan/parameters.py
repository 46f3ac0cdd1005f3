"""Parameters of the parts of a model, counted from their shapes alone."""

from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig, num_image_tokens


def language_parameters(config: LanguageConfig, vocab_size: int) -> int:
    """Parameters of a language model of this shape, all its experts counted."""
    d, kv = config.hidden_size, config.hidden_size * (config.num_kv_heads or config.num_heads) // config.num_heads
    experts = config.num_experts
    block = 2 * d * d + 2 * d * kv + 3 * d * config.intermediate_size * max(1, experts) + experts * d + 2 * d
    embeddings = vocab_size * d * (1 if config.tie_embeddings else 2)
    return config.num_layers * block + embeddings + d


def tower_parameters(config: VisionConfig) -> int:
    """Parameters of the image tower, joint-space head included; one of open_clip's or timm's is built to be counted."""
    if config.timm_model or config.open_clip_cfg:
        import torch  # which the other plans do without

        from jvlm.model.vision import build_tower

        with torch.device("meta"):  # without its weights
            return sum(parameter.numel() for parameter in build_tower(config).parameters())
    d = config.width
    embeddings = 3 * config.patch_size**2 * d + d + (config.grid**2 + 1) * d
    return config.layers * _block(d) + embeddings + 4 * d + d * config.embed_dim


def text_tower_parameters(config: VisionConfig, vocab_size: int) -> int:
    """Parameters of CLIP's text tower of this shape, temperature included."""
    d = config.text_width
    return config.text_layers * _block(d) + (vocab_size + config.text_length + 2 + config.embed_dim) * d + 1


def projector_parameters(config: ProjectorConfig, vision: VisionConfig, language_size: int) -> int:
    """Parameters of the projector and of the marks of images."""
    width, d, tokens, marks = vision.feature_width, language_size, num_image_tokens(vision, config), 3 * language_size
    if config.kind == "linear":
        return marks + (width + 1) * d
    if config.kind == "mlp":
        return marks + (width + 1) * d + (d + 1) * d
    if config.kind == "resampler":
        return marks + tokens * d + width * d + 4 * (d + 1) * d + 6 * d
    folded = width * (config.shuffle or 1) ** 2
    return marks + 2 * folded + (folded + 1) * 2 * d + (2 * d + 1) * d + (1 + tokens) * d


def active_parameters(config: LanguageConfig, vocab_size: int) -> int:
    """Those that one token goes through: of a mixture's experts only as many as it is sent to."""
    idle = max(0, config.num_experts - config.experts_per_token)
    return language_parameters(config, vocab_size) - idle * config.num_layers * expert_parameters(config)


def expert_parameters(config: LanguageConfig) -> int:
    """Of one feed-forward of one block."""
    return 3 * config.hidden_size * config.intermediate_size


def _block(width: int) -> int:
    return 12 * width**2 + 13 * width
