"""What the pool keeps of each model: its state, its users and what it takes. Values; knows nothing of the pool."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from minivault.errors import MiniVaultError
from minivault.models.catalog import ModelEntry

FOR_EVER = math.inf

Report = Callable[[str, int, int], None]
"""Called by a loader, on its thread, with the phase, and bytes done and in all."""


Published = tuple[int, int]
"""What tells one description of a model from another of the same name: the file's inode, and its time in ns."""


class PooledModel(Protocol):
    """What a loader makes: something that answers, and takes memory until it is closed."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str:
        """As the entry has it: ``generation`` or ``embedding``."""

    @property
    def memory_bytes(self) -> int:
        """What it really takes; 0 where it cannot tell."""

    @property
    def broken(self) -> bool:
        """It has stopped for good, and is to be loaded anew."""

    async def close(self) -> None: ...


class Closeable(Protocol):
    def close(self) -> None: ...


class ModelLoader(Protocol):
    """Makes entries ready to answer. Both methods block and are called in threads."""

    def need(self, entry: ModelEntry) -> int:
        """Bytes of memory that the model will take; quick, from its description alone."""

    def load(self, entry: ModelEntry, report: Report) -> PooledModel: ...


class ModelState(StrEnum):
    """Where a model of the catalog is on its way through memory."""

    UNLOADED = "unloaded"
    WAITING = "waiting"
    """For room."""
    LOADING = "loading"
    LOADED = "loaded"
    LEAVING = "leaving"
    """It ends what it does, and takes nothing new."""
    FAILED = "failed"
    """The last load failed; the next request tries again."""


@dataclass(frozen=True, slots=True)
class Progress:
    phase: str
    done_bytes: int
    total_bytes: int


@dataclass(eq=False, slots=True)
class Slot:
    """A model in memory, or on its way there. Owned by the event loop, but for ``progress`` (the loading thread)."""

    entry: ModelEntry
    need: int
    pinned: bool
    """Asked for at the start: loaded whether anybody waits or not."""
    keep_alive: float
    state: ModelState = ModelState.WAITING
    progress: Progress | None = None
    model: PooledModel | None = None
    hold: Closeable | None = None
    """Keeps its folder from being removed."""
    published: Published | None = None
    """Of one without a hold: its description as it was when it was loaded."""
    error: MiniVaultError | None = None
    leases: int = 0
    waiting: int = 0
    """Who waits for it to be loaded; they count as users."""
    used_at: float = 0.0
    sent_away: bool = False
    """Somebody had it unloaded: it leaves, even if nobody needs its room any more."""
    stays: float = 0.0
    """Seconds that it stays after the last lease, as that one said."""
    expires_at: float = FOR_EVER
    load: asyncio.Task[None] | None = None
    leaving: asyncio.Task[None] | None = None

    @property
    def in_use(self) -> bool:
        return self.leases + self.waiting > 0

    @property
    def on_its_way(self) -> bool:
        return self.state in (ModelState.WAITING, ModelState.LOADING)

    @property
    def takes(self) -> int:
        """Bytes that are spoken for."""
        return 0 if self.state is ModelState.WAITING else self.need


def for_ever_if_negative(seconds: float) -> float:
    return FOR_EVER if seconds < 0 else seconds


def state_of(state: ModelState, **known: Any) -> dict[str, Any]:
    """The part of a model's listing that changes."""
    nothing = {"memory_bytes": 0, "in_use": 0, "expires_in": None, "progress": None, "error": None}
    return {"state": state.value, "loaded": state is ModelState.LOADED} | nothing | known


def unloaded() -> dict[str, Any]:
    """The state of a model that is not in memory."""
    return state_of(ModelState.UNLOADED)
