"""The calls that a server has on record, read as those of a vault are. Knows nothing of the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minivault.vault.calls import Call, Page
from minivault.vault.record import parse_time

if TYPE_CHECKING:
    from minivault.cli.client import Client

NEWEST = 100
"""So many of the newest calls are looked at for those that ended since."""

PLAIN = (
    *("index", "outcome_index", "id", "model", "surface", "source", "api_key_id", "mode", "store"),
    *("finish_reason", "prompt", "response", "erased_index"),
)
"""What the wire calls as a call does."""


class ServerRecords:
    """What a key may see of a server's records: all of them, or those of its own calls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, cursor: str | None = None, limit: int = 50) -> Page:
        """A page of calls, the newest first."""
        page = self._client.records(cursor, limit)
        return Page(tuple(_call(record) for record in page["records"]), page["next_cursor"])

    def finished_after(self, outcome_index: int) -> tuple[Call, ...]:
        """Those of the newest calls that ended behind ``outcome_index``, in the order in which they did."""
        ended = [(call.outcome_index, call) for call in self.list(limit=NEWEST).calls if call.outcome_index is not None]
        return tuple(call for index, call in sorted(ended, key=lambda one: one[0]) if index > outcome_index)


def _call(record: Mapping[str, Any]) -> Call:
    took, usage = record["processing_time_ms"], record["usage"]
    return Call(
        **{name: record[name] for name in PLAIN},
        time_ns=parse_time(record["timestamp"]),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        duration_ns=None if took is None else round(took * 1_000_000),
    )
