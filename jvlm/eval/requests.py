"""The two kinds of request an evaluation makes, sent in batches of bounded size and fixed order."""

from collections.abc import Iterator, Sequence

from jvlm.errors import JvlmError
from jvlm.infer.types import Generation, Model
from jvlm.sample import Sample

__all__ = ["Generation", "Model", "choice_log_likelihoods", "generate", "question", "without_images"]

BATCH_SIZE = 64


def generate(model: Model, samples: Sequence[Sample], max_new_tokens: int) -> Iterator[list[Generation]]:
    """Greedy generations, one list per batch of at most 64 samples.

    Raises JvlmError when the model answers another number of samples than it was asked.
    """
    for batch in _batches(samples):
        generations = model.generate([question(sample) for sample in batch], max_new_tokens=max_new_tokens)
        _check_count(len(generations), len(batch), batch[0].id)
        yield generations


def choice_log_likelihoods(
    model: Model, samples: Sequence[Sample], choices: Sequence[Sequence[str]]
) -> Iterator[list[list[float]]]:
    """Log-likelihoods [samples][choices], one list per batch of at most 64 samples."""
    start = 0
    for batch in _batches(samples):
        asked = choices[start : start + len(batch)]
        scores = model.choice_log_likelihoods([question(sample) for sample in batch], asked)
        _check_count(len(scores), len(batch), batch[0].id)
        start += len(batch)
        yield scores


def question(sample: Sample) -> Sample:
    """The sample up to its last user turn, so that no gold answer can reach the model.

    Raises JvlmError when it has no user turn.
    """
    users = [i for i, message in enumerate(sample.messages) if message.role == "user"]
    if not users:
        raise JvlmError("a sample without a user turn asks nothing", where=sample.id)
    return Sample(sample.id, sample.messages[: users[-1] + 1], sample.images, None, sample.meta)


def without_images(sample: Sample) -> Sample:
    """The same sample with no image and no place for one: no image tokens at all."""
    messages = [
        type(message)(message.role, [part for part in message.content if isinstance(part, str)])
        for message in sample.messages
    ]
    return Sample(sample.id, messages, [], None, sample.meta)


def _batches(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), BATCH_SIZE):
        yield samples[start : start + BATCH_SIZE]


def _check_count(answered: int, asked: int, first_id: str) -> None:
    if answered != asked:
        raise JvlmError(f"the model answered {answered} of {asked} samples", where=f"batch from {first_id}")
