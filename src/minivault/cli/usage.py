"""How the command line refuses options: in the words of the rest of MiniVault, not in those of a library.

Knows nothing of which commands there are.
"""

from __future__ import annotations

from typing import Any, get_args

import typer
from typer.core import TyperGroup

from minivault.bounds import in_words


class Commands(TyperGroup):
    """The root of all commands. Every option is read within its ``invoke``."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as refused:
            refused.message = _said(refused)
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
