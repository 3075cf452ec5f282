"""From an answer's tokens to its text, piece by piece: incremental decoding and stop strings.

Pure state over values. Knows nothing of engines, of streams, or of who reads the pieces. The joined text does not
depend on how the tokens were cut into steps: it ends before the first stop string to be completed, and nothing of that
string was released before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from minivault.generation import TokenLogprob


class Decoder(Protocol):
    """Tokens in, text out; a character split over tokens is held until it is whole."""

    def push(self, ids: Sequence[int], /) -> str: ...

    def finish(self) -> str: ...


class Piece(NamedTuple):
    """Text that may be shown, with the tokens whose text is now shown in full."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]


class StopScanner:
    """Finds the first stop string to be completed, and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.met: str | None = None
        """The stop string that was completed."""

    def push(self, text: str) -> tuple[str, bool]:
        """Return the text that is safe to show, and whether a stop string was completed (it is not part of it)."""
        buffer = self._held + text
        end, start = min(
            ((at + len(stop), at) for stop in self._stops if (at := buffer.find(stop)) >= 0), default=(-1, -1)
        )
        if end >= 0:
            self._held = ""
            self.met = buffer[start:end]
            return buffer[:start], True
        keep = max((_overlap(buffer, stop) for stop in self._stops), default=0)
        self._held = buffer[len(buffer) - keep :]
        return buffer[: len(buffer) - keep], False

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of ``stop`` that ends ``text``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class _Pending(NamedTuple):
    token_id: int
    logprob: TokenLogprob | None
    end: int
    """Characters decoded up to and including this token."""


class AnswerText:
    """The text of one answer. ``stopped`` turns true when a stop string was met; later tokens are not taken."""

    def __init__(self, decoder: Decoder, stops: Sequence[str] = (), min_tokens: int = 0) -> None:
        self._decoder = decoder
        self._scanner = StopScanner(stops) if any(stops) else None
        self._min_tokens = min_tokens
        self._pending: deque[_Pending] = deque()
        self._decoded = 0
        self._released = 0
        self.count = 0
        """Tokens taken, those of the stop string included."""
        self.stopped = False

    @property
    def stop_sequence(self) -> str | None:
        """The stop string that was met."""
        return self._scanner.met if self._scanner is not None else None

    def push(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] = ()) -> Piece:
        if self._scanner is None:
            return self._release(self._take(ids, logprobs))
        released = []
        for position, token_id in enumerate(ids):
            text = self._take((token_id,), logprobs[position : position + 1])
            if self.count >= self._min_tokens:
                text, self.stopped = self._scanner.push(text)
            released.append(text)
            if self.stopped:
                break
        return self._release("".join(released))

    def finish(self) -> Piece:
        """The end of the answer: what the decoder and the scanner still hold. Releases every token."""
        text = "" if self.stopped else self._decoder.finish()
        if self._scanner is not None and not self.stopped:
            text, self.stopped = self._scanner.push(text)
            text += self._scanner.finish()
        return self._release(text, everything=True)

    def _take(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> str:
        text = self._decoder.push(ids)
        self.count += len(ids)
        self._decoded += len(text)
        for position, token_id in enumerate(ids):
            logprob = logprobs[position] if position < len(logprobs) else None
            self._pending.append(_Pending(token_id, logprob, self._decoded))
        return text

    def _release(self, text: str, *, everything: bool = False) -> Piece:
        self._released += len(text)
        everything = everything or self.stopped
        done = []
        while self._pending and (everything or self._pending[0].end <= self._released):
            done.append(self._pending.popleft())
        ids = tuple(token.token_id for token in done)
        return Piece(text, ids, tuple(token.logprob for token in done if token.logprob is not None))
