"""Opens a service from the settings: the ledger, the reader, and the pool of models.

Used by the server, and by commands that need no server. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from minivault.models.catalog import Catalog
from minivault.models.memory import budget_of
from minivault.models.pool import ModelPool, PoolLimits
from minivault.models.pooled import ModelLoader
from minivault.service.limits import ServiceLimits
from minivault.service.loading import Loaders
from minivault.service.service import Service
from minivault.settings import Settings
from minivault.telemetry.metrics import Metrics
from minivault.vault.cipher import VaultKey
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader


@asynccontextmanager
async def open_service(
    settings: Settings, metrics: Metrics | None = None, *, wait: bool = True, loader: ModelLoader | None = None
) -> AsyncIterator[Service]:
    """A service for the length of a block; at its end, work is drained and everything is on the record.

    ``wait``: until the model is there; else the block begins at once and requests get ModelNotReady meanwhile.

    Raises:
        LedgerUnavailable: another process has the vault, or it cannot be written.
        VaultCorrupt: the vault does not hold together.
        UnknownModel, CheckpointError: the default model is not there, or (with ``wait``) not sound.
    """
    metrics = metrics or Metrics()
    models = await asyncio.to_thread(open_pool, settings, loader)
    metrics.memory_budget = models.limits.budget
    ledger = await asyncio.to_thread(_open_ledger, settings, metrics)
    try:
        reader = Reader.open(settings.vault_path, VaultKey.of(settings.vault_key_file))
    except BaseException:
        await asyncio.to_thread(ledger.close)
        raise
    service = Service(
        models,
        ledger,
        reader,
        limits=_service_limits(settings),
        metrics=metrics,
        answer_from_record=settings.answer_from_record,
    )
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


def open_pool(settings: Settings, loader: ModelLoader | None = None) -> ModelPool:
    """The pool that the settings ask for; nothing is loaded yet.

    Raises:
        UnknownModel: there is no model of a name that the settings give.
    """
    budget = budget_of(settings.memory_budget)
    limits = PoolLimits(
        budget, keep_alive=settings.keep_alive, max_waiting=settings.max_waiting, patience=settings.load_timeout
    )
    return ModelPool(
        Catalog(settings.models_dir),
        settings.model,
        loader or Loaders(settings, budget),
        limits,
        preload=settings.preload,
    )


def _service_limits(settings: Settings) -> ServiceLimits:
    return ServiceLimits(
        default_max_tokens=settings.max_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        request_timeout=settings.request_timeout or None,
    )


def _open_ledger(settings: Settings, metrics: Metrics) -> Ledger:
    from minivault.engine.native.cores import give_way  # the core is loaded off the event loop

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
        pressing=give_way,
    )
