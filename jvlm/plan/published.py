"""Published trainings beside what this plan says of them, by one set of assumptions.

Where a publication states the share of the data sheet's speed that it reached (MFU), time is planned with that; else
with the default, `time.DEFAULT_MFU`. Nothing else is adjusted to any row. What a publication leaves open, mostly how
many tokens were read, is assumed and said. A row that is off by more than `TOLERANCE` says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig, num_image_tokens
from jvlm.plan.gpus import GPUS
from jvlm.plan.memory import memory
from jvlm.plan.parameters import language_parameters, projector_parameters, tower_parameters
from jvlm.plan.time import DEFAULT_MFU, cost
from jvlm.plan.work import Work
from jvlm.train.config import EngineConfig

TOLERANCE = 0.15


@dataclass(frozen=True)
class Comparison:
    """One published figure. `reason` is given where the plan is further off than `TOLERANCE`."""

    what: str
    published: float
    unit: str
    plan: Callable[[], float]
    assumed: str
    source: str
    reason: str = ""

    def deviation(self) -> float:
        """Of the plan, as a share of the published figure."""
        return self.plan() / self.published - 1


LLAMA_3_8B = LanguageConfig(
    hidden_size=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    intermediate_size=14336,
    max_length=8192,
    tie_embeddings=False,
)
LLM_JP_13B = LanguageConfig(
    hidden_size=5120, num_layers=40, num_heads=40, intermediate_size=13824, max_length=4096, tie_embeddings=False
)
TINY_LLAMA = LanguageConfig(
    hidden_size=2048,
    num_layers=22,
    num_heads=32,
    num_kv_heads=4,
    intermediate_size=5632,
    max_length=2048,
    tie_embeddings=False,
)
VICUNA_7B = LanguageConfig(
    hidden_size=4096, num_layers=32, num_heads=32, intermediate_size=11008, max_length=4096, tie_embeddings=False
)
VICUNA_13B = LLM_JP_13B
SMOL_LM2_135M = LanguageConfig(
    hidden_size=576, num_layers=30, num_heads=9, num_kv_heads=3, intermediate_size=1536, max_length=8192
)
CLIP_L_336 = VisionConfig(
    image_size=336, patch_size=14, width=1024, layers=24, head_width=64, embed_dim=768, feature_layers=[-2]
)
SIGLIP_B_224 = VisionConfig(image_size=224, patch_size=16, width=768, layers=12, head_width=64, embed_dim=768)
SO400M_384 = VisionConfig(image_size=378, patch_size=14, width=1152, layers=27, head_width=72, embed_dim=1152)
MLP = ProjectorConfig(kind="mlp")
BFLOAT16 = EngineConfig(precision="bfloat16")
RECOMPUTED = EngineConfig(precision="bfloat16", recompute=True)


def text_work(shape: LanguageConfig, vocab: int, tokens: float, row_length: int, rows: int, **given: Any) -> Work:
    """Pretraining on so many tokens."""
    steps = round(tokens / rows / row_length)
    parts = {"language": language_parameters(shape, vocab)}
    shared: dict[str, Any] = {"language": shape, "vocab_size": vocab, "engine": BFLOAT16, "chunked_head": False}
    return Work("pretrain", parts, {"language": 1.0}, steps, rows, row_length, **(shared | given))


def image_work(
    shape: LanguageConfig,
    vocab: int,
    vision: VisionConfig,
    samples: float,
    views: float,
    text: float,
    learns: Mapping[str, float],
    batch: int,
    engine: EngineConfig = RECOMPUTED,
) -> Work:
    """Samples of so many views of images and so much text on average, none padded, through LLaVA's projector."""
    tokens = num_image_tokens(vision, MLP)
    parts = {
        "language": language_parameters(shape, vocab),
        "tower": tower_parameters(vision),
        "projector": projector_parameters(MLP, vision, shape.hidden_size),
    }
    length = round(views * tokens + text)
    return Work(
        "images",
        parts,
        learns,
        round(samples / batch),
        batch,
        length,
        language=shape,
        vocab_size=vocab,
        vision=vision,
        projector=MLP,
        views=views,
        targets=text / length,
        engine=engine,
        chunked_head=False,
    )


PROJECTOR = {"projector": 1.0}
ALL_BUT_TOWER = {"projector": 1.0, "language": 1.0}


def _hours(work: Work, gpu: str, gpus: int, mfu: float = DEFAULT_MFU) -> float:
    return cost(work, GPUS[gpu], gpus, mfu).seconds / 3_600


def _titan(gpus: int) -> Work:
    return text_work(LLAMA_3_8B, 128_256, 1e9, 8192, 2 * gpus)


