"""The models of a catalog, served from memory: loaded when they are asked for, and held while they are used.

Here is who waits, who holds a lease, and how long a model stays after it. Owned by the event loop. Knows nothing of
requests or engines, of how a model is loaded (``loads``), or of who makes room for whom (``residents``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import Draining, MiniVaultError, ModelNotReady, Overloaded
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.changes import Changes
from minivault.models.folder import hold_folder
from minivault.models.lease import Lease
from minivault.models.listing import described, listed
from minivault.models.loads import Loads, shutting_down
from minivault.models.naming import adapter_of, base_of
from minivault.models.pooled import (
    FOR_EVER,
    Closeable,
    ModelLoader,
    ModelState,
    PooledModel,
    Slot,
    for_ever_if_negative,
)
from minivault.models.residents import RETRY_AFTER, Residents
from minivault.models.shelf import Shelf, Shelved
from minivault.models.tasks import Tasks

logger = logging.getLogger("minivault.models")


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of a pool. Times in seconds, memory in bytes."""

    budget: int
    keep_alive: float = FOR_EVER
    """How long a model stays that is idle; one asked for at the start stays until room is needed."""
    max_waiting: int = 256
    """Requests that may wait for loads."""
    patience: float = 300.0
    """How long a request waits for a load."""


class ModelPool:
    """Serves the models of a catalog. Build it off the loop, then :meth:`start` it on the loop that will own it."""

    def __init__(
        self,
        catalog: Catalog,
        default: str,
        loader: ModelLoader,
        limits: PoolLimits,
        *,
        preload: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        hold: Callable[[Path], Closeable] = hold_folder,
    ) -> None:
        """``hold`` keeps a folder from being removed by another process, until what it gives is closed.

        Raises:
            UnknownModel: the catalog has none of a name in ``default`` or ``preload``.
        """
        self.limits = limits
        self._catalog = catalog
        self._clock = clock
        self._at_start = tuple(dict.fromkeys(catalog.get(name).name for name in (default, *preload)))
        self._starting = set(self._at_start)
        self._waiting = 0
        self._changes, self._tasks = Changes(), Tasks()
        self._shelf = Shelf(loader, catalog.get, self._room_beside, hold, self._tasks.spawn, self._changes)
        self._residents = Residents(limits.budget, self._shelf, clock, self._changes, self._tasks)
        self._loads = Loads(self._residents, catalog.get, loader, hold, clock, self._changes, self._tasks)
        self._closed = False

    @property
    def default_name(self) -> str:
        return self._at_start[0]

    def start(self) -> None:
        """Begin to load what was asked for at the start, in that order."""
        for name in self._at_start:
            self._tasks.spawn(self._preloaded(name))

    async def ready(self) -> None:
        """Wait for the default model.

        Raises:
            MiniVaultError: it could not be loaded.
        """
        (await self._ready(self.default_name, None)).release()

    # -- leases

    @asynccontextmanager
    async def lease(self, name: str | None, keep_alive: float | None = None) -> AsyncIterator[PooledModel]:
        """The model for the length of a block. Raises as :meth:`acquire`."""
        lease = await self.acquire(name, keep_alive)
        try:
            yield lease.model
        finally:
            lease.release()

    async def acquire(self, name: str | None, keep_alive: float | None = None) -> Lease:
        """A lease of ``name``, or of the default model, once it is loaded. The caller must release it.

        ``keep_alive``: seconds that the model stays after this use, for ever if negative; by default as its pool says,
        and of one that was asked for at the start until its room is needed.

        Raises:
            UnknownModel: there is no such model; names the closest.
            ModelTooLarge: it does not fit the budget.
            Overloaded: too many wait for loads already.
            ModelNotReady: the wait was too long, or the pool is closed.
            CheckpointError, ServerError: it could not be loaded.
        """
        name = name or self.default_name
        slot = self._slot_if_there(name)
        if slot is not None:
            return self._granted(slot, keep_alive, self._shelf.peek(name))
        if self._waiting >= self.limits.max_waiting:
            raise Overloaded("Too many requests wait for models to load.", retry_after=RETRY_AFTER)
        self._waiting += 1
        try:
            async with asyncio.timeout(self.limits.patience):
                return await self._ready(name, keep_alive)
        except TimeoutError:
            raise ModelNotReady(
                "The model was not loaded in time; it is still being loaded.", retry_after=RETRY_AFTER
            ) from None
        finally:
            self._waiting -= 1

    def _slot_if_there(self, name: str) -> Slot | None:
        """The slot of a model that can be used at once, with its adapter if ``name`` asks for one."""
        slot = self._residents.get(base_of(name))
        if slot is None or slot.state is not ModelState.LOADED:
            return None
        if slot.published is not None and slot.entry.published() != slot.published:  # removed, or another of its name
            self._residents.part(slot)
            return None
        return slot if adapter_of(name) is None or self._shelf.peek(name) is not None else None

    async def _ready(self, name: str, keep_alive: float | None) -> Lease:
        """A lease of a model, and of its adapter if ``name`` asks for one, once they are loaded."""
        if adapter_of(name) is None:
            return self._granted(await self._loaded(name), keep_alive)
        await asyncio.to_thread(self._catalog.get, name)  # an adapter that is not there loads no base
        slot = await self._loaded(base_of(name))
        base = self._granted(slot, keep_alive)
        try:
            item = await self._shelf.get(name, slot, base)
            return self._granted(slot, keep_alive, item)
        finally:
            base.release()

    async def _room_beside(self, base: Slot, need: int) -> None:
        await self._residents.make_room_beside(base, need)

    def _granted(self, slot: Slot, keep_alive: float | None, adapter: Shelved | None = None) -> Lease:
        assert slot.model is not None  # noqa: S101 - a slot that is LOADED has its model
        # Of one that is there from the start too: only who may unload it can say so (``Caller.stay``).
        slot.stays = slot.keep_alive if keep_alive is None else for_ever_if_negative(keep_alive)
        slot.used_at = self._clock()
        if adapter is not None:
            adapter.used_at = slot.used_at
        return Lease(self._released, slot, slot.model if adapter is None else adapter.model, adapter)

    def _released(self, slot: Slot, adapter: Shelved | None) -> None:
        slot.used_at = self._clock()
        if adapter is not None:
            adapter.used_at = slot.used_at
        if self._closed:
            return
        self._changes.tell()
        if adapter is not None:
            self._shelf.rested(adapter)
        slot.expires_at = slot.used_at + slot.stays
        self._rested(slot)

    def _rested(self, slot: Slot) -> None:
        """One user or waiter less: if it was the last, its time begins to run."""
        if self._closed or slot.in_use or slot.state is not ModelState.LOADED:
            return
        if slot.model is not None and slot.model.broken:
            self._replace(slot)
        else:
            self.expire()

    def _replace(self, slot: Slot) -> None:
        """A model that broke is of no use any more: the next who asks has it loaded anew; at once if it is pinned."""
        logger.error("model %s broke and is closed", slot.entry.name)
        self._residents.dismiss(slot)
        if slot.pinned:
            self._starting.add(slot.entry.name)
            self._tasks.spawn(self._preloaded(slot.entry.name))

    def expire(self) -> None:
        """Have the idle models whose time is over leave, and come back when the next one's is."""
        self._residents.expire()

    # -- waiting

    async def _preloaded(self, name: str) -> None:
        try:
            (await self._ready(name, None)).release()
        except Draining:
            pass
        except MiniVaultError as error:
            # One that was refused before its load began is in no log yet.
            if self._loads.failure_of(name) is None:
                self._loads.remember(name, error)
        finally:
            self._starting.discard(name)

    async def _loaded(self, name: str) -> Slot:
        """The slot of ``name``, in the state LOADED at the moment of return."""
        while True:
            slot = self._residents.get(name) or await self._begun(name)
            slot.waiting += 1
            try:
                await self._changes.until(lambda slot=slot: not slot.on_its_way or self._loads.draining)  # type: ignore[misc]
                if slot.on_its_way:
                    raise shutting_down()
            finally:
                slot.waiting -= 1
                self._left_waiting(slot)
            if slot.error is not None:
                raise slot.error
            if slot.state is ModelState.LOADED:
                return slot
            await self._residents.gone(slot)

    async def _begun(self, name: str) -> Slot:
        pinned = name in map(base_of, self._at_start)
        keep_alive = FOR_EVER if pinned else for_ever_if_negative(self.limits.keep_alive)
        return await self._loads.begin(name, pinned=pinned, keep_alive=keep_alive)

    def _left_waiting(self, slot: Slot) -> None:
        """One waiter less: a load that has not begun, and that nobody waits for any more, does not begin."""
        self._changes.tell()
        if slot.state is ModelState.WAITING and not slot.in_use and not slot.pinned:
            self._loads.give_up(slot)
        # Later, for whoever waited may be granted a lease first.
        asyncio.get_running_loop().call_soon(self._rested, slot)

    # -- by order

    async def load(self, name: str | None, keep_alive: float | None = None) -> None:
        """Have a model loaded, and wait for it. ``keep_alive`` becomes the model's own. Raises as :meth:`acquire`."""
        lease = await self.acquire(name, keep_alive)
        slot = self._residents.get(base_of(name or self.default_name))
        if keep_alive is not None and slot is not None:
            slot.keep_alive = slot.stays = for_ever_if_negative(keep_alive)
        lease.release()

    async def unload(self, name: str) -> bool:
        """Have a model leave once nobody uses it, and wait for that. Returns whether it was in memory.

        Raises:
            ModelNotReady: it is still being loaded or used when the pool's patience ends; it leaves when it can.
        """
        try:
            async with asyncio.timeout(self.limits.patience):
                return await (self._model_left(name) if adapter_of(name) is None else self._adapter_left(name))
        except TimeoutError:
            raise ModelNotReady("The model is still in use; it leaves when it is not.", retry_after=1) from None

    async def _model_left(self, name: str) -> bool:
        slot = self._residents.get(name)
        if slot is None:
            return False
        await self._changes.until(lambda: not slot.on_its_way)
        self._residents.send_away(slot)
        await self._residents.gone(slot)
        return slot.error is None

    async def _adapter_left(self, name: str) -> bool:
        await self._shelf.settled(name)
        item = self._shelf.send_away(name)
        if item is not None:
            await self._shelf.gone(item)
        return item is not None

    # -- what can be seen

    def peek(self, name: str) -> PooledModel | None:
        """A model if it is loaded, without holding it."""
        item = self._shelf.peek(name)
        slot = self._residents.get(base_of(name))
        return item.model if item is not None else slot.model if slot is not None else None

    def loaded(self) -> list[PooledModel]:
        return [slot.model for slot in self._residents.all() if slot.model is not None]

    def not_ready_because(self) -> str | None:
        """Why a request for the default model would fail or wait now; ``None`` when it is loaded, or rests unloaded."""
        name = self.default_name
        slot = self._residents.get(base_of(name))
        if slot is not None:
            rests = slot.state is ModelState.LOADED and name not in self._starting
            return None if rests or self._slot_if_there(name) is not None else "The model is still loading."
        failure = self._loads.failure_of(name)
        if failure is not None:
            return failure.message
        return "The model is still loading." if name in self._starting else None

    def listing(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """What the catalog says of each model that can be served, and by the names of the others what is wrong.

        A model in memory whose files changed is in both: it serves until it leaves. Blocking; may be called on any
        thread.
        """
        found, damaged = self._catalog.survey()
        sound = {entry.name for entry in found}
        stay = [entry for entry in self._in_memory() if entry.name not in sound and entry.has_files]
        gone = {entry.name: "Its files are gone; it serves until it leaves memory." for entry in stay}
        return [listed(entry, default=entry.name == self.default_name) for entry in [*found, *stay]], gone | damaged

    def describe(self, name: str) -> dict[str, Any]:
        """The listing's object of one model, its sizes and its template. Blocking; may be called on any thread.

        Of a model in memory whose files changed, what it was loaded from.

        Raises:
            UnknownModel: there is none of this name.
            CheckpointCorrupt: its files changed or are gone, and it is not in memory.
        """
        entry = self._entry(name)
        template = getattr(self.peek(name), "chat_template", None)
        shown = {"template": "" if template is None else template.source}
        return listed(entry, default=name == self.default_name) | described(entry) | shown

    def _entry(self, name: str) -> ModelEntry:
        try:
            return self._catalog.get(name)
        except MiniVaultError:
            found = next((entry for entry in self._in_memory() if entry.name == name), None)
            if found is None:
                raise
            return found

    def _in_memory(self) -> list[ModelEntry]:
        """What each model and adapter was loaded from, or is to be."""
        models, adapters = self._residents.all(), self._shelf.items()
        return [*(slot.entry for slot in models), *(item.entry for item in adapters)]

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each model in memory, on its way there, or that failed to get there."""
        return self._loads.states() | self._residents.states()

    # -- the end

    def drain(self) -> None:
        """Begin no load any more, and let nobody wait for one. What is loaded still serves."""
        self._loads.draining = True
        self._changes.tell()

    async def close(self) -> None:
        """Close every model. One that still loads is not waited for, and let go: a load takes minutes, and no thread
        can be stopped."""
        self._closed = True
        self.drain()
        self._residents.close()
        await self._tasks.ended()
