"""What each role may do. Knows nothing of keys, of HTTP or of records."""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class Permission(Enum):
    """One kind of deed."""

    LOOK = auto()
    """See how the server is and which models it has."""
    GENERATE = auto()
    READ = auto()
    """Read records: one's own, or all where the role sees all."""
    REPLAY = auto()
    """Run calls again that one may read."""
    ERASE = auto()
    """Erase what calls said that one may read."""
    OBSERVE = auto()
    """Read the metrics, which count everybody's calls."""
    MODELS = auto()
    """Change what is served: load, unload, pull, import, remove."""
    KEYS = auto()
    """Make, change and revoke keys."""


class Role(StrEnum):
    """What a key is for."""

    USER = "user"
    """Asks, and reads its own records."""
    AUDITOR = "auditor"
    """Reads, verifies and replays all records; asks nothing and erases nothing."""
    ADMIN = "admin"
    """Everything."""


_EVERYTHING = frozenset(Permission)
_GRANTED = {
    Role.USER: frozenset({Permission.LOOK, Permission.GENERATE, Permission.READ, Permission.REPLAY, Permission.ERASE}),
    Role.AUDITOR: frozenset({Permission.LOOK, Permission.READ, Permission.REPLAY, Permission.OBSERVE}),
    Role.ADMIN: _EVERYTHING,
}


def granted(role: Role | None) -> frozenset[Permission]:
    """What a role may do. Without a role, where no keys are asked for: everything but the keys themselves, for whoever
    made the first one over the network would own the server."""
    return _EVERYTHING - {Permission.KEYS} if role is None else _GRANTED[role]


def sees_all(role: Role | None) -> bool:
    """Whether the records of others are to be read too."""
    return role is not Role.USER
