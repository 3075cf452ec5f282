"""Responses that are made while nobody waits for them, so that they can be cancelled by their id.

Knows nothing of how they are asked for, shown or recorded. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from minivault.errors import MiniVaultError
from minivault.service import Generation
from minivault.telemetry.logging import describe_error, get_logger

logger = get_logger(__name__)


class Background:
    """What runs in the background of one server. How each ends is on record, and nowhere else."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Generation, asyncio.Task[None]]] = {}

    def run(self, generation: Generation, ended: Callable[[], None]) -> None:
        """Take ``generation`` over, and call ``ended`` once it has its outcome, or cannot get one."""
        task = asyncio.get_running_loop().create_task(self._run(generation, ended))
        self._running[generation.id] = (generation, task)

    async def cancel(self, call_id: str) -> None:
        """Stop a call, and wait until that is on record. Does nothing where it does not run."""
        if call_id in self._running:
            generation, task = self._running[call_id]
            generation.abandon()
            await asyncio.wait((task,))

    async def close(self) -> None:
        """Wait for those whose calls have been drained."""
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()])

    async def _run(self, generation: Generation, ended: Callable[[], None]) -> None:
        try:
            await generation.result()
        except MiniVaultError:
            pass  # on record as failed, if anything can be recorded
        except Exception as error:
            logger.error("response failed", **describe_error(error))  # noqa: TRY400 - a traceback may hold input
        finally:
            generation.close()
            del self._running[generation.id]
            ended()
