"""One server: its health, its places, and one request to it, as a stream of events.

Knows nothing of other servers, nor of what the events say. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from minivault import circle
from minivault.engine.engine import UpstreamStats
from minivault.engine.remote import wire
from minivault.errors import ContextTooLong, EngineFailed, InvalidRequest, MiniVaultError, Overloaded
from minivault.models.remote_config import RemoteConfig, address_of

logger = logging.getLogger("minivault.engine")

LEAST_WAIT, MOST_WAIT = 1.0, 3600.0
"""Bounds of a Retry-After, in seconds."""
_HEALTH_SECONDS = 5.0
_ERROR_BYTES = 64 << 10
_HEALTH_BYTES = 1 << 20
_MOST_BYTES = 16 << 20
"""Of one event, or of an answer that comes at once."""
_BUSY = (408, 429, 503)
_LOOP = 508

Take = Callable[[Mapping[str, Any]], bool]

UNREACHABLE = "The upstream server cannot be reached."
CIRCLE = "The upstream server of this model would ask this server again, in a circle: it needs another address."
UNTRUSTED = "The upstream server shows a certificate that is not trusted here."
NOT_TRUSTED = "its certificate is not trusted; the setting ca_file names a file of those that are"
LATE = "The upstream server gave no token in time."
TOO_LONG = "The upstream server sends far more than an answer of max_tokens takes."


@dataclass(eq=False)
class Fault(Exception):
    """A request that this server did not answer."""

    error: MiniVaultError
    elsewhere: bool
    """Whether another server may be asked."""
    down: bool = False
    """Whether this one is to be left alone until it is seen to be well."""
    busy: bool = False
    """Whether it asked to be left alone for the error's ``retry_after``."""


class Upstream:
    """One server behind an engine."""

    def __init__(self, url: str, config: RemoteConfig, client: httpx2.AsyncClient, clock: Callable[[], float]) -> None:
        self.address = address_of(url)
        self._url = url.rstrip("/")
        self._config = config
        self._client = client
        self._clock = clock
        self._waits_until = 0.0
        self.healthy = True  # until it is seen not to be
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.retried = 0

    @property
    def is_free(self) -> bool:
        return self.in_flight < self._config.max_in_flight

    @property
    def is_usable(self) -> bool:
        """Healthy, and not one that asked to be left alone for a while."""
        return self.healthy and self.waits == 0

    @property
    def waits(self) -> float:
        """Seconds for which it asked to be left alone."""
        return max(0.0, self._waits_until - self._clock())

    def stats(self) -> UpstreamStats:
        return UpstreamStats(
            self.address, self.healthy, self.in_flight, self.requests, self.failures, self.retried
        )  # fmt: skip

    async def check(self) -> None:
        """See whether it is well. A server without a list of models counts as well if it answers."""
        try:
            async with (
                asyncio.timeout(_HEALTH_SECONDS),
                self._client.stream("GET", f"{self._url}/models") as answer,
            ):
                await _whole(answer, _HEALTH_BYTES)  # so that the connection may be used again
            self._set_health(answer.status_code < 500 and answer.status_code not in (401, 403))
        except (httpx2.RequestError, TimeoutError):
            self._set_health(False)
        except Exception:  # why: whatever one server does, the others are still looked after
            logger.exception("upstream %s: its health cannot be told", self.address)
            self._set_health(False)

    def failed(self, fault: Fault) -> None:
        """Remember a fault, for whoever chooses next."""
        self.failures += 1
        if fault.busy:
            self._waits_until = self._clock() + (fault.error.retry_after or LEAST_WAIT)
        if fault.down:
            self._set_health(False)

    async def ask(
        self, path: str, body: Mapping[str, Any], accepted: Callable[[], None], take: Take, most: int
    ) -> None:
        """Ask, and hand the answer's events to ``take`` as they come. Cancelling this closes the connection.

        ``accepted`` is called when the server has taken the request; ``take`` says whether an event had tokens, and
        from the first that had, time counts from one to the next. ``most``: bytes of the answer that are read.

        Raises:
            Fault: it did not answer, or not to the end.
        """
        config, loop, began = self._config, asyncio.get_running_loop(), False
        self.requests += 1
        try:
            async with (
                asyncio.timeout(config.first_token_timeout) as deadline,
                self._client.stream(
                    "POST", f"{self._url}/{path}", content=wire.encoded(body), headers={circle.HEADER: circle.onward()}
                ) as answer,
            ):
                if answer.status_code != 200:
                    raise await _refusal(answer)
                accepted()
                async for event in _events(answer, most):
                    if take(event):
                        began = True
                        deadline.reschedule(loop.time() + config.token_timeout)
        except TimeoutError:
            raise Fault(EngineFailed(LATE), elsewhere=True, down=not began) from None
        except httpx2.RequestError as error:
            unknown = "CERTIFICATE_VERIFY_FAILED" in str(error)
            logger.warning("upstream %s: %s", self.address, NOT_TRUSTED if unknown else type(error).__name__)
            why = UNTRUSTED if unknown else UNREACHABLE
            gone = EngineFailed(wire.BROKEN_OFF) if began else Overloaded(why, retry_after=config.health_interval)
            reached = not isinstance(error, httpx2.TransportError)  # but what it said cannot be decoded
            raise Fault(EngineFailed(wire.UNREADABLE) if reached else gone, elsewhere=True, down=not reached) from None
        except EngineFailed as error:
            raise Fault(error, elsewhere=True) from None

    def _set_health(self, healthy: bool) -> None:
        if healthy != self.healthy:
            logger.warning("upstream %s is %s", self.address, "well again" if healthy else "not well")
        self.healthy = healthy


