"""The memory that building an index takes does not depend on how much is indexed: a process's peak, at two sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CEILING_MIB = 230  # libraries 66, keyword index 100 (a heap of 64 and what is written of it), vectors 32
_VECTORS = """
import sys
from pathlib import Path
import numpy as np
from jvlm.bench.contestant import peak_kib
from jvlm.trace import vectors

def made(numbers):
    return np.random.default_rng(int(numbers[0])).standard_normal((len(numbers), 256), np.float32)

vectors.BLOCK, vectors.MOST_LISTS = 2**12, 32
vectors.write_vectors(Path(sys.argv[2]), int(sys.argv[1]), made)
print(peak_kib() / 1024)
"""


def _run(*command: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, command)], env=environment, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def test_vectors_of_a_larger_set_take_no_more_memory(tmp_path: Path) -> None:
    small, large = (float(_run("-c", _VECTORS, count, tmp_path / str(count))) for count in (2**13, 2**16))
    assert len(list((tmp_path / str(2**16)).iterdir())) == 16
    assert large - small < 4, f"{small:.0f} MiB for 8,192 vectors, {large:.0f} for 65,536"  # their codes are 16 MiB


def _write_documents(file: Path, megabytes: int) -> None:
    """Made text: words in order of their rarity, as in real text, drawn anew for each document."""
    rng = np.random.default_rng(5)
    words = ["".join(map(chr, rng.integers(0x4E00, 0x9F00, 2))) + "のはをがに"[n % 5] for n in range(60_000)]
    with open(file, "w", encoding="utf-8") as rows:
        number = 0
        while rows.tell() < megabytes * 1_000_000:
            ranks = (60_000 ** rng.random(1_500)).astype(int) - 1
            parts = [words[rank] + ("。" if at % 12 == 11 else "") for at, rank in enumerate(ranks)]
            row = {"id": f"d{number}", "text": "".join(parts), "source": "made"}
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            number += 1


@pytest.mark.long
def test_an_index_of_a_larger_text_stays_under_the_same_ceiling(tmp_path: Path) -> None:
    """The peak grows until the keyword index's heap has been full once, and no more."""
    peaks = []
    for megabytes in (40, 120, 240):
        rows = tmp_path / f"{megabytes}.jsonl"
        _write_documents(rows, megabytes)
        report = json.loads(_run("-m", "jvlm.bench.trace_build", rows, tmp_path / f"index-{megabytes}"))
        peaks.append(report["peak_mib"])
    print("\n40, 120 and 240 MB indexed with {:.0f}, {:.0f} and {:.0f} MiB".format(*peaks))
    assert max(peaks) < CEILING_MIB
    assert peaks[2] - peaks[1] < 12
