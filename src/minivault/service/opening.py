"""Opens a service from the settings: the ledger, the reader, the catalog, and the default model in the background.

Used by the server, and by commands that need no server. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from minivault.errors import MiniVaultError, ModelNotReady, UnknownModel
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.json_file import read_json_object
from minivault.models.loaded import LoadedModel, load_model
from minivault.models.weights import WeightSet
from minivault.service.service import Service, ServiceLimits
from minivault.settings import Settings
from minivault.telemetry.logging import describe_error, get_logger
from minivault.telemetry.metrics import Metrics
from minivault.vault.cipher import VaultKey
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader

Loader = Callable[[ModelEntry], LoadedModel]
"""Makes a catalog entry ready to answer. Blocking; called in a thread."""

LOADING_THREAD = "minivault-load"
T = TypeVar("T")

logger = get_logger(__name__)


class DefaultModel:
    """Serves the one model that the settings name, loading it in a thread. Owned by the event loop."""

    def __init__(self, catalog: Catalog, name: str, loader: Loader) -> None:
        """
        Raises:
            UnknownModel: the catalog has no model of this name.
        """
        self._catalog = catalog
        self._loader = loader
        self._entry = catalog.get(name)
        self._model: LoadedModel | None = None
        self._error: MiniVaultError | None = None
        self._loading: asyncio.Task[None] | None = None

    @property
    def default_name(self) -> str:
        return self._entry.name

    def start(self) -> None:
        """Begin to load."""
        self._loading = asyncio.get_running_loop().create_task(self._load())

    async def ready(self) -> None:
        """Wait for the model.

        Raises:
            MiniVaultError: it could not be loaded.
        """
        if self._loading is not None:
            await asyncio.shield(self._loading)
        if self._error is not None:
            raise self._error

    def get(self, name: str | None) -> LoadedModel:
        """
        Raises:
            ModelNotReady: it is still loading.
            UnknownModel: another model was asked for.
            CheckpointError: it could not be loaded.
        """
        if name is not None and name != self.default_name:
            self._catalog.get(name)
            raise UnknownModel(
                f"This server serves the model {self.default_name}. To use another, start it with: "
                "minivault serve --model NAME",
                param="model",
            )
        if self._error is not None:
            raise self._error
        if self._model is None:
            raise ModelNotReady("The model is still loading.", retry_after=1)
        return self._model

    def loaded(self) -> list[LoadedModel]:
        return [] if self._model is None else [self._model]

    def listing(self) -> list[dict[str, Any]]:
        return [self._listed(entry) for entry in self._catalog.list()]

    def describe(self, name: str) -> dict[str, Any]:
        entry = self._catalog.get(name)
        config = entry.path / "config.json"
        changed = datetime.fromtimestamp(config.stat().st_mtime, UTC)
        template = self._model.chat_template if self._model is not None and name == self.default_name else None
        return self._listed(entry) | {
            **architecture_facts(read_architecture(read_json_object(config))),
            "template": "" if template is None else template.source,
            "modified_at": entry.imported_at or changed.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _listed(self, entry: ModelEntry) -> dict[str, Any]:
        return {
            "name": entry.name,
            "loaded": self._model is not None and entry.name == self.default_name,
            "default": entry.name == self.default_name,
            "embedded": entry.embedded,
            "family": entry.family,
            "parameters": entry.parameters,
            "size_bytes": entry.size_bytes,
            "digest": entry.digest,
            "imported_at": entry.imported_at,
        }

    async def close(self) -> None:
        """Close the model. One that still loads is not waited for, and let go: a load takes minutes, and no thread can
        be stopped."""
        if self._loading is not None and not self._loading.done():
            self._loading.cancel()
            await asyncio.wait([self._loading])
        if self._model is not None:
            await self._model.engine.close()

    async def _load(self) -> None:
        try:
            self._model = await _in_daemon_thread(lambda: self._loader(self._entry))
            logger.info("model loaded", model=self.default_name)
        except MiniVaultError as error:
            self._error = error
            logger.error("model not loaded", model=self.default_name, reason=error.message)  # noqa: TRY400 - expected
        except Exception as error:
            self._error = ModelNotReady("The model could not be loaded; the log of the server says why.")
            logger.error("model not loaded", model=self.default_name, **describe_error(error))  # noqa: TRY400


def load_under_way() -> bool:
    """Whether a thread loads a model, be it for a service that has ended."""
    return any(thread.name == LOADING_THREAD for thread in threading.enumerate())


def _in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """As ``asyncio.to_thread``, in a thread that neither the loop nor the process waits for at its end."""
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
        # The loop may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=LOADING_THREAD, daemon=True).start()
    return future


def architecture_facts(arch: Architecture) -> dict[str, int]:
    """The sizes that a description of a model names."""
    names = ("context_length", "hidden_size", "layers", "attention_heads", "kv_heads", "vocab_size")
    return {name: getattr(arch, name) for name in names}


@asynccontextmanager
async def open_service(
    settings: Settings, metrics: Metrics | None = None, *, wait: bool = True, loader: Loader | None = None
) -> AsyncIterator[Service]:
    """A service for the length of a block; at its end, work is drained and everything is on the record.

    ``wait``: until the model is there; else the block begins at once and requests get ModelNotReady meanwhile.

    Raises:
        LedgerUnavailable: another process has the vault, or it cannot be written.
        VaultCorrupt: the vault does not hold together.
        UnknownModel, CheckpointError: the default model is not there, or (with ``wait``) not sound.
    """
    metrics = metrics or Metrics()
    models = await asyncio.to_thread(
        DefaultModel, Catalog(settings.models_dir), settings.model, loader or native_loader(settings)
    )
    ledger = await asyncio.to_thread(_open_ledger, settings, metrics)
    reader = Reader.open(settings.vault_path, VaultKey.of(settings.vault_key_file))
    limits = ServiceLimits(settings.max_tokens, settings.max_running, settings.max_waiting)
    service = Service(models, ledger, reader, limits=limits, metrics=metrics)
    models.start()
    try:
        if wait:
            await models.ready()
        yield service
        await service.drain(settings.shutdown_timeout)
    finally:
        await service.drain(0)  # of a block that broke; else it was drained above, and this returns at once
        # Order: no engine may be left to answer when the ledger goes.
        await models.close()
        reader.close()
        await asyncio.to_thread(ledger.close)


def native_loader(settings: Settings) -> Loader:
    """Loads models into the native engine, as the settings say."""

    def load(entry: ModelEntry) -> LoadedModel:
        # Imported here, in the loading thread: the compiled core takes its time, and a server answers meanwhile.
        from minivault.engine.native.grammar import GrammarCompiler
        from minivault.engine.native.load import load_native_engine
        from minivault.engine.native.runner import RunnerOptions

        options = RunnerOptions(
            precision=settings.precision,
            threads=settings.threads,
            kernels=settings.kernels,
            kv_cache_memory=settings.kv_cache_memory,
            max_batch_tokens=settings.max_batch_tokens,
            max_running=settings.max_running,
            speculation=settings.speculation,
        )

        def engine(arch: Architecture, weights: WeightSet) -> Any:
            return load_native_engine(
                arch,
                weights,
                options,
                max_waiting=settings.max_waiting,
                weights_digest=entry.digest,
                packed_dir=settings.packed_dir,
            )

        return load_model(entry, engine, GrammarCompiler)

    return load


def _open_ledger(settings: Settings, metrics: Metrics) -> Ledger:
    return Ledger.open(
        settings.vault_path,
        key=VaultKey.of(settings.vault_key_file),
        mirror_dir=settings.mirror_dir,
        mirror_max_bytes=settings.mirror_max_bytes,
        receipt_deadline=settings.receipt_deadline,
        head_interval=settings.head_interval,
        head_export=settings.head_export,
        retention_days=settings.retention,
        observer=metrics.commit_observed,
    )
