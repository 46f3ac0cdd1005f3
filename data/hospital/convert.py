"""A folder of a hospital → shards to train on, shards and an exam to test with; no patient is in both.

Layout: ``questions.csv`` (patient, image, question, answer, choices), the images it names, ``settings.yaml``.
Of an image its pixels are taken and nothing else, of a patient a number. What the files say of patients is reported.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from jvlm_data.exam_records import IMAGES, LABELS, finish
from jvlm_data.rows import Fault, below, nothing_usable
from jvlm_data.splits import HeldOut, split_of
from pydantic import Field

from jvlm.config import Config, load_config
from jvlm.errors import DataError
from jvlm.eval.exam_prompts import PLAIN
from jvlm.files import append_json_line, new_folder, read_json_lines, sha256_bytes
from jvlm.images.load import load_frames
from jvlm.images.privacy import privacy_findings
from jvlm.images.shards import write_shards
from jvlm.sample import ImageRef, Message, Sample

TABLE, SETTINGS = "questions.csv", "settings.yaml"
REQUIRED = ("patient", "question", "answer")
COLUMNS = (*REQUIRED, "image", "choices")
SEPARATOR = "|"
_LEAST_NAME = 3  # characters of a patient's number that are looked for in texts and names: a 7 stands everywhere


class HospitalSettings(Config):
    """`settings.yaml`."""

    name: str = Field("hospital", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    """Of the exam."""
    licence: str = "closed: not for publication"
    """Of the data, for the cards."""
    test_share: float = Field(0.2, gt=0, lt=1)
    """Share of the patients whose questions are never trained on."""
    allow_patient_tags: str | None = Field(None, min_length=10)
    """Why it is right to go on although files may name patients. It is kept in the cards of the shards."""


class Picture(NamedTuple):
    """A frame of an image file, and the hash of it as a PNG."""

    path: Path
    frame: int
    sha256: str

    def png(self) -> bytes:
        return _png(load_frames(str(self.path))[self.frame])


@dataclass(frozen=True)
class Row:
    """A line of the table that can be used. `files` are named by it, `pictures` are all of their frames."""

    where: str
    line: int
    patient: str
    files: list[str]
    pictures: list[Picture]
    question: str
    answer: str
    choices: list[str]


def convert(source: Path, out: Path) -> dict[str, int]:
    """`out/train`, `out/test` (shards), `out/exam/NAME` (the test questions with choices), `errors.jsonl` and
    `removed.jsonl`; counts. ``OUT.phi.jsonl`` lists what may name a patient.

    Every fault of the table is recorded with file and line, and the line is left out. Raises DataError when nothing is
    usable, a part has no patient, or something may name a patient and the settings do not say why to go on.
    """
    settings = load_config(HospitalSettings, source / SETTINGS if (source / SETTINGS).is_file() else None, [])
    faults: list[Fault] = []
    rows = list(_rows(source, faults))
    if not rows:
        raise nothing_usable(source, faults, f"{TABLE} and the images it names")
    about = {"licence": settings.licence, "source": settings.name} | _patient_tags(source, out, rows, settings)
    parts, removed = _split(rows, settings.test_share)
    if empty := [name for name, part in parts.items() if not part]:
        patients = len({row.patient for row in rows})
        text = f"none of {patients} patients is in the {empty[0]} part"
        raise DataError(text, where=source / SETTINGS, fix="change test_share, or add patients")
    numbers = {patient: f"p{i:05d}" for i, patient in enumerate(dict.fromkeys(row.patient for row in rows), 1)}
    with new_folder(out) as folder:
        for name, part in parts.items():
            write_shards((_sample(row, settings.name) for row in part), folder / name, about=about)
        items = _write_exam(folder / "exam" / settings.name, parts["test"], numbers, settings.name)
        for file, lines in (("errors.jsonl", faults), ("removed.jsonl", removed)):
            for line in lines:
                append_json_line(folder / file, line)
    counts = {name: len(part) for name, part in parts.items()}
    reported = len(read_json_lines(_phi_file(out)))
    return counts | {"exam": items, "removed": len(removed), "phi": reported, "errors": len(faults)}


def _rows(source: Path, faults: list[Fault]) -> Iterator[Row]:
    """The usable lines of the table; the faults of the others, all of each line. Raises DataError for no table."""
    path = source / TABLE
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            lacking = [name for name in REQUIRED if name not in names]
            unknown = [str(name) for name in names if name not in COLUMNS]
            if lacking or unknown:
                text = f"columns missing: {', '.join(lacking) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
                raise DataError(text, where=f"{path}:1", fix=f"the first line is {','.join(COLUMNS)}")
            for fields in reader:
                line = reader.line_num
                row, wrong = _row(fields, source, line)
                faults += [{"where": f"{TABLE}:{line}", "error": what} for what in wrong]
                if row is not None:
                    yield row
    except FileNotFoundError:
        raise DataError("file not found", where=path, fix=f"a table with the columns {','.join(COLUMNS)}") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8", where=path, fix="save it as CSV UTF-8; Excel's plain CSV is not") from None
    except csv.Error as error:
        raise DataError(f"not a CSV file: {error}", where=path) from None


def _row(fields: Mapping[Any, Any], source: Path, line: int) -> tuple[Row | None, list[str]]:
    wrong = []
    if None in fields or None in fields.values():
        wrong.append("the line has more or fewer fields than the first: quote texts that hold a comma")
    text = {name: str(fields.get(name) or "").strip() for name in COLUMNS}
    wrong += [f"{name}: no text" for name in REQUIRED if not text[name]]
    choices = _parted(text["choices"])
    if choices and (len(choices) < 2 or len(set(choices)) < len(choices) or len(choices) > len(LABELS)):
        wrong.append(f"choices: 2 to {len(LABELS)} different ones parted by {SEPARATOR}, or none")
    elif choices and text["answer"] not in choices:
        wrong.append("answer: none of the choices")
    files, pictures = _parted(text["image"]), list[Picture]()
    for name in files:
        try:
            path = below(source, name)
            frames = load_frames(str(path))
            pictures += [Picture(path, number, sha256_bytes(_png(frame))) for number, frame in enumerate(frames)]
        except DataError as error:
            wrong.append(f"image {name}: {error.what}")
    if wrong:
        return None, wrong
    where, asked = f"{TABLE}:{line}", (text["question"], text["answer"], choices)
    return Row(where, line, text["patient"], files, pictures, *asked), []


def _parted(text: str) -> list[str]:
    return [part.strip() for part in text.split(SEPARATOR)] if text else []


def _png(image: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _phi_file(out: Path) -> Path:
    return out.with_name(out.name + ".phi.jsonl")


def _patient_tags(source: Path, out: Path, rows: Sequence[Row], settings: HospitalSettings) -> dict[str, Any]:
    """What goes into the cards about it. Raises DataError where the settings do not say why to go on."""
    ledger = _phi_file(out)
    ledger.unlink(missing_ok=True)
    found = dict(_findings(source, rows))
    for where, findings in found.items():
        append_json_line(ledger, {"where": where, "findings": findings})
    if found and settings.allow_patient_tags is None:
        kinds = sorted({finding for findings in found.values() for finding in findings})
        raise DataError(
            f"{len(found)} files or lines may name a patient ({', '.join(kinds[:4])}{', …' if len(kinds) > 4 else ''})",
            where=ledger,
            fix=f"look at each, then say in {SETTINGS} why it is right to go on, allow_patient_tags: 'REASON'",
        )
    if not found:
        return {"patient_tags": {"found": 0}}
    return {"patient_tags": {"found": len(found), "allowed_because": settings.allow_patient_tags}}


def _findings(source: Path, rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    """(file or line, what in it may name a patient) of all that is used."""
    seen: set[str] = set()
    for row in rows:
        sought = row.patient if len(row.patient) >= _LEAST_NAME else None
        for name in row.files:
            findings = privacy_findings(str(below(source, name))) if name not in seen else []
            if sought and sought in name and name not in seen:
                findings.append("the file's name holds the patient's number")
            seen.add(name)
            if findings:
                yield name, findings
        if sought and any(sought in text for text in (row.question, row.answer, *row.choices)):
            yield row.where, ["the text holds the patient's number"]


def _split(rows: Sequence[Row], share: float) -> tuple[dict[str, list[Row]], list[dict[str, str]]]:
    """Rows by part, and those that left train because a picture of theirs stands in test."""
    placed = [(row, split_of(sha256_bytes(row.patient.encode()), {"test": share})) for row in rows]
    held_out = HeldOut()
    for row, part in placed:
        held_out.add(part, _hashes(row))
    parts: dict[str, list[Row]] = {"train": [], "test": []}
    removed = []
    for row, part in placed:
        if held_out.clash(part, _hashes(row)):
            removed.append({"where": row.where, "split": part, "reason": "its image is one of a patient of test too"})
        else:
            parts[part].append(row)
    return parts, removed


def _hashes(row: Row) -> list[str]:
    return [picture.sha256 for picture in row.pictures]


def _options(row: Row) -> list[tuple[str, str]]:
    return list(zip(LABELS, row.choices, strict=False))


def _sample(row: Row, name: str) -> Sample:
    """As an exam puts it (`jvlm.eval.items.exam_sample`), with its answer."""
    asked = PLAIN.text(row.question, _options(row), 1) if row.choices else row.question
    messages = [Message("user", [*range(len(row.pictures)), asked]), Message("assistant", [row.answer])]
    images = [ImageRef(data=picture.png()) for picture in row.pictures]
    return Sample(f"{name}-{row.line:06d}", messages, images, meta={"source": name})


def _write_exam(folder: Path, rows: Sequence[Row], numbers: Mapping[str, str], name: str) -> int:
    """Records of the rows with choices; returns how many there are."""
    (folder / IMAGES).mkdir(parents=True)
    count = 0
    for row in rows:
        if not row.choices:
            continue
        pictures: dict[str, Path] = {}
        for number, picture in enumerate(row.pictures):
            name_of_it = f"{IMAGES}/{row.line:06d}-{number}.png"
            pictures[name_of_it] = folder / name_of_it
            pictures[name_of_it].write_bytes(picture.png())
        options = [{"label": label, "text": text, "image": None} for label, text in _options(row)]
        entry = finish(
            {
                "id": f"{name}-{row.line:06d}", "exam": name, "section": "", "number": row.line,
                "group_id": numbers[row.patient], "stem": row.question, "shared_text": "", "options": options,
                "images": list(pictures), "n_select": 1, "accept": [[LABELS[row.choices.index(row.answer)]]],
                "excluded": "none", "points": 1, "required": False, "kinki": [], "source": name, "tags": [],
            },
            pictures,
        )  # fmt: skip
        append_json_line(folder / "items.jsonl", entry.record)
        count += 1
    return count
