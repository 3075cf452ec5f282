"""The form that an answer must have: from a request's ``response_format`` to the source of a grammar, and the grammar.

Knows nothing of how grammars are parsed (see :class:`Compiler`), of engines or of requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.models.narrowing import NotFollowed, narrowed, plain
from minivault.models.threads import Limit, Threads

if TYPE_CHECKING:
    from minivault.engine.engine import Constraint

GrammarKind = Literal["json_object", "json_schema", "regex", "lark"]
KINDS: tuple[GrammarKind, ...] = ("json_object", "json_schema", "regex", "lark")

COMPILE_SECONDS = 2.0
GRAMMAR_THREADS = Threads("grammar")

_ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How JSON answers are written: on one line. A model cannot lose itself in white space then."""

_MOST_GROWTH = 4


class Compiler(Protocol):
    """Compiles grammars for one tokenizer. Blocking; called in a thread."""

    @property
    def version(self) -> str:
        """What decides, with a grammar's source, which tokens may come; for the record."""

    def prepare(self) -> None:
        """Make ready what all grammars need, once; takes a second where the vocabulary is large.

        Raises:
            UnsupportedFeature: no grammar can be compiled for this tokenizer.
        """

    def compile(self, kind: GrammarKind, source: str = "", /) -> Constraint:
        """A constraint at its start.

        Raises:
            InvalidRequest: not a grammar of its kind, or too complex.
        """


@dataclass(frozen=True, slots=True)
class Structure:
    """The source of a grammar: all that decides it, so that a record can hold it."""

    kind: GrammarKind
    source: str
    plain: str | None = field(default=None, compare=False, repr=False)
    """The source to take where :attr:`source` is refused: its schemas are as they came, not narrowed. Not recorded."""
    pieces: Callable[[], Sequence[Structure]] | None = field(default=None, compare=False, repr=False)
    """The parameters of the tools that the form calls, each for itself, to tell which is at fault. Not recorded."""

    def to_record(self) -> dict[str, str]:
        return {"kind": self.kind, "source": self.source}

    @classmethod
    def from_record(cls, value: Mapping[str, Any] | None) -> Structure | None:
        """The inverse of :meth:`to_record`; ``None`` for ``None``.

        Raises:
            UnsupportedFeature: a kind that is not known here, as a later version's record may have.
        """
        if not value:
            return None
        kind = next((known for known in KINDS if known == value.get("kind")), None)
        if kind is None or not isinstance(value.get("source"), str):
            raise UnsupportedFeature("response_format of the record is of a kind that is not known here")
        return cls(kind, value["source"])

    @classmethod
    def json(cls, schema: Mapping[str, Any]) -> Structure:
        """Answers that fit a JSON Schema, in the order of its properties."""
        given = _written(schema)
        try:
            as_it_came, source = _written(plain(schema)), _written(narrowed(schema))
        except NotFollowed:
            return cls("json_schema", given)
        if len(as_it_came) > _MOST_GROWTH * len(given):  # references into what holds them
            return cls("json_schema", given)
        return cls("json_schema", source, as_it_came if as_it_came != source else None)

    def within(self, kind: GrammarKind, wrap: Callable[[str], str]) -> Structure:
        """A form whose source has this one's in it."""
        return replace(
            self, kind=kind, source=wrap(self.source), plain=None if self.plain is None else wrap(self.plain)
        )


def structure_of(response_format: Mapping[str, Any] | None) -> Structure | None:
    """What ``response_format`` asks for; ``None`` for plain text.

    ``{"type": "json_object"}``; ``{"type": "json_schema", "json_schema": {"schema": {...}}}``, or with ``schema``
    beside ``type``; ``{"type": "regex", "regex": "..."}``; ``{"type": "grammar", "grammar": "..."}`` (Lark).

    Raises:
        InvalidRequest: another type, or one whose grammar is missing or of the wrong type.
    """
    asked = response_format or {}
    match asked.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return Structure.json({"type": "object"})
        case "json_schema":
            return Structure.json(_schema_of(asked))
        case "regex":
            return Structure("regex", _regex_of(asked))
        case "grammar":
            return Structure("lark", _text_of(asked, "grammar"))
    raise InvalidRequest(
        "response_format.type must be text, json_object, json_schema, regex or grammar", param="response_format"
    )


