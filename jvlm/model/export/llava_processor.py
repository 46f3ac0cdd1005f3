"""The files from which transformers' AutoProcessor makes a LlavaProcessor that gives our ids and our pixels.

Its usual image processors crop, or pad before they scale. The one of DeepSeek-VL does what ours does, to the rounding:
the long side scaled to the tower's, bicubic, then padded on both sides with the tower's mean colour.
"""

from pathlib import Path
from typing import Any

from jvlm.files import read_json, write_json, write_text
from jvlm.model.config import VisionConfig
from jvlm.model.export.vision import ConvertedTower
from jvlm.model.processor import Processor
from jvlm.text.tokenizer import CONFIG_FILE

BICUBIC = 3  # Pillow's number


def select_strategy(tower: ConvertedTower) -> str:
    """`default` leaves out the first feature, which is a class token's, `full` has no feature to leave out."""
    return "default" if tower.has_class_token else "full"


def write_processor_files(folder: Path, processor: Processor, tower: ConvertedTower) -> None:
    """Tokenizer, template and the configs of image processor and processor."""
    assert processor.vision is not None
    processor.tokenizer.save(folder)
    # prompts of several lengths are generated from in one batch, which is silently wrong with padding on the right
    write_json(folder / CONFIG_FILE, read_json(folder / CONFIG_FILE) | {"padding_side": "left"})
    write_text(folder / "chat_template.jinja", processor.chat_template(expanded=False))
    write_json(folder / "preprocessor_config.json", _image_processor(processor.vision))
    settings = {
        "processor_class": "LlavaProcessor",
        "image_token": processor.tokenizer.tokens["<|image|>"],
        "patch_size": processor.vision.patch_size,
        "num_additional_image_tokens": int(tower.has_class_token),
        "vision_feature_select_strategy": select_strategy(tower),
    }
    write_json(folder / "processor_config.json", settings)


def _image_processor(vision: VisionConfig) -> dict[str, Any]:
    square = {"height": vision.image_size, "width": vision.image_size}
    return {
        "processor_class": "LlavaProcessor",
        "image_processor_type": "DeepseekVLImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square,
        "min_size": 1,
        "resample": BICUBIC,
        "do_pad": True,
        "crop_size": square,  # nothing is cropped: servers read from it how large an image comes out
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(vision.mean),
        "image_std": list(vision.std),
    }
