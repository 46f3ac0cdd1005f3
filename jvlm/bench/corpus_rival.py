"""The same steps by HojiChar and datatrove, to be timed beside `jvlm text build` (`pip install 'jvlm[rivals]'`).

HojiChar's filters clean inside datatrove's pipeline, which decontaminates, signs, finds near duplicates and writes.
Both keep their own defaults, but for the unit: characters instead of words, since datatrove's Japanese word tokenizer
would cost far more. Language is told by HojiChar's rule, not by a network.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import create_hash_func
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer
from hojichar import Compose, document_filters

FILES = 8  # of equal size, so that no process waits for another
RUN = 13


class Characters(WordTokenizer):
    """Every character a word."""

    def word_tokenize(self, text: str) -> list[str]:
        return list(text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(text))]


class Clean(PipelineStep):
    """HojiChar's counterparts of our cleaning steps."""

    name = "HojiChar"
    type = "filter"

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents that are left, cleaned."""
        shared = [
            document_filters.HeaderFooterTagsRemover(),
            document_filters.DiscardBBSComments(),
            document_filters.DiscardAds(),
            document_filters.DiscardAdultContentJa(),
            document_filters.DiscardRareKuten(),
            document_filters.SingleCharacterRepetitionFilter(),
            document_filters.CharRepetitionRatioFilter(),
            document_filters.MaskPersonalInformation(),
            document_filters.DocumentLengthFilter(min_doc_len=20),
        ]
        first = document_filters.DocumentNormalizer()
        japanese = Compose([first, document_filters.AcceptJapanese(), *shared])
        any_language = Compose([first, *shared])
        for document in data:
            document.text = (any_language if document.metadata["any_language"] else japanese)(document.text)
            if document.text:
                yield document


def run(rows: Iterator[dict[str, Any]], questions: Sequence[str], work: Path, workers: int) -> dict[str, Any]:
    """Seconds that the steps take on `rows` (`id`, `text`, `any_language`), and what is left of them."""
    parts = _folder(work, "in")
    with ExitStack() as opened:
        files = [opened.enter_context(open(parts / f"{n}.jsonl", "wb")) for n in range(FILES)]
        for row in rows:
            min(files, key=lambda file: file.tell()).write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    decontaminate = NGramsDecontConfig(n_grams=RUN)
    _index(questions, _folder(work, "index"), decontaminate)
    characters, config = Characters(), MinhashConfig()
    begun = time.perf_counter()
    stages: list[tuple[int, list[PipelineStep]]] = [
        (
            FILES,
            [
                JsonlReader(str(work / "in")),
                Clean(),
                NGramsDecontFilter(str(work / "index"), decontaminate, language=characters),
                JsonlWriter(str(work / "clean"), "${rank}.jsonl", compression=None),
            ],
        ),
        (
            FILES,
            [
                JsonlReader(str(work / "clean")),
                MinhashDedupSignature(str(work / "signatures"), config, language=characters),
            ],
        ),
        (config.num_buckets, [MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)]),
        (1, [MinhashDedupCluster(str(work / "buckets"), str(work / "remove"), config=config)]),
        (
            FILES,
            [
                JsonlReader(str(work / "clean")),
                MinhashDedupFilter(str(work / "remove")),
                JsonlWriter(str(work / "out"), "${rank}.jsonl", compression=None),
            ],
        ),
    ]
    for number, (tasks, steps) in enumerate(stages):
        LocalPipelineExecutor(steps, tasks, workers, str(work / f"log{number}")).run()
    seconds = time.perf_counter() - begun
    left = [len(path.read_text("utf-8").splitlines()) for path in sorted((work / "out").glob("*.jsonl"))]
    return {"rival_seconds": seconds, "rival_documents_kept": sum(left)}


def _index(questions: Sequence[str], folder: Path, config: NGramsDecontConfig) -> None:
    """As `NGramsDecontIndexer` writes it, which wants the package lighteval."""
    hashed = create_hash_func(config.hash_config)
    hashes = {
        hashed(" ".join(gram))
        for question in questions
        for gram in ngrams(list(simplify_text(question, config.norm_config)), config.n_grams)
    }
    np.array(sorted(hashes), dtype=config.hash_config.np_descr).tofile(folder / "questions.index.hashes")


def _folder(work: Path, name: str) -> Path:
    (work / name).mkdir(parents=True)
    return work / name