async def compiled(
    structure: Structure, source: Compiler, seconds: float = COMPILE_SECONDS, threads: Threads = GRAMMAR_THREADS
) -> tuple[Structure, Constraint]:
    """Compile off the event loop: what was compiled, and the constraint.

    Raises:
        InvalidRequest: not a sound grammar, too complex, or not compiled within ``seconds`` of its beginning.
        Overloaded: so many others compile that it did not begin.
    """
    late = InvalidRequest(
        f"response_format: its grammar did not compile within {seconds:g} seconds", param="response_format"
    )
    await threads.do(source.prepare)  # not on the caller's time
    # The thread of a grammar that takes too long ends by itself: the compiler's own limits see to that.
    return await threads.do(lambda: _compiled(structure, source), Limit(seconds, late))


def _compiled(structure: Structure, source: Compiler) -> tuple[Structure, Constraint]:
    """Narrowed if it can be; a schema that only its narrowing leaves without a value is taken as it came."""
    try:
        return structure, source.compile(structure.kind, structure.source)
    except InvalidRequest:
        if structure.plain is None:
            _find_fault(structure, source)
            raise
    as_it_came = replace(structure, source=structure.plain, plain=None)
    return _compiled(as_it_came, source)


def _find_fault(structure: Structure, source: Compiler) -> None:
    """Raises what is wrong with the first piece of a refused form that cannot be compiled by itself, if any."""
    pieces = structure.pieces() if structure.pieces else ()
    for place, piece in enumerate(pieces, start=1):
        try:
            source.compile(piece.kind, piece.plain or piece.source)
        except UnsupportedFeature:
            raise
        except InvalidRequest as error:
            fault = error.message.partition(": ")[2]
            tool = f"tool {place} of {len(pieces)}" if len(pieces) > 1 else "the tool"
            raise InvalidRequest(f"response_format: the parameters of {tool}: {fault}", param=error.param) from None


class LazyGrammars:
    """Makes a model's grammar compiler when the first answer needs it. May be called from any thread."""

    def __init__(self, make: Callable[[], Compiler]) -> None:
        self._make = make
        self._compiler: Compiler | None = None
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return self._made().version

    def prepare(self) -> None:
        self._made()

    def compile(self, kind: GrammarKind, source: str = "", /) -> Constraint:
        return self._made().compile(kind, source)

    def _made(self) -> Compiler:
        with self._lock:
            if self._compiler is None:
                compiler = self._make()
                compiler.prepare()
                self._compiler = compiler
            return self._compiler


def _written(schema: Mapping[str, Any]) -> str:
    # why not sorted: the order of properties is the order of the answer's
    return json.dumps({"x-guidance": _ONE_LINE} | dict(schema), ensure_ascii=False)


def _schema_of(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    held = asked.get("json_schema")
    schema = held.get("schema") if isinstance(held, Mapping) else asked.get("schema")
    if not isinstance(schema, Mapping):
        raise InvalidRequest(
            "response_format.json_schema.schema must be a JSON Schema, which is an object", param="response_format"
        )
    return schema


def _text_of(asked: Mapping[str, Any], name: str) -> str:
    text = asked.get(name)
    if not isinstance(text, str) or not text:
        raise InvalidRequest(f"response_format.{name} must be a text of at least 1 character", param="response_format")
    return text


def _regex_of(asked: Mapping[str, Any]) -> str:
    source = _text_of(asked, "regex")
    if (len(source) - len(source.rstrip("\\"))) % 2:  # the compiler would leave it out
        raise InvalidRequest("response_format.regex: it ends with a backslash", param="response_format")
    return source
