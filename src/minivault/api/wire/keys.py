"""API keys as the wire shows them. Secrets appear once: in the answer to making or rotating a key."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from minivault.access.ending import MAX_LENGTH, end_of
from minivault.access.key_file import KeyTerms
from minivault.access.roles import Role
from minivault.api.wire.strict import Items, StrictBody


def _end(value: Any) -> Any:
    """Read when a key ends; a number would be taken for seconds."""
    if isinstance(value, str):
        return end_of(value, time.time())
    if value is not None:
        raise ValueError("must be text: a time as RFC 3339 writes it, a date, or such as 7d")
    return None


EndsAt = Annotated[
    float | None,
    BeforeValidator(_end),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": MAX_LENGTH}, {"type": "null"}]}),
]
"""Seconds since 1970, of what is sent as text."""


class TermsBody(StrictBody):
    """What a key allows; what is left out keeps its default, or stays as it is."""

    role: Literal["user", "auditor", "admin"] = Field(
        default="user",
        description="user: asks, and reads its own records; auditor: reads and replays all; admin: everything.",
    )
    requests: str | None = Field(
        default=None,
        max_length=200,
        description="Requests, such as `60/minute; 1000/day`. Null: the server's rate_limit; empty: no limit.",
    )
    tokens: str = Field(
        default="", max_length=200, description="Tokens of prompts and answers, such as `100000/day`; empty: no limit."
    )
    concurrent: int = Field(default=0, ge=0, le=100_000, description="Requests at one time; 0: no limit.")
    models: Items[str] = Field(default_factory=list, max_length=100, description="The only models; empty: all.")
    store: bool = Field(default=True, description="False: the vault keeps commitments of what is said, not the words.")
    expires_at: EndsAt = Field(
        default=None,
        description="A time ahead: RFC 3339, a date (UTC), or such as 12h, 7d or 4w; null: never.",
        examples=["2027-01-31T12:00:00Z"],
    )
    note: str = Field(default="", max_length=500)

    def over(self, terms: KeyTerms) -> KeyTerms:
        """``terms`` with what was given.

        Raises:
            InvalidRequest: a value is out of bounds.
        """
        return replace(
            terms, **{name: self._value(name) for name in self.model_fields_set & set(TermsBody.model_fields)}
        )

    def _value(self, name: str) -> Any:
        value = getattr(self, name)
        if name == "role":
            return Role(value)
        return tuple(value) if name == "models" else value


class CreateKeyBody(TermsBody):
    name: str = Field(min_length=1, max_length=64)


class ChangeKeyBody(TermsBody):
    name: str | None = Field(default=None, min_length=1, max_length=64)


class RotateKeyBody(StrictBody):
    grace_seconds: float = Field(
        default=0.0, ge=0, le=30 * 86_400, description="The former secret is taken for so long."
    )


class ApiKeyBody(BaseModel):
    """A key, without its secret."""

    id: str
    name: str
    role: Literal["user", "auditor", "admin"]
    note: str
    requests: str | None
    tokens: str
    concurrent: int
    models: list[str]
    store: bool
    created_at: str
    rotated_at: str | None
    expires_at: str | None
    revoked_at: str | None
    former_secret_until: str | None
    state: Literal["active", "expired", "revoked"]


class NewApiKeyBody(ApiKeyBody):
    key: str = Field(description="What opens the door. It is shown this once.")


class ApiKeysBody(BaseModel):
    keys: list[ApiKeyBody]
