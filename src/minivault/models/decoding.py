"""From token ids back to text: what bytes a token stands for, and decoders that take tokens as they come.

The text of an answer is the UTF-8 decoding of its tokens' bytes, joined; bytes that are not UTF-8 become U+FFFD. So it
depends on the answer's tokens alone: not on how they were cut into pieces, and not on the prompt. Knows nothing of
files, of models or of who reads the text.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

TokenBytes = Callable[[str], bytes]
"""From a token as the vocabulary spells it to the bytes that it adds to a text."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "▁"


class IncrementalDecoder(Protocol):
    """Tokens in, text out. The joined pieces equal the decoding of all tokens at once, however they are cut."""

    def push(self, ids: Sequence[int], /) -> str:
        """The text that these tokens complete; a character that is not whole yet is kept for later."""

    def finish(self) -> str:
        """What is left: U+FFFD if the tokens ended inside a character, else nothing."""


class BytesDecoder:
    """For vocabularies whose tokens each stand for fixed bytes."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Sequence[int], /) -> str:
        return self._utf8.decode(b"".join(map(self._token_bytes, ids)))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class PairwiseDecoder:
    """For all others: a token's text is what it adds to the decoding of the token before it.

    Such vocabularies (word pieces, for one) are of characters, so that no token can end inside one.
    """

    def __init__(self, decode: Callable[[list[int]], str], skipped: Callable[[int], bool]) -> None:
        self._decode = decode
        self._skipped = skipped
        self._previous: int | None = None

    def push(self, ids: Sequence[int], /) -> str:
        return "".join(self._text(token_id) for token_id in ids if not self._skipped(token_id))

    def finish(self) -> str:
        return ""

    def _text(self, token_id: int) -> str:
        before = [] if self._previous is None else [self._previous]
        self._previous = token_id
        context = self._decode(before) if before else ""
        return self._decode([*before, token_id])[len(context) :]


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's letters for the 256 bytes: printable Latin-1 stands for itself, the rest for U+0100 and on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_ALPHABET = byte_level_alphabet()


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_ALPHABET[letter] for letter in token])
    except KeyError:  # an added token, spelled as it reads
        return token.encode("utf-8", "replace")


def token_bytes_rule(decoder_state: bytes | None) -> TokenBytes | None:
    """How tokens map to bytes, from the ``decoder`` part of a tokenizer; ``None`` if not each token for itself.

    ``decoder_state`` is that part as JSON. Stripping the leading space of a whole text is left out on purpose: an
    answer follows a prompt, so its first space is its own.
    """
    if decoder_state is None:
        return None
    steps = _steps(json.loads(decoder_state))
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level
    if kinds == ["Metaspace"]:
        mark = steps[0].get("replacement", _SPACE_MARK)
        return lambda token: token.replace(mark, " ").encode("utf-8", "replace")
    if not set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"} or not all(map(_is_tokenwise, steps)):
        return None
    replacements = [(step["pattern"]["String"], step["content"]) for step in steps if step["type"] == "Replace"]
    return _sentencepiece(replacements, "ByteFallback" in kinds)


def _steps(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if state.get("type") != "Sequence":
        return [state]
    return [step for part in state["decoders"] for step in _steps(part)]


def _is_tokenwise(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Replace":
        return set(step["pattern"]) == {"String"}
    return step["type"] != "Strip" or not step["stop"]


def _sentencepiece(replacements: list[tuple[str, str]], byte_fallback: bool) -> TokenBytes:
    def token_bytes(token: str) -> bytes:
        for old, new in replacements:
            token = token.replace(old, new)
        byte = _BYTE_TOKEN.fullmatch(token) if byte_fallback else None
        return bytes([int(byte[1], 16)]) if byte else token.encode("utf-8", "replace")

    return token_bytes
