"""Lets go of what files and batches need no longer keep: what has had its time, and what was erased in the vault.

Knows nothing of how files and batches are kept. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from fastapi import FastAPI

from minivault.api.patience import LONGEST_WAIT, Patience
from minivault.batches.erasing import PREFIX
from minivault.batches.store import BatchStore
from minivault.service.records import Records

DAY = 86_400


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
        await self._patience.done(asyncio.to_thread(store.expire, self._now(), before))
        await self.erase(store)

    async def erase(self, store: BatchStore) -> None:
        """Follow the vault's erasures from where that was left off, unless the disk does not let it now."""
        await self._patience.done(self._erased(store))

    async def _erased(self, store: BatchStore) -> None:
        while True:
            mark = await asyncio.to_thread(store.erased_mark)
            ids, reached = await self._records.erased_ids(PREFIX, mark)
            if reached == mark:
                return
            await asyncio.to_thread(store.erase_calls, ids, reached)

    @property
    def _records(self) -> Records:
        records: Records = self._app.state.service.records
        return records
