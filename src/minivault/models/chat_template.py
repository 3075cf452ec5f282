"""Turns a conversation into one prompt, by the template that the checkpoint brings.

Rendering is a function of template, messages and date: no clock is read. Templates that ask for today's date get the
one passed in, else :data:`DEFAULT_DATE`, so that the same request gives the same prompt tomorrow. Knows nothing of
tokens, of engines or of requests.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from jinja2 import TemplateError, TemplateSyntaxError

from minivault.errors import CheckpointCorrupt, InvalidRequest
from minivault.generation import JsonObject, Message
from minivault.models import reasoning
from minivault.models.arguments import value_of
from minivault.models.json_file import read_bounded, read_optional_json_object
from minivault.models.sandbox import BoundedEnvironment, Budget, TooCostly, render_bounded
from minivault.models.tool_calls import Dialect, dialect_of

MAX_SOURCE_BYTES = 256 << 10
DEFAULT_DATE = datetime.date(2024, 7, 26)
"""What templates see as today: the date that Llama 3's own templates fall back to."""

DEFAULT_SOURCE = """\
{%- for message in messages %}
    {%- if message.role in ('system', 'developer') %}
        {{- message.content + '\\n\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- 'Assistant: ' + message.content + '\\n' }}
    {%- else %}
        {{- message.role | capitalize + ': ' + message.content + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
"""For conversations with models that bring no template: ``User: ...`` and ``Assistant: ...``, a line a turn."""
DEFAULT_STOPS = ("\nUser:",)
"""Such a model goes on with the user's next turn, which is the end of its answer."""

_DATE_FORMAT = re.compile(r"(?:[^%]|%-?[aAbBdmyYjHIMSpuwUW%])*")
_MAX_DATE_FORMAT = 64


class CostlyTemplate(InvalidRequest):
    """Rendering these messages takes more steps, time or room than it may have."""


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

    @property
    def dialect(self) -> Dialect | None:
        """How the template has tools called; ``None``: it cannot be told of tools."""
        return dialect_of(self.source)

    @property
    def reasons(self) -> bool:
        """Whether the template's model may reason before it answers."""
        return reasoning.reasons(self.source)

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

    def within(self, seconds: float) -> Self:
        """The same template, whose every rendering has no more time than this."""
        return replace(self, _new_budget=lambda: Budget(seconds=seconds))

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        date: datetime.date | None = None,
        *,
        tools: Sequence[JsonObject] = (),
        think: bool | None = None,
    ) -> str:
        """The prompt for ``messages``, special tokens written out (encode it without adding any).

        ``tools``: what the model may call; see :attr:`dialect`. ``think``: whether a model that reasons shall, for
        templates that ask (by the name that Qwen3's gave it, ``enable_thinking``).

        Raises:
            InvalidRequest: the template refuses these messages, or rendering them takes too long or too much.
        """
        variables = {
            **self.special_tokens,
            "messages": [_variables_of(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
            "tools": [dict(tool) for tool in tools] or None,
            "documents": None,
            "raise_exception": _raise_exception,
            "strftime_now": _formatter(date or DEFAULT_DATE),
        }
        if think is not None:
            variables["enable_thinking"] = think
        try:
            return render_bounded(self._compiled, variables, self._new_budget())
        except _Raised as error:
            raise InvalidRequest(self._refusal(str(error)), param="messages") from None
        except TooCostly as error:
            raise CostlyTemplate(f"the model's chat template was stopped: {error}", param="messages") from None
        except Exception as error:  # why so broad: a template can raise whatever the values it handles can
            raise InvalidRequest(
                f"the model's chat template cannot render these messages ({type(error).__name__})", param="messages"
            ) from None

    def _refusal(self, reason: str) -> str:
        """The template's own words only where none of the conversation is in them."""
        said = reason if reason and reason in self.source else "no reason that can be repeated here"
        return f"the model's chat template refuses these messages: {said}"


@functools.cache
def default_template() -> ChatTemplate:
    """The template for models that bring none; its prompts are to be encoded as bare ones."""
    return ChatTemplate.compile(DEFAULT_SOURCE, {})


def _variables_of(message: Message) -> dict[str, Any]:
    """A message in the names that templates know from Transformers; what it does not have is left out."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        found["name"] = message.name
    if message.thinking:
        found["reasoning_content"] = message.thinking
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": value_of(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return found


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
