"""One build of a trace index in a process of its own: ``python -m jvlm.bench.trace_build ROWS OUT``, a line of JSON."""

import json
import sys
from pathlib import Path

from jvlm.bench.contestant import peak_kib
from jvlm.text.corpus import read_corpus
from jvlm.trace.build import build_index
from jvlm.trace.sources import document_records, never


def main(rows: Path, out: Path) -> None:
    report = build_index(document_records(read_corpus(rows), never), out)
    report["peak_mib"] = peak_kib() / 1024
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
