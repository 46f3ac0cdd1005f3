"""The generation engine: many requests at once, each as if it were alone.

Requests wait in a queue. When enough rows are free their prompts are read together, those of like length in one pass,
and their images through the tower in one batch; then every running row gets a token at each step. A row whose answer
has ended is given to the next request at once, so no answer waits for a longer one. What all prompts begin with
(instructions, examples) is read once.
"""

import random
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, takewhile

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from jvlm.errors import DataError
from jvlm.images.load import load_image
from jvlm.infer.choosing import Chooser, choose, trie
from jvlm.infer.decoder import Decoder, Start
from jvlm.infer.pieces import Pieces
from jvlm.infer.types import Event, Generation, Request
from jvlm.model.jvlm import JvlmModel
from jvlm.model.processor import Encoded, Processor

READ_TOKENS = 4096
"""Places of prompts, padding included, that are read in one pass at most (a longer prompt is read alone)."""
VIEWS = 32
"""Views that go through the tower at once."""
FULL_ENOUGH = 0.8
"""Prompts are read in one pass when the shortest is at least this share of the longest."""
WORTH_SHARING = 16
"""Tokens that prompts must have in common before they are read for all."""


@dataclass
class _Answer:
    """A request, from its admission to its end."""

    key: Hashable
    prompt: list[int]
    pixels: list[np.ndarray]  # of each image, uint8 [views, 3, S, S]; let go of once they are read
    most: int  # tokens
    chooser: Chooser
    pieces: Pieces | None  # None: its text is only wanted whole
    ids: list[int] = field(default_factory=list)  # written so far