def _titan_speed(mfu: float) -> float:
    return cost(_titan(8), GPUS["h100"], 8, mfu).tokens_per_second / 8


def _titan_state(zero: int = 3) -> float:
    """GiB that state takes less on a GPU when it is spread over 128 of them and not over 8."""
    work = _titan(8)

    def state(gpus: int) -> float:
        found = memory(work, gpus, zero).parts
        gathered = 4 * min(work.parameters, 1e9)
        return found["weights"] - gathered + found["moments"] + found["gradients"]

    return (state(8) - state(128)) / 2**30


def _nano(batch: int) -> float:
    """MiB that nanoVLM's 222 M parameters take at their peak, 49 image tokens and 79 of text in a row."""
    parts = {
        "language": language_parameters(SMOL_LM2_135M, 49_152),
        "tower": tower_parameters(SIGLIP_B_224) - 768 * 768,
        "projector": 4 * 768 * 576,
    }
    work = Work(
        "nanoVLM",
        parts,
        {"language": 1.0, "tower": 1.0, "projector": 1.0},
        1,
        batch,
        128,
        language=SMOL_LM2_135M,
        vocab_size=49_152,
        vision=SIGLIP_B_224,
        projector=ProjectorConfig(shuffle=2),
        views=1.0,
        engine=BFLOAT16,
        chunked_head=False,
    )
    found = memory(work, 1, None)
    # its AdamW is torch's default, which works on temporaries as large as the parameters
    update = found.parts["weights"] + found.parts["moments"] + found.parts["gradients"] + 4 * work.trained
    return max(found.peak, update) / 2**20


def _vila(step: int) -> float:
    """GPU hours of llm-jp-VILA's steps."""
    if step == 0:
        work = image_work(LLM_JP_13B, 99_584, SO400M_384, 1.116e6, 1, 40, PROJECTOR, 256)
        return 8 * _hours(work, "a100-40g", 8)
    if step == 1:
        # of 24 M documents half are pairs, half pages; a page has MMC4-core's 4.1 pictures and 330 tokens of text
        pairs = image_work(LLM_JP_13B, 99_584, SO400M_384, 12e6, 1, 40, ALL_BUT_TOWER, 1024)
        pages = image_work(LLM_JP_13B, 99_584, SO400M_384, 12e6, 4.1, 330, ALL_BUT_TOWER, 1024)
        return 64 * (_hours(pairs, "a100-40g", 64) + _hours(pages, "a100-40g", 64))
    work = image_work(LLM_JP_13B, 99_584, SO400M_384, 728e3, 1, 300, ALL_BUT_TOWER, 128)
    return 32 * _hours(work, "a100-40g", 32)


def _llava(shape: LanguageConfig, tune: bool) -> float:
    if tune:
        return _hours(image_work(shape, 32_000, CLIP_L_336, 665e3, 0.94, 300, ALL_BUT_TOWER, 128), "a100-80g", 8)
    return _hours(image_work(shape, 32_000, CLIP_L_336, 558e3, 1, 30, PROJECTOR, 256), "a100-80g", 8)


_TITAN = "torchtitan, benchmarks/llama3_h100_202412_torchtitan.md"
_NANO = "nanoVLM, README: peak of training on one H100, 128 tokens"
_LLAVA = "LLaVA, README; scripts/v1_5: recomputation on"
_VILA = "llm-jp-VILA, README; scripts/mdx/release: recomputation on"
_TEXT = "300 tokens of text in a sample"
_PADDED = "its batches are padded to their longest sample, which is computed too; rows here are packed"
_FROZEN = (
    "a frozen language model sends no gradients between GPUs and steps no optimizer: it reached more than the default "
    "{mfu:.0%} of the data sheet (the published hours correspond to {would:.0%})"
)

