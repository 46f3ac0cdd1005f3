"""How near a Japanese word and its English partner lie inside a model, over the checkpoints of a pretraining.

After LLM-jp's study of multilinguality: if one representation serves both languages, the hidden states of 犬 and dog
are nearer to each other than those of 犬 and horse. All hidden states of a model point more or less one way, so what
counts is not the cosine of partners but how far it stands above that of words of a category that are no partners.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.eval.charts import as_file, line_chart
from jvlm.eval.curve import scored_checkpoints
from jvlm.eval.statistics import cluster_bootstrap
from jvlm.files import sha256_bytes, write_json, write_text

NAME = "multilinguality"
LAYERS = 4
FIGURES = ("similarity", "margin", "accuracy")


class WordPairs(Config):
    """A list of word pairs: `evals/word_pairs.yaml`."""

    version: str
    """Changes with the words."""
    categories: dict[str, list[tuple[str, str]]] = Field(min_length=1)
    """(Japanese, English) by category."""

    @field_validator("categories")
    @classmethod
    def _partners_are_unique(cls, categories: dict[str, list[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
        for name, pairs in categories.items():
            words = [word for pair in pairs for word in pair]
            if len(pairs) < 2 or len(set(words)) < len(words) or not all(words):
                raise ValueError(f"category {name} needs at least two pairs, each word once")
        return categories


def multilinguality_curve(run: Path, say: Callable[[str], None], pairs: Path | None = None) -> dict[str, Any]:
    """Scores of every checkpoint of a run's pretraining; also in ``run/multilinguality.json`` and, from two points,
    ``multilinguality-margin.svg`` and ``multilinguality-accuracy.svg``. Each checkpoint is scored once.

    Raises DataError when there is no checkpoint that can be read, UsageError for a file that is no list of word pairs.
    """
    words = load_config(WordPairs, pairs or asset("evals", "word_pairs.yaml"))
    key = sha256_bytes(words.model_dump_json().encode())

    def score(folder: Path) -> dict[str, Any]:
        from jvlm.model.directory import load_directory

        loaded = load_directory(folder)
        layers = word_pair_scores(loaded.model, loaded.processor, words)
        best = max(layers, key=lambda layer: layer["margin"]["value"])
        say(f"{folder.name}: margin {best['margin']['value']:.4f} in layer {best['layer']}")
        return {"layers": layers}

    points = scored_checkpoints(run, run / f"{NAME}.jsonl", key, score, say)
    keys = ("step", "tokens_seen", "layers")
    curve = {"version": words.version, "points": [{key: point[key] for key in keys} for point in points]}
    write_json(run / f"{NAME}.json", curve)
    for figure, label in (("margin", "similarity above words that are no partners"), ("accuracy", "partners found")):
        lines: dict[str, list[tuple[float, float]]] = {}
        for point in points:
            for layer in point["layers"]:
                name = f"layer {layer['layer']}" if layer["layer"] else "embeddings"
                lines.setdefault(name, []).append((point["tokens_seen"], layer[figure]["value"]))
        if drawn := line_chart(lines, "tokens seen", label):
            write_text(run / f"{NAME}-{figure}.svg", as_file(drawn, list(lines)))
    return curve


def word_pair_scores(model: Any, processor: Any, words: WordPairs) -> list[dict[str, Any]]:
    """Of a language model, per layer: its number (0 are the embeddings), `pair_figures` of all pairs, and those of each
    of the `categories`."""
    flat = [word for pairs in words.categories.values() for pair in pairs for word in pair]
    scores = []
    for layer, vectors in word_vectors(model, processor, flat).items():
        place, categories = 0, {}
        for name, pairs in words.categories.items():
            own = vectors[place : place + 2 * len(pairs)]
            categories[name] = pair_values(own[0::2], own[1::2])
            place += len(own)
        together = {key: np.concatenate([of[key] for of in categories.values()]) for key in FIGURES}
        by_category = {name: pair_figures(values) for name, values in categories.items()}
        scores.append({"layer": layer} | pair_figures(together) | {"categories": by_category})
    return scores


def word_vectors(model: Any, processor: Any, words: Sequence[str]) -> dict[int, np.ndarray]:
    """By layer ``[words, hidden]``: the mean hidden state over a word's tokens, each word read alone behind ``<s>``."""
    import torch

    from jvlm.model.attention import Documents
    from jvlm.model.packed import Example, pack

    depth = model.config.num_hidden_layers
    layers = sorted({round(depth * i / (LAYERS - 1)) for i in range(LAYERS)})
    rows = [[processor.bos, *ids] for ids in processor.tokenizer.encode_batch(list(words))]
    batch = pack([[Example("", ids, ids, []) for ids in rows]], sum(map(len, rows)), processor.pad)
    with torch.inference_mode():
        states = model.model(
            inputs_embeds=model.get_input_embeddings()(batch.input_ids),
            attention_mask=torch.zeros(1, 1, 1, 1),
            position_ids=batch.position_ids,
            documents=Documents(batch.doc_lens),
            use_cache=False,
            output_hidden_states=True,
        ).hidden_states  # of the embeddings and of every block, the last through the final norm: each [1, T, hidden]
    found = {layer: states[layer][0].float().split(batch.doc_lens) for layer in layers}
    return {layer: torch.stack([word[1:].mean(0) for word in of]).numpy() for layer, of in found.items()}


def pair_values(japanese: np.ndarray, english: np.ndarray) -> dict[str, np.ndarray]:
    """Of each of `n` pairs, both ``[n, hidden]``: the cosine of the partners (`similarity`), how far it is above the
    mean of the two words' cosines to the others of the other language (`margin`), and of the two directions the share
    in which the partner is the nearest (`accuracy`; among several as near, its share)."""
    cosines = _directions(japanese) @ _directions(english).T  # [n, n], partners on the diagonal
    own = np.diag(cosines)
    others = (cosines.sum(0) + cosines.sum(1) - 2 * own) / (2 * (len(own) - 1))
    hits = []
    for table in (cosines, cosines.T):
        nearest = table >= table.max(1, keepdims=True) - 1e-9
        hits.append(np.diag(nearest) / nearest.sum(1))
    return {"similarity": own, "margin": own - others, "accuracy": (hits[0] + hits[1]) / 2}


def pair_figures(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`similarity`, a mean, and `margin` and `accuracy` with their 95 % intervals when pairs are redrawn."""
    figures: dict[str, Any] = {"similarity": float(values["similarity"].mean())}
    for name in ("margin", "accuracy"):
        mean, low, high = cluster_bootstrap(values[name].tolist(), range(len(values[name])))
        figures[name] = {"value": mean, "n": len(values[name]), "interval": [low, high]}
    return figures


def _directions(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
