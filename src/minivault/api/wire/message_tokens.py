"""Which tokens of an answer its message came from: those of its reasoning and of its calls are told apart.

Knows nothing of engines or of routes. What comes out does not depend on how the answer is cut into pieces.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from minivault.api.wire.openai_answers import TokenLengths, TokenWords
from minivault.generation import TokenLogprob
from minivault.models.tool_calls import Said, ToolCallParser

_PIECES = re.compile("[<>]|[^<>]+")
"""What a parser is given at a time: no tag begins or ends within one, so nothing said is from both sides of a tag."""


class _Span(NamedTuple):
    start: int
    end: int
    tokens: tuple[TokenLogprob, ...]
    """More than one where a character is split over them, or some stand for no text."""


class MessageTokens:
    """Reads one answer beside whoever shows it. ``parser`` is its own: one that nobody else pushes to."""

    def __init__(self, words: TokenWords, parser: ToolCallParser | None) -> None:
        self._parser = parser
        self._lengths = TokenLengths(words)
        self._text = ""
        """The answer from ``_base`` on, in characters."""
        self._base = 0
        self._fed = 0
        """Characters that the parser was given."""
        self._decided = 0
        """Before this place it is known what is the message's."""
        self._said: deque[tuple[int, int]] = deque()
        """Where the message's words stand in the answer, in order."""
        self._in_words = False
        """The last that was said were words of the message."""
        self._taken = 0
        self._untold: list[TokenLogprob] = []
        """Tokens of a character that is not whole yet."""
        self._spans: deque[_Span] = deque()

    def push(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[TokenLogprob]:
        """The next of the answer; tokens come with or after their text. Returns what is now known to be the
        message's, in order."""
        if self._parser is None:
            return list(logprobs)
        self._take(logprobs)
        self._text += text
        for piece in _PIECES.findall(text):
            self._fed += len(piece)
            self._note(self._parser.push(piece))
        self._text = self._text[self._decided - self._base :]
        self._base = self._decided
        return self._told()

    def finish(self) -> list[TokenLogprob]:
        """The end of the answer. What follows the message's words there, as the end's own token, is the message's."""
        if self._parser is None:
            return []
        self._note(self._parser.finish())
        self._spans.append(_Span(self._taken, self._taken, tuple(self._untold)))
        told = self._told()
        rest = [span for span in self._spans if self._in_words and span.start >= self._fed]
        return told + [token for span in rest for token in span.tokens]

    def _take(self, logprobs: Sequence[TokenLogprob]) -> None:
        for one in logprobs:
            self._untold.append(one)
            length = self._lengths.of(one.token_id)
            if length:
                self._spans.append(_Span(self._taken, self._taken + length, tuple(self._untold)))
                self._taken += length
                self._untold.clear()

    def _note(self, said: Said) -> None:
        """Find in the answer what was said, which ends where the parser's own holding back begins."""
        if said.thinking:
            self._found(said.thinking)
            self._in_words = False
        if said.text and (place := self._found(said.text)) is not None:
            self._said.append((place, self._decided))
            self._in_words = True
        if said.calls:
            self._decided, self._in_words = self._fed, False

    def _found(self, words: str) -> int | None:
        place = self._decided
        if not self._text.startswith(words, place - self._base):
            within = self._text.rfind(words, place - self._base, self._fed - self._base)
            if within < 0:
                return None  # words from both sides of a call, at the end of an answer that was cut
            place = within + self._base
            while place > self._decided and self._text.startswith(words, place - 1 - self._base):
                place -= 1  # "<<": the second is held back, for a tag may begin with it
        self._decided = place + len(words)
        return place

    def _told(self) -> list[TokenLogprob]:
        told: list[TokenLogprob] = []
        while self._spans:
            span = self._spans[0]
            while self._said and self._said[0][1] <= span.start:
                self._said.popleft()
            if self._said and self._said[0][0] < span.end:
                told += span.tokens
            elif span.end > self._decided or span.start == span.end:
                break
            self._spans.popleft()
        return told
