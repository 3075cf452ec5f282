"""A Jinja sandbox whose work is bounded: in steps, in time, and in the size of every value that a template builds.

Jinja's own sandbox keeps templates away from the machine, but a loop in a loop, or a string that doubles forty times,
is within its rules. Here every loop turn and call is counted, and every operation that can make a value bigger than
what it was given is measured before it is done. Knows nothing of chats, models or files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, cast

from jinja2 import TemplateError, Undefined, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS: Final = 1_000_000
"""Loop turns and calls of one rendering."""
MAX_SECONDS: Final = 2.0
MAX_SIZE: Final = 8 << 20
"""Characters of one value, everything inside it counted as often as it occurs; an element counts as 16 characters."""
_ELEMENT: Final = 16
_SCOPES: Final = ("_loop_vars", "_block_vars")
MAX_INTEGER_BITS: Final = 4096


class TooCostly(TemplateError):
    """The template wants more steps, time or room than it may have."""


@dataclass(slots=True)
class Budget:
    """What is left for one rendering. ``clock`` gives seconds."""

    steps: int = MAX_STEPS
    seconds: float = MAX_SECONDS
    clock: Callable[[], float] = time.monotonic
    _deadline: float | None = None

    def spend(self) -> None:
        self.steps -= 1
        now = self.clock()
        if self._deadline is None:
            self._deadline = now + self.seconds
        if self.steps < 0:
            raise TooCostly(f"more than {MAX_STEPS} steps")
        if now > self._deadline:
            raise TooCostly(f"more than {self.seconds:g} seconds")


_budget: ContextVar[Budget] = ContextVar("budget")

_STR_METHODS: Final = frozenset({
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "islower", "isspace",
    "isupper", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
})  # fmt: skip
_FILTERS: Final = (
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int",
    "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "safe",
    "select", "selectattr", "sort", "title", "trim", "unique", "upper",
)  # fmt: skip


class GenerationTag(Extension):
    """``{% generation %}`` marks the assistant's words for training; here it is its body and nothing else."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compile with :meth:`bounded`; render with :func:`render_bounded`."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # why not optimized: constants would be folded while compiling, before anything is counted
        extensions = [loopcontrols, GenerationTag]
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=extensions, finalize=_showable
        )
        known = {name: self.filters[name] for name in _FILTERS}
        own = {"join": _join, "replace": _replace, "indent": _indent, "string": _string, "tojson": _tojson}
        self.filters = {**known, **own, "_metered": _metered, "_joined": _joined, "_measured": measured}
        kept = ("range", "dict", "namespace")
        self.globals = {name: self.globals[name] for name in kept}

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """How Jinja joins what a template, a macro or a block puts out."""
        return _joined(pieces)

    def bounded(self, source: str) -> Any:
        """The compiled template."""
        tree = _Meter().visit(self.parse(source))
        tree.set_environment(self)
        return self.template_class.from_code(self, self.compile(tree), self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STR_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Without this ``str.format`` would pass by :meth:`is_safe_attribute`, and widths have no bound."""

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja
        _budget.get().spend()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            # Jinja adds the variables of loops and blocks to every call inside one.
            return _replace(owner, *args, **{name: kwargs[name] for name in kwargs if name not in _SCOPES})
        if isinstance(owner, str) and name == "join" and len(args) == 1:
            return _joined(args[0], owner)
        return measured(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**" and (not _small_power(left, right)):
            raise TooCostly("a power of large numbers")
        elif operator == "%" and isinstance(left, str):
            raise TooCostly("formatting with %, which is not supported")
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            _check_size(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)


def render_bounded(template: Any, variables: Mapping[str, Any], budget: Budget) -> str:
    """The text of ``template``; raises what the template raises, and :class:`TooCostly`."""
    token = _budget.set(budget)
    try:
        return str(template.render(variables))
    finally:
        _budget.reset(token)


class _Meter(NodeTransformer):
    """Puts a counter on every loop, and a measure on everything that builds a value out of others."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja dispatches by these names
        self.generic_visit(node)
        node.iter = _filtered(cast(nodes.Expr, node.iter), "_metered")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_measured")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_measured")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_measured") if node.ctx == "load" else node


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def measured(value: Any) -> Any:
    """``value``, once it is known to be small enough."""
    _check_size(_size(value))
    return value


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise TooCostly(f"a value of more than {MAX_SIZE} characters")


def _size(value: Any) -> int:
    """How large ``value`` is (see :data:`MAX_SIZE`), counted no further than just past the bound."""
    size, waiting = 0, [value]
    while waiting and size <= MAX_SIZE:
        found = waiting.pop()
        size += _ELEMENT
        if isinstance(found, str):
            size += len(found)
        elif isinstance(found, int):
            if found.bit_length() > MAX_INTEGER_BITS:
                raise TooCostly("a number that is too large")
        elif isinstance(found, Mapping):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set | frozenset):
            waiting += found
    return size


def _check_product(left: Any, right: Any) -> None:
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int) and isinstance(value, str | list | tuple):
            _check_size(_size(value) * count)
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
        raise TooCostly("a number that is too large")


def _small_power(base: Any, exponent: Any) -> bool:
    if isinstance(base, int) and isinstance(exponent, int):
        return base.bit_length() * max(exponent, 1) <= MAX_INTEGER_BITS
    return True


def _metered(iterable: Iterable[Any]) -> Iterator[Any]:
    budget = _budget.get()
    for item in iterable:
        budget.spend()
        yield item


def _showable(value: Any) -> Any:
    """``value``, if it is of a kind whose text is about as long as its size."""
    if isinstance(value, str | int | float | list | tuple | dict | Undefined) or value is None:
        return measured(value)
    raise TooCostly(f"text of a {type(value).__name__}, which is not supported")


def _plain(value: Any) -> str:
    return str(_showable(value))


def _joined(pieces: Iterable[Any], separator: str = "") -> str:
    """As ``separator.join`` of the pieces' texts; stops as soon as the whole would be too long."""
    texts, size = [], 0
    for piece in pieces:
        text = piece if isinstance(piece, str) else _plain(piece)
        size += len(text) + len(separator)
        _check_size(size)
        texts.append(text)
    return separator.join(texts)


def _join(value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    items = value if attribute is None else [item[attribute] for item in value]
    return _joined(items, str(d))


def _replace(s: Any, old: str, new: str, count: int = -1) -> str:
    text = _plain(s)
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    _check_size(len(text) + times * len(new))
    return text.replace(old, new, times)


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(width, 100)
    lines = s.split("\n")
    _check_size(len(s) + len(lines) * len(margin))
    kept = [margin + line if (line or blank) and (place or first) else line for place, line in enumerate(lines)]
    return "\n".join(kept)


def _string(value: Any) -> str:
    return _plain(value)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates mean it: plain text, nothing escaped for HTML."""
    if (indent or 0) > 16 or len("".join(separators or ())) > 16:
        raise TooCostly("JSON with an indent or separators of more than 16 characters")
    _check_indented(measured(value), indent or 0)
    found = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return str(measured(found))


def _check_indented(value: Any, indent: int) -> None:
    """Hold the white space that JSON with ``indent`` has against the bound, before it is made."""
    size, level, margin = 0, [value], indent
    while level and indent > 0:
        groups = [one.values() if isinstance(one, Mapping) else one for one in level
                  if isinstance(one, Mapping | list | tuple)]  # fmt: skip
        level = [item for group in groups for item in group]
        size += (len(level) + len(groups)) * margin
        _check_size(size)
        margin += indent
