"""What a model trained on real data has learned, each figure beside what needs no learning.

Naming and counting what is on pictures never seen, text never seen in bits per character, and national exams: at this
size the exams sit near chance, and the report says so with intervals.
"""

from pathlib import Path

from jvlm.eval import requests
from jvlm.eval.items import load_items
from jvlm.eval.ledger import Ledger, Record
from jvlm.eval.pictures import evaluate_pictures
from jvlm.eval.thumbnails import write_thumbnail
from jvlm.files import read_json_lines, sha256_bytes
from jvlm.images.shards import ShardReader
from jvlm.infer.types import Model

SHOWN_PICTURES, SHOWN_TOKENS = 20, 48
EXAMS = ("igakuqa119", "clinical_lab")
PICTURES = ("naming_test", "counting_test", "vqa_rad_test")


def evaluate_picture_sets(model: Model, data: Path, out: Path, *, name: str) -> Record:
    """Scores of one model on questions about pictures: {SET: {KIND: {ARM: accuracy}}} of the sets that `data` holds.

    Args:
        data: the data folder of a run: `shards/{captions,naming,counting,vqa_rad}_test`.
        out: folder of `samples.jsonl` and of the pictures that the report shows, shared by the models of a run.
    """
    _show_pictures(model, data / "shards" / "captions_test", out, name)
    found = {task: data / "shards" / task for task in PICTURES if (data / "shards" / task).is_dir()}
    return {task: evaluate_pictures(model, folder, out, name=name) for task, folder in found.items()}


def texts_never_seen(data: Path, held_out: Path) -> dict[str, list[str]]:
    """The texts whose bits are told, by kind: `general` documents held out, `exam` questions; no kind without text."""
    general = [row["text"] for row in read_json_lines(held_out)]
    found = {"general": general, "exam": exam_stems(data / "exam")}
    return {kind: texts for kind, texts in found.items() if texts}


def _show_pictures(model: Model, folder: Path, out: Path, name: str) -> None:
    """What the model says of the first held-out pictures in order of their hash: not chosen, for the report to show."""
    reader = ShardReader(folder)
    samples = {sha256_bytes(sample.images[0].read()): sample for sample in map(reader.read, range(len(reader)))}
    shown = [samples[key] for key in sorted(samples)[:SHOWN_PICTURES]]
    questions = [requests.question(sample) for sample in shown]
    ledger = Ledger(out, name, "shown", "image", questions, [f"generate {SHOWN_TOKENS}"] * len(questions))
    missing = iter(ledger.missing)
    for generations in requests.generate(model, [questions[i] for i in ledger.missing], SHOWN_TOKENS):
        for generation in generations:
            i = next(missing)
            gold = str(shown[i].meta["text"])
            said: Record = {"output": generation.text, "finish_reason": generation.finish_reason}
            kind = str(shown[i].meta["source"])
            ledger.add(i, said | {"kind": kind, "gold": gold, "correct": None})  # a caption is not right or wrong
    for sample in shown:
        write_thumbnail(sample, out / "images")


def exam_stems(folder: Path) -> list[str]:
    """The different question texts of every medical exam in ``folder/NAME/items.jsonl``, in order of exam and place."""
    stems: list[str] = []
    for path in sorted(folder.glob("*/items.jsonl")):
        if path.parent.name in EXAMS:
            stems += [item.shared_text + item.stem for item in load_items(path) if item.stem.strip()]
    return list(dict.fromkeys(stems))
