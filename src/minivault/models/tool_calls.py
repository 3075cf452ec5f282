"""How models are told of tools and how they call them: three families' ways, and a way for models that know none.

From text to calls piece by piece, and from a choice of tools to the form that an answer must have. Pure; knows nothing
of templates' languages, of engines or of surfaces. A call counts only if it names a tool that was offered and
every surface can send its arguments on; whatever else a model writes stays text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import GenerationRequest, JsonObject, Message, ToolCall
from minivault.models.call_text import CLOSE, OpenCall, sound_arguments, values_begun, values_of
from minivault.models.structure import Structure

MAX_CALLS = 8
"""Calls of one answer that is held to calling."""
OPEN = "<tool_call>"
MISTRAL_MARK = "[TOOL_CALLS]"
_NOTHING: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}
"""The arguments of a tool that takes none."""
_PIECE = 4096
"""Characters that are read at a time: what is left over is copied once for each call."""
_MOST_READ_AGAIN = 8
"""Texts between tags that turn out to be no call, and behind whose first closing tag all is read again: from then on
any such text ends at its first closing tag, so that no answer is read more often than this."""
_MISTRAL_ID = 9
"""Mistral's own templates take ids of this length alone."""


class Dialect(StrEnum):
    """How a family of models writes its calls."""

    TAGGED = "tagged"
    """Hermes, Qwen: ``<tool_call>`` around an object with ``name`` and ``arguments``, each call for itself."""
    OBJECT = "object"
    """Llama 3: the answer is an object with ``name`` and ``parameters``; several are divided by semicolons."""
    LIST = "list"
    """Mistral: ``[TOOL_CALLS]``, a special token, and a list of objects with ``name`` and ``arguments``."""


def dialect_of(template: str) -> Dialect | None:
    """The dialect that a chat template teaches its model; ``None``: none of these, or it says nothing of tools."""
    if "tools" not in template:
        return None
    if OPEN in template:
        return Dialect.TAGGED
    if MISTRAL_MARK in template:
        return Dialect.LIST
    return Dialect.OBJECT if '"parameters"' in template and "ipython" in template else None


# -- telling -----------------------------------------------------------------------------------------------------------


def told_in_words(messages: Sequence[Message], tools: Sequence[JsonObject]) -> tuple[Message, ...]:
    """The conversation for a template that knows nothing of tools: what there is and was, in the tagged dialect."""
    turns = [_flat(message) for message in messages]
    if not tools:
        return tuple(turns)
    words = _instructions(tools)
    if turns and turns[0].role == "system":
        return (Message("system", f"{turns[0].content}\n\n{words}"), *turns[1:])
    return (Message("system", words), *turns)


def _instructions(tools: Sequence[JsonObject]) -> str:
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    return (
        f"You can call these tools, each described by a line of JSON:\n{listed}\n"
        f"To call one, write {OPEN}, an object with its name and its arguments, and {CLOSE}:\n"
        f'{OPEN}\n{{"name": "...", "arguments": {{...}}}}\n{CLOSE}\n'
        "Its result comes in the next turn. If no tool is of use, answer in words."
    )


