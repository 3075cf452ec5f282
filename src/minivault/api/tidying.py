"""Lets go of what files and batches need no longer keep: what has had its time, and what was erased in the vault.

Knows nothing of how files and batches are kept. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fastapi import FastAPI

from minivault.api.patience import LONGEST_WAIT, Patience
from minivault.batches.erasing import ErasedCall
from minivault.batches.names import PREFIX
from minivault.batches.store import BatchStore
from minivault.service.records import Records
from minivault.telemetry.logging import describe_error, get_logger

DAY = 86_400
NOTED_TOGETHER = 10_000
"""Erased calls, about; each time the disk has to sync."""

logger = get_logger(__name__)


class Tidying:
    """Of one server's files and batches, once a minute and after each erasure."""

    def __init__(self, app: FastAPI, patience: Patience, now: Callable[[], int], retention: float) -> None:
        """``retention``: days; 0: nothing goes by its age alone."""
        self._app = app
        self._patience = patience
        self._now = now
        self._retention = retention
        self._due = asyncio.Event()
        """Something was erased in the vault."""
        self._following = asyncio.Lock()

    async def run(self, store: BatchStore) -> None:
        """Until the server closes."""
        self._records.on_erased = self._due.set
        while not self._patience.ended:
            self._due.clear()
            await self.once(store)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), LONGEST_WAIT)

    async def once(self, store: BatchStore) -> None:
        before = int(self._now() - self._retention * DAY) if self._retention else None
        await self._tried(asyncio.to_thread(store.expire, self._now(), before))
        await self.follow(store)
        await self._tried(self._written_over(store))

    async def follow(self, store: BatchStore) -> None:
        """Note the vault's erasures from where that was left off, unless it cannot be done now. After that nothing that
        was erased is read; it is written over by :meth:`run`."""
        await self._tried(self._followed(store))

    async def _followed(self, store: BatchStore) -> None:
        async with self._following:
            noted = mark = await asyncio.to_thread(store.erased_mark)
            gathered: list[ErasedCall] = []
            while True:
                calls, reached = await self._records.erased_calls(PREFIX, mark)
                gathered += calls
                ended = reached == mark
                if reached != noted and (ended or len(gathered) >= NOTED_TOGETHER):
                    await asyncio.to_thread(store.note_erased, gathered, reached)
                    noted, gathered = reached, []
                if ended:
                    return
                mark = reached

    async def _written_over(self, store: BatchStore) -> None:
        for batch_id in await asyncio.to_thread(store.noted):
            await self._tried(asyncio.to_thread(store.write_over, batch_id))

    async def _tried(self, doing: Awaitable[object]) -> None:
        """What fails is told, and tried again the next time: it keeps nothing else from being done."""
        try:
            await self._patience.done(doing)
        except Exception as error:
            logger.error("batches not tidied", **describe_error(error))  # noqa: TRY400 - may hold input

    @property
    def _records(self) -> Records:
        records: Records = self._app.state.service.records
        return records
