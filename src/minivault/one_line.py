"""JSON in which a line ends nowhere: for streams and JSON Lines, whose readers cut lines before they read JSON.

JSON lets U+0085, U+2028 and U+2029 stand in a string as they are, but ``str.splitlines`` ends a line at them, and with
it httpx's ``iter_lines``, which the ``ollama`` package reads by. The others at which it does are below U+0020, and JSON
escapes those by itself. Standard library only; knows nothing of what is written.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring  # the C escaper behind json.dumps
from typing import Any


def quoted(text: str) -> str:
    """``text`` as a JSON string."""
    said = encode_basestring(text)
    return said if said.isascii() else _unbroken(said)


def in_one_line(value: Any) -> str:
    """``value`` as JSON."""
    said = json.dumps(value, ensure_ascii=False)
    return said if said.isascii() else _unbroken(said)


def _unbroken(said: str) -> str:
    """JSON has nothing but white space, ASCII and strings: what is not ASCII stands in a string, and can be escaped."""
    return said.replace("\u0085", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
