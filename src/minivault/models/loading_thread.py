"""Long work in a thread that nobody has to wait for at the end. Knows nothing of what the work is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from minivault.errors import ModelNotReady

logger = logging.getLogger("minivault.models")

LOADING_THREAD = "minivault-load"
T = TypeVar("T")


def load_under_way() -> bool:
    """Whether a thread loads a model, be it for a service that has ended."""
    return any(thread.name == LOADING_THREAD for thread in threading.enumerate())


def in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """As ``asyncio.to_thread``, in a thread that neither the loop nor the process waits for at its end.

    What breaks off without an ``Exception`` is told as ``ModelNotReady``.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        except BaseException:  # also a panic of a library in another language: nobody may be left waiting
            logger.exception("the load of a model broke off")
            error = ModelNotReady("The model could not be loaded; the log of the server says why.")
        # The loop may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=LOADING_THREAD, daemon=True).start()
    return future