class Engine:
    """At most `rows` answers at once. Not thread-safe: one thread owns it.

    With `pieces`, events come while an answer is being written; without, one when it has ended, which is faster.
    In float32 the tokens of an answer depend on its own request alone.
    """

    def __init__(
        self, model: JvlmModel, processor: Processor, rows: int = 64, *, pieces: bool = True, compile: bool = False
    ) -> None:
        self.model, self.processor, self.rows = model.eval(), processor, rows
        self._gives_pieces = pieces
        self._refill = max(1, rows // 8)  # a pass for one prompt costs nearly as much as for eight
        self._decoder = Decoder(model.language, rows, compile=compile)
        self._waiting: deque[_Answer] = deque()
        self._running: list[_Answer] = []  # in the order of the decoder's rows
        self._start: Start | None = None
        self._marks = {*processor.image_ids.marks}

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self._waiting or self._running)

    @property
    def waiting(self) -> int:
        """Requests whose prompts are not read yet."""
        return len(self._waiting)

    def admit(self, request: Request, key: Hashable) -> None:
        """Put a request at the end of the queue.

        Raises DataError for an image that cannot be read and a prompt that leaves no room for an answer.
        """
        self._waiting.append(self._prepared(request, key))

    def _prepared(self, request: Request, key: Hashable) -> _Answer:
        """Its prompt encoded and its images decoded, in any thread. Raises what `admit` raises."""
        sample, limit = request.sample, self.model.language.config.max_position_embeddings
        prompt, choices = prompt_of(request, self.processor, limit)
        pixels = [
            self.processor.pixels(load_image(sample.images[image]), grid)
            for image, grid in zip(prompt.images, prompt.grids, strict=True)
        ]
        written = min(request.max_new_tokens, limit - len(prompt.ids))
        most = max(map(len, choices)) if choices else written
        chooser = Chooser(request.temperature, request.top_p, random.Random(request.seed))
        if choices:
            chooser.allowed = trie(choices)
        pieces = Pieces(self.processor.tokenizer, request.stop) if self._gives_pieces or request.stop else None
        return _Answer(key, prompt.ids, pixels, most, chooser, pieces)

    @torch.inference_mode()
    def cancel(self, key: Hashable) -> None:
        """Forget a request; its row is free at the next step. Unknown keys are ignored."""
        self._waiting = deque(answer for answer in self._waiting if answer.key != key)
        self._keep([answer.key != key for answer in self._running])

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Read the prompts for which there is room, then write one token of every running answer."""
        events: list[Event] = []
        free = self.rows - len(self._running)
        if self._waiting and (free >= self._refill or len(self._waiting) <= free):
            for group in _groups([self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]):
                logits = self._read(group)
                self._running += group
                events += self._take(group, logits)
        if self._running:
            logits = self._decoder.write(self._embedded([answer.ids[-1] for answer in self._running]))
            events += self._take(self._running, logits)
        return events

    def answers(self, requests: Iterable[Request]) -> Iterator[tuple[int, Generation]]:
        """The number and the answer of every request, as they end; requests are taken as there is room for them.

        Those that come next are prepared beside the model, by a thread of their own. Raises what `admit` raises. For an
        engine that has nothing else to do.
        """
        todo, ahead, beside = enumerate(requests), deque[Future[_Answer]](), ThreadPoolExecutor(1)
        most = self.rows + 2 * self._refill  # as many as may be needed at once, and what is prepared meanwhile
        try:
            while True:
                for number, request in islice(todo, most - self.waiting - len(ahead)):
                    ahead.append(beside.submit(self._prepared, request, number))
                while ahead and self.waiting < self.rows:
                    self._waiting.append(ahead.popleft().result())
                if not self.busy:
                    return
                for event in self.step():
                    if event.generation:
                        assert isinstance(event.key, int)
                        yield event.key, event.generation
        finally:
            beside.shutdown(cancel_futures=True)

    def _read(self, group: list[_Answer]) -> Tensor:
        """Logits ``[group, vocabulary]`` of what follows their prompts."""
        device = self.model.language.device
        start = self._shared_start([answer.prompt for answer in group])
        rests = [torch.tensor(answer.prompt[len(start.ids) if start else 0 :]) for answer in group]
        ids = pad_sequence(rests, batch_first=True, padding_value=self.processor.pad).to(device)
        features = None
        if pixels := [image for answer in group for image in answer.pixels]:
            views = torch.from_numpy(np.concatenate(pixels)).to(device).split(VIEWS)
            features = torch.cat([self.model.image_features(part) for part in views])
        for answer in group:
            answer.pixels = []
        return self._decoder.read(self.model.embed(ids, features), [len(rest) for rest in rests], start)

    def _shared_start(self, prompts: list[list[int]]) -> Start | None:
        """What all these prompts begin with before the first image, read now or for earlier ones."""
        known = self._start
        if known and any(prompt[: len(known.ids)] != known.ids or len(prompt) == len(known.ids) for prompt in prompts):
            known = None
        shortest = min(map(len, prompts))
        columns = zip(*prompts, strict=False)
        alike = takewhile(lambda column: column[0] != self.processor.image_token and len({*column}) == 1, columns)
        ids = [column[0] for column in alike][: shortest - 1]
        if len(prompts) > 1 and len(ids) - (len(known.ids) if known else 0) >= WORTH_SHARING:
            known = self._start = self._decoder.start(ids, self._embedded(ids).transpose(0, 1))
        return known

    def _embedded(self, tokens: list[int]) -> Tensor:
        """``[len(tokens), 1, hidden]``."""
        ids = torch.tensor(tokens, device=self.model.language.device)[:, None]
        if self._marks.isdisjoint(tokens):
            embeddings: Tensor = self.model.language.get_input_embeddings()(ids)
            return embeddings
        return self.model.embed_tokens(ids)

    def _take(self, answers: list[_Answer], logits: Tensor) -> list[Event]:
        """Add the next token of each; those that end leave their rows."""
        events: list[Event] = []
        ended: set[int] = set()
        for answer, token in zip(answers, choose(logits, [answer.chooser for answer in answers]), strict=True):
            event = self._add(answer, token)
            if event is None:
                continue
            events.append(event)
            if event.generation:
                ended.add(id(answer))
        if ended:
            self._keep([id(answer) not in ended for answer in self._running])
        return events

    def _add(self, answer: _Answer, token: int) -> Event | None:
        """What there is to tell once `answer` goes on with `token`."""
        answer.ids.append(token)
        is_end, pieces = token == self.processor.end, answer.pieces
        new = pieces.add(token) if pieces and not is_end else ""
        stopped = is_end or (pieces is not None and pieces.stopped)
        if not stopped and len(answer.ids) < answer.most:
            answer.chooser.took(token)
            return Event(answer.key, new) if new and self._gives_pieces else None
        new += pieces.end() if pieces else ""
        text = pieces.text if pieces else self.processor.tokenizer.decode(answer.ids)
        generation = Generation(text, "stop" if stopped else "length", len(answer.ids))
        return Event(answer.key, new if self._gives_pieces else text, generation)

    def _keep(self, kept: list[bool]) -> None:
        """Only these answers go on. The last ones take the places of those that are over."""
        count = sum(kept)
        movers = [row for row in range(count, len(kept)) if kept[row]]
        rows = [row if kept[row] else movers.pop() for row in range(count)]
        self._decoder.keep(rows)
        self._running = [self._running[row] for row in rows]


def prompt_of(request: Request, processor: Processor, limit: int) -> tuple[Encoded, list[list[int]]]:
    """The prompt of a request for a window of `limit` tokens, and the ids of its choices. No picture is decoded.

    Raises DataError for a prompt that leaves no room for an answer.
    """
    choices = [[*processor.tokenizer.encode(text), processor.end] for text in request.choices]
    needed = max(map(len, choices), default=1)
    # tiles give way to a chosen answer, and to a written one of up to half the window
    room = limit - (needed if choices else min(request.max_new_tokens, limit // 2))
    prompt = processor.encode_sample(request.sample, room, generation_prompt=True)
    if len(prompt.ids) + needed > limit:
        answer = f" and the longest choice {needed}" if choices else ""
        raise DataError(f"the prompt takes {len(prompt.ids)}{answer} of {limit} tokens", where=request.sample.id)
    return prompt, choices


def _groups(answers: list[_Answer]) -> Iterator[list[_Answer]]:
    """Those to be read in one pass: of like length, so that little is padding; the longest first."""
    group: list[_Answer] = []
    for answer in sorted(answers, key=lambda answer: -len(answer.prompt)):
        longest = len(group[0].prompt) if group else 0
        if group and (len(answer.prompt) < FULL_ENOUGH * longest or (len(group) + 1) * longest > READ_TOKENS):
            yield group
            group = []
        group.append(answer)
    if group:
        yield group