async def _events(answer: httpx2.Response, most: int) -> AsyncIterator[Mapping[str, Any]]:
    if "json" in answer.headers.get("content-type", ""):
        yield wire.parse(await _whole(answer, _MOST_BYTES))
        return
    async for line in _lines(answer, most):
        name, _, data = line.partition(":")
        data = data.strip()
        if name == "data" and data == "[DONE]":
            return
        if name in ("data", "error") and data:
            yield {"error": True} if name == "error" else wire.parse(data)


async def _lines(answer: httpx2.Response, most: int) -> AsyncIterator[str]:
    """The lines of a stream of events, none longer than :data:`_MOST_BYTES`, and all together than ``most``.

    Raises:
        EngineFailed: one is, or all are.
    """
    rest, came = b"", 0
    async for piece in answer.aiter_bytes():
        came += len(piece)
        if came > most:
            raise EngineFailed(TOO_LONG)
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        if len(rest) > _MOST_BYTES:
            raise EngineFailed(wire.UNREADABLE)
    yield rest.decode("utf-8", "replace")


async def _whole(answer: httpx2.Response, most: int) -> str:
    told = b""
    async for piece in answer.aiter_bytes():
        told += piece
        if len(told) > most:
            break
    return told[:most].decode("utf-8", "replace")


async def _refusal(answer: httpx2.Response) -> Fault:
    """What an answer other than 200 means. The server's own words may repeat the prompt, so they are not passed on."""
    status = answer.status_code
    if status in _BUSY:
        wait = retry_after(answer.headers.get("retry-after"))
        return Fault(Overloaded("The upstream server is busy.", retry_after=wait), elsewhere=True, busy=True)
    if status in (400, 413, 422):
        if await _is_too_long(answer):
            error = ContextTooLong("prompt and answer do not fit the upstream model's context", param="prompt")
            return Fault(error, elsewhere=False)
        return Fault(InvalidRequest(f"the upstream server refuses this request (status {status})"), elsewhere=False)
    if status in (401, 403):
        refused = EngineFailed("The upstream server does not accept the credential that this server was given.")
        return Fault(refused, elsewhere=True, down=True)
    if status == _LOOP:
        return Fault(EngineFailed(CIRCLE), elsewhere=True)
    if status == 404:
        return Fault(EngineFailed("The upstream server has no model of the name that it is asked for."), elsewhere=True)
    return Fault(EngineFailed(f"The upstream server failed (status {status})."), elsewhere=True)


async def _is_too_long(answer: httpx2.Response) -> bool:
    """Servers differ in how they say it: by a code, a type, or in words."""
    text = (await _whole(answer, _ERROR_BYTES)).lower()
    return any(mark in text for mark in ("context_length", "context length", "context size", "exceed_context"))


def retry_after(header: str | None) -> float:
    """Seconds: a number or a date as HTTP has them, within bounds."""
    seconds = LEAST_WAIT
    try:
        if header is not None and header.strip().isdigit():
            seconds = float(header)
        elif header is not None:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, OverflowError):
        seconds = LEAST_WAIT
    return min(MOST_WAIT, max(LEAST_WAIT, seconds))
