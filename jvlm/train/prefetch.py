"""Batches prepared ahead of the steps that take them, in threads: decoding pictures lets go of the interpreter.

A batch is a pure function of its step, so what is prepared is the same for any number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """``make(start), make(start + 1), …`` up to `stop`, in order, each thread one batch ahead.

    `make` must be safe to call from several threads; what it raises is raised where its batch is taken. Without
    `workers` a batch is made when it is taken. A context manager: leaving it ends the threads.
    """

    def __init__(self, make: Callable[[int], T], start: int, stop: int, workers: int) -> None:
        self._make = make
        self._steps = iter(range(start, stop))
        self._waiting: deque[Future[T]] = deque()
        self._pool = ThreadPoolExecutor(workers, "batches") if workers else None
        for _ in range(workers):
            self._submit()

    def __enter__(self) -> "Prefetch[T]":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._pool is None:
            return self._make(next(self._steps))
        if not self._waiting:
            raise StopIteration
        batch = self._waiting.popleft().result()
        self._submit()
        return batch

    def _submit(self) -> None:
        assert self._pool is not None
        step = next(self._steps, None)
        if step is not None:
            self._waiting.append(self._pool.submit(self._make, step))
