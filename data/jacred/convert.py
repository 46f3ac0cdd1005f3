"""JacRED as published (github.com/YoumiMa/JacRED) → documents of each split, with their entities and relations.

Layout: ``SPLIT.json`` in DocRED's format: title, sents (lists of tokens), vertexSet (entities, each a list of mentions
with name and type) and labels (h, t, r); ``meta/rel_info.json`` names the relations.
"""

from pathlib import Path
from typing import Any

from jvlm_data.rows import read_document, records, text, value
from jvlm_data.task_sets import TaskSet

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/YoumiMa/JacRED: dev.json, test.json, meta/rel_info.json"
TRAIN = "train"


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/SPLIT.jsonl``; a triple is written ``head relation tail`` with the numbers of the entities.

    Where train.json is there, an item's kind is "known:" and the numbers of those of its triples whose facts stand in
    it, which Ign F1 leaves out; else it is empty. Raises DataError when nothing in `source` is usable.
    """
    found = TaskSet(source, LAYOUT)
    relations = read_document(source / "meta/rel_info.json", source, found.faults)
    names = relations if isinstance(relations, dict) else {}
    documents = {
        split: list(records(read_document(path, source, found.faults), path.name, found.faults))
        for split in (TRAIN, "dev", "test")
        if (path := source / f"{split}.json").is_file()
    }
    known = {fact for _, row in documents.get(TRAIN, []) for fact in _facts(row)} if TRAIN in documents else None
    for split, rows in documents.items():
        found.add(split, rows, lambda place, row: _item(place, row, names, known))
    return found.write(out)


def _facts(row: dict[str, Any]) -> set[tuple[str, str, str]]:
    entities = row.get("vertexSet") or []
    pairs = [(entities[label["h"]], label["r"], entities[label["t"]]) for label in row.get("labels") or []]
    return {(h["name"], r, t["name"]) for head, r, tail in pairs for h in head for t in tail}


def _item(place: str, row: dict[str, Any], names: dict[str, str], known: set[tuple[str, str, str]] | None) -> TaskItem:
    entities = value(row, "vertexSet", list)
    try:
        body = "\n".join("".join(sentence) for sentence in value(row, "sents", list))
        lines = [f"{i}: {mentions[0]['name']} ({mentions[0]['type']})" for i, mentions in enumerate(entities)]
        labels = [(label["h"], label["r"], label["t"]) for label in value(row, "labels", list)]
        triples = dict.fromkeys(f"{h} {names[r]} {t}" for h, r, t in labels)
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"not a document of DocRED's format: {error}") from None
    if not triples:
        raise DataError("the document has no relation")
    facts = {
        f"{h} {names[r]} {t}": _facts({"vertexSet": entities, "labels": [{"h": h, "r": r, "t": t}]})
        for h, r, t in labels
    }
    shared = [str(i) for i, triple in enumerate(triples) if known is not None and facts[triple] & known]
    fields = {
        "title": text(row, "title"),
        "text": body,
        "entities": "\n".join(lines),
        "relations": ", ".join(names.values()),
    }
    kind = "" if known is None else "known:" + ",".join(shared)
    return TaskItem(place, place, kind, fields, [], None, list(triples))
