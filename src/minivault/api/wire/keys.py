"""API keys as the wire shows them. Secrets appear once: in the answer to making or rotating a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, field_validator

from minivault.access.key_file import KeyTerms
from minivault.access.roles import Role
from minivault.api.wire.strict import Items, StrictBody


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
    expires_at: AwareDatetime | None = Field(default=None, strict=False, description="RFC 3339; null: never.")
    note: str = Field(default="", max_length=500)

    @field_validator("expires_at", mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """A number would be taken for seconds."""
        if value is not None and not isinstance(value, str):
            raise ValueError("must be a text: a time as RFC 3339 writes it")
        return value

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
        if name == "models":
            return tuple(value)
        return value.timestamp() if isinstance(value, datetime) else value


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
