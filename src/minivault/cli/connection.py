"""One connection as uvicorn has it, held to deadlines and sizes: nobody keeps a place by being slow.

A request's head and body each have an absolute deadline, so that sending a byte now and then gains nothing; a head has
a size; a client that does not read is cut; and there are only so many connections. Knows nothing of routes or of the
application: what it refuses never reaches them, and is told in the words of ``minivault.api.unheard``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from minivault.api import unheard
from minivault.api.cross_origin import CrossOrigin
from minivault.api.problems import Problem
from minivault.settings import Settings

MAX_HEADERS = 100
SLOWEST_UPLOAD = 1 << 20
"""Bytes a second that the body of a large upload must come with, beside ``body_timeout``."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Times in seconds, sizes in bytes."""

    head_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 30.0
    """How long a client may leave what it was sent unread."""
    max_head_bytes: int = 32 << 10
    max_connections: int = 1000
    max_upload_bytes: int = 100 << 20
    """A larger declared length buys no more time: it is refused anyway."""

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        return cls(
            settings.head_timeout,
            settings.body_timeout,
            settings.write_timeout,
            settings.max_head_bytes,
            settings.max_connections,
            max(settings.max_body_bytes, settings.max_file_bytes),
        )


class _Reading(Enum):
    """What of a request is awaited."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class _Refused(Exception):
    """Ends the parsing of a request; uvicorn then has it answered by ``send_400_response``."""


def bounded(limits: ConnectionLimits, cross_origin: CrossOrigin | None = None) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, held to ``limits``. ``cross_origin``: whose pages may read what is answered here."""

    class Bounded(BoundedConnection):
        pass

    Bounded.limits = limits
    Bounded.cross_origin = cross_origin
    return Bounded


class BoundedConnection(HttpToolsProtocol):
    """Owner: the event loop. One timer for what is read and one for what is written."""

    limits = ConnectionLimits()
    cross_origin: CrossOrigin | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.url = b""  # uvicorn has none before the first request
        self.headers = []
        self._reading = _Reading.NOTHING
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._refused = False

    def _unsupported_upgrade_warning(self) -> None:
        """Says nothing: anybody may ask for a WebSocket, is answered in HTTP, and would fill the log."""

    # -- the transport's calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(unheard.too_many_connections())
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._reading is _Reading.NOTHING and self._answered:
            # Whatever comes between two requests, even if the parser skips it, begins the next head.
            self._await_head()
            self.url, self.headers = b"", []  # those of the one before say nothing of it
        if self._reading is _Reading.HEAD:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reading is _Reading.HEAD and self._head_bytes > self.limits.max_head_bytes and not self._closing:
            self._refuse_head()

    def eof_received(self) -> None:
        if self._reading is not _Reading.NOTHING:
            self.transport.close()  # half a request, and no more of it will come

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    # -- the parser's calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._reading is not _Reading.HEAD:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._hold_head(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not _Reading.HEAD:
            return  # A trailer, after the body: nothing that was decided on headers may change any more.
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._hold_head(self.limits.max_head_bytes + 1)

    def on_headers_complete(self) -> None:
        self._hold_head(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        super().on_headers_complete()
        self._reading = _Reading.BODY
        extra = min(_declared_length(self.headers), self.limits.max_upload_bytes) / SLOWEST_UPLOAD
        self._arm_read_timer(self.limits.body_timeout + extra)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop_reading()

    def send_400_response(self, msg: str) -> None:
        self._refuse(unheard.not_http())

    # -- uvicorn's calls

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._closing:
            self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._await_reader()

    # -- deadlines

    @property
    def _closing(self) -> bool:
        return self.transport.is_closing()

    @property
    def _answered(self) -> bool:
        """Whether nothing is being answered."""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def _await_head(self) -> None:
        self._reading = _Reading.HEAD
        self._head_bytes = 0
        self._arm_read_timer(self.limits.head_timeout)

    def _arm_read_timer(self, seconds: float) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
        self._read_timer = self.loop.call_later(seconds, self._read_too_late)

    def _stop_reading(self) -> None:
        self._reading = _Reading.NOTHING
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _read_too_late(self) -> None:
        body_after_its_answer = self._reading is _Reading.BODY and self.cycle.response_complete
        if body_after_its_answer or (self._reading is _Reading.HEAD and self._head_bytes == 0):
            self.transport.close()  # nobody asks for anything, so there is nothing to say
            self._await_reader()
            return
        self._refuse(unheard.too_slow())

    def _await_reader(self) -> None:
        """Cut the connection unless what was written is read in time."""
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_timeout, self.transport.abort)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # -- sizes

    def _hold_head(self, size: int) -> None:
        if size > self.limits.max_head_bytes:
            self._refuse_head()
            raise _Refused

    def _refuse_head(self) -> None:
        self._refuse(unheard.head_too_large(self.limits.max_head_bytes, MAX_HEADERS))

    def _refuse(self, problem: Problem) -> None:
        """Answer if nothing was answered yet, and close. The application, if it waits for a body, is told: gone."""
        if self._refused or self._closing:
            return
        self._refused = True
        self._stop_reading()
        may_answer = self._answered or not self.cycle.response_started
        if not self._answered:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if may_answer:
            self.transport.write(unheard.as_http(problem, self.url, self.headers, self.cross_origin))
        self.transport.close()
        self._await_reader()


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    declared = next((value for name, value in headers if name == b"content-length"), b"")
    return int(declared) if declared.isdigit() and len(declared) < 16 else 0
