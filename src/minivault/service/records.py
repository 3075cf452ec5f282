"""The vault's records as JSON values, read off the event loop; exporting and erasing them.

``owner`` is the only API key whose records may be seen; ``None``: all. Knows nothing of HTTP, or of how they are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypedDict, Unpack

from minivault.access.key_file import ApiKey
from minivault.access.meant import key_id_of
from minivault.errors import InvalidRequest
from minivault.service.earlier import EarlierCall, earlier_call
from minivault.service.ports import Book, RecordReader
from minivault.vault.book import MAX_ERASED
from minivault.vault.calls import CallDetail, CallFilter
from minivault.vault.export import ExportForm
from minivault.vault.proof import Uncovered
from minivault.vault.record import Erasure, Receipt, parse_time

_FAR = 2**63 - 1
"""Nanoseconds; no record is that far from 1970, and the vault's integers end there."""
_PIECE_BYTES = 1 << 18
"""Of an export: about so much is read in one go."""


class Records:
    """Recorded calls, to be listed, read, counted, exported and erased."""

    def __init__(self, reader: RecordReader, ledger: Book) -> None:
        self._reader = reader
        self._ledger = ledger
        self.on_erased: Callable[[], None] = lambda: None
        """Called once an erasure that was asked for here is durable, by whoever keeps copies elsewhere."""

    async def list(
        self, *, owner: str | None = None, cursor: str | None = None, limit: int = 50, **filters: Unpack[Filters]
    ) -> dict[str, Any]:
        """A page of calls, newest first. ``filters``: see :func:`call_filter`.

        Raises:
            InvalidRequest: a filter is not well-formed.
        """
        chosen = call_filter(owner, **filters)

        def read() -> dict[str, Any]:
            page = self._reader.list(chosen, cursor=cursor, limit=limit)
            return {"records": [call.as_dict() for call in page.calls], "next_cursor": page.next_cursor}

        return await asyncio.to_thread(read)

    async def get(self, record_id: str, *, owner: str | None = None) -> dict[str, Any]:
        """One call in full; ``altered``: what is on record of it is not what its records commit to.

        Raises:
            UnknownRecord: there is none.
        """

        def read() -> dict[str, Any]:
            found = self._reader.get(record_id, owner=owner)
            return {**found.as_dict(), "altered": not self._reader.is_sound(found.call.index)}

        return await asyncio.to_thread(read)

    async def detail(self, record_id: str, *, owner: str | None = None) -> CallDetail:
        """As :meth:`get`, as the vault has it."""
        return await asyncio.to_thread(lambda: self._reader.get(record_id, owner=owner))

    async def is_sound(self, index: int) -> bool:
        """Whether the call whose intent has this index is on record as its records commit to."""
        return await asyncio.to_thread(self._reader.is_sound, index)

    async def repeats(self, repeat_key: int, *, owner: str | None = None) -> tuple[CallDetail, ...]:
        """Whole and sound calls of this key, oldest first."""
        return await asyncio.to_thread(lambda: self._reader.repeats(repeat_key, owner=owner))

    async def head(self) -> tuple[str, str]:
        """The newest signed head, and the public key that signs.

        Raises:
            UnknownRecord: none was signed yet.
        """
        return await asyncio.to_thread(self._reader.head)

    async def proof(self, record_id: str, *, owner: str | None = None) -> str:
        """The proof that a record is in the vault. If no signed head covers it yet, one is signed.

        Raises:
            UnknownRecord: there is none.
            LedgerUnavailable: no head could be signed.
        """
        try:
            return await asyncio.to_thread(lambda: self._reader.proof(record_id, owner=owner))
        except Uncovered:
            await asyncio.shield(asyncio.wrap_future(self._ledger.sign_head()))
        return await asyncio.to_thread(lambda: self._reader.proof(record_id, owner=owner))

    async def export(self, form: str, *, owner: str | None = None, **filters: Unpack[Filters]) -> AsyncIterator[bytes]:
        """The calls that fit, oldest first, in pieces of bytes. ``form``: jsonl, csv or parquet.

        Raises:
            InvalidRequest: the form or a filter is not well-formed.
            UnsupportedFeature: Parquet without its extra.
        """
        if form not in list(ExportForm):
            raise InvalidRequest("format must be jsonl, csv or parquet", param="format")
        chosen = call_filter(owner, **filters)
        pieces = await asyncio.to_thread(self._reader.export, ExportForm(form), chosen)
        # Read before anything is answered, so that what is wrong is told by a status.
        return _streamed(await asyncio.to_thread(_gather, pieces), pieces)

    async def erase(self, record_id: str, *, owner: str | None = None, api_key_id: str | None = None) -> dict[str, Any]:
        """Erase the content of one call, and of its replays and repeats; ``api_key_id`` is who asks.

        Raises:
            UnknownRecord: there is no such call, or no content of it.
            LedgerUnavailable: it could not be recorded; nothing was erased.
        """
        index = (await self.detail(record_id, owner=owner)).call.index
        return await self._erased((index,), api_key_id, more=False)

    async def erase_all(
        self,
        *,
        key: str | None = None,
        after: str | None = None,
        before: str | None = None,
        owner: str | None = None,
        api_key_id: str | None = None,
    ) -> dict[str, Any]:
        """Erase the content of the oldest calls that fit, a batch of them, and of their replays and repeats; ``more``
        says whether to ask again.

        Raises:
            InvalidRequest: no filter, or one that is not well-formed.
            LedgerUnavailable: it could not be recorded; nothing was erased.
        """
        if key is None and after is None and before is None:
            raise InvalidRequest("key, after or before must say which calls", param="key")
        chosen = call_filter(owner, key=key, after=after, before=before)
        intents = await asyncio.to_thread(lambda: self._reader.erasable(chosen, limit=MAX_ERASED))
        if not intents:
            return {"erased": [], "copies": [], "record": None, "more": False}
        return await self._erased(intents, api_key_id, more=len(intents) == MAX_ERASED)

    async def _erased(self, asked: tuple[int, ...], api_key_id: str | None, *, more: bool) -> dict[str, Any]:
        receipt = await self._append_erasure(asked, api_key_id)
        gone = await asyncio.to_thread(self._reader.erased_by, receipt.index)
        copies = [intent for intent in gone if intent not in asked]
        record = {"index": receipt.index, "leaf": receipt.leaf}
        return {"erased": list(gone), "copies": copies, "record": record, "more": more}

    async def _append_erasure(self, intents: tuple[int, ...], api_key_id: str | None) -> Receipt:
        erasure = Erasure(intents, "request", "http", api_key_id)
        receipt = await asyncio.shield(asyncio.wrap_future(self._ledger.append_erasure(erasure)))
        self.on_erased()
        return receipt

    async def key_id(self, word: str, keys: Iterable[ApiKey], *, owner: str | None = None) -> str:
        """The id of the key that ``word`` means to somebody who may know of ``keys``, as filters take it.

        Raises:
            InvalidRequest: none of them, and no record that ``owner`` may see names an id of this.
        """

        def on_record(key_id: str) -> bool:
            return bool(self._reader.list(CallFilter(api_key_id=key_id, owner=owner), limit=1).calls)

        return await asyncio.to_thread(key_id_of, word, tuple(keys), on_record)

    async def erased_calls(self, prefix: str, after: str) -> tuple[tuple[tuple[str, str | None], ...], str]:
        """Ids beginning with ``prefix``, and API keys, of calls that were erased by a record behind the mark ``after``
        and not imported, and the mark to go on behind, which is ``after`` where there are no more."""
        return await asyncio.to_thread(lambda: self._reader.erased_calls(prefix, after))

    async def earlier(
        self, record_id: str, surface: str, *, owner: str | None = None, whole: bool = True
    ) -> EarlierCall:
        """A call of ``surface``, for a conversation to go on from if it is ``whole``.

        Raises:
            UnknownRecord: there is none, it has not ended well, or nothing is kept of it.
            VaultCorrupt: it was altered in the vault's file.
        """
        return await asyncio.to_thread(lambda: earlier_call(self._reader, record_id, surface, owner=owner, whole=whole))

    async def statistics(self, *, owner: str | None = None, **filters: Unpack[Filters]) -> dict[str, Any]:
        """Totals of the calls that fit, and by day, model and key.

        Raises:
            InvalidRequest: a filter is not well-formed.
        """
        return await asyncio.to_thread(self._reader.stats, call_filter(owner, **filters))


