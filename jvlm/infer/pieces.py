"""The text of an answer while its tokens come: only what no later token can change is given out."""

from collections.abc import Sequence

from jvlm.text.tokenizer import Tokenizer

BROKEN = "\ufffd"
"""Stands for bytes that are no character, or not yet one."""


class Pieces:
    """Tokens in, text out. `text` is what has been given out, and the whole answer once it has ended.

    Text is held back while it ends in half a character, and while it may be the beginning of a text of `stop`.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.text, self.stopped = "", False
        self._tokenizer, self._stop = tokenizer, stop
        self._ids: list[int] = []
        self._known, self._read = 0, 0  # tokens up to here are context, up to there they have been turned into text
        self._held = ""  # text that may be the beginning of a stop text

    def add(self, token: int) -> str:
        """The text that became final with this token. `stopped` says whether a text of `stop` was reached."""
        self._ids.append(token)
        if token in self._tokenizer.byte_ids:  # one bad byte more, and the good ones before it read otherwise
            return ""
        # in context, as some tokenizers drop a space at the beginning of what they decode
        before = self._tokenizer.decode(self._ids[self._known : self._read])
        both = self._tokenizer.decode(self._ids[self._known :])
        if both.endswith(BROKEN):
            return ""
        self._known, self._read = self._read, len(self._ids)
        return self._give(both[len(before) :], is_last=False)

    def end(self) -> str:
        """What is left to give out when no token comes any more."""
        if self.stopped:
            return ""
        whole = self._tokenizer.decode(self._ids)
        return self._give(whole[len(self.text) + len(self._held) :], is_last=True)

    def _give(self, new: str, is_last: bool) -> str:
        text, self._held = self._held + new, ""
        cuts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if cuts:
            self.stopped, text = True, text[: min(cuts)]
        elif not is_last:
            final = len(text) - max((_overlap(text, stop) for stop in self._stop), default=0)
            text, self._held = text[:final], text[final:]
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
