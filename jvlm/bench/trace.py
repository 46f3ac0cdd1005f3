"""The evidence index on real text: what it finds, what it does not, and what it costs.

The text is 150 MB of a folder of real data (`text/`), of which every fiftieth document is kept out. With it are indexed
captions: one of each picture of JSTS, and those of toy-world scenes. ``paraphrase_top10`` is of JSTS: another person's
caption of the same picture, called equal in meaning, finds the one that is indexed.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.bench.child import environment
from jvlm.bench.trace_queries import Query, absent, altered, caption_pairs, drawn_sentences, toy_captions
from jvlm.errors import UsageError
from jvlm.text.chunks import json_line
from jvlm.text.normalise import normalise
from jvlm.text.raw import Document, read_documents
from jvlm.trace.search import Trace
from jvlm.trace.types import Evidence

TARGETS = {
    "verbatim_top1": 0.99,
    "paraphrase_top10": 0.90,
    "query_ms_p95": 200,
    "false_verbatim": 0,
    "build_mb_per_s_per_core": 5,
}
KEPT_OUT = 50
SEED = 11
_TOP = 10


@dataclass(frozen=True)
class Plan:
    """How large the benchmark is."""

    text_bytes: int = 150_000_000
    smaller: float = 0.25
    """Share of the documents in the smaller index, whose memory is compared."""
    queries: int = 200
    scenes: int = 2_000


def run(root: Path, say: Callable[[str], None], plan: Plan) -> dict[str, Any]:
    """All figures, for the text of `root`."""
    rng = np.random.default_rng(SEED)
    text, kept_out = _documents(root, plan.text_bytes)
    pairs, paraphrases = caption_pairs(root)
    scenes, reworded = toy_captions(plan.scenes, rng)
    documents = [*text, *pairs, *scenes]
    with tempfile.TemporaryDirectory() as work:
        small = _build(documents[:: round(1 / plan.smaller)], Path(work) / "small")
        say(f"{small['text_bytes'] / 1e6:.0f} MB indexed with {small['peak_mib']:.0f} MiB")
        large = _build(documents, Path(work) / "large")
        say(f"{large['text_bytes'] / 1e6:.0f} MB indexed with {large['peak_mib']:.0f} MiB")
        asked = _Asked(Trace.open(Path(work) / "large"))
        figures = _verbatim(asked, documents, text, kept_out, plan.queries, rng)
        say("sentences asked")
        captions = [*paraphrases["same"], *paraphrases["nearly_same"]]
        figures |= {
            "paraphrase_top10": _found(asked, _some(paraphrases["same"], plan.queries, rng)),
            "paraphrase_top10_nearly_same": _found(asked, _some(captions, plan.queries, rng)),
            "paraphrase_top10_toyworld": _found(asked, _some(reworded, plan.queries, rng)),
            "paraphrases": {kind: len(found) for kind, found in paraphrases.items()},
        }
        long = _long_answers(text, plan.queries // 2, rng)
        figures["query_ms_long_p95"] = _p95([asked(answer)[1] for answer in long])
    processor = large["keyword_seconds"]["processor"]
    return figures | {
        "query_ms_p95": _p95(asked.milliseconds),
        "query_ms_median": statistics.median(asked.milliseconds),
        "queries": len(asked.milliseconds),
        "build_mb_per_s_per_core": large["text_bytes"] / 1e6 / processor,
        "vectors_mb_per_s_per_core": large["text_bytes"] / 1e6 / large["vector_seconds"]["processor"],
        "peak_mib": large["peak_mib"],
        "peak_mib_small": small["peak_mib"],
        "build": {"small": small, "large": large},
        "targets": TARGETS,
    }


class _Asked:
    """Asks an index and keeps the time."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.milliseconds: list[float] = []
        self("温まるまでの一問。")  # what the first question loads is none of the others'
        self.milliseconds.clear()

    def __call__(self, text: str) -> tuple[Evidence, float]:
        begun = time.perf_counter()
        evidence = self.trace.evidence(text)
        self.milliseconds.append(1000 * (time.perf_counter() - begun))
        return evidence, self.milliseconds[-1]


def _documents(root: Path, text_bytes: int) -> tuple[list[Document], list[Document]]:
    """The documents to index, as they are stored, and those kept out."""
    files = sorted((root / "text").glob("*.jsonl.zst"))
    if not files:
        raise UsageError("no text", where=root, fix="put .jsonl.zst files below text/")
    indexed, kept_out, taken = [], [], 0
    for file in files:
        for number, raw in enumerate(read_documents(file, file.name.split(".")[0], [])):
            document = Document(f"{raw.source}:{number}", normalise(raw.text), raw.source, raw.licence, "", number)
            if number % KEPT_OUT == KEPT_OUT - 1:
                kept_out.append(document)
            elif taken < text_bytes:
                indexed.append(document)
                taken += len(document.text.encode())
    return indexed, kept_out


def _build(documents: Sequence[Document], out: Path) -> dict[str, Any]:
    """An index made by a process of its own, whose memory is the build's alone; returns its report."""
    rows = out.with_suffix(".jsonl")
    with open(rows, "wb") as file:
        for document in documents:
            file.write(json_line({name: getattr(document, name) for name in Document.__slots__}))
    command = [sys.executable, "-m", "jvlm.bench.trace_build", str(rows), str(out)]
    done = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE)
    rows.unlink()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _verbatim(
    asked: _Asked,
    documents: Sequence[Document],
    text: Sequence[Document],
    kept_out: Sequence[Document],
    count: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Sentences that stand in the documents once, not at all, or in parts; of the text and of what was kept out."""
    whole = "\0".join(document.text for document in documents)
    candidates = drawn_sentences(text, 5 * count, rng)
    once = list(islice((query for query in candidates if whole.count(query[0]) == 1), count))
    first = 0
    for sentence, identity in once:
        spans = asked(sentence)[0].spans
        first += bool(spans) and spans[0].text == sentence and spans[0].origins[0].id == identity
    foreign = [sentence for sentence, _ in drawn_sentences(kept_out, 20 * count, rng)]
    edited = [altered(sentence, rng) for sentence, _ in drawn_sentences(text, 2 * count, rng)]
    away = [*absent(foreign, documents)[: count // 2], *absent(edited, documents)[: count // 2]]
    false = sum(bool(asked(sentence)[0].spans) for sentence in away)
    parts = [span for sentence in foreign[:count] for span in asked(sentence)[0].spans]
    return {
        "verbatim_top1": first / len(once),
        "once": len(once),
        "false_verbatim": false,
        "absent": len(away),
        "spans_of_others": len(parts),  # of sentences kept out, as they come: parts of them do stand in the text
        "spans_of_others_false": sum(span.text not in whole for span in parts),
    }


def _found(asked: _Asked, queries: Sequence[Query]) -> float:
    """Share whose record is among the first ten passages."""
    right = 0
    for text, identity in queries:
        passages = asked(text)[0].passages[:_TOP]
        right += any(origin.id == identity for passage in passages for origin in passage.origins)
    return right / len(queries)


def _some(queries: Sequence[Query], count: int, rng: np.random.Generator) -> list[Query]:
    return [queries[i] for i in rng.permutation(len(queries))[:count]]


def _long_answers(text: Sequence[Document], count: int, rng: np.random.Generator) -> Iterator[str]:
    """Answers of six sentences from six documents."""
    found = [sentence for sentence, _ in drawn_sentences(text, 6 * count, rng)]
    yield from ("".join(found[i : i + 6]) for i in range(0, len(found), 6))


def _p95(milliseconds: Sequence[float]) -> float:
    return float(np.percentile(milliseconds, 95))
