"""The models in memory: loaded when they are asked for, held while they are used, and gone when room is needed.

Several stay within one budget of bytes. Who leaves first is the one idle for longest; one in use leaves only after its
last lease, and takes no new one meanwhile, so that nobody waits for ever. Owned by the event loop; loaders run in
threads. Knows nothing of requests, engines or how a model is loaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from minivault.errors import CheckpointCorrupt, Draining, MiniVaultError, ModelNotReady, ModelTooLarge, Overloaded
from minivault.models import memory
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.folder import hold_folder
from minivault.models.listing import described, listed
from minivault.models.loading_thread import in_daemon_thread
from minivault.models.naming import adapter_of, base_of
from minivault.models.pooled import (
    FOR_EVER,
    Closeable,
    ModelLoader,
    ModelState,
    PooledModel,
    Progress,
    Report,
    Slot,
    for_ever_if_negative,
    state_of,
)
from minivault.models.shelf import Shelf, Shelved

T = TypeVar("T")
RETRY_AFTER = 5.0
"""Seconds for which a failed load is not tried again."""

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


class Lease:
    """A model that stays loaded until :meth:`release`. Idempotent; owned by the event loop."""

    def __init__(self, pool: ModelPool, slot: Slot, model: PooledModel, adapter: Shelved | None = None) -> None:
        self._pool = pool
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
        return Lease(self._pool, self._slot, self.model, self._adapter)

    def release(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._pool.released(slot, self._adapter)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: MiniVaultError
    until: float


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
        self._loader = loader
        self._clock = clock
        self._hold = hold
        self._at_start = tuple(dict.fromkeys(catalog.get(name).name for name in (default, *preload)))
        self._starting = set(self._at_start)
        self._shelf = Shelf(loader, catalog.get, self._room_for_adapter, hold, self._spawn)
        self._slots: dict[str, Slot] = {}
        self._failures: dict[str, _Failure] = {}
        self._waiting = 0
        self._making_room = asyncio.Lock()  # first come, first served
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._closed = False

    @property
    def default_name(self) -> str:
        return self._at_start[0]

    def start(self) -> None:
        """Begin to load what was asked for at the start, in that order."""
        for name in self._at_start:
            self._spawn(self._preloaded(name))

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

        ``keep_alive``: seconds that the model stays after this use, for ever if negative; by default as its pool says.

        Raises:
            UnknownModel: there is no such model; names the closest.
            ModelTooLarge: it does not fit the budget.
            Overloaded: too many wait for loads already.
            ModelNotReady: the wait was too long, or the pool is closed.
            CheckpointError, ServerError: it could not be loaded.
        """
        name = name or self.default_name
        slot = self._slots.get(base_of(name))
        if not self._is_there(name):
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
        assert slot is not None  # noqa: S101 - it is there
        return self._granted(slot, keep_alive, self._shelf.peek(name))

    def _is_there(self, name: str) -> bool:
        slot = self._slots.get(base_of(name))
        loaded = slot is not None and slot.state is ModelState.LOADED
        return loaded and (adapter_of(name) is None or self._shelf.peek(name) is not None)

    async def _ready(self, name: str, keep_alive: float | None) -> Lease:
        """A lease of a model, and of its adapter if ``name`` asks for one, once they are loaded."""
        if adapter_of(name) is None:
            return self._granted(await self._loaded(name), keep_alive)
        await asyncio.to_thread(self._catalog.get, name)  # an adapter that is not there loads no base
        slot = await self._loaded(base_of(name))
        base = self._granted(slot, keep_alive)
        try:
            item = await self._shelf.get(name, slot, base.again())
            return self._granted(slot, keep_alive, item)
        finally:
            base.release()

    async def _room_for_adapter(self, slot: Slot, need: int) -> None:
        """Have what is idle leave until ``need`` more bytes fit beside the base in ``slot``.

        Waits for nobody who is in use: those may wait for this one.

        Raises:
            ModelTooLarge: it does not fit beside its base.
            ModelNotReady: all that could leave is in use.
        """
        if slot.need - self._shelf.bytes_beside(slot) + need > self.limits.budget:
            raise ModelTooLarge("The adapter does not fit beside its base within memory_budget", param="model")
        while sum(each.takes for each in self._slots.values()) + need > self.limits.budget:
            idle = self._shelf.idle()
            if idle is not None:
                self._shelf.drop(idle)
                continue
            victim = self._victim()
            if victim is None or victim.in_use:
                raise ModelNotReady("There is no room for the adapter now; try again.", retry_after=RETRY_AFTER)
            self._dismiss(victim)
            await self._gone(victim)

    def _granted(self, slot: Slot, keep_alive: float | None, adapter: Shelved | None = None) -> Lease:
        assert slot.model is not None  # noqa: S101 - a slot that is LOADED has its model
        asked = slot.keep_alive if keep_alive is None else for_ever_if_negative(keep_alive)
        # No request has a model leave that is there for all from the start; an unload does, and a load's own time.
        slot.stays = max(asked, slot.keep_alive) if slot.pinned else asked
        slot.used_at = self._clock()
        if adapter is not None:
            adapter.used_at = slot.used_at
        return Lease(self, slot, slot.model if adapter is None else adapter.model, adapter)

    def released(self, slot: Slot, adapter: Shelved | None) -> None:
        """For :class:`Lease` alone."""
        slot.leases -= 1
        slot.used_at = self._clock()
        if adapter is not None:
            adapter.leases -= 1
            adapter.used_at = slot.used_at
        if self._closed:
            return
        self._notify()
        slot.expires_at = slot.used_at + slot.stays
        self._rested(slot)

    def _rested(self, slot: Slot) -> None:
        """One user or waiter less: if it was the last, its time begins to run."""
        if self._closed or slot.in_use or slot.state is not ModelState.LOADED:
            return
        if getattr(slot.model, "broken", False):
            self._replace(slot)
        else:
            self.expire()

    def _replace(self, slot: Slot) -> None:
        """A model that broke is of no use any more: the next who asks has it loaded anew; at once if it is pinned."""
        logger.error("model %s broke and is closed", slot.entry.name)
        self._dismiss(slot)
        if slot.pinned:
            self._starting.add(slot.entry.name)
            self._spawn(self._preloaded(slot.entry.name))

    async def _loaded(self, name: str) -> Slot:
        """The slot of ``name``, in the state LOADED at the moment of return."""
        while True:
            slot = self._slots.get(name) or await self._begun(name)
            slot.waiting += 1
            try:
                await self._until(lambda slot=slot: not slot.on_its_way or self._draining)  # type: ignore[misc]
                if slot.on_its_way:
                    raise _going()
            finally:
                slot.waiting -= 1
                self._left_waiting(slot)
            if slot.error is not None:
                raise slot.error
            if slot.state is ModelState.LOADED:
                return slot
            await self._gone(slot)

    def _left_waiting(self, slot: Slot) -> None:
        """One waiter less: a load that has not begun, and that nobody waits for any more, does not begin."""
        self._notify()
        if slot.state is ModelState.WAITING and not slot.in_use and not slot.pinned and slot.load is not None:
            # Order: out of the table first, so that the next who asks does not find what is being given up.
            self._forget(slot)
            slot.load.cancel()
        # Later, for whoever waited may be granted a lease first.
        asyncio.get_running_loop().call_soon(self._rested, slot)

    # -- loads

    async def _preloaded(self, name: str) -> None:
        try:
            (await self._ready(name, None)).release()
        except Draining:
            pass
        except MiniVaultError as error:
            # One that was refused before its load began is in no log yet.
            if self._failures.get(name) is None:
                self._remember(name, error)
        finally:
            self._starting.discard(name)

    async def _begun(self, name: str) -> Slot:
        """A slot of its own for ``name``, whose load has begun."""
        self._refuse_if_it_just_failed(name)
        entry, need = await asyncio.to_thread(self._looked_up, name)
        self._refuse_if_it_just_failed(name)
        if self._draining:
            raise _going()
        if (found := self._slots.get(name)) is not None:  # another request was faster
            return found
        pinned = name in map(base_of, self._at_start)
        slot = Slot(entry, need, pinned, FOR_EVER if pinned else for_ever_if_negative(self.limits.keep_alive))
        slot.stays = slot.keep_alive
        self._slots[name] = slot
        slot.load = self._spawn(self._load(slot))
        return slot

    def _refuse_if_it_just_failed(self, name: str) -> None:
        failure = self._failures.get(name)
        if failure is not None and self._clock() < failure.until:
            raise failure.error

    def _looked_up(self, name: str) -> tuple[ModelEntry, int]:
        entry = self._catalog.get(name)
        need = self._loader.need(entry)
        if need > self.limits.budget:
            raise ModelTooLarge(
                f"The model {entry.name} needs {memory.readable(need)} of memory, and memory_budget allows "
                f"{memory.readable(self.limits.budget)} for all models",
                param="model",
            )
        return entry, need

    async def _load(self, slot: Slot) -> None:
        name = slot.entry.name
        try:
            async with self._making_room:
                await self._make_room(slot.need)
                slot.state = ModelState.LOADING
            model, slot.hold = await in_daemon_thread(lambda: self._held_and_loaded(slot))
        except asyncio.CancelledError:
            self._failed(slot, _going())
            raise
        except MiniVaultError as error:
            self._remember(name, error)
            self._failed(slot, error)
        except Exception:
            logger.exception("model %s not loaded", name)
            unknown = ModelNotReady("The model could not be loaded; the log of the server says why.")
            self._failures[name] = _Failure(unknown, self._clock() + RETRY_AFTER)
            self._failed(slot, unknown)
        else:
            self._arrived(slot, model)

    def _held_and_loaded(self, slot: Slot) -> tuple[PooledModel, Closeable]:
        try:
            hold = self._hold(slot.entry.path)
        except BlockingIOError:
            raise ModelNotReady("The model is being changed; try again.", retry_after=RETRY_AFTER) from None
        except OSError:
            raise CheckpointCorrupt("The files of the model are gone") from None
        try:
            return self._loader.load(slot.entry, self._reporter(slot)), hold
        except BaseException:
            hold.close()
            raise

    def _arrived(self, slot: Slot, model: PooledModel) -> None:
        slot.model = model
        slot.need = model.memory_bytes or slot.need
        slot.state, slot.progress = ModelState.LOADED, None
        slot.used_at = self._clock()
        slot.expires_at = slot.used_at + slot.stays
        self._failures.pop(slot.entry.name, None)
        logger.info("model %s loaded: %s", slot.entry.name, memory.readable(slot.need))
        self._notify()
        self.expire()

    def _failed(self, slot: Slot, error: MiniVaultError) -> None:
        slot.state, slot.error, slot.progress = ModelState.FAILED, error, None
        self._forget(slot)
        self._notify()

    def _remember(self, name: str, error: MiniVaultError) -> None:
        logger.error("model %s not loaded: %s", name, error.message)
        self._failures[name] = _Failure(error, self._clock() + RETRY_AFTER)

    def _forget(self, slot: Slot) -> None:
        if self._slots.get(slot.entry.name) is slot:
            del self._slots[slot.entry.name]

    def _reporter(self, slot: Slot) -> Report:
        def report(phase: str, done: int, total: int) -> None:
            slot.progress = Progress(phase, done, total)

        return report

    # -- room

    async def _make_room(self, need: int) -> None:
        """Have models leave until ``need`` bytes are free; the caller has checked that they can be."""
        while sum(slot.takes for slot in self._slots.values()) + need > self.limits.budget:
            victim = self._victim()
            if victim is None:  # what takes the room is on its way in or out
                await self._something_new()
                continue
            self._dismiss(victim)
            try:
                await self._gone(victim)
            except asyncio.CancelledError:
                self._recall(victim)
                raise

    async def _something_new(self) -> None:
        before = self._outline()
        await self._until(lambda: self._outline() != before)

    def _outline(self) -> list[tuple[int, ModelState, int]]:
        return [(id(slot), slot.state, slot.waiting) for slot in self._slots.values()]

    def _victim(self) -> Slot | None:
        """Who leaves next: the one idle for longest, else of those in use the one whose last use began first.

        One that others have waited for has first to serve them.
        """
        loaded = [slot for slot in self._slots.values() if slot.state is ModelState.LOADED and not slot.waiting]
        return min(loaded, key=lambda slot: (slot.in_use, slot.used_at), default=None)

    def _dismiss(self, slot: Slot) -> None:
        """Have a model leave after its last lease; it takes no new one from now on."""
        slot.state = ModelState.LEAVING
        slot.leaving = self._spawn(self._close_when_idle(slot))
        self._notify()

    def _recall(self, slot: Slot) -> None:
        """Nobody needs its room any more: a model that has not left yet stays."""
        if slot.leases and slot.leaving is not None:
            slot.leaving.cancel()
            slot.state = ModelState.LOADED
            self._notify()

    async def _settled(self, slot: Slot) -> None:
        await self._until(lambda: not slot.on_its_way)

    async def _gone(self, slot: Slot) -> None:
        await self._until(lambda: self._slots.get(slot.entry.name) is not slot)

    async def _close_when_idle(self, slot: Slot) -> None:
        await self._until(lambda: slot.leases == 0)
        await self._close(slot)

    async def _close(self, slot: Slot) -> None:
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
            self._forget(slot)
            logger.info("model %s unloaded", slot.entry.name)
            self._notify()

    async def load(self, name: str | None, keep_alive: float | None = None) -> None:
        """Have a model loaded, and wait for it. ``keep_alive`` becomes the model's own. Raises as :meth:`acquire`."""
        lease = await self.acquire(name, keep_alive)
        if keep_alive is not None:
            slot = self._slots[base_of(name or self.default_name)]
            slot.keep_alive = slot.stays = for_ever_if_negative(keep_alive)
        lease.release()

    async def unload(self, name: str) -> bool:
        """Have a model leave once nobody uses it, and wait for that. Returns whether it was in memory.

        Raises:
            ModelNotReady: it is still being loaded or used when the pool's patience ends; it leaves when it can.
        """
        if adapter_of(name) is not None:
            return await self._drop_adapter(name)
        slot = self._slots.get(name)
        if slot is None:
            return False
        try:
            async with asyncio.timeout(self.limits.patience):
                await self._settled(slot)
                if slot.state is ModelState.LOADED:
                    self._dismiss(slot)
                await self._gone(slot)
        except TimeoutError:
            raise ModelNotReady("The model is still in use; it leaves when it is not.", retry_after=1) from None
        return slot.error is None

    async def _drop_adapter(self, name: str) -> bool:
        await self._shelf.settled(name)
        item = self._shelf.peek(name)
        if item is not None:
            self._shelf.drop(item)
        return item is not None

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
                self._dismiss(slot)
            else:
                following = min(following, slot.expires_at)
        if following != FOR_EVER and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(following - now, self.expire)

    # -- what can be seen

    def peek(self, name: str) -> PooledModel | None:
        """A model if it is loaded, without holding it."""
        item = self._shelf.peek(name)
        slot = self._slots.get(base_of(name))
        return item.model if item is not None else slot.model if slot is not None else None

    def loaded(self) -> list[PooledModel]:
        return [slot.model for slot in self._slots.values() if slot.model is not None]

    def not_ready_because(self) -> str | None:
        """Why a request for the default model would fail or wait now; ``None`` when it is loaded, or rests unloaded."""
        name = self.default_name
        slot = self._slots.get(base_of(name))
        if slot is not None:
            loaded = slot.state is ModelState.LOADED
            begun = self._is_there(name) or (loaded and name not in self._starting)
            return None if begun else "The model is still loading."
        failure = self._failures.get(name)
        if failure is not None:
            return failure.error.message
        return "The model is still loading." if name in self._starting else None

    def listing(self) -> list[dict[str, Any]]:
        """What the catalog says of each model. Blocking; may be called on any thread."""
        return [listed(entry, default=entry.name == self.default_name) for entry in self._catalog.list()]

    def describe(self, name: str) -> dict[str, Any]:
        """The listing's object of one model, its sizes and its template. Blocking; may be called on any thread.

        Raises:
            UnknownModel: there is none of this name.
        """
        entry = self._catalog.get(name)
        template = getattr(self.peek(name), "chat_template", None)
        shown = {"template": "" if template is None else template.source}
        return listed(entry, default=name == self.default_name) | described(entry) | shown

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each model in memory, on its way there, or that failed to get there."""
        failed = {
            name: state_of(ModelState.FAILED, error=failure.error.message) for name, failure in self._failures.items()
        }
        adapters = {
            item.entry.name: self._state_of(item.slot)
            | {"memory_bytes": item.memory_bytes, "in_use": item.leases, "progress": None}
            for item in self._shelf.items()
        }
        return failed | adapters | {name: self._state_of(slot) for name, slot in self._slots.items()}

    def _state_of(self, slot: Slot) -> dict[str, Any]:
        now = self._clock()
        expires = now + slot.stays if slot.in_use else slot.expires_at
        progress = slot.progress
        return state_of(
            slot.state,
            memory_bytes=slot.takes - self._shelf.bytes_beside(slot),
            in_use=slot.leases,
            expires_in=None if expires == FOR_EVER else max(0.0, expires - now),
            progress=None
            if progress is None
            else {
                "phase": progress.phase,
                "done_bytes": progress.done_bytes,
                "total_bytes": progress.total_bytes,
            },
        )

    # -- the end

    def drain(self) -> None:
        """Begin no load any more, and let nobody wait for one. What is loaded still serves."""
        self._draining = True
        self._notify()

    async def close(self) -> None:
        """Close every model. One that still loads is not waited for, and let go: a load takes minutes, and no thread
        can be stopped."""
        self._closed = True
        self.drain()
        if self._timer is not None:
            self._timer.cancel()
        for slot in list(self._slots.values()):
            if slot.load is not None and not slot.load.done():
                slot.load.cancel()
        closing = [slot for slot in self._slots.values() if slot.state is ModelState.LOADED]
        for slot in self._slots.values():
            slot.leases = 0  # the service has drained; what is left has no reader
        for slot in closing:
            self._dismiss(slot)
        while running := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(running)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _notify(self) -> None:
        """Wake all who wait for something to change: each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()


def _going() -> Draining:
    return Draining("The server is shutting down.", retry_after=RETRY_AFTER)
