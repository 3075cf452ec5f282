"""The vault's records as JSON values, read off the event loop; and erasing them.

Knows nothing of HTTP, or of how records are kept.
"""

from __future__ import annotations

import asyncio
from typing import Any

from minivault.errors import InvalidRequest
from minivault.service.earlier import EarlierCall, earlier_call
from minivault.service.ports import Book, RecordReader
from minivault.vault.book import MAX_ERASED
from minivault.vault.reader import CallDetail, CallFilter
from minivault.vault.record import Erasure, Receipt, parse_time

_FAR = 2**63 - 1
"""Nanoseconds; no record is that far from 1970, and the vault's integers end there."""


class Records:
    """Recorded calls, to be listed, read and erased."""

    def __init__(self, reader: RecordReader, ledger: Book) -> None:
        self._reader = reader
        self._ledger = ledger

    async def list(
        self,
        *,
        query: str | None = None,
        model: str | None = None,
        api_key_id: str | None = None,
        finish_reason: str | None = None,
        after: str | None = None,
        before: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        """A page of calls, newest first. ``after`` and ``before`` are RFC 3339 times; the rest as in CallFilter.

        Raises:
            InvalidRequest: a filter is not well-formed.
        """
        chosen = CallFilter(
            query=query,
            model=model,
            api_key_id=api_key_id,
            finish_reason=finish_reason,
            after_ns=_time_ns(after, "after"),
            before_ns=_time_ns(before, "before"),
        )
        page = await asyncio.to_thread(lambda: self._reader.list(chosen, cursor=cursor, limit=limit))
        return {"records": [call.as_dict() for call in page.calls], "next_cursor": page.next_cursor}

    async def get(self, record_id: str) -> dict[str, Any]:
        """One call in full.

        Raises:
            UnknownRecord: there is none.
        """
        return (await self.detail(record_id)).as_dict()

    async def detail(self, record_id: str) -> CallDetail:
        """As :meth:`get`, as the vault has it."""
        return await asyncio.to_thread(self._reader.get, record_id)

    async def head(self) -> tuple[str, str]:
        """The newest signed head, and the public key that signs.

        Raises:
            UnknownRecord: none was signed yet.
        """
        return await asyncio.to_thread(self._reader.head)

    async def proof(self, record_id: str) -> str:
        """The proof that a record is in the vault.

        Raises:
            UnknownRecord: there is none.
            InvalidRequest: no signed head covers it yet.
        """
        return await asyncio.to_thread(self._reader.proof, record_id)

    async def erase(self, record_id: str, *, api_key_id: str | None = None) -> dict[str, Any]:
        """Erase the content of one call; ``api_key_id`` is who asks.

        Raises:
            UnknownRecord: there is no such call, or no content of it.
            LedgerUnavailable: it could not be recorded; nothing was erased.
        """
        index = (await self.detail(record_id)).call.index
        return _erased((index,), await self._append_erasure((index,), api_key_id), more=False)

    async def erase_all(
        self,
        *,
        key: str | None = None,
        after: str | None = None,
        before: str | None = None,
        api_key_id: str | None = None,
    ) -> dict[str, Any]:
        """Erase the content of the oldest calls that fit, a batch of them; ``more`` says whether to ask again.

        Raises:
            InvalidRequest: no filter, or one that is not well-formed.
            LedgerUnavailable: it could not be recorded; nothing was erased.
        """
        if key is None and after is None and before is None:
            raise InvalidRequest("key, after or before must say which calls", param="key")
        chosen = CallFilter(api_key_id=key, after_ns=_time_ns(after, "after"), before_ns=_time_ns(before, "before"))
        intents = await asyncio.to_thread(lambda: self._reader.erasable(chosen, limit=MAX_ERASED))
        receipt = await self._append_erasure(intents, api_key_id) if intents else None
        return _erased(intents, receipt, more=len(intents) == MAX_ERASED)

    async def _append_erasure(self, intents: tuple[int, ...], api_key_id: str | None) -> Receipt:
        erasure = Erasure(intents, "request", "http", api_key_id)
        return await asyncio.wrap_future(self._ledger.append_erasure(erasure))

    async def earlier(self, record_id: str, surface: str) -> EarlierCall:
        """A whole call of ``surface``, for a conversation to go on from.

        Raises:
            UnknownRecord: there is none, it has not ended well, or nothing is kept of it.
        """
        return await asyncio.to_thread(earlier_call, self._reader, record_id, surface)

    async def statistics(self) -> dict[str, Any]:
        """Totals over all calls."""
        return await asyncio.to_thread(self._reader.stats)


def _erased(intents: tuple[int, ...], receipt: Receipt | None, *, more: bool) -> dict[str, Any]:
    record = None if receipt is None else {"index": receipt.index, "leaf": receipt.leaf}
    return {"erased": list(intents), "record": record, "more": more}


def _time_ns(text: str | None, param: str) -> int | None:
    try:
        return None if text is None else min(max(parse_time(text), -_FAR), _FAR)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param} must be an RFC 3339 time, such as 2026-01-31T12:00:00Z", param=param) from None
