"""Calls on their way out, streamed: JSON lines, CSV, or Parquet. Knows nothing of who reads them.

What was not stored or is erased is null there, with ``store`` and ``erased_index`` saying so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from minivault.one_line import in_one_line
from minivault.vault.calls import Call, CallFilter

if TYPE_CHECKING:
    from minivault.vault.reader import Reader

Progress = Callable[[int, int], None]
"""``(calls done, calls in all)``."""

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
    reader: Reader, form: ExportForm, filters: CallFilter | None = None, progress: Progress | None = None
) -> Iterator[bytes]:
    """The calls, oldest first, in pieces.

    Raises:
        UnsupportedFeature: Parquet without its extra.
    """
    calls = reader.walk(filters) if progress is None else _told(reader, filters, progress)
    if form is ExportForm.JSONL:
        return _jsonl(reader, calls)
    if form is ExportForm.CSV:
        return _csv(calls)
    from minivault.vault.parquet import write_parquet

    return write_parquet(reader.get(call.index) for call in calls)


def _told(reader: Reader, filters: CallFilter | None, progress: Progress) -> Iterator[Call]:
    total = reader.count(filters)
    progress(0, total)
    for number, call in enumerate(reader.walk(filters), 1):
        yield call
        progress(number, max(number, total))


def _jsonl(reader: Reader, calls: Iterator[Call]) -> Iterator[bytes]:
    for call in calls:
        yield (in_one_line(reader.get(call.index).as_dict()) + "\n").encode("utf-8")


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
    fields = call.as_dict() | call.as_dict()["usage"] | {"record": call.record_index}
    return [fields[name] for name in CSV_FIELDS]
