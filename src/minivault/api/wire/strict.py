"""What ends the check of a body early: lists that stop at their first wrong item, objects that have a bound before
their entries are looked at, and bodies of which one unknown field is told.

Without these, a body of a mebibyte has a fault for each of its hundred thousand parts, of which one is told. Knows
nothing of any one surface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

T = TypeVar("T")

Items = Annotated[list[T], Field(fail_fast=True)]
"""A list that is wrong with its first wrong item."""


class AtMost:
    """Refuses an object of more than ``most`` entries before any of them is looked at. The field says the bound too."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > self.most:
            raise ValueError(f"must have at most {self.most} entries")
        return value


def at_most(most: int) -> BeforeValidator:
    """:class:`AtMost` as an annotation."""
    checked: Callable[[Any], Any] = AtMost(most)
    return BeforeValidator(checked)


class StrictBody(BaseModel):
    """A body, or a part of one, that refuses unknown fields and takes no type for another."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown(cls, value: Any) -> Any:
        """All that is known, and the first that is not: it is the one that is told."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next((name for name in value if name not in known), None)
        return value if unknown is None else {name: one for name, one in value.items() if name in known} | {unknown: 0}
