"""The loads of a pool: each in a thread, when there is room for its model; one that failed rests before the next try.

Owned by the event loop. Knows nothing of who waits for a model, or of how long it stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import CheckpointCorrupt, Draining, MiniVaultError, ModelNotReady, ModelTooLarge
from minivault.models import memory
from minivault.models.catalog import ModelEntry
from minivault.models.changes import Changes
from minivault.models.json_file import shortage_in
from minivault.models.loading_thread import in_daemon_thread
from minivault.models.pooled import Closeable, ModelLoader, ModelState, PooledModel, Progress, Report, Slot, state_of
from minivault.models.residents import RETRY_AFTER, Residents
from minivault.models.tasks import Tasks

logger = logging.getLogger("minivault.models")


@dataclass(frozen=True, slots=True)
class _Failure:
    error: MiniVaultError
    until: float


class Loads:
    """What brings models of a catalog among the residents of a pool."""

    def __init__(
        self,
        residents: Residents,
        look_up: Callable[[str], ModelEntry],
        loader: ModelLoader,
        hold: Callable[[Path], Closeable],
        clock: Callable[[], float],
        changes: Changes,
        tasks: Tasks,
    ) -> None:
        self.draining = False
        """No load begins any more."""
        self._residents = residents
        self._look_up = look_up
        self._loader = loader
        self._hold = hold
        self._clock = clock
        self._changes = changes
        self._tasks = tasks
        self._failures: dict[str, _Failure] = {}
        self._making_room = asyncio.Lock()  # first come, first served

    async def begin(self, name: str, *, pinned: bool, keep_alive: float) -> Slot:
        """A slot of its own for ``name``, whose load has begun; the one that is there, if another was faster.

        Raises:
            UnknownModel: there is no such model.
            ModelTooLarge: it does not fit the budget.
            MiniVaultError: its last load failed a moment ago: why.
            Draining: no load begins any more.
        """
        self._refuse_if_it_just_failed(name)
        entry, need = await asyncio.to_thread(self._looked_up, name)
        self._refuse_if_it_just_failed(name)
        if self.draining:
            raise shutting_down()
        if (found := self._residents.get(name)) is not None:
            return found
        slot = Slot(entry, need, pinned, keep_alive, stays=keep_alive)
        self._residents.add(slot)
        slot.load = self._tasks.spawn(self._load(slot))
        return slot

    def give_up(self, slot: Slot) -> None:
        """End a load that waits for room."""
        # Order: out of the table first, so that the next who asks does not find what is being given up.
        self._residents.forget(slot)
        if slot.load is not None:
            slot.load.cancel()

    def failure_of(self, name: str) -> MiniVaultError | None:
        """Why the last load failed; ``None`` if it did not."""
        failure = self._failures.get(name)
        return None if failure is None else failure.error

    def remember(self, name: str, error: MiniVaultError) -> None:
        """Log and keep why there is no such model in memory: for a while, the next who asks is told the same."""
        logger.error("model %s not loaded: %s", name, error.message)
        self._failures[name] = _Failure(error, self._clock() + RETRY_AFTER)

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each model that failed to load, as :func:`minivault.models.pooled.state_of` has it."""
        failures = self._failures.items()
        return {name: state_of(ModelState.FAILED, error=failure.error.message) for name, failure in failures}

    def _refuse_if_it_just_failed(self, name: str) -> None:
        failure = self._failures.get(name)
        if failure is not None and self._clock() < failure.until:
            raise failure.error

    def _looked_up(self, name: str) -> tuple[ModelEntry, int]:
        """The entry, and the bytes that it will take. Blocking."""
        entry = self._look_up(name)
        need = self._loader.need(entry)
        if need > self._residents.budget:
            raise ModelTooLarge(
                f"The model {entry.name} needs {memory.readable(need)} of memory, and memory_budget allows "
                f"{memory.readable(self._residents.budget)} for all models",
                param="model",
            )
        return entry, need

    async def _load(self, slot: Slot) -> None:
        name = slot.entry.name
        try:
            async with self._making_room:
                await self._residents.make_room(slot.need)
                slot.state = ModelState.LOADING
            model, slot.hold = await in_daemon_thread(lambda: self._held_and_loaded(slot))
        except asyncio.CancelledError:
            self._failed(slot, shutting_down())
            raise
        except MiniVaultError as error:
            self.remember(name, error)
            self._failed(slot, error)
        except Exception:
            logger.exception("model %s not loaded", name)
            unknown = ModelNotReady("The model could not be loaded; the log of the server says why.")
            self._failures[name] = _Failure(unknown, self._clock() + RETRY_AFTER)
            self._failed(slot, unknown)
        else:
            self._arrived(slot, model)

    def _held_and_loaded(self, slot: Slot) -> tuple[PooledModel, Closeable | None]:
        if not slot.entry.has_files and not slot.pinned:
            # What takes no files of its own may be removed while it is loaded: the next who asks finds out.
            slot.published = slot.entry.published()
            return self._loader.load(slot.entry, _reporter(slot)), None
        try:
            hold = self._hold(slot.entry.path)
        except BlockingIOError:
            raise ModelNotReady("The model is being changed; try again.", retry_after=RETRY_AFTER) from None
        except OSError as error:
            raise shortage_in(error) or CheckpointCorrupt("The files of the model are gone") from None
        try:
            return self._loader.load(slot.entry, _reporter(slot)), hold
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
        self._changes.tell()
        self._residents.expire()

    def _failed(self, slot: Slot, error: MiniVaultError) -> None:
        slot.state, slot.error, slot.progress = ModelState.FAILED, error, None
        self._residents.forget(slot)
        self._changes.tell()


def shutting_down() -> Draining:
    return Draining("The server is shutting down.", retry_after=RETRY_AFTER)


def _reporter(slot: Slot) -> Report:
    def report(phase: str, done: int, total: int) -> None:
        slot.progress = Progress(phase, done, total)

    return report
