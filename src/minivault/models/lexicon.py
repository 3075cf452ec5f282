"""The tokens of one answer of a server that tells their text and not their ids: numbered as they come.

Stands where a tokenizer stands elsewhere. The numbers mean nothing beyond one answer, so they are never recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minivault.errors import UnsupportedFeature


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str
    """What it adds to the answer."""
    token: str
    data: bytes


class Lexicon:
    """Implements :class:`minivault.models.prompt.PromptTokenizer` as far as that can be, and ``TokenWords``."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._ids: dict[_Entry, int] = {}

    def id_of(self, text: str, token: str, data: bytes) -> int:
        """The number of a token; the same for the same token."""
        entry = _Entry(text, token, data)
        number = self._ids.setdefault(entry, len(self._entries))
        if number == len(self._entries):
            self._entries.append(entry)
        return number

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """
        Raises:
            UnsupportedFeature: always: how a prompt becomes tokens is the server's affair.
        """
        raise UnsupportedFeature("a model on another server does not count or take tokens here", param="model")

    def decoder(self) -> _Joined:
        return _Joined(self._entries)

    def token_bytes(self, token_id: int, /) -> bytes:
        return self._entries[token_id].data

    def token_text(self, token_id: int, /) -> str:
        return self._entries[token_id].token

    def is_special(self, token_id: int, /) -> bool:
        """Never: what a server tells of is part of the answer."""
        return False


class _Joined:
    """Implements :class:`minivault.models.answer_text.Decoder`."""

    def __init__(self, entries: Sequence[_Entry]) -> None:
        self._entries = entries

    def push(self, ids: Sequence[int], /) -> str:
        return "".join(self._entries[token_id].text for token_id in ids)

    def finish(self) -> str:
        return ""
