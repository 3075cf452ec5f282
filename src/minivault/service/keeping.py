"""Keeps the catalog on behalf of clients: pulls, imports, removals and checks, beside a service that goes on.

Works in threads; progress crosses to the event loop, and a client that is gone stops its pull. What may be imported is
what lies in the one folder that the settings name. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import Forbidden, InvalidRequest, MiniVaultError, ModelInUse, UnknownModel
from minivault.models.catalog import Catalog, FileCheck, ModelEntry
from minivault.models.details import details
from minivault.models.hub import Hub
from minivault.models.importing import import_path
from minivault.models.pulling import PullProgress, pull
from minivault.models.short_names import parse_reference
from minivault.service.service import Service
from minivault.settings import Settings
from minivault.telemetry.logging import get_logger

STEPS = 200
"""Reports of a pull at most, but for one at each file's beginning and end."""


logger = get_logger(__name__)


class _Stopped(Exception):
    """The one who asked is gone."""


@dataclass(slots=True)
class Keeper:
    """Owned by the event loop."""

    settings: Settings
    service: Service
    by: str | None = None
    """Public id of the API key that asks, for the log."""
    open_hub: Callable[[bool], Hub] = lambda offline: Hub(offline=offline)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.settings.models_dir)

    async def details(self, name: str, *, whole: bool = True) -> dict[str, Any]:
        """What is known of a model. Not ``whole``: of one that other servers run, nothing of them or of their key.

        Raises:
            UnknownModel, CheckpointCorrupt: as :func:`minivault.models.details.details`.
        """
        return await asyncio.to_thread(_told, self.catalog, name, whole)

    async def pull(self, model: str, name: str | None) -> AsyncGenerator[PullProgress | ModelEntry]:
        """How far it has come, again and again; at last the model. Closing this stops the pull; what came is kept.

        Raises:
            MiniVaultError: as :func:`minivault.models.pulling.pull`.
        """
        reference = parse_reference(model)
        steps: asyncio.Queue[PullProgress | ModelEntry | Exception] = asyncio.Queue()
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def tell(step: PullProgress | ModelEntry | Exception) -> None:
            with suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(steps.put_nowait, step)

        def work() -> None:
            try:
                hub = self.open_hub(self.settings.offline)
                tell(pull(self.catalog, hub, reference, name, _sparing(tell, stop)))
            except Exception as error:
                tell(error)

        # A thread that neither the loop nor the process waits for at its end: a hub may not answer for long.
        threading.Thread(target=work, name="minivault-pull", daemon=True).start()
        try:
            while True:
                step = await steps.get()
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, ModelEntry):
                    logger.info("model pulled", model=step.name, repository=reference.repository, by=self.by)
                    yield step
                    return
                yield step
        finally:
            stop.set()

    async def pulled(self, model: str, name: str | None) -> ModelEntry:
        """As :meth:`pull`, waiting for the model."""
        async with aclosing(self.pull(model, name)) as steps:
            async for step in steps:
                if isinstance(step, ModelEntry):
                    return step
        raise AssertionError("a pull ends with a model or an error")

    async def has(self, model: str) -> bool:
        """Whether a pull of ``model`` would bring what is there: a model of this name, or under its own name one that
        came from the same repository."""
        return await asyncio.to_thread(_is_there, self.catalog, model)

    async def import_from(self, path: str, name: str | None) -> ModelEntry:
        """Import what lies at ``path`` within the folder that the settings name.

        Raises:
            Forbidden: the settings name none, or ``path`` leads out of it.
            MiniVaultError: as :func:`minivault.models.importing.import_path`.
        """
        entry = await asyncio.to_thread(lambda: import_path(self.catalog, self._within(path), name))
        logger.info("model imported", model=entry.name, by=self.by)
        return entry

    def _within(self, path: str) -> Path:
        if self.settings.import_dir is None:
            raise Forbidden(
                "Nothing is imported over HTTP: the setting import_dir names no folder. On the server's machine: "
                "minivault models import PATH"
            )
        base = self.settings.import_dir.resolve()
        try:
            found = (base / path).resolve()
        except (OSError, ValueError, RuntimeError):
            raise InvalidRequest("path: must be a path", param="path") from None
        if found == base or not found.is_relative_to(base):
            raise Forbidden("path: must lie within the folder that import_dir names", param="path")
        return found

    async def remove(self, name: str) -> None:
        """Unload the model if it is idle, and take its files away.

        Raises:
            ModelInUse: it is the server's default, or answers right now, or has adapters.
            MiniVaultError: as :meth:`Catalog.remove`.
        """
        catalog, models = self.catalog, self.service.models
        state = self.service.models_in_memory().get(name)
        has_files = True
        if name != models.default_name:
            try:
                await asyncio.to_thread(catalog.check_removable, name)
            except UnknownModel:
                if state is None:
                    raise
                has_files = False  # somebody took them away; what is in memory leaves
        if name == models.default_name or (state is not None and state["in_use"]):
            raise ModelInUse("This model is in use, or the server's default", param="model")
        if state is not None:
            await models.unload(name)
        if has_files:
            await asyncio.to_thread(catalog.remove, name)
        logger.info("model removed", model=name, by=self.by)

    async def verify(self, name: str) -> tuple[FileCheck, ...]:
        """
        Raises:
            UnknownModel, CheckpointCorrupt: as :meth:`Catalog.verify`.
        """
        return await asyncio.to_thread(self.catalog.verify, name)


def _is_there(catalog: Catalog, model: str) -> bool:
    names = catalog.names()
    try:
        if model in names:
            catalog.manifest(model)
            return True
        reference = parse_reference(model)
        if reference.revision is not None or reference.name not in names:
            return False
        manifest = catalog.manifest(reference.name)
    except MiniVaultError:  # what is wrong with the name, or with the model, the pull says
        return False
    return manifest is not None and manifest.source.get("repository") == reference.repository


def _told(catalog: Catalog, name: str, whole: bool) -> dict[str, Any]:
    found = details(catalog, name)
    del found["path"]  # where things lie on this machine is nobody's business
    if not whole and found["engine"] == "remote":
        found["source"] = {"kind": "remote"}
    return found


def _sparing(tell: Callable[[PullProgress], None], stop: threading.Event) -> Callable[[PullProgress], None]:
    """Passes on what is worth a line, and ends the work when nobody listens."""
    last: PullProgress | None = None

    def report(step: PullProgress) -> None:
        nonlocal last
        if stop.is_set():
            raise _Stopped
        new = last is None or last.file != step.file or step.file_done == step.file_total
        if new or last is None or step.done - last.done >= step.total / STEPS:
            last = step
            tell(step)

    return report