class Filters(TypedDict, total=False):
    """What a request says of the calls that it wants. ``key`` is an id; ``after`` and ``before`` are RFC 3339 times."""

    query: str | None
    model: str | None
    key: str | None
    surface: str | None
    source: str | None
    finish_reason: str | None
    after: str | None
    before: str | None
    min_duration_ms: float | None
    max_duration_ms: float | None


def call_filter(owner: str | None = None, **asked: Unpack[Filters]) -> CallFilter:
    """A filter of what a request says.

    Raises:
        InvalidRequest: a time is none, or a bound leaves nothing between itself and its other.
    """
    after_ns, before_ns = _time_ns(asked.get("after"), "after"), _time_ns(asked.get("before"), "before")
    least, most = asked.get("min_duration_ms"), asked.get("max_duration_ms")
    if after_ns is not None and before_ns is not None and after_ns > before_ns:
        raise InvalidRequest("after: must not be later than before", param="after")
    if least is not None and most is not None and least > most:
        raise InvalidRequest("min_duration_ms: must not be above max_duration_ms", param="min_duration_ms")
    return CallFilter(
        query=asked.get("query"),
        model=asked.get("model"),
        api_key_id=asked.get("key"),
        owner=owner,
        surface=asked.get("surface"),
        source=asked.get("source"),
        finish_reason=asked.get("finish_reason"),
        after_ns=after_ns,
        before_ns=before_ns,
        min_duration_ns=_nanoseconds(least),
        max_duration_ns=_nanoseconds(most),
    )


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)


async def _streamed(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    gathered = first
    while gathered:
        yield gathered
        gathered = await asyncio.to_thread(_gather, pieces)


def _gather(pieces: Iterator[bytes]) -> bytes:
    """The next pieces, some of them joined; empty at the end."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= _PIECE_BYTES:
            break
    return bytes(gathered)


def _time_ns(text: str | None, param: str) -> int | None:
    try:
        return None if text is None else min(max(parse_time(text), -_FAR), _FAR)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param} must be an RFC 3339 time, such as 2026-01-31T12:00:00Z", param=param) from None
