"""Reasoning: what a model writes between ``<think>`` and ``</think>`` before its answer, told apart piece by piece.

Whether a model reasons is for its chat template to say. Pure; knows nothing of engines, of surfaces or of records:
a record holds the answer as it came, tags and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from minivault.generation import Message
from minivault.models.tool_calls import Said, ToolCallParser, overlap

OPEN, CLOSE = "<think>", "</think>"


class Reasoning(StrEnum):
    """Where a block of reasoning begins."""

    IN_PROMPT = "prompt"
    """The template has opened it: the answer's first words are reasoning."""
    IN_ANSWER = "answer"
    """The model opens it itself, if it reasons at all."""


def reasons(template: str) -> bool:
    """Whether a chat template is that of a model that reasons."""
    return CLOSE in template or OPEN in template


def reasoning_of(rendered: str, messages: Sequence[Message]) -> Reasoning | None:
    """Where the answer to ``rendered`` reasons, if its template :func:`reasons`; ``None``: not any more.

    ``messages``: what was rendered. A tag at the end of the last turn is the caller's word, and opens nothing.
    """
    end = rendered.rstrip()
    said = messages[-1].content.rstrip() if messages else ""
    if end.endswith(CLOSE) and not said.endswith(CLOSE):
        return None
    return Reasoning.IN_PROMPT if end.endswith(OPEN) and not said.endswith(OPEN) else Reasoning.IN_ANSWER


class ReasoningParser:
    """Reads one answer: its reasoning, then its words, and calls if ``inner`` reads any. Made for one answer.

    The same comes out however the answer is cut into pieces, and no part of a tag comes out. White space around the
    block belongs to neither side. Only what stands at the beginning is a block; a later tag is a word.
    """

    def __init__(self, begins: Reasoning, inner: ToolCallParser | None = None) -> None:
        self._inner = inner
        self._mark: str | None = CLOSE if begins is Reasoning.IN_PROMPT else OPEN
        """The tag that is waited for; ``None`` once the answer proper has begun."""
        self._held = ""
        self._begun = False
        """Within the block, or after it: something other than white space was said."""

    def push(self, text: str) -> Said:
        if self._mark is None:
            return self._words(text)
        self._held += text
        if self._mark == OPEN:
            start = self._held.lstrip()
            if not start or (OPEN.startswith(start) and start != OPEN):
                return Said("")
            if not start.startswith(OPEN):
                return self._leave(self._held, trimmed=False)
            self._mark, self._held = CLOSE, start.removeprefix(OPEN)
        thought, found, after = self._held.partition(CLOSE)
        if not found:
            return Said("", (), self._thought())
        thinking = self._trimmed(thought).rstrip()
        return self._leave(after, trimmed=True)._replace(thinking=thinking)

    def finish(self) -> Said:
        if self._mark is None:
            return Said("") if self._inner is None else self._inner.finish()
        held, self._held = self._held, ""
        if self._mark == CLOSE:
            return Said("", (), self._trimmed(held).rstrip())
        begun = self._leave(held, trimmed=False)
        rest = self.finish()
        return Said(begun.text + rest.text, (*begun.calls, *rest.calls))

    def _thought(self) -> str:
        """What is held, without what may be white space at the block's end, or the beginning of its tag."""
        held = self._trimmed(self._held)
        sure = held[: len(held) - overlap(held, CLOSE)].rstrip()
        self._held = held[len(sure) :]
        return sure

    def _trimmed(self, thought: str) -> str:
        if not self._begun:
            thought = thought.lstrip()
            self._begun = bool(thought)
        return thought

    def _leave(self, words: str, *, trimmed: bool) -> Said:
        self._mark, self._held, self._begun = None, "", not trimmed
        return self._words(words)

    def _words(self, text: str) -> Said:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        if not text or self._inner is None:
            return Said(text)
        return self._inner.push(text)


def answer_parser(begins: Reasoning | None, calls: ToolCallParser | None) -> ToolCallParser | None:
    """A parser of one answer; ``None`` where it is words and nothing else."""
    return calls if begins is None else ReasoningParser(begins, calls)
