"""The calls that a server has on record, read as those of a vault are. Knows nothing of the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from minivault.vault.calls import Call, Page
from minivault.vault.record import parse_time

if TYPE_CHECKING:
    from minivault.cli.client import Client

NEWEST = 100
"""Calls in a page, when those are looked for that ended since."""

PLAIN = (
    *("index", "outcome_index", "id", "model", "surface", "source", "api_key_id", "mode", "store"),
    *("finish_reason", "prompt", "response", "erased_index"),
)
"""What the wire calls as a call does."""


class ServerRecords:
    """What a key may see of a server's records: all of them, or those of its own calls.

    The wire lists calls by their begin. So that none that ends is missed, however many begin meanwhile, it is kept here
    which were listed as running, and how far the lists reached.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._running: set[int] = set()
        self._newest = -1

    def list(self, *, cursor: str | None = None, limit: int = 50) -> Page:
        """A page of calls, the newest first."""
        page = self._page(cursor, limit)
        self._note(page.calls)
        return page

    def finished_after(self, outcome_index: int) -> tuple[Call, ...]:
        """Calls that ended since they, or those begun before them, were listed, in the order in which they did; without
        any list, those that ended behind ``outcome_index``."""
        begin = min(self._running | {self._newest + 1})
        found: dict[int, Call] = {}
        cursor: str | None = None
        while True:
            page = self._page(cursor, NEWEST)
            found |= {call.index: call for call in page.calls if call.index >= begin}
            cursor = page.next_cursor
            if cursor is None or page.calls[-1].index <= begin:
                break
        new = [call for call in found.values() if call.index > self._newest or call.index in self._running]
        listed = self._newest >= 0
        self._note(found.values())
        ended = [(call.outcome_index, call) for call in new if call.outcome_index is not None]
        return tuple(call for index, call in sorted(ended, key=lambda one: one[0]) if listed or index > outcome_index)

    def _page(self, cursor: str | None, limit: int) -> Page:
        page = self._client.records(cursor, limit)
        return Page(tuple(_call(record) for record in page["records"]), page["next_cursor"])

    def _note(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._newest = max(self._newest, call.index)
            (self._running.add if call.outcome_index is None else self._running.discard)(call.index)


def _call(record: Mapping[str, Any]) -> Call:
    took, usage = record["processing_time_ms"], record["usage"]
    return Call(
        **{name: record[name] for name in PLAIN},
        altered=record.get("altered", False),
        time_ns=parse_time(record["timestamp"]),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        duration_ns=None if took is None else round(took * 1_000_000),
    )
