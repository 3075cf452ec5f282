"""Lets the threads that compute make room for others of this process.

On a machine whose every core computes, a thread that wakes for half a millisecond of work (a record's commit, say)
waits for the end of somebody's time slice, which is several milliseconds long, and it wakes more than once. Knows
nothing of who waits, or what for.
"""

from __future__ import annotations

from minivault.engine.native import _native


def give_way(waits: bool) -> None:
    """From ``True`` until ``False``, compute threads offer their cores between pieces of work. Any thread may call."""
    _native.give_way(waits)
