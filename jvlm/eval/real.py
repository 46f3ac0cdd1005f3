"""What a model trained on real data has learned, each figure beside what needs no learning.

Naming and counting what is on pictures never seen, text never seen in bits per character, and national exams: at this
size the exams sit near chance, and the report says so with intervals.
"""

from pathlib import Path

from jvlm.errors import DataError
from jvlm.eval.items import load_items
from jvlm.eval.ledger import Record
from jvlm.eval.pictures import evaluate_pictures
from jvlm.files import read_json_lines
from jvlm.infer.generate import VisionLanguageModel
from jvlm.infer.likelihood import bits_per_character

EXAMS = ("igakuqa119", "clinical_lab")
PICTURES = ("naming_test", "counting_test", "vqa_rad_test")


def evaluate_real(model: VisionLanguageModel, data: Path, held_out: Path, out: Path, *, name: str) -> Record:
    """Scores of one model.

    Args:
        data: the data folder of a run: `shards/{naming,counting,vqa_rad}_test`, `exam/NAME/items.jsonl`.
        held_out: JSONL of general documents never trained on.
        out: folder of `samples.jsonl`, shared by the models of a run.

    Returns {"pictures": {SET: {KIND: {ARM: accuracy}}}, "bpc": {"general", "exam": bits per character}}.
    """
    pictures = {task: evaluate_pictures(model, data / "shards" / task, out, name=name) for task in PICTURES}
    stems = exam_stems(data / "exam")
    language, processor = model.model.language, model.processor
    general = [row["text"] for row in read_json_lines(held_out)]
    bits = {
        "general": bits_per_character(language, processor, general),
        "exam": bits_per_character(language, processor, stems),
    }
    return {"pictures": pictures, "bpc": bits, "exam_stems": len(stems)}


def exam_stems(folder: Path) -> list[str]:
    """The different question texts of every medical exam in ``folder/NAME/items.jsonl``, in order of exam and place.

    Raises DataError when there is none.
    """
    stems: list[str] = []
    for path in sorted(folder.glob("*/items.jsonl")):
        if path.parent.name in EXAMS:
            stems += [item.shared_text + item.stem for item in load_items(path) if item.stem.strip()]
    if not stems:
        raise DataError("no exam question", where=folder, fix="build one: `jvlm data build NAME --source … --out …`")
    return list(dict.fromkeys(stems))
