"""Whether a server would start with these settings: asked of what a start itself asks, none of it written again.

Loads no model, writes nothing, and listens for no longer than it takes to see that it could. Knows nothing of the
terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minivault.cli.console import CliError, taught
from minivault.cli.listener import listen
from minivault.errors import MiniVaultError

if TYPE_CHECKING:
    from minivault.settings import Settings

Fault = tuple[str, str]
"""A setting, and what is wrong with it."""


def faults(settings: Settings) -> Iterator[Fault]:
    """Every setting with which ``serve`` would refuse to start, each once."""
    for name, check in (("host", _host), ("tls_cert", _tls), ("otel_endpoint", _traces), ("preload", _preloaded)):
        try:
            check(settings)
        except (MiniVaultError, CliError) as error:
            yield name, taught(str(error)).partition("\n")[0]
    yield from _application(settings)


def is_refused_as_open(settings: Settings) -> bool:
    """Whether ``serve`` would refuse to listen for want of a key.

    Raises:
        KeysUnavailable: whether there are keys cannot be told.
    """
    from minivault.cli.serve import refuse_open_door

    try:
        refuse_open_door(settings)
    except CliError:
        return True
    return False


def _host(settings: Settings) -> None:
    # At a port that the system chooses: the one that is set may well be taken, by the server itself.
    listen(settings.host, 0).close()


def _tls(settings: Settings) -> None:
    from minivault.cli.server import tls_of

    tls_of(settings)


def _traces(settings: Settings) -> None:
    from minivault.telemetry.tracing import open_tracing

    open_tracing(settings.otel_endpoint).close()


def _preloaded(settings: Settings) -> None:
    from minivault.models.catalog import Catalog

    catalog = Catalog(settings.models_dir)
    for name in settings.preload:
        catalog.get(name)


def _application(settings: Settings) -> Iterator[Fault]:
    """What the application refuses. It says one thing at a time: each setting that it names is put right, and it is
    asked again."""
    from minivault.settings import Settings as All

    settings = settings.model_copy(update={"otel_endpoint": None})  # looked at before, and its thread was ended
    refused: set[str] = set()
    while (error := _refusal(settings)) is not None:
        name = error.param or error.message.partition(":")[0]
        if name in refused:
            return
        if name not in All.model_fields:
            yield "start", taught(error.message)
            return
        yield name, taught(error.message)
        refused.add(name)
        default = All.model_fields[name].get_default(call_default_factory=True)
        settings = settings.model_copy(update={name: default})


def _refusal(settings: Settings) -> MiniVaultError | None:
    from minivault.api.app import create_app

    try:
        create_app(settings)
    except MiniVaultError as error:
        return error
    return None
