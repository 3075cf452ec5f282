"""The adapters in memory, each beside its base: loaded when first asked for, dropped with the base or for room.

Owned by the event loop; loading runs in threads. Knows nothing of engines, nor of what a budget is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from minivault.errors import CheckpointCorrupt, ModelNotReady, UnsupportedFeature
from minivault.models.catalog import ModelEntry
from minivault.models.changes import Changes
from minivault.models.json_file import shortage_in
from minivault.models.loading_thread import in_daemon_thread
from minivault.models.pooled import Closeable, ModelLoader, PooledModel, Slot

logger = logging.getLogger("minivault.models")


@runtime_checkable
class AdapterLoader(Protocol):
    """A loader that can put an adapter beside a base that it loaded. Both methods block."""

    def adapter_need(self, entry: ModelEntry) -> int:
        """Bytes of memory that the adapter will take."""

    def adapt(self, entry: ModelEntry, base: PooledModel) -> PooledModel:
        """The base with the adapter. It owns nothing of the base's; ``memory_bytes`` is the adapter's."""


@dataclass(eq=False, slots=True)
class Shelved:
    """An adapter in memory."""

    entry: ModelEntry
    slot: Slot
    """The base's; its ``need`` counts the adapter's bytes."""
    model: PooledModel
    hold: Closeable
    memory_bytes: int
    leases: int = 0
    leaving: bool = False
    """It takes no new lease, and is dropped after its last."""
    used_at: float = 0.0


class Shelf:
    """The adapters of one pool, by their full names."""

    def __init__(
        self,
        loader: ModelLoader,
        look_up: Callable[[str], ModelEntry],
        make_room: Callable[[Slot, int], Awaitable[None]],
        hold: Callable[[Path], Closeable],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        changes: Changes,
    ) -> None:
        """``make_room`` returns once so many more bytes fit beside a base, or raises."""
        self._loader = loader
        self._look_up = look_up
        self._make_room = make_room
        self._hold = hold
        self._spawn = spawn
        self._changes = changes
        self._items: dict[str, Shelved] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._wanted: Counter[str] = Counter()
        """How many wait for each; they count as users."""

    def peek(self, name: str) -> Shelved | None:
        """An adapter that can be leased."""
        item = self._items.get(name)
        return None if item is None or item.leaving else item

    def items(self) -> list[Shelved]:
        return list(self._items.values())

    def bytes_beside(self, slot: Slot) -> int:
        """What the adapters of the base in ``slot`` take."""
        return sum(item.memory_bytes for item in self._items.values() if item.slot is slot)

    async def get(self, name: str, slot: Slot, base: Leased) -> Shelved:
        """The adapter ``name`` of the model in ``slot``, of which ``base`` is a lease; to be leased at once.

        Raises:
            MiniVaultError: it could not be loaded, or there is no room for it.
        """
        self._wanted[name] += 1
        try:
            while (item := self.peek(name)) is None:
                if (leaving := self._items.get(name)) is not None:
                    await self.gone(leaving)
                else:
                    await asyncio.shield(self._load(name, slot, base))
            return item
        finally:
            self._wanted[name] -= 1
            self._wanted += Counter()  # keeps those above zero

    def drop(self, item: Shelved) -> None:
        """Forget an adapter. Sequences that run with it end with it."""
        if self._items.get(item.entry.name) is item:
            del self._items[item.entry.name]
            item.slot.need -= item.memory_bytes
            item.hold.close()
            logger.info("adapter %s dropped", item.entry.name)
            self._changes.tell()

    def send_away(self, name: str) -> Shelved | None:
        """Have an adapter leave after its last lease; ``None``: it is not here."""
        item = self._items.get(name)
        if item is not None:
            item.leaving = True
            self.rested(item)
        return item

    def rested(self, item: Shelved) -> None:
        """One lease less: if it was the last of one that leaves, it has left."""
        if item.leaving and not item.leases:
            self.drop(item)

    async def gone(self, item: Shelved) -> None:
        await self._changes.until(lambda: self._items.get(item.entry.name) is not item)

    async def settled(self, name: str) -> None:
        """Wait until ``name`` is not being loaded any more."""
        if name in self._loading:
            await asyncio.wait([self._loading[name]])

    def idle(self) -> Shelved | None:
        """The one that nobody has used for longest; ``None`` if all are used or waited for."""
        unused = [item for name, item in self._items.items() if not item.leases and not self._wanted[name]]
        return min(unused, key=lambda item: item.used_at, default=None)

    def _load(self, name: str, slot: Slot, base: Leased) -> asyncio.Task[None]:
        """The load of ``name``, which holds its base itself: it goes on when nobody waits for it any more."""
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = self._spawn(self._loaded(name, slot, base.again()))
            task.add_done_callback(lambda done: self._settled(name, done))
        return task

    async def _loaded(self, name: str, slot: Slot, base: Leased) -> None:
        loader, model = self._loader, slot.model
        reserved = 0
        try:
            if model is None:  # as the pool closes
                raise ModelNotReady("The base of this adapter has left memory.", retry_after=1)
            if not isinstance(loader, AdapterLoader):
                raise UnsupportedFeature("adapters are not for this engine", param="model")
            entry = await asyncio.to_thread(self._look_up, name)
            need = await asyncio.to_thread(loader.adapter_need, entry)
            await self._make_room(slot, need)
            slot.need += need
            reserved = need
            hold = self._held(entry)
            try:
                adapted = await in_daemon_thread(lambda: loader.adapt(entry, model))
            except BaseException:
                hold.close()
                raise
            slot.need += adapted.memory_bytes - need
            self._items[name] = Shelved(entry, slot, adapted, hold, adapted.memory_bytes)
            logger.info("adapter %s loaded", name)
        except BaseException:
            slot.need -= reserved
            raise
        finally:
            base.release()

    def _held(self, entry: ModelEntry) -> Closeable:
        try:
            return self._hold(entry.path)
        except BlockingIOError:
            raise ModelNotReady("The adapter is being changed; try again.", retry_after=1) from None
        except OSError as error:
            raise shortage_in(error) or CheckpointCorrupt("The files of the adapter are gone") from None

    def _settled(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loading[name]
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; if nobody does, it is no news


class Leased(Protocol):
    """A lease of a model in memory."""

    def again(self) -> Self: ...
    def release(self) -> None: ...
