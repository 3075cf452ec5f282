"""What the command line may write to a terminal, and how: escaped text, tables, notes, progress.

Answers go to standard output, everything about them to standard error. Knows nothing of servers, models or records.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from minivault.cli.units import size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task

# C0 but tab and newline, DEL, C1, line and paragraph separators, and the marks that reorder text: each can make a
# terminal show something other than what was written.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COMMAND = re.compile(r"(?<![\w/.-])minivault(?= [a-z])")
_EXTRA = re.compile(r"\bpip(?= install 'minivault\[)")

_NARROW = 20
"""The width of a time."""
_READABLE = 12


class CliError(Exception):
    """A command failed in a way that the person at the terminal can understand.

    ``exit_code``: 1 failure, 2 usage. ``code``: the stable word of the server's error, where it was one.
    """

    def __init__(self, message: str, *, exit_code: int = 1, code: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code


def escape(text: str) -> str:
    """Make control characters visible (``\\x1b``) so that text from a model or a record cannot drive the terminal."""
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def one_line(text: str, width: int) -> str:
    """The beginning of ``text`` on one line of at most ``width`` characters."""
    line = escape(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def write(text: str) -> None:
    """Write a piece of an answer at once, escaped, with no newline of its own."""
    sys.stdout.write(escape(text))
    sys.stdout.flush()


def line(text: str = "") -> None:
    write(text + "\n")


def write_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON value a line. ASCII only, so that the text in it is both exact and harmless to a terminal."""
    sys.stdout.write(to_json(value) + "\n")
    sys.stdout.flush()


def to_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """As :func:`write_json` writes it."""
    return json.dumps(value, default=str)


def console(stream: TextIO | None = None) -> Console:
    """A Rich console: no colours when piped or with NO_COLOR, no markup read from text."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)


def program() -> str:
    """What to type for ``minivault``: that, where the shell finds this very program by it; else where this one lies."""
    given = sys.argv[0]
    found = shutil.which("minivault")
    if Path(given).stem != "minivault":
        return "minivault" if found else f"{shlex.quote(sys.executable)} -m minivault"
    try:
        is_found = found is not None and Path(found).samefile(given)
    except OSError:  # as where the name is without its .exe
        is_found = found is not None
    return "minivault" if is_found else shlex.quote(given)


def taught(message: str) -> str:
    """A message of the lower floors with its commands as they are to be typed here. Those floors name them as the
    documents do: their messages are read over HTTP too, where nothing of this machine belongs."""
    return _EXTRA.sub(lambda _: f"{shlex.quote(sys.executable)} -m pip", _COMMAND.sub(lambda _: program(), message))


def note(text: str, *, strong: bool = False) -> None:
    """Something about the work rather than its result: to standard error. Never dimmed: many terminals show that as
    good as nothing."""
    if strong and sys.stderr.isatty():
        console(sys.stderr).print(escape(text), style="bold")
    else:
        sys.stderr.write(escape(text) + "\n")


def error(text: str) -> None:
    if sys.stderr.isatty():
        target = console(sys.stderr)
        target.print("Error: ", style="bold red", end="")
        target.print(escape(text))
    else:
        sys.stderr.write(f"Error: {escape(text)}\n")


def terminal_width() -> int | None:
    """Characters in a line of standard output; ``None`` where that is no terminal."""
    return console().width if sys.stdout.isatty() else None


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], cut: Mapping[str, int] | None = None) -> None:
    """Columns for people on a terminal; tab-separated lines, headings first, when piped.

    ``cut``: the headings of columns that are shortened so that no line is wrapped, and the least width of each. Where
    even that is not to be had, the last of them are left out.
    """
    safe = [[escape(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for cells in ([*headings], *safe):
            sys.stdout.write("\t".join(cells) + "\n")
        return
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    target = console()
    if cut is not None:
        columns = list(zip(headings, *safe, strict=True))
        given = fitted({column[0]: max(map(cell_len, column)) for column in columns}, cut, target.width)
        drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for heading, width in given.items():
            drawn.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=width)
        for cells in safe:
            drawn.add_row(*[Text(cell) for cell, heading in zip(cells, headings, strict=True) if heading in given])
        target.print(drawn)
        return
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    widths = [max(map(len, column)) for column in zip(headings, *safe, strict=True)]
    for heading, whole in zip(headings, whole_columns(widths, target.width), strict=True):
        drawn.add_column(heading, no_wrap=whole, overflow="fold")
    for cells in safe:
        drawn.add_row(*[Text(cell) for cell in cells])
    target.print(drawn)


def fitted(widths: Mapping[str, int], cut: Mapping[str, int], room: int) -> dict[str, int]:
    """The widths of the columns in ``room``, two spaces between them: those in ``cut`` share what the others leave."""
    kept = dict(widths)
    while True:
        left = room - sum(width + 2 for name, width in kept.items() if name not in cut) + 2
        giving = {name: width for name, width in kept.items() if name in cut}
        left -= 2 * len(giving)
        if not giving or sum(min(width, cut[name]) for name, width in giving.items()) <= left or len(giving) == 1:
            break
        kept.pop([*giving][-1])
    for number, (name, width) in enumerate(sorted(giving.items(), key=lambda one: one[1])):
        kept[name] = max(1, min(width, left // (len(giving) - number)))
        left -= kept[name]
    return kept


def whole_columns(widths: Sequence[int], room: int) -> list[bool]:
    """Which columns are not wrapped: the narrow ones, if that leaves the others enough to be read."""
    narrow = [width <= _NARROW for width in widths]
    needed = sum(width if whole else _READABLE for width, whole in zip(widths, narrow, strict=True))
    return narrow if needed + 2 * (len(widths) - 1) <= room else [False] * len(widths)


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, a line each, the values below each other; on a terminal and piped alike."""
    known = list(rows)
    width = max((len(name) for name, _ in known), default=0) + 2
    for name, value in known:
        line(f"{name:<{width}}{value}")


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on standard error while something takes long; silent when that is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with console(sys.stderr).status(escape(what)):
        yield


@contextmanager
def counting(what: str, things: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for work that reports things done and things in all; silent when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(escape(things), markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def speed() -> ProgressColumn:
    """A bar's column with bytes a second, in the units of all other sizes; Rich's own counts in thousands."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            now = task.finished_speed or task.speed
            return Text("?" if now is None else f"{size(int(now))}/s", style="progress.data.speed")

    return Speed()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for work that reports bytes done and bytes in all; silent when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True), speed())
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
