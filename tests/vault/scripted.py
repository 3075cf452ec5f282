"""A writer with a script: the real one, but for the commits that the script breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from minivault.vault.batch import Batch
from minivault.vault.database import Connection, Writer
from minivault.vault.merkle import Tree


class Broken(Exception):
    """What a scripted commit raises."""


class Script:
    """What becomes of each commit, by turns; once it is used up, all go well. Give ``open`` to ``Ledger.open``."""

    def __init__(self, *steps: Callable[[Callable[[], None]], None]) -> None:
        self.steps = list(steps)
        self.opened = 0

    def open(self, path: Path) -> Writer:
        self.opened += 1
        real = Writer.open(path)
        return ScriptedWriter(real.connection, self)


class ScriptedWriter(Writer):
    def __init__(self, connection: Connection, script: Script) -> None:
        super().__init__(connection)
        self._script = script

    def commit(self, batch: Batch, tree: Tree) -> None:
        step = self._script.steps.pop(0) if self._script.steps else good
        step(lambda: super(ScriptedWriter, self).commit(batch, tree))


def good(commit: Callable[[], None]) -> None:
    commit()


def lost(commit: Callable[[], None]) -> None:
    """The commit fails and nothing has landed."""
    raise Broken


def landed(commit: Callable[[], None]) -> None:
    """The commit fails although everything has landed, as after a failed fsync."""
    commit()
    raise Broken


class Held:
    """A commit that hangs until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, commit: Callable[[], None]) -> None:
        self.begun.set()
        assert self.let_go.wait(30)
        commit()


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for another thread's work to show; fails if it does not."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not true():
        assert time.monotonic() < end, "it never came true"
        pause.wait(0.002)
