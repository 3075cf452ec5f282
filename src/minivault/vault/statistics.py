"""What was asked and answered, in numbers: totals, and groups by day, model and key. Knows nothing of content."""

from __future__ import annotations

from typing import Any

from minivault.vault.database import Connection
from minivault.vault.record import format_time

_GROUPS = {
    "by_day": ("day", "strftime('%Y-%m-%d', c.time_ns / 1000000000, 'unixepoch')"),
    "by_model": ("model", "c.model"),
    "by_key": ("api_key_id", "c.api_key_id"),
}
_NUMBERS = """
count(*), count(*) - count(c.outcome_index), coalesce(sum(c.prompt_tokens), 0), coalesce(sum(c.completion_tokens), 0),
percentile(c.duration_ns, 50) / 1e6, percentile(c.duration_ns, 95) / 1e6, percentile(c.duration_ns, 99) / 1e6
"""


def statistics(db: Connection | None, tests: str, values: list[Any]) -> dict[str, Any]:
    """Numbers of the calls that pass ``tests`` (a condition on ``calls AS c``). Times are milliseconds, days UTC.

    Each group is a list, in the order of its key: ``{key, calls, open_calls, prompt_tokens, completion_tokens,
    processing_time_ms: {p50, p95, p99}}``. A full scan for each: seconds in a vault of millions.
    """
    if db is None:
        nothing: dict[str, Any] = {"first": None, "last": None, "models": {}, "finish_reasons": {}, "days": {}}
        return _numbers((0, 0, 0, 0, None, None, None)) | nothing | {name: [] for name in _GROUPS}
    sums = f"SELECT {_NUMBERS}, min(c.time_ns), max(c.time_ns) FROM calls AS c WHERE {tests}"  # noqa: S608 - constants
    totals = next(db.execute(sums, values))
    groups = {name: _grouped(db, *group, tests, values) for name, group in _GROUPS.items()}
    reasons = f"SELECT coalesce(c.finish_reason, 'open'), count(*) FROM calls AS c WHERE {tests} GROUP BY 1 ORDER BY 1"  # noqa: S608 - constants
    return {
        **_numbers(totals),
        "first": None if totals[7] is None else format_time(totals[7]),
        "last": None if totals[8] is None else format_time(totals[8]),
        "models": {group["model"]: group["calls"] for group in groups["by_model"]},
        "finish_reasons": dict(db.execute(reasons, values)),
        "days": {group["day"]: group["calls"] for group in groups["by_day"]},
        **groups,
    }


def _grouped(db: Connection, name: str, key: str, tests: str, values: list[Any]) -> list[dict[str, Any]]:
    sql = f"SELECT {key}, {_NUMBERS} FROM calls AS c WHERE {tests} GROUP BY 1 ORDER BY 1"  # noqa: S608 - constants
    return [{name: row[0], **_numbers(row[1:])} for row in db.execute(sql, values)]


def _numbers(row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "calls": row[0],
        "open_calls": row[1],
        "prompt_tokens": row[2],
        "completion_tokens": row[3],
        "processing_time_ms": {"p50": row[4], "p95": row[5], "p99": row[6]},
    }
