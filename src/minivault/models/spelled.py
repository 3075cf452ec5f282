"""Special tokens that somebody spells out in what they say: kept apart from those that the model's template writes.

A conversation is rendered with a mark inside each special token that its words spell, so that afterwards only the
template's own are special; the marks are taken out again, and the words stay as they were said. Knows nothing of
requests, and of tokens only their text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from minivault.generation import JsonObject, Message, ToolCall
from minivault.models.arguments import rewritten, value_of


@runtime_checkable
class KnowsSpecials(Protocol):
    """A tokenizer that can tell special tokens from words that look like them."""

    @property
    def specials(self) -> re.Pattern[str] | None:
        """What every special token looks like, the longest first; ``None``: there are none."""

    def encode_parts(self, parts: Sequence[tuple[str, bool]], add_special_tokens: bool) -> list[int]:
        """The tokens of texts in a row; of each, whether it is a special token or words that are never one."""


@dataclass(frozen=True, slots=True)
class Marking:
    """Marks for one prompt. ``mark`` has digits alone, which no template's filters change, and cannot be guessed."""

    specials: re.Pattern[str]
    mark: str

    @classmethod
    def of(cls, tokenizer: object, messages: Sequence[Message], tools: Sequence[JsonObject]) -> Marking | None:
        """``None`` where no special token is spelled out, which is nearly always."""
        specials = tokenizer.specials if isinstance(tokenizer, KnowsSpecials) else None
        if specials is None or not any(specials.search(text) for text in _texts([*map(_said, messages), *tools])):
            return None
        return cls(specials, "".join(secrets.choice("0123456789") for _ in range(24)))

    def text(self, text: str) -> str:
        return self.specials.sub(lambda found: found[0][0] + self.mark + found[0][1:], text)

    def message(self, message: Message) -> Message:
        return replace(
            message,
            content=self.text(message.content),
            name=None if message.name is None else self.text(message.name),
            thinking=self.text(message.thinking),
            tool_call_id=None if message.tool_call_id is None else self.text(message.tool_call_id),
            tool_calls=tuple(
                ToolCall(self.text(call.id), self.text(call.name), rewritten(call.arguments, self.value))
                for call in message.tool_calls
            ),
        )

    def value(self, value: Any) -> Any:
        """A JSON value with all of its texts marked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list | tuple) else value

    def unmarked(self, rendered: str) -> str:
        return rendered.replace(self.mark, "")

    def parts(self, rendered: str) -> list[tuple[str, bool]]:
        """What was rendered, cut at the template's own special tokens."""
        found: list[tuple[str, bool]] = []
        end = 0
        for special in self.specials.finditer(rendered):
            found += [(self.unmarked(rendered[end : special.start()]), False), (special[0], True)]
            end = special.end()
        return [(text, special) for text, special in [*found, (self.unmarked(rendered[end:]), False)] if text]


def _said(message: Message) -> list[Any]:
    calls = [[call.id, call.name, call.arguments, _unescaped(call.arguments)] for call in message.tool_calls]
    return [message.content, message.name, message.thinking, message.tool_call_id, calls]


def _unescaped(arguments: str) -> Any:
    """What escapes can hide, as templates see it."""
    return value_of(arguments) if "\\" in arguments else None


def _texts(value: Any) -> Iterator[str]:
    """All of them, however deeply they lie."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, Mapping):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple):
            waiting += found
