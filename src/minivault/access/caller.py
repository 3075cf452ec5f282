"""Who asks, and what they may. Knows nothing of HTTP headers or of keys' secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from minivault.access.limits import Quota
from minivault.access.roles import Permission, Role, granted, sees_all
from minivault.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Caller:
    """The one on whose behalf a request runs. By default: one who needs no key."""

    address: str
    """Network address of the client, or ``local`` for the command line."""
    api_key_id: str | None = None
    """Public id of the key that was shown; never the key."""
    role: Role | None = None
    """``None``: no keys are asked for here."""
    models: tuple[str, ...] = ()
    """The only models that may be used; empty: all."""
    store: bool = True
    """False: the vault keeps commitments of what is said, and drops the content."""
    cache_salt: bytes = b""
    """Callers share computed prefixes only with those of an equal salt."""
    timeout: float | None = None
    """Most seconds that each of the caller's requests may take, as they said themselves."""
    answer_from_record: bool | None = None
    """Whether this request may be answered as an equal one was before; ``None``: as the server is set."""
    quota: Quota = field(default_factory=Quota, compare=False)
    """What may still be used of the windows of this caller."""

    @property
    def fairness_key(self) -> str:
        """Callers with equal keys share one turn in the engine and one rate limit."""
        return self.api_key_id or network_of(self.address)

    @property
    def owner(self) -> str | None:
        """Only records of this key may be read; ``None``: all."""
        return None if sees_all(self.role) else self.api_key_id

    def may(self, permission: Permission) -> bool:
        return permission in granted(self.role)

    def require(self, permission: Permission) -> None:
        """
        Raises:
            Forbidden: the role does not allow it.
        """
        if not self.may(permission):
            raise Forbidden(f"An API key of the role {self.role} may not do this.")

    def stay(self, keep_alive: float | None) -> float | None:
        """What a request may say of how long its model stays in memory, which is for all: ``None``, nothing, of one who
        may not change what is served."""
        return keep_alive if self.may(Permission.MODELS) else None

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models

    def require_model(self, name: str) -> None:
        """
        Raises:
            Forbidden: the key is bound to other models. Says nothing of whether there is one of this name.
        """
        if not self.may_use(name):
            raise Forbidden(f"This API key may only use: {', '.join(self.models)}", param="model")


def network_of(address: str) -> str:
    """The addresses that are taken for one client: whoever has one IPv6 address has the 2**64 beside it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return ":".join(parsed.exploded.split(":")[:4])
