"""How the command line refuses options: in the words of the rest of MiniVault, not in those of a library.

Knows nothing of which commands there are.
"""

from __future__ import annotations

from typing import Any, get_args

import typer
from typer.core import TyperGroup

from minivault.bounds import in_words
from minivault.nearest import nearest

ELSEWHERE = {
    "help": "minivault --help",
    "run": "minivault chat --model NAME",
    "start": "minivault serve",
    "status": "minivault health",
}
"""What those who know other tools type first, and what it is called here."""


class Group(TyperGroup):
    """Commands of which one that is not there is answered by what may be meant, and only by what is really close."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.suggest_commands = False  # Typer's own are too daring: `health` for `help`

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and (meant := self._meant(args[0], ctx.command_path)):
            ctx.fail(f"No such command '{args[0]}'. There is: {meant}")
        return super().resolve_command(ctx, args)

    def _meant(self, word: str, path: str) -> str:
        below = {name: getattr(command, "commands", {}) for name, command in self.commands.items()}
        found = [f"{path} {name}" for name in nearest(word, below)]
        found = found or [f"{path} {group} {word}" for group, commands in below.items() if word in commands]
        if not found and isinstance(self, Commands):
            found = [ELSEWHERE[word]] if word in ELSEWHERE else []
        return ", ".join(found)


class Commands(Group):
    """The root of all commands. Every option is read within its ``invoke``."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
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
