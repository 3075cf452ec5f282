"""What is told in the log of something that stops working while a server runs: a warning when it begins, and one when
it is over, however many are turned away in between.

Knows nothing of what stopped, of how it is noticed, or of where logs go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

QUIET_SECONDS = 1.0
"""Without a failure, before it counts as over: what fails and works by turns is told as one outage."""
MAX_REASONS = 8
"""Of one outage that are told."""


class Outage:
    """Whether one thing works, as those find it who use it. Thread-safe."""

    def __init__(
        self, logger: logging.Logger, begun: str, over: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``begun``: what the first failure is told as, with its reason behind it; ``over``: what the end is.
        ``clock``: seconds."""
        self._logger = logger
        self._begun = begun
        self._over = over
        self._clock = clock
        self._lock = threading.Lock()
        # Under the lock; whether there is any is read without it.
        self._told: set[str] = set()
        self._failed_at = 0.0

    def fails(self, reason: str) -> None:
        """It did not work. A reason is told once an outage; it may hold no secret, and nothing of a client's."""
        with self._lock:
            self._failed_at = self._clock()
            new = reason not in self._told and len(self._told) < MAX_REASONS
            if new:
                self._told.add(reason)
        if new:
            self._logger.warning("%s: %s", self._begun, reason)

    def works(self) -> None:
        """It worked. Costs nothing where it did before."""
        if not self._told:
            return
        with self._lock:
            over = bool(self._told) and self._clock() - self._failed_at >= QUIET_SECONDS
            if over:
                self._told.clear()
        if over:
            self._logger.warning("%s", self._over)
