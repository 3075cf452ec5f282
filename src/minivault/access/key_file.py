"""What is kept of a key, and its form on disk: JSON, read strictly. Knows nothing of files, or of secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from minivault.access.roles import Role
from minivault.access.specs import parse_spec
from minivault.errors import InvalidRequest, KeysUnavailable

VERSION = 1
MAX_CONCURRENT = 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_TIME = 253_402_300_799
"""The last second of the year 9999, where RFC 3339 ends."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@ -]{0,63}")
_HEX = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[a-z0-9]{12}")


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a key allows. Times are seconds since 1970.

    Raises:
        InvalidRequest: a value is out of bounds; ``param`` names it.
    """

    role: Role = Role.USER
    requests: str | None = None
    """Such as ``60/minute; 1000/day``. ``None``: the server's ``rate_limit``; empty: no limit."""
    tokens: str = ""
    """Tokens of prompts and answers, such as ``100000/day``; empty: no limit."""
    concurrent: int = 0
    """Requests at one time; 0: no limit."""
    models: tuple[str, ...] = ()
    """The only models that may be used; empty: all."""
    store: bool = True
    """False: the vault keeps commitments of what is said, and drops the content."""
    expires_at: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        parse_spec(self.requests or "", "requests")
        parse_spec(self.tokens, "tokens")
        _require(
            0 <= self.concurrent <= MAX_CONCURRENT, "concurrent", f"must lie in 0 .. {MAX_CONCURRENT}; 0: no limit"
        )
        _require(len(self.models) <= 100, "models", "may be at most 100")
        _require(all(0 < len(name) <= 200 and name.isprintable() for name in self.models), "models", "must be names")
        _require(
            self.expires_at is None or 0 <= self.expires_at <= LAST_TIME,
            "expires_at",
            "must lie in 1970-01-01T00:00:00Z .. 9999-12-31T23:59:59Z",
        )
        _require(len(self.note) <= 500 and self.note.isprintable(), "note", "may have 500 printable characters")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. Times are seconds since 1970."""

    id: str
    """Public: it may be shown, logged and recorded."""
    name: str
    sha256: str
    """Of the secret, 64 hex digits."""
    created_at: float
    terms: KeyTerms = field(default_factory=KeyTerms)
    rotated_at: float | None = None
    previous_sha256: str | None = None
    """Of the secret before the last rotation, which is taken until ``previous_until``."""
    previous_until: float | None = None
    revoked_at: float | None = None

    def __post_init__(self) -> None:
        _require(bool(_ID.fullmatch(self.id)), "id", "is not one of a key")
        _require(
            bool(_NAME.fullmatch(self.name)),
            "name",
            "must be 1 to 64 letters, digits, spaces or any of . _ @ -, beginning with a letter or digit",
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values for people and programs, without digests. Times are UTC, RFC 3339."""
        terms = self.terms
        return {
            "id": self.id,
            "name": self.name,
            "role": terms.role.value,
            "note": terms.note,
            "requests": terms.requests,
            "tokens": terms.tokens,
            "concurrent": terms.concurrent,
            "models": list(terms.models),
            "store": terms.store,
            "created_at": _time(self.created_at),
            "rotated_at": _time(self.rotated_at),
            "expires_at": _time(terms.expires_at),
            "revoked_at": _time(self.revoked_at),
            "former_secret_until": _time(self.previous_until),
        }


def render_keys(keys: Iterable[ApiKey]) -> bytes:
    document = {"version": VERSION, "keys": [asdict(key) for key in keys]}
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def parse_keys(data: bytes) -> Mapping[str, ApiKey]:
    """
    Raises:
        KeysUnavailable: it is not what :func:`render_keys` writes.
    """
    try:
        document = json.loads(data)
        if document["version"] != VERSION:
            raise KeysUnavailable("keys.json was written by another version of MiniVault.")
        keys = [_key(entry) for entry in document["keys"]]
    except (ValueError, KeyError, TypeError, RecursionError, InvalidRequest):
        raise KeysUnavailable("keys.json is damaged. Restore it from a copy.") from None
    found = {key.id: key for key in keys}
    if len(found) != len(keys):
        raise KeysUnavailable("keys.json is damaged: it has a key twice.")
    return found


def _key(entry: Mapping[str, Any]) -> ApiKey:
    given = dict(entry["terms"])
    given["role"] = Role(given["role"])
    given["models"] = tuple(given["models"])
    if given.get("expires_at") is not None:
        # An earlier version took times beyond the calendar; one such key must not close the door for all others.
        given["expires_at"] = _within(given["expires_at"])
    key = ApiKey(**{**entry, "terms": KeyTerms(**given)})
    for owner in (key, key.terms):
        for one in fields(owner):
            _check_type(one.name, str(one.type), getattr(owner, one.name))
    if not all(_HEX.fullmatch(digest) for digest in (key.sha256, key.previous_sha256 or key.sha256)):
        raise ValueError("not a digest")
    return key


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "int": (int,),
    "bool": (bool,),
}


def _check_type(name: str, annotation: str, value: object) -> None:
    allowed = _TYPES.get(annotation)
    if allowed is not None and (not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)):
        raise TypeError(name)


def _require(sound: bool, param: str, said: str) -> None:
    if not sound:
        raise InvalidRequest(f"{param} {said}", param=param)


def _within(seconds: float) -> float:
    """A time that can be written. What is no number at all stays as it is, and is found later."""
    return LAST_TIME if seconds > LAST_TIME else 0.0 if seconds < 0 else seconds


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    # Not by fromtimestamp, which on Windows ends with the year 3000.
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")
