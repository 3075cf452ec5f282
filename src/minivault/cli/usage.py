"""How the command line refuses options: in the words of the rest of MiniVault, not in those of a library.

Knows nothing of which commands there are.
"""

from __future__ import annotations

import re
import sys
from typing import Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from minivault.bounds import in_words
from minivault.nearest import nearest

ELSEWHERE = {
    "help": "minivault --help",
    "run": "minivault chat --model NAME",
    "start": "minivault serve",
    "status": "minivault health",
}
"""What those who know other tools type first, and what it is called here."""


_NARROW = 78
_EXAMPLE = re.compile(r"  (?P<example>\S.*?\S) {2,}(?P<does>\S.*)")


OTHER_WORDS = {
    "delete": ("rm", "revoke", "erase"),
    "remove": ("rm", "revoke", "erase"),
    "rm": ("revoke", "erase"),
    "ls": ("list",),
    "info": ("show",),
    "new": ("create",),
}
"""The same of commands within a group."""


class Command(TyperCommand):
    """A command whose help has nothing behind a flag, which takes no value, and no braces around an argument.

    Its words are text: a byte that is not UTF-8 is refused, except in the name of a file, which may hold any.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        left: list[str] = super().parse_args(ctx, args)
        params: list[Any] = self.params
        for param in params:
            given = ctx.params.get(param.name)
            if any(_not_text(word) for word in (given if isinstance(given, list | tuple) else (given,))):
                raise typer.BadParameter("is not UTF-8", ctx, param)
        return left

    def get_params(self, ctx: Any) -> Any:
        return _without_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


def _not_text(word: object) -> bool:
    """Of a byte that is no UTF-8 the operating system's arguments keep half a surrogate pair."""
    return isinstance(word, str) and any("\ud800" <= letter <= "\udfff" for letter in word)


def examples(epilog: str) -> str:
    """As help shows them: a bracket is one, and no markup. Where a line is too long for a small terminal, what an
    example does stands above each."""
    lines = epilog.replace("\\[", "[").splitlines()
    if any(len(line) > _NARROW for line in lines):
        lines = [piece for line in lines for piece in _above(line)]
    return "\n".join(line.replace("[", "\\[") for line in lines) + "\n"


def _above(line: str) -> list[str]:
    found = _EXAMPLE.fullmatch(line)
    return [line] if found is None else [f"  # {found['does']}", f"  {found['example']}"]


def _without_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class Group(TyperGroup):
    """Commands of which one that is not there is answered by what may be meant, and only by what is really close."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for command in (self, *self.commands.values()):
            command.epilog = command.epilog and examples(command.epilog)
            if type(command) is TyperCommand:
                # Here once, rather than by a word at each of the commands.
                command.__class__ = Command
        self.suggest_commands = False  # Typer's own are too daring: `health` for `help`

    def get_params(self, ctx: Any) -> Any:
        return _without_types(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and (meant := self._meant(args[0], ctx.command_path)):
            ctx.fail(f"No such command '{args[0]}'. There is: {meant}")
        return super().resolve_command(ctx, args)

    def _meant(self, word: str, path: str) -> str:
        below = {name: getattr(command, "commands", {}) for name, command in self.commands.items()}
        found = [f"{path} {name}" for name in nearest(word, below)]
        found = found or [f"{path} {name}" for name in OTHER_WORDS.get(word, ()) if name in below]
        found = found or [f"{path} {group} {word}" for group, commands in below.items() if word in commands]
        if not found and isinstance(self, Commands):
            found = [ELSEWHERE[word]] if word in ELSEWHERE else []
        return ", ".join(found)


class Commands(Group):
    """The root of all commands. Every option is read within its ``invoke``."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Abort as aborted:
            # A Ctrl-C at a question; its answer "no" ends there too.
            if isinstance(aborted.__context__, KeyboardInterrupt):
                sys.stderr.write("\n")
                raise typer.Exit(130) from None
            raise
        except typer.BadParameter as refused:
            refused.message = _said(refused)
            raise
        except Exception as refused:
            # An option that there is not; its class is the library's own.
            if guesses := getattr(refused, "possibilities", None):
                refused.possibilities = nearest(str(getattr(refused, "option_name", "")), guesses)  # type: ignore[attr-defined]
            raise


def _said(refused: typer.BadParameter) -> str:
    """What the option must be; the library's own words where they come from no value's bounds."""
    faults = getattr(refused.__cause__, "errors", None)
    if faults is None:
        return refused.message
    described = getattr(refused.param, "type_descriptor", None)
    option = getattr(described, "parameter_info", None)
    sides = {"ge": getattr(option, "min", None), "le": getattr(option, "max", None)}
    bounds = {side: bound for side, bound in sides.items() if bound is not None}
    kind = getattr(described, "annotation", None)
    return in_words(faults()[0], int if int in (kind, *get_args(kind)) else float, bounds)
