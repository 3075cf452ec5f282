"""Looks at the models, and what is installed to run them. Loads none of them, and knows nothing of the terminal."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minivault.cli.console import program, taught
from minivault.cli.examine_findings import Finding, Verdict
from minivault.errors import MiniVaultError

if TYPE_CHECKING:
    from minivault.models.catalog import Catalog
    from minivault.settings import Settings

EXTRAS = {"transformers": "torch", "parquet": "pyarrow", "redis": "redis"}


def examine_models(settings: Settings) -> Iterator[Finding]:
    from minivault.models.catalog import Catalog

    catalog = Catalog(settings.models_dir)
    for name in sorted({one.partition("=")[0] for one in settings.model_precision}.difference(catalog.names())):
        advice = f"Is it misspelt? {program()} models list has all; until it is there, nothing is done about it."
        yield Finding("models", "model_precision", "warn", f"names {name}, and no model is called so", advice)
    for name in catalog.names():
        yield _model(settings, catalog, name)
    if settings.model not in catalog.names():
        yield Finding(
            "models", "default", "fail", f"no model is called {settings.model}", f"See: {program()} models list"
        )
    there = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is not None]
    yield Finding("models", "extras", "ok", ", ".join(there) or "none installed")


def _model(settings: Settings, catalog: Catalog, name: str) -> Finding:
    from minivault.models.foreign import is_transformers_installed
    from minivault.service.loading import engine_of

    try:
        entry = catalog.get(name)
    except MiniVaultError as error:
        advice = f"{program()} models rm {shlex.quote(name)}, and get it again"
        return Finding("models", name, "fail", taught(error.message), advice)
    try:
        engine = engine_of(entry, settings.engine)
    except MiniVaultError as error:
        verdict: Verdict = "fail" if name in (settings.model, *settings.preload) else "warn"
        return Finding("models", name, verdict, taught(error.message), "Set engine to auto, or use another model.")
    missing = engine == "transformers" and not is_transformers_installed()
    advice = f"{sys.executable} -m pip install 'minivault[transformers]'" if missing else ""
    found = f"{engine}, {entry.kind}, {entry.size_bytes / 2**20:,.0f} MiB"
    return Finding("models", name, "fail" if missing else "ok", found, advice)
