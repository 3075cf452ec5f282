"""Calls on their way out, streamed: JSON lines, CSV, or Parquet. Knows nothing of who reads them.

What was not stored or is erased is null there, with ``store`` and ``erased_index`` saying so; a call that is not what
its records commit to is there as it was found, with ``altered`` true.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from minivault.one_line import in_one_line
from minivault.vault.calls import Call, CallDetail, CallFilter

if TYPE_CHECKING:
    from minivault.vault.reader import Reader

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""``(calls done, calls in all)``."""
OnAltered = Callable[[Call], None]
"""Told of each call that was altered in the vault's file, as it is written."""

CSV_FIELDS: Final = (
    "record",
    "index",
    "outcome_index",
    "id",
    "timestamp",
    "model",
    "surface",
    "source",
    "api_key_id",
    "mode",
    "store",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "processing_time_ms",
    "prompt",
    "response",
    "erased_index",
    "altered",
)


class ExportForm(StrEnum):
    """How calls are written."""

    JSONL = "jsonl"
    """One object a line, with token ids, pin and parameters."""
    CSV = "csv"
    """With a line of names first."""
    PARQUET = "parquet"
    """Needs the extra ``parquet``."""


def export(
    reader: Reader,
    form: ExportForm,
    filters: CallFilter | None = None,
    progress: Progress | None = None,
    on_altered: OnAltered | None = None,
) -> Iterator[bytes]:
    """The calls, oldest first, in pieces. Each is held against its records as it is read.

    Raises:
        UnsupportedFeature: Parquet without its extra.
    """
    told = _Told(reader, filters, progress, on_altered)
    if form is ExportForm.CSV:
        return _csv(told.each(reader.walk(filters), lambda call: call))
    details = told.each(reader.walk_in_full(filters), lambda detail: detail.call)
    if form is ExportForm.JSONL:
        return _jsonl(details)
    from minivault.vault.parquet import write_parquet

    return write_parquet(details)


@dataclass(frozen=True, slots=True)
class _Told:
    """Whom to tell of what passes."""

    reader: Reader
    filters: CallFilter | None
    progress: Progress | None
    on_altered: OnAltered | None

    def each(self, found: Iterator[T], call_of: Callable[[T], Call]) -> Iterator[T]:
        total = 0 if self.progress is None else self.reader.count(self.filters)
        if self.progress is not None:
            self.progress(0, total)
        for number, one in enumerate(found, 1):
            if self.on_altered is not None and call_of(one).altered:
                self.on_altered(call_of(one))
            yield one
            if self.progress is not None:
                self.progress(number, max(number, total))


def _jsonl(details: Iterator[CallDetail]) -> Iterator[bytes]:
    for detail in details:
        yield (in_one_line({**detail.as_dict(), "altered": detail.call.altered}) + "\n").encode("utf-8")


def _csv(calls: Iterator[Call]) -> Iterator[bytes]:
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(CSV_FIELDS)
    for call in calls:
        table.writerow(_csv_row(call))
        yield buffer.getvalue().encode("utf-8")
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode("utf-8")


def _csv_row(call: Call) -> list[Any]:
    whole = call.as_dict()
    fields = whole | whole["usage"] | {"record": call.record_index, "altered": call.altered}
    return [fields[name] for name in CSV_FIELDS]