COMPARISONS = (
    Comparison(
        "LLM-jp-3 13B on 256 H100: tokens a second and GPU",
        3_790,
        "tokens/s",
        lambda: cost(text_work(LLM_JP_13B, 99_584, 1e12, 4096, 1024), GPUS["h100"], 256, 0.34).tokens_per_second / 256,
        "its 34 % MFU",
        "LLM-jp's model pages: about 20,000 steps of 4.2 M tokens a day",
    ),
    Comparison(
        "Llama 3.1 8B on 8 H100, eager: tokens a second and GPU",
        5_762,
        "tokens/s",
        lambda: _titan_speed(0.33),
        "its 33 % MFU, which counts attention without its mask",
        _TITAN,
    ),
    Comparison(
        "the same, compiled",
        6_667,
        "tokens/s",
        lambda: _titan_speed(0.39),
        "its 39 % MFU",
        _TITAN,
    ),
    Comparison(
        "Llama 3.1 8B: memory a GPU saves on 128 GPUs against 8",
        82.4 - 67.0,
        "GiB",
        _titan_state,
        "weights, gradients and moments, sharded (ZeRO 3)",
        _TITAN,
    ),
    Comparison(
        "TinyLlama 1.1B, 3 T tokens on 64 A100",
        28.0,
        "days",
        lambda: _hours(text_work(TINY_LLAMA, 32_000, 3e12, 2048, 512), "a100-40g", 64, 0.52) / 24,
        "its 52 % MFU",
        "litgpt, tutorials/pretrain_tinyllama: 4 weeks",
        reason="'4 weeks' are calendar weeks, with restarts; MFU there counts attention without its mask",
    ),
    *(
        Comparison(f"nanoVLM 222M, batch of {batch}", mib, "MiB", lambda batch=batch: _nano(batch), "peak", _NANO)  # type: ignore[misc]
        for batch, mib in ((1, 4448.58), (16, 7604.36), (64, 20995.06), (256, 74561.08))
    ),
    Comparison("LLaVA-1.5 7B, tuning", 10.0, "hours", lambda: _llava(VICUNA_7B, True), _TEXT, _LLAVA, reason=_PADDED),
    Comparison("LLaVA-1.5 13B, tuning", 20.0, "hours", lambda: _llava(VICUNA_13B, True), _TEXT, _LLAVA, reason=_PADDED),
    Comparison("LLaVA-1.5 7B, alignment", 3.5, "hours", lambda: _llava(VICUNA_7B, False), "30 tokens of text", _LLAVA),
    Comparison(
        "LLaVA-1.5 13B, alignment",
        5.5,
        "hours",
        lambda: _llava(VICUNA_13B, False),
        "30 tokens of text",
        _LLAVA,
        reason=_FROZEN,
    ),
    Comparison("llm-jp-VILA step 0", 116.0, "GPU hours", lambda: _vila(0), "40 tokens of text", _VILA, reason=_FROZEN),
    Comparison(
        "llm-jp-VILA step 1",
        8_320.0,
        "GPU hours",
        lambda: _vila(1),
        "pages as MMC4-core's: 4.1 pictures, 330 tokens",
        _VILA,
        reason="how many pictures and tokens a page has was not published, and rows are cut at 4,096",
    ),
    Comparison(
        "llm-jp-VILA step 2",
        352.0,
        "GPU hours",
        lambda: _vila(2),
        _TEXT,
        _VILA,
        reason="micro-batches of four samples under ZeRO 3 over four machines: sending weights, not computing, set "
        "the pace ({would:.0%} of the data sheet)",
    ),
    Comparison(
        "llm-jp-VILA, all steps",
        8_800.0,
        "GPU hours",
        lambda: sum(map(_vila, (0, 1, 2))),
        "as above",
        _VILA,
        reason="step 1 is nearly all of it",
    ),
)


def rows() -> list[dict[str, Any]]:
    """Every comparison: published, planned, deviation, what was assumed, and the reason where it is far off."""
    out = []
    for comparison in COMPARISONS:
        planned, off = comparison.plan(), comparison.deviation()
        would = DEFAULT_MFU * planned / comparison.published
        reason = comparison.reason.format(mfu=DEFAULT_MFU, would=would) if abs(off) > TOLERANCE else ""
        out.append(
            {
                "what": comparison.what,
                "published": comparison.published,
                "planned": planned,
                "unit": comparison.unit,
                "deviation": off,
                "assumed": comparison.assumed,
                "source": comparison.source,
                "reason": reason,
            }
        )
    return out


def table() -> str:
    """The comparisons as a Markdown table, for docs/planning.md."""
    head = "| training | published | planned | off by | assumed; reason where off by more than 15 % | source |"
    lines = [head, "|---|---|---|---|---|---|"]
    for row in rows():
        said = "; ".join(part for part in (row["assumed"], row["reason"]) if part)
        figures = f"{row['published']:,.5g} {row['unit']} | {row['planned']:,.5g} | {row['deviation']:+.0%}"
        lines.append(f"| {row['what']} | {figures} | {said} | {row['source']} |")
    days = _hours(text_work(LLM_JP_13B, 50_570, 300e9, 2048, 1536), "a100-40g", 96) / 24
    lines.append(
        f"| LLM-jp-13B v1.0, 300 B tokens on 96 A100 40 GB | days not found published | {days:.1f} days | – "
        f"| {DEFAULT_MFU:.0%} of the data sheet | model card: machine, tokens and shape |"
    )
    return "\n".join(lines)