def _flat(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [written(call.name, call.arguments) for call in message.tool_calls]
    return Message(message.role, "\n".join([message.content, *calls] if message.content else calls))


def written(name: str, arguments: str) -> str:
    """A call in the tagged dialect. ``arguments``: JSON, in which the tag that ends a call is escaped."""
    kept = (arguments or "{}").replace(CLOSE, "\\u003c" + CLOSE[1:])
    return f'{OPEN}\n{{"name": {json.dumps(name)}, "arguments": {kept}}}\n{CLOSE}'


# -- holding -----------------------------------------------------------------------------------------------------------


def structure_of_calls(tools: Sequence[JsonObject], dialect: Dialect, *, several: bool) -> Structure:
    """The form of an answer that calls one of ``tools``, or with ``several`` up to :data:`MAX_CALLS`."""
    schema = _calls_schema(tools, "parameters" if dialect is Dialect.OBJECT else "arguments")
    most = MAX_CALLS if several else 1
    if dialect is Dialect.LIST:
        definitions = {"$defs": schema.pop("$defs")}
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": most} | definitions
    form = replace(Structure.json(schema), pieces=lambda: [_arguments(tool) for tool in tools])
    if dialect is not Dialect.TAGGED:
        return form
    more = f' ("\\n" call){{0,{most - 1}}}' if most > 1 else ""
    rules = f'start: call{more}\ncall: "{OPEN}\\n" object "\\n{CLOSE}"\nobject: %json '
    return form.within("lark", lambda source: rules + source)


def _arguments(tool: JsonObject) -> Structure:
    """The form of a tool's arguments alone."""
    return Structure.json(tool["function"].get("parameters") or _NOTHING)


def _either(calls: Structure, form: Structure) -> Structure:
    """Answers of one form or of the other."""
    if form.kind == "lark":
        raise UnsupportedFeature("response_format: a grammar cannot be used beside tools", param="response_format")

    def rules(calls_source: str, form_source: str) -> str:
        if form.kind == "regex":
            words = "form: /" + re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\/", form_source) + "/"
        else:
            words = f"form: %json {form_source}"
        called = calls_source.removeprefix("start") if calls.kind == "lark" else f": %json {calls_source}"
        return f"start: calls | form\ncalls{called}\n{words}"

    source, plain = rules(calls.source, form.source), rules(calls.plain or calls.source, form.plain or form.source)
    return Structure("lark", source, plain if plain != source else None, calls.pieces)


def _calls_schema(tools: Sequence[JsonObject], arguments: str) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    calls = []
    for place, tool in enumerate(tools):
        function = tool["function"]
        definitions |= _definitions(function.get("parameters") or _NOTHING, str(place))
        properties = {"name": {"const": function["name"]}, arguments: {"$ref": f"#/$defs/{place}"}}
        calls.append({"type": "object", "properties": properties, "required": ["name", arguments],
                      "additionalProperties": False})  # fmt: skip
    return {"anyOf": calls, "$defs": definitions}


def _definitions(parameters: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A tool's schema and what it defines itself, with names that no other tool's have."""
    found = {}
    own = {name: value for name, value in parameters.items() if name not in ("$defs", "definitions", "$schema")}
    for group in ("$defs", "definitions"):
        inner = parameters.get(group)
        for name, value in inner.items() if isinstance(inner, Mapping) else ():
            found[f"{place}.{name}"] = _moved(value, place)
    return found | {place: {"type": "object"} | _moved(own, place)}


def _moved(value: Any, place: str) -> Any:
    """``value`` with its references led to where the definitions are now."""
    if isinstance(value, Mapping):
        return {
            name: _led(item, place) if name == "$ref" and isinstance(item, str) else _moved(item, place)
            for name, item in value.items()
        }
    return [_moved(item, place) for item in value] if isinstance(value, list) else value


def _led(reference: str, place: str) -> str:
    for group in ("#/$defs/", "#/definitions/"):
        if reference.startswith(group):
            return f"#/$defs/{place}.{reference.removeprefix(group)}"
    return f"#/$defs/{place}{reference.removeprefix('#')}" if reference.startswith("#") else reference


@dataclass(frozen=True, slots=True)
class Calling:
    """How one answer may call tools."""

    dialect: Dialect
    tools: tuple[JsonObject, ...]
    must: bool
    """The answer is nothing but calls."""
    several: bool

    def structure(self, form: Structure | None = None) -> Structure | None:
        """The form that the answer is held to; ``None`` where it may be words as they come.

        ``form``: that of an answer in words, which so is calls or has this form.

        Raises:
            UnsupportedFeature: ``form`` is a grammar.
        """
        if form is None and not self.must:
            return None
        calls = structure_of_calls(self.tools, self.dialect, several=self.several)
        return calls if self.must or form is None else _either(calls, form)

    def parser(self, answer_id: str) -> ToolCallParser:
        """A parser for the answer. Ids of calls follow from ``answer_id``."""
        return parser_for(self.dialect, self.tools, answer_id, several=self.several, must=self.must)


def is_formed(request: GenerationRequest) -> bool:
    """Whether ``response_format`` asks for more than text."""
    return bool((request.response_format or {}).get("type", "text") != "text")


def calling_of(request: GenerationRequest, dialect: Dialect | None) -> Calling | None:
    """What ``tool_choice`` allows: ``named:`` one tool, ``none`` none, ``auto`` and ``required`` all.

    Raises:
        InvalidRequest: the named tool is not among them, or a tool must be called and there is none.
    """
    choice = request.tool_choice
    name = choice.removeprefix("named:") if choice.startswith("named:") else None
    allowed = tuple(tool for tool in request.tools if name in (None, tool["function"]["name"]))
    if choice not in ("auto", "none") and not allowed:
        if not request.tools:
            raise InvalidRequest("tool_choice: a tool must be called, so tools must offer one", param="tool_choice")
        raise InvalidRequest("tool_choice: its tool is not one of tools", param="tool_choice")
    if choice == "none" or not allowed:
        return None
    several = request.parallel_tool_calls and name is None
    return Calling(dialect or Dialect.TAGGED, allowed, choice != "auto", several)


# -- reading -----------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """What a piece of an answer said: words, calls that it completed, and reasoning, which comes before both."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    thinking: str = ""


class ToolCallParser(Protocol):
    """Reads one answer. The same calls and the same words come out, however the answer is cut into pieces."""

    def push(self, text: str) -> Said: ...

    def finish(self) -> Said: ...


@dataclass(slots=True)
class _Reader:
    """From the JSON of a call to a call with an id."""

    names: frozenset[str]
    new_id: Callable[[int], str]
    most: int
    count: int = 0

    def calls(self, values: Sequence[Any]) -> tuple[ToolCall, ...] | None:
        """``None`` unless all are calls of tools that were offered. Calls beyond ``most`` are left out."""
        found = [self._name_and_arguments(value) for value in values]
        if not found or any(one is None for one in found):
            return None
        kept = [one for one in found if one is not None][: self.most - self.count]
        calls = tuple(ToolCall(self.new_id(self.count + place), *one) for place, one in enumerate(kept))
        self.count += len(calls)
        return calls

    def _name_and_arguments(self, value: Any) -> tuple[str, str] | None:
        name = value.get("name") if isinstance(value, Mapping) else None
        if not isinstance(name, str) or name not in self.names:
            return None
        arguments = sound_arguments(value.get("arguments", value.get("parameters", {})))
        return None if arguments is None else (name, arguments)


class _TaggedParser:
    """Words stream; a call comes when it is whole. White space around calls is no part of the words.

    What is between tags and turns out to be no call is words, up to the first closing tag.

    ``must``: the answer is held to calls, so the beginning of one at its end is a call that was cut, and left out.
    """

    def __init__(self, reader: _Reader, *, must: bool = False) -> None:
        self._reader = reader
        self._must = must
        self._held = ""
        self._space = ""
        self._open: OpenCall | None = None
        self._read_again = 0
        self._after_call = False

    def push(self, text: str) -> Said:
        return _together(self._read(text[start : start + _PIECE]) for start in range(0, len(text), _PIECE))

    def finish(self) -> Said:
        said: list[Said] = []
        while self._open is not None:
            left, self._open = self._open, None
            cut = overlap(left.text, CLOSE) if self._must else 0
            calls = self._reader.calls(values_of(left.text[: len(left.text) - cut]))
            if calls is not None:
                self._space, self._after_call = "", True
                said.append(Said("", calls))
            elif self._must:
                self._held = ""
            elif left.first is None:
                self._held = OPEN + left.text
            else:
                self._read_again += 1
                end = left.first + len(CLOSE)
                said += (Said(self._words(OPEN + left.text[:end])), self.push(left.text[end:]))
        words = self._words("" if self._must else self._held)
        said.append(Said(words if self._after_call else words + self._space))
        return _together(said)

    def _read(self, text: str) -> Said:
        said: list[Said] = []
        while True:
            if self._open is None:
                words, found, text = (self._held + text).partition(OPEN)
                self._held = "" if found else words[len(words) - overlap(words, OPEN) :]
                said.append(Said(self._words(words[: len(words) - len(self._held)])))
                if not found:
                    break
                self._open = OpenCall(at_first=self._read_again >= _MOST_READ_AGAIN)
            end = self._open.push(text)
            if end is None:
                break
            made, text = self._closed(self._open, end)
            self._open = None
            said.append(made)
            if len(text) > _PIECE:
                said.append(self.push(text))
                break
        return _together(said)

    def _closed(self, call: OpenCall, end: int) -> tuple[Said, str]:
        """What was between the tags, and the text behind it."""
        calls = self._reader.calls(values_of(call.text[:end]))
        if calls is not None:
            self._space, self._after_call = "", True
            return Said("", calls), call.text[end + len(CLOSE) :]
        if call.first is not None:
            self._read_again += 1
            end = call.first
        end += len(CLOSE)
        return Said(self._words(OPEN + call.text[:end])), call.text[end:]

    def _words(self, text: str) -> str:
        """Holds back white space that a call may follow."""
        text = self._space + text
        if self._after_call:
            text = text.lstrip()
        kept = text.rstrip()
        self._space = text[len(kept) :]
        self._after_call = self._after_call and not kept
        return kept


class _WholeParser:
    """For dialects in which an answer is either words or calls: its beginning tells, and calls come at the end.

    ``must``: the answer is held to calls, so one that is not whole was cut; the calls before it count.
    """

    def __init__(self, reader: _Reader, dialect: Dialect, *, must: bool = False) -> None:
        self._reader = reader
        self._must = must
        self._begins = ("{",) if dialect is Dialect.OBJECT else ("[", MISTRAL_MARK)
        self._held = ""
        self._is_words = False

    def push(self, text: str) -> Said:
        if self._is_words:
            return Said(text)
        self._held += text
        begun = self._held.lstrip()
        if not begun or begun.startswith(self._begins) or any(begin.startswith(begun) for begin in self._begins):
            return Said("")
        self._is_words = True
        return Said(self._held)

    def finish(self) -> Said:
        if self._is_words:
            return Said("")
        text = self._held.strip().removeprefix(MISTRAL_MARK)
        values = values_of(text)
        if not values and self._must:
            return Said("", self._reader.calls(values_begun(text.strip())) or ())
        flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
        calls = self._reader.calls(flat)
        return Said(self._held) if calls is None else Said("", calls)


def parser_for(
    dialect: Dialect, tools: Sequence[JsonObject], answer_id: str, *, several: bool = True, must: bool = False
) -> ToolCallParser:
    """A parser for one answer. Ids of calls follow from ``answer_id``.

    ``must``: the answer is held to calls; what was cut in the middle of one is no text.
    """

    def new_id(place: int) -> str:
        digits = hashlib.sha256(f"{answer_id}/{place}".encode()).hexdigest()
        return digits[:_MISTRAL_ID] if dialect is Dialect.LIST else "call_" + digits[:24]

    names = frozenset(tool["function"]["name"] for tool in tools)
    reader = _Reader(names, new_id, 128 if several else 1)
    if dialect is Dialect.TAGGED:
        return _TaggedParser(reader, must=must)
    return _WholeParser(reader, dialect, must=must)


def _together(said: Iterable[Said]) -> Said:
    parts = list(said)
    return Said("".join(part.text for part in parts), tuple(call for part in parts for call in part.calls))


def overlap(text: str, mark: str) -> int:
    """Length of the longest proper prefix of ``mark`` that ends ``text``."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
