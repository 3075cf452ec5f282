"""Answers whose beginning the caller wrote: the prompt ends within its last turn, and the model goes on from there.

Pure; knows nothing of templates' languages or of tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import Message

_DIGITS = 24


def is_begun(messages: Sequence[Message]) -> bool:
    """Whether the last turn is the beginning of the answer.

    Raises:
        UnsupportedFeature: it is one that nothing can go on from.
    """
    last = messages[-1]
    if last.role != "assistant":
        return False
    if last.tool_calls or last.thinking:
        raise UnsupportedFeature(
            "messages: where the last is the assistant's, it may have words alone, no calls and no reasoning",
            param="messages",
        )
    if len(messages) == 1:
        raise UnsupportedFeature("messages: the only one must not be the assistant's", param="messages")
    return True


class Begun:
    """Finds the end of the last turn's words in what a template makes of them."""

    def __init__(self) -> None:
        # Digits alone, which no template's filters change; at the end, so that none takes white space away there.
        self._mark = "".join(secrets.choice("0123456789") for _ in range(_DIGITS))

    def marked(self, messages: Sequence[Message]) -> list[Message]:
        """``messages``, to be rendered."""
        return [*messages[:-1], replace(messages[-1], content=messages[-1].content + self._mark)]

    def cut(self, rendered: str) -> str:
        """What was rendered, up to where the model goes on.

        Raises:
            InvalidRequest: the template leaves those words out.
        """
        text, mark, _ = rendered.rpartition(self._mark)
        if not mark:
            raise InvalidRequest(
                "messages: this model's chat template lets no answer be begun; end with a turn of the user",
                param="messages",
            )
        return text
