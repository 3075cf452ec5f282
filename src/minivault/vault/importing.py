"""Brings calls that were kept elsewhere into the vault, marked as imported.

What the vault attests of them is that they were brought in, when, and as what; not that they happened. The time of
their records is that of the import; what the file said of itself is kept in the parameters under ``imported``. Bringing
the same file in twice adds nothing the second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from minivault.vault.ledger import Ledger
from minivault.vault.old_calls import OldCall, Unreadable
from minivault.vault.reader import Reader
from minivault.vault.record import Intent, Outcome, Pin

SURFACE = "import"
FINISH_REASON = "imported"
UNKNOWN = "unknown"
BATCH = 128


@dataclass(slots=True)
class ImportReport:
    """What came of an import."""

    imported: int = 0
    known: int = 0
    """Calls that had been imported before."""
    unreadable: list[Unreadable] = field(default_factory=list)


def import_calls(
    ledger: Ledger,
    reader: Reader,
    found: Iterable[OldCall | Unreadable],
    progress: Callable[[ImportReport], None] = lambda _: None,
) -> ImportReport:
    """Record the calls as imported; ``reader`` reads the same vault.

    Raises:
        LedgerUnavailable: one could not be made durable. What came before it is; to go on, import the file again.
    """
    report = ImportReport()
    pieces = iter(found)
    while batch := list(islice(pieces, BATCH)):
        report.unreadable += [piece for piece in batch if isinstance(piece, Unreadable)]
        calls = [piece for piece in batch if isinstance(piece, OldCall)]
        new = [call for call in calls if not reader.holds_import(_request_id(call))]
        _record(ledger, new)
        report.imported += len(new)
        report.known += len(calls) - len(new)
        progress(report)
    return report


def _record(ledger: Ledger, calls: list[OldCall]) -> None:
    begun = [ledger.append_intent(_intent(call)) for call in calls]
    ended = [
        ledger.append_outcome(_outcome(call, future.result().index)) for call, future in zip(calls, begun, strict=True)
    ]
    for future in ended:
        future.result()


def _request_id(call: OldCall) -> str:
    return f"import-{call.digest[:32]}"


def _intent(call: OldCall) -> Intent:
    said = {"id": call.id, "timestamp": call.timestamp, "finish_reason": call.finish_reason, "place": call.place}
    return Intent(
        request_id=_request_id(call),
        surface=SURFACE,
        source=SURFACE,
        api_key_id=None,
        mode="stream" if call.mode == "stream" else "full",
        pin=Pin(call.model or UNKNOWN, "", "", "", UNKNOWN, "", UNKNOWN, exact=False),
        parameters={"imported": {"attested": False, **dict(_given(said.items()))}},
        ignored=(),
        store=True,
        prompt_text=call.prompt,
        prompt_token_ids=(),
        raw_request=call.raw,
    )


def _given(said: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in said if value is not None)


def _outcome(call: OldCall, intent_index: int) -> Outcome:
    return Outcome(
        intent_index=intent_index,
        finish_reason=FINISH_REASON,
        response_text=call.response,
        response_token_ids=(),
        prompt_tokens=call.prompt_tokens,
        completion_tokens=call.completion_tokens,
        timings={} if call.total_ns is None else {"total_ns": call.total_ns},
    )
