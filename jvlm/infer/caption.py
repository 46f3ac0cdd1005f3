"""A folder of images to one JSONL file: one row an image, bad images as rows with an error, resumable."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jvlm.errors import DataError
from jvlm.files import append_json_line, lock, read_json_lines, sha256_bytes
from jvlm.images.load import SUFFIXES, load_image
from jvlm.infer.types import Model
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample


@dataclass(frozen=True)
class CaptionReport:
    """Counts of a job: rows in the file, rows of them with an error, rows written by this call."""

    rows: int
    errors: int
    written: int


def caption_folder(
    model: Model,
    folder: Path,
    out: Path,
    *,
    prompt: str = CAPTION_PROMPT,
    max_new_tokens: int = 96,
    unit: int = 64,
    say: Callable[[str], None] = lambda _: None,
) -> CaptionReport:
    """Caption every image under `folder` into `out` (`id, image_sha256, text, status, error, finish_reason, n_tokens`).

    Rows are appended in order of the relative path; ids that are there already are skipped, so a job that was
    killed goes on and an image never has two rows. Raises DataError when the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError("folder not found", where=folder, fix="name a folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError("no image found", where=folder, fix=f"looked for {', '.join(SUFFIXES)}")
    with lock(out.with_name(out.name + ".job")):
        done = {row["id"] for row in read_json_lines(out)}
        todo = [p for p in paths if _name(p, folder) not in done]
        for begin in range(0, len(todo), unit):
            for row in _caption(model, folder, todo[begin : begin + unit], prompt, max_new_tokens):
                append_json_line(out, row)
            say(f"{len(done) + min(begin + unit, len(todo))} of {len(paths)} images")
        rows = read_json_lines(out)
    return CaptionReport(len(rows), sum(row["status"] == "error" for row in rows), len(todo))


def _caption(
    model: Model, folder: Path, paths: list[Path], prompt: str, max_new_tokens: int
) -> list[dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    samples = []
    for path in paths:
        name = _name(path, folder)
        rows[name] = {"id": name, "image_sha256": None, "text": None, "status": "error", "error": None}
        try:
            data = ImageRef(path=str(path)).read()
            rows[name]["image_sha256"] = sha256_bytes(data)
            load_image(data)
        except DataError as error:
            rows[name]["error"] = error.what
            continue
        samples.append(Sample(name, [Message("user", [0, prompt])], [ImageRef(data=data)]))
    for sample, generation in zip(samples, model.generate(samples, max_new_tokens=max_new_tokens), strict=True):
        rows[sample.id] |= {
            "text": generation.text,
            "status": "ok",
            "finish_reason": generation.finish_reason,
            "n_tokens": generation.num_tokens,
        }
    return list(rows.values())


def _name(path: Path, folder: Path) -> str:
    """Relative name, writable as UTF-8: bytes of a name that are not come as ``\\udcXX`` escapes."""
    return str(path.relative_to(folder)).encode("utf-8", "backslashreplace").decode()
