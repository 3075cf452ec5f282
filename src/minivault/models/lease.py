"""A lease of a model in memory: while one is held, the model does not leave. Knows nothing of how it came there."""

from __future__ import annotations

from collections.abc import Callable

from minivault.models.pooled import PooledModel, Slot
from minivault.models.shelf import Shelved

Released = Callable[[Slot, Shelved | None], None]
"""Called with what a lease held, once it does not any more."""


class Lease:
    """A model that stays loaded until :meth:`release`. Owned by the event loop."""

    def __init__(self, released: Released, slot: Slot, model: PooledModel, adapter: Shelved | None = None) -> None:
        """``adapter``: the one that makes ``model`` of the base in ``slot``."""
        self._released = released
        self._slot: Slot | None = slot
        self._adapter = adapter
        self.model = model
        slot.leases += 1
        if adapter is not None:
            adapter.leases += 1

    def again(self) -> Lease:
        """One more lease of the same model, granted whatever waits: it is held already."""
        if self._slot is None:
            raise RuntimeError("the lease has been released")
        return Lease(self._released, self._slot, self.model, self._adapter)

    def release(self) -> None:
        """Idempotent."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        slot.leases -= 1
        if self._adapter is not None:
            self._adapter.leases -= 1
        self._released(slot, self._adapter)
