"""Where limits are counted, as the setting says: in this process, or in Redis. Knows nothing of who is limited."""

from __future__ import annotations

from collections.abc import Callable

from minivault.access.redis_windows import RedisWindows
from minivault.access.windows import MemoryWindows, WindowStorage


def windows_in(storage: str, clock: Callable[[], float]) -> WindowStorage:
    """``storage``: ``memory``, or the address of a Redis, which has a clock of its own.

    Raises:
        ConfigError: Redis' client is not installed, or it is neither.
    """
    return MemoryWindows(clock) if storage == "memory" else RedisWindows(storage)
