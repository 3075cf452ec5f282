"""The arguments of a tool call as the value that their JSON gives, which is what templates write out.

Knows nothing of templates, of tokens or of requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from minivault.errors import InvalidRequest


def value_of(arguments: str) -> Any:
    """The value; a text that is not JSON is given back itself.

    Raises:
        InvalidRequest: nested too deeply to be read. That hangs on the stack as well, so who took it for a text here
            could not rely on the next reader to do the same.
    """
    try:
        return json.loads(arguments or "{}")
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        return arguments


def rewritten(arguments: str, change: Callable[[Any], Any]) -> str:
    """JSON whose value is changed: without the escapes that can hide what a text says.

    Raises:
        InvalidRequest: as :func:`value_of`.
    """
    value = value_of(arguments)
    if value is arguments:
        return str(change(arguments))
    try:
        return json.dumps(change(value), ensure_ascii=False)
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> InvalidRequest:
    return InvalidRequest("messages: the arguments of a tool call are nested too deeply", param="messages")
