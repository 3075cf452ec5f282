"""The text of a call of a tool: where it ends, and whether what it holds can be sent on.

Pure; knows nothing of tools, of dialects or of surfaces.
"""

from __future__ import annotations

import json
import re
from typing import Any

CLOSE = "</tool_call>"
MAX_DEPTH = 128
"""Lists and objects inside one another in a call's arguments."""

_GAP = re.compile(r"[ \t\r\n;]*")
_NEXT = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_MARKS = re.compile(r'\\.?|["\x00-\x1f]', re.DOTALL)


def values_of(text: str) -> list[Any]:
    """The JSON values of ``text``, divided by white space or semicolons; none if anything else is in it."""
    decoder = json.JSONDecoder(parse_constant=_refused)
    values: list[Any] = []
    text, at = text.strip(), 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        values.append(value)
        gap = _GAP.match(text, at)
        at = at if gap is None else gap.end()
    return values


def values_begun(text: str) -> list[Any]:
    """The values that are whole at the beginning of a list that was cut; none of what is no list."""
    if not text.startswith("["):
        return []
    decoder = json.JSONDecoder(parse_constant=_refused)
    values: list[Any] = []
    at = 1
    while (gap := _NEXT.match(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, gap.end())
        except (ValueError, RecursionError):
            break
        values.append(value)
    return values


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def sound_arguments(arguments: Any) -> str | None:
    """Arguments as JSON that every surface can send on; ``None`` where there is none.

    A text is taken as it is: JSON already, or words.
    """
    told = arguments
    if isinstance(arguments, str):
        try:
            told = json.loads(arguments)
        except ValueError:
            told = arguments
        except RecursionError:
            return None
    if _depth(told) > MAX_DEPTH:
        return None
    try:
        written = json.dumps(told, ensure_ascii=False, allow_nan=False)
        written.encode()
    except ValueError:  # NaN, an infinity, or half a surrogate pair
        return None
    return arguments if isinstance(arguments, str) else written


def _depth(value: Any) -> int:
    """How many lists and objects are inside one another, counted no further than just past :data:`MAX_DEPTH`."""
    level, depth = [value], 0
    while depth <= MAX_DEPTH:
        nested = [one for one in level if isinstance(one, list | dict)]
        if not nested:
            break
        level = [item for one in nested for item in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


class OpenCall:
    """What came after an opening tag, until the closing tag that ends it: the first that is in no string of the JSON.

    Text that cannot be JSON ends at its first closing tag, and so does any where ``at_first`` is said.
    """

    def __init__(self, *, at_first: bool = False) -> None:
        self.text = ""
        self.first: int | None = None
        """The first closing tag, where that is in a string."""
        self._inside = False
        self._escapes = False
        self._broken = at_first
        self._begun = at_first
        self._read = 0
        self._sought = 0

    def push(self, text: str) -> int | None:
        """Where the closing tag is; ``None``: not here yet."""
        self.text += text
        if not self._begun:
            begun = self.text.lstrip()
            self._begun, self._broken = bool(begun), not begun.startswith("{") and bool(begun)
        while not (self._broken and self.first is not None):
            found = self.text.find(CLOSE, self._sought)
            self._read_to(len(self.text) if found < 0 else found)
            if found < 0:
                self._sought = max(self._sought, len(self.text) - len(CLOSE) + 1)
                break
            if self._broken or not self._inside:
                return found if self.first is None or not self._broken else self.first
            self.first = found if self.first is None else self.first
            self._sought = found + len(CLOSE)
        return self.first if self._broken else None

    def _read_to(self, end: int) -> None:
        """Follow the quotes. A tag has none, so it does no harm to have read a part of one."""
        start = self._read
        if start >= end:
            return
        if self._escapes:
            start, self._escapes = start + 1, False
        for found in _MARKS.finditer(self.text, start, end):
            mark = found[0]
            if mark == '"':
                self._inside = not self._inside
            elif mark[0] == "\\":
                self._broken = self._broken or not self._inside
                self._escapes = len(mark) == 1
            else:
                self._broken = self._broken or self._inside
        self._read = end
