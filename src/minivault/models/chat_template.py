"""Turns a conversation into one prompt, by the template that the checkpoint brings.

Rendering is a function of template, messages and date: no clock is read. Templates that ask for today's date get the
one passed in, else :data:`DEFAULT_DATE`, so that the same request gives the same prompt tomorrow. Knows nothing of
tokens, of engines or of requests.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from jinja2 import TemplateError, TemplateSyntaxError

from minivault.errors import CheckpointCorrupt, InvalidRequest
from minivault.generation import Message
from minivault.models.json_file import read_bounded, read_optional_json_object
from minivault.models.sandbox import BoundedEnvironment, Budget, TooCostly, render_bounded

MAX_SOURCE_BYTES = 256 << 10
DEFAULT_DATE = datetime.date(2024, 7, 26)
"""What templates see as today: the date that Llama 3's own templates fall back to."""

_DATE_FORMAT = re.compile(r"(?:[^%]|%-?[aAbBdmyYjHIMSpuwUW%])*")
_MAX_DATE_FORMAT = 64


class _Raised(TemplateError):
    """The template itself refused the conversation."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A compiled template. Safe to share between threads."""

    source: str
    digest: str
    """``sha256:...`` of the template's text."""
    special_tokens: Mapping[str, str]
    _compiled: Any
    _new_budget: Callable[[], Budget] = Budget

    @classmethod
    def load(cls, folder: Path, special_tokens: Mapping[str, str] | None = None) -> Self | None:
        """The folder's template (``chat_template.jinja``, else in ``tokenizer_config.json``); ``None`` if it has none.

        ``special_tokens``: what the template may use by name, such as ``bos_token``.

        Raises:
            CheckpointCorrupt: too large, or not a sound template.
        """
        source = _find_source(folder)
        return None if source is None else cls.compile(source, special_tokens or {})

    @classmethod
    def compile(cls, source: str, special_tokens: Mapping[str, str], new_budget: Callable[[], Budget] = Budget) -> Self:
        """Compile ``source``; see :meth:`load`."""
        encoded = source.encode("utf-8", "replace")
        if len(encoded) > MAX_SOURCE_BYTES:
            raise CheckpointCorrupt(f"The chat template is larger than {MAX_SOURCE_BYTES} bytes")
        try:
            compiled = BoundedEnvironment().bounded(source)
        except TemplateSyntaxError as error:
            raise CheckpointCorrupt(f"The chat template is not sound Jinja (line {error.lineno})") from None
        except (TemplateError, RecursionError, SyntaxError, ValueError, MemoryError) as error:
            raise CheckpointCorrupt(f"The chat template does not compile ({type(error).__name__})") from None
        digest = "sha256:" + hashlib.sha256(encoded).hexdigest()
        return cls(source, digest, dict(special_tokens), compiled, new_budget)

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, date: datetime.date | None = None
    ) -> str:
        """The prompt for ``messages``, special tokens written out (encode it without adding any).

        Raises:
            InvalidRequest: the template refuses these messages, or rendering them takes too long or too much.
        """
        variables = {
            **self.special_tokens,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
            "raise_exception": _raise_exception,
            "strftime_now": _formatter(date or DEFAULT_DATE),
        }
        try:
            return render_bounded(self._compiled, variables, self._new_budget())
        except _Raised as error:
            raise InvalidRequest(self._refusal(str(error)), param="messages") from None
        except TooCostly as error:
            raise InvalidRequest(f"the model's chat template was stopped: {error}", param="messages") from None
        except Exception as error:  # why so broad: a template can raise whatever the values it handles can
            raise InvalidRequest(
                f"the model's chat template cannot render these messages ({type(error).__name__})", param="messages"
            ) from None

    def _refusal(self, reason: str) -> str:
        """The template's own words only where none of the conversation is in them."""
        said = reason if reason and reason in self.source else "no reason that can be repeated here"
        return f"the model's chat template refuses these messages: {said}"


def _find_source(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return read_bounded(path, MAX_SOURCE_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointCorrupt("chat_template.jinja is not UTF-8") from None
    found = read_optional_json_object(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise CheckpointCorrupt("tokenizer_config.json: chat_template must be a text or a list of named texts")
    return found


def _raise_exception(message: object = "") -> None:
    raise _Raised(str(message))


def _formatter(date: datetime.date) -> Callable[[str], str]:
    midnight = datetime.datetime.combine(date, datetime.time())

    def strftime_now(form: str) -> str:
        if len(form) > _MAX_DATE_FORMAT or not _DATE_FORMAT.fullmatch(form):
            raise TemplateError("a date format that is not supported")
        return midnight.strftime(form)

    return strftime_now
