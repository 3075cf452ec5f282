"""A pool of models over a loader, a catalog and a clock with a script."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from minivault.errors import CheckpointCorrupt, UnknownModel
from minivault.models.catalog import ModelEntry
from minivault.models.pool import ModelPool, PoolLimits
from minivault.models.pooled import PooledModel, Report

NAMES = ("a", "b", "c")


class Panic(BaseException):
    """No ``Exception``, as panics of libraries in Rust are none."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Model:
    kind = "generation"

    def __init__(self, name: str, memory_bytes: int) -> None:
        self.name = name
        self.memory_bytes = memory_bytes
        self.closed = False
        self.broken = False

    async def close(self) -> None:
        self.closed = True


class Loader:
    """Every model needs 10 bytes. ``held`` names wait for :meth:`let`; ``faults`` names fail, once each time listed,
    and ``panics`` as a library in another language does."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.held: set[str] = set()
        self.faults: list[str] = []
        self.panics: list[str] = []
        self.made: list[Model] = []
        self._go = threading.Event()

    def need(self, entry: ModelEntry) -> int:
        return 10 if entry.name != "c" else 25

    def load(self, entry: ModelEntry, report: Report) -> PooledModel:
        self.loads.append(entry.name)
        report("packing", 3, 9)
        if entry.name in self.held:
            self._go.wait(120)
        if entry.name in self.faults:
            self.faults.remove(entry.name)
            raise CheckpointCorrupt("the file is cut")
        if entry.name in self.panics:
            self.panics.remove(entry.name)
            raise Panic
        model = Model(entry.name, self.need(entry))
        self.made.append(model)
        return model

    def let(self) -> None:
        self._go.set()


class Names:
    """A catalog of three names."""

    def get(self, name: str) -> ModelEntry:
        if name not in NAMES:
            raise UnknownModel("There is no model of this name here", param="model")
        return ModelEntry(name, Path(name), "llama", 1, 1, "sha256:0", False, None)

    def list(self) -> list[ModelEntry]:
        return [self.get(name) for name in NAMES]


class Hold:
    closed = False

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, budget: int = 20, **limits: float) -> None:
        self.clock, self.loader = Clock(), Loader()
        self.pool = ModelPool(
            Names(),  # type: ignore[arg-type]  # the part of a catalog that the pool uses
            "a",
            self.loader,
            PoolLimits(budget, **limits),  # type: ignore[arg-type]
            clock=self.clock,
            hold=self.hold,
        )
        self.holds: list[Hold] = []
        self.busy: set[str] = set()

    def hold(self, folder: Path) -> Hold:
        if folder.name in self.busy:
            raise BlockingIOError
        self.holds.append(Hold())
        return self.holds[-1]

    def state(self, name: str) -> str:
        state: str = self.pool.states().get(name, {"state": "unloaded"})["state"]
        return state

    async def use(self, name: str, keep_alive: float | None = None) -> None:
        (await self.pool.acquire(name, keep_alive)).release()


def is_state(bench: Bench, name: str, state: str) -> Callable[[], bool]:
    return lambda: bench.state(name) == state
