"""The models in memory, or on their way there: what they take of the budget, who leaves for whom, and when.

Who leaves first is the one idle for longest; one in use leaves only after its last lease, and takes no new one
meanwhile, so that nobody waits for ever. Owned by the event loop. Knows nothing of how a model is loaded, or of who
asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from minivault.errors import ModelNotReady, ModelTooLarge
from minivault.models import memory
from minivault.models.changes import Changes
from minivault.models.pooled import FOR_EVER, ModelState, Slot, state_of
from minivault.models.shelf import Shelf, Shelved
from minivault.models.tasks import Tasks

RETRY_AFTER = 5.0
"""Seconds after which to ask again for what could not be had: a model that failed to load, or room."""

logger = logging.getLogger("minivault.models")


class Residents:
    """The slots of one pool, by the names of their models. Memory is counted in bytes, time in seconds."""

    def __init__(self, budget: int, shelf: Shelf, clock: Callable[[], float], changes: Changes, tasks: Tasks) -> None:
        self.budget = budget
        self._shelf = shelf
        self._clock = clock
        self._changes = changes
        self._tasks = tasks
        self._slots: dict[str, Slot] = {}
        self._parting: set[Slot] = set()
        """Models of no name any more, that leave after their last lease."""
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def get(self, name: str) -> Slot | None:
        return self._slots.get(name)

    def all(self) -> list[Slot]:
        return list(self._slots.values())

    def add(self, slot: Slot) -> None:
        self._slots[slot.entry.name] = slot

    def forget(self, slot: Slot) -> None:
        """Take a slot out of the table, unless another has its place."""
        if self._slots.get(slot.entry.name) is slot:
            del self._slots[slot.entry.name]

    # -- room

    async def make_room(self, need: int) -> None:
        """Have models leave until ``need`` bytes are free; the caller has checked that they can be."""
        while self._taken() + need > self.budget:
            victim = self._victim()
            if victim is None:  # what takes the room is on its way in or out
                await self._something_new()
                continue
            self.dismiss(victim)
            try:
                await self.gone(victim)
            except asyncio.CancelledError:
                self._recall(victim)
                raise

    async def make_room_beside(self, base: Slot, need: int) -> None:
        """Have what is idle leave until ``need`` more bytes, an adapter's, fit beside ``base``.

        Waits for nobody who is in use: those may wait for this one.

        Raises:
            ModelTooLarge: it does not fit beside its base.
            ModelNotReady: all that could leave is in use.
        """
        if base.need - self._shelf.bytes_beside(base) + need > self.budget:
            raise ModelTooLarge("The adapter does not fit beside its base within memory_budget", param="model")
        while self._taken() + need > self.budget:
            idle = self._shelf.idle()
            if idle is not None:
                self._shelf.drop(idle)
                continue
            victim = self._victim()
            if victim is None or victim.in_use:
                raise ModelNotReady("There is no room for the adapter now; try again.", retry_after=RETRY_AFTER)
            self.dismiss(victim)
            await self.gone(victim)

    def _taken(self) -> int:
        return sum(slot.takes for slot in self._slots.values())

    def _victim(self) -> Slot | None:
        """Who leaves next: the one idle for longest, else of those in use the one whose last use began first.

        One that others have waited for has first to serve them.
        """
        loaded = [slot for slot in self._slots.values() if slot.state is ModelState.LOADED and not slot.waiting]
        return min(loaded, key=lambda slot: (slot.in_use, slot.used_at), default=None)

    async def _something_new(self) -> None:
        before = self._outline()
        await self._changes.until(lambda: self._outline() != before)

    def _outline(self) -> list[tuple[int, ModelState, int]]:
        return [(id(slot), slot.state, slot.waiting) for slot in self._slots.values()]

    # -- leaving

    def dismiss(self, slot: Slot) -> None:
        """Have a model leave after its last lease; it takes no new one from now on."""
        slot.state = ModelState.LEAVING
        slot.leaving = self._tasks.spawn(self._close_when_idle(slot))
        self._changes.tell()

    def send_away(self, slot: Slot) -> None:
        """As :meth:`dismiss`, for good, of a model that is loaded or leaves already."""
        slot.sent_away = True
        if slot.state is ModelState.LOADED:
            self.dismiss(slot)

    def part(self, slot: Slot) -> None:
        """As :meth:`dismiss`, of a model that takes no memory and whose name is another's, or nobody's: none waits."""
        self._parting.add(slot)
        self.forget(slot)
        self.dismiss(slot)

    def _recall(self, slot: Slot) -> None:
        """Nobody needs its room any more: a model that has not left yet stays, unless it was unloaded meanwhile."""
        if slot.leases and slot.leaving is not None and not slot.sent_away:
            slot.leaving.cancel()
            slot.state = ModelState.LOADED
            self._changes.tell()

    async def gone(self, slot: Slot) -> None:
        await self._changes.until(lambda: self._slots.get(slot.entry.name) is not slot)

    async def _close_when_idle(self, slot: Slot) -> None:
        await self._changes.until(lambda: slot.leases == 0)
        assert slot.model is not None  # noqa: S101 - it was loaded
        try:
            await slot.model.close()
        finally:
            for item in self._shelf.items():
                if item.slot is slot:
                    self._shelf.drop(item)
            slot.model = None
            if slot.hold is not None:
                slot.hold.close()
            # Order: the next load begins when the memory is free, not before.
            await asyncio.to_thread(memory.give_back)
            self.forget(slot)
            self._parting.discard(slot)
            logger.info("model %s unloaded", slot.entry.name)
            self._changes.tell()

    def expire(self) -> None:
        """Have the idle models whose time is over leave, and come back when the next one's is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, following = self._clock(), FOR_EVER
        for slot in self._slots.values():
            if slot.state is not ModelState.LOADED or slot.in_use:
                continue
            if slot.expires_at <= now:
                self.dismiss(slot)
            else:
                following = min(following, slot.expires_at)
        if following != FOR_EVER and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(following - now, self.expire)

    def close(self) -> None:
        """Have all leave at once, and give up what still loads: its users have gone, and nobody waits for it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        slots = [*self.all(), *self._parting]
        for slot in slots:
            if slot.load is not None and not slot.load.done():
                slot.load.cancel()
            slot.leases = 0
        for slot in slots:
            if slot.state is ModelState.LOADED:
                self.dismiss(slot)
        self._changes.tell()

    # -- what can be seen

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each model and of each adapter, as :func:`minivault.models.pooled.state_of` has it."""
        adapters = {item.entry.name: self._state_of_adapter(item) for item in self._shelf.items()}
        return adapters | {name: self._state_of(slot) for name, slot in self._slots.items()}

    def _state_of_adapter(self, item: Shelved) -> dict[str, Any]:
        own = {"memory_bytes": item.memory_bytes, "in_use": item.leases, "progress": None}
        leaving = {"state": ModelState.LEAVING.value, "loaded": False} if item.leaving else {}
        return self._state_of(item.slot) | own | leaving

    def _state_of(self, slot: Slot) -> dict[str, Any]:
        now = self._clock()
        expires = now + slot.stays if slot.in_use else slot.expires_at
        return state_of(
            slot.state,
            memory_bytes=slot.takes - self._shelf.bytes_beside(slot),
            in_use=slot.leases,
            expires_in=None if expires == FOR_EVER else max(0.0, expires - now),
            progress=None if slot.progress is None else asdict(slot.progress),
        )
