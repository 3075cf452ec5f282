"""uvicorn around the application, on a socket that is bound already, from the start to a drained end.

Knows nothing of flags, of routes or of what the application does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

import uvicorn

from minivault.api.app import create_app
from minivault.api.cross_origin import CrossOrigin
from minivault.cli.certificate import warning_of
from minivault.cli.connection import ConnectionLimits, bounded
from minivault.cli.descriptors import allow_descriptors
from minivault.cli.handshakes import MOST_HANDSHAKES, HandshakeLimits, Handshakes
from minivault.cli.units import counted
from minivault.errors import ConfigError, TooManyOpenFiles
from minivault.processes import share_heaps
from minivault.settings import Settings
from minivault.telemetry.logging import configure_logging

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_LAST_BYTES_SECONDS = 5
"""For connections to end, once all work is drained and recorded."""
_SWITCH_SECONDS = 0.001
"""How long the event loop, the engine and the ledger may keep Python's lock from each other; a record takes it a few
times on its way to the disk."""
_FEWEST_CONNECTIONS = 16
"""However few files the system allows."""
_IDLE_SECONDS = 65
"""For a connection on which nothing is asked. Longer than clients (5 s) and proxies (60 s) keep theirs: the other side
must close first, or its next request may meet a connection that is being closed."""


def serve_on(
    listener: socket.socket,
    settings: Settings,
    on_start: Callable[[], None],
    on_stop: Callable[[], None],
    *,
    log_requests: bool = True,
) -> None:
    """Serve until told to stop; returns after a clean end. ``on_stop`` runs while the port is still this server's.
    ``log_requests``: a line for each; what goes wrong is logged in any case.

    Raises:
        MiniVaultError: the server could not start, or its model could not be loaded.
    """
    configure_logging(settings.log_level, settings.log_format)
    # Every level is set: a server may be the second in this process.
    logging.getLogger("minivault.http").setLevel(logging.NOTSET if log_requests else logging.WARNING)
    sys.setswitchinterval(_SWITCH_SECONDS)
    share_heaps()
    if (warning := warning_of(settings.tls_cert, time.time())) is not None:
        logging.getLogger("minivault.tls").warning("%s", warning)
    settings = _with_room(settings)
    app = create_app(settings)
    faults: list[Exception] = []
    config = _config(_keep_startup_faults(app, faults), settings)
    server = Server(config, app.state, faults, on_start, on_stop, tls_of(settings))
    _stop_on_signals(server)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        if not faults:
            raise
    if faults:
        raise faults[0]


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it stops listening and ends when there is no model to serve.

    ``state`` is the application's: its ``service``, its ``settings`` and its ``drain``. ``tls``: what it speaks TLS
    with, if it does.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: Any,
        faults: list[Exception],
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(config)
        self._tls = tls
        self._accepting: list[asyncio.Task[None]] = []
        self._state = state
        self._faults = faults
        self._on_start = on_start
        self._on_stop = on_stop
        self._loading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            self._accept(sockets or [], self._tls)
        if self.started:
            # Until here uvicorn could only say that the start failed, and the fault itself says so better.
            logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
            self._on_start()
            self._loading = asyncio.create_task(self._watch_loading())

    def _accept(self, sockets: list[socket.socket], tls: ssl.SSLContext) -> None:
        """uvicorn would leave the handshakes to the event loop, which limits neither their number nor their time."""
        settings: Settings = self._state.settings
        handshakes = Handshakes(
            tls,
            HandshakeLimits(settings.head_timeout, settings.write_timeout, settings.max_connections + MOST_HANDSHAKES),
            self._connection,
            self.server_state.connections,
        )
        self._accepting = [asyncio.create_task(handshakes.accept(listener)) for listener in sockets]

    def _connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # uvicorn's, which all take these
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _watch_loading(self) -> None:
        """A server whose only model cannot be loaded ends, rather than answer 503 for ever."""
        try:
            while not await self._loaded():
                pass
        except Exception as fault:
            if self.should_exit:
                return  # told to stop before it was there
            self._faults.append(fault)
            self.should_exit = True

    async def _loaded(self) -> bool:
        """Whether the model is there; if not, for want of descriptors, it may be the next time."""
        try:
            await self._state.service.models.ready()
        except TooManyOpenFiles as shortage:
            await asyncio.sleep(shortage.retry_after or 0)
            return False
        return True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains. The second ends all at once, like kill -9: the next start ends what it cut."""
        if self.should_exit:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    def _tell_waiting(self) -> None:
        service = self._state.service
        running = 0 if service is None else service.open_calls
        if running:
            seconds = self._state.settings.shutdown_timeout
            # To whoever pressed Ctrl-C, wherever the log goes.
            print(
                f"Stopping: {counted(running, 'answer')} still running (up to {seconds:g} s). Once more stops at once.",
                file=sys.stderr,
                flush=True,
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # While it still listens, so that who comes now is told 503 and why.
        self._tell_waiting()
        draining = asyncio.create_task(self._state.drain())
        while not self.force_exit and not draining.done():
            await asyncio.wait([draining], timeout=0.1)
        self._on_stop()
        for accepting in self._accepting:
            accepting.cancel()
        await super().shutdown(sockets)


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What the server speaks TLS with; ``None``: it speaks plain HTTP.

    Raises:
        ConfigError: the files cannot be read, are no certificate and key, or do not belong together.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        if not os.access(path, os.R_OK) or not path.is_file():
            raise ConfigError(f"{name}: there is no file {path} that can be read.")
    try:
        # Without a password of ours, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError):
        raise ConfigError(
            "tls_cert and tls_key must be PEM files, a certificate and its own private key without a password."
        ) from None
    return context


def _with_room(settings: Settings) -> Settings:
    """With as many connections as the system has descriptors for: files could not be opened otherwise."""
    handshakes = MOST_HANDSHAKES if settings.tls_cert is not None else 0
    room = max(_FEWEST_CONNECTIONS, allow_descriptors(settings.max_connections + handshakes) - handshakes)
    if room >= settings.max_connections:
        return settings
    logging.getLogger("minivault").warning(
        "The system allows few open files (ulimit -Hn), and so at most %d connections: max_connections is %d",
        room,
        settings.max_connections,
    )
    return settings.model_copy(update={"max_connections": room})


def _config(app: _App, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio" if sys.platform == "win32" else "uvloop",  # which has no Windows
        http=bounded(ConnectionLimits.of(settings), CrossOrigin(settings.cors_origins)),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        # The address of a client decides its rate limit; a header that any client can send must not.
        proxy_headers=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_LAST_BYTES_SECONDS,
    )


def _keep_startup_faults(app: _App, faults: list[Exception]) -> _App:
    """Keep what stopped the start, so that it is told once and in a sentence rather than as a traceback in the log."""

    async def wrapped(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return

        async def send_without_traceback(message: _Message) -> None:
            if message["type"].endswith(".failed"):
                message = {**message, "message": ""}
            await send(message)

        try:
            await app(scope, receive, send_without_traceback)
        except Exception as fault:
            faults.append(fault)

    return wrapped


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Make a stop on request a success. uvicorn ends cleanly and then raises the signal once more; these take that one.

    A signal before uvicorn has installed its own handlers ends the process as usual.
    """

    def taken(number: int, frame: object) -> None:
        if not server.started:
            raise SystemExit(128 + number)

    for number in uvicorn.server.HANDLED_SIGNALS:
        signal.signal(number, taken)
