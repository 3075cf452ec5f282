"""What was asked and answered, in numbers: totals, and groups by day, model and key. Knows nothing of content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minivault.vault.database import Connection, snapshot
from minivault.vault.record import format_time

_GROUPS = {
    "by_day": ("day", "strftime('%Y-%m-%d', c.time_ns / 1000000000, 'unixepoch')"),
    "by_model": ("model", "CAST(c.model AS BLOB)"),
    "by_key": ("api_key_id", "CAST(c.api_key_id AS BLOB)"),
}
_PAGE_RECORDS = 32_768
"""Looked at by one query: SQLite sorts a page in memory, and a reader that ends soon holds up no one."""
_BUCKETS = 32
"""Of times, in which one is e times as long as another: no bucket is wider than 3.2 %."""
_NUMBERS = f"""
CAST({_BUCKETS} * ln(max(c.duration_ns, 1)) AS INTEGER), count(*), min(c.duration_ns), max(c.duration_ns),
count(c.outcome_index), coalesce(sum(c.prompt_tokens), 0), coalesce(sum(c.completion_tokens), 0), min(c.time_ns),
max(c.time_ns)
"""

_ENDS = "SELECT (SELECT min(intent_index) FROM calls), (SELECT max(intent_index) FROM calls)"
_FIRST_AFTER = "SELECT min(intent_index) FROM calls WHERE intent_index > ?"


def statistics(db: Connection | None, tests: str, values: list[Any]) -> dict[str, Any]:
    """Numbers of the calls that pass ``tests`` (a condition on ``calls AS c``). Times are milliseconds, days UTC.

    Each group is a list, in the order of its key: ``{key, calls, open_calls, prompt_tokens, completion_tokens,
    processing_time_ms: {p50, p95, p99}}``. Percentiles are within 3.2 % of the exact ones: what is kept of a group
    is a histogram, so that the memory for it grows with the groups, not with the calls in them. Every record is looked
    at (seconds in a vault of millions), page after page: a call that ends meanwhile may be counted as open.
    """
    groups: dict[str, dict[Any, _Tally]] = {name: {} for name in _GROUPS}
    reasons: Counter[str] = Counter()
    if db is not None:
        _gather(db, tests, values, groups, reasons)
    total = _Tally()
    for day in groups["by_day"].values():
        total.merge(day)
    found = {name: _listed(_GROUPS[name][0], tallies) for name, tallies in groups.items()}
    return {
        **total.numbers(),
        "first": None if total.first is None else format_time(total.first),
        "last": None if total.last is None else format_time(total.last),
        "models": {group["model"]: group["calls"] for group in found["by_model"]},
        "finish_reasons": dict(sorted(reasons.items())),
        "days": {group["day"]: group["calls"] for group in found["by_day"]},
        **found,
    }


def _gather(
    db: Connection, tests: str, values: list[Any], groups: dict[str, dict[Any, _Tally]], reasons: Counter[str]
) -> None:
    calls = f"FROM calls AS c WHERE {tests} AND c.intent_index BETWEEN ? AND ?"
    # What comes after the last call of now is left out; over a gap, as an altered index leaves one, it leaps.
    first, last = next(db.execute(_ENDS))
    while first is not None:
        end = min(first + _PAGE_RECORDS - 1, last)
        page = [*values, first, end]
        with snapshot(db):
            first = None if end == last else next(db.execute(_FIRST_AFTER, (end,)))[0]
            for name, (_, key) in _GROUPS.items():
                for row in db.execute(f"SELECT {key}, {_NUMBERS} {calls} GROUP BY 1, 2", page):
                    groups[name].setdefault(_text(row[0]), _Tally()).add(*row[1:])
            counted = f"SELECT CAST(coalesce(c.finish_reason, 'open') AS BLOB), count(*) {calls} GROUP BY 1"
            for reason, count in db.execute(counted, page):
                reasons[_text(reason) or ""] += count


def _text(value: bytes | str | None) -> str | None:
    """What is not Unicode in it, as whoever alters the file can leave, is replaced."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _listed(name: str, tallies: dict[Any, _Tally]) -> list[dict[str, Any]]:
    """In the order of the key; what has none comes first."""
    return [{name: key, **tallies[key].numbers()} for key in sorted(tallies, key=lambda key: (key is not None, key))]


@dataclass
class _Tally:
    """Sums over some calls, and a histogram of their durations: by bucket how many, the least and the most."""

    calls: int = 0
    ended: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first: int | None = None
    last: int | None = None
    durations: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, bucket: int | None, calls: int, least: int, most: int, *sums: int) -> None:
        """As ``_NUMBERS`` gives it; the bucket of calls without a duration is ``None``. Times are nanoseconds."""
        ended, prompt_tokens, completion_tokens, first, last = sums
        durations = {} if bucket is None else {bucket: (calls, least, most)}
        self.merge(_Tally(calls, ended, prompt_tokens, completion_tokens, first, last, durations))

    def merge(self, other: _Tally) -> None:
        self.calls += other.calls
        self.ended += other.ended
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.first = _of_both(min, self.first, other.first)
        self.last = _of_both(max, self.last, other.last)
        for bucket, (count, least, most) in other.durations.items():
            known = self.durations.get(bucket, (0, least, most))
            self.durations[bucket] = (known[0] + count, min(known[1], least), max(known[2], most))

    def numbers(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "open_calls": self.calls - self.ended,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "processing_time_ms": {f"p{percent}": self._percentile(percent) for percent in (50, 95, 99)},
        }

    def _percentile(self, percent: int) -> float | None:
        """Milliseconds, between the two calls next to it in order; those within a bucket count as evenly spread."""
        timed = sum(count for count, _, _ in self.durations.values())
        if not timed:
            return None
        whole, rest = divmod(percent * (timed - 1), 100)
        below = self._nth(whole)
        return (below + (self._nth(whole + 1) - below) * rest / 100 if rest else below) / 1e6

    def _nth(self, rank: int) -> float:
        """Nanoseconds of the call of this rank, from 0, by its duration."""
        for _, (count, least, most) in sorted(self.durations.items()):
            if rank < count:
                return least + (most - least) * rank / max(count - 1, 1)
            rank -= count
        raise AssertionError("a rank is below the number of calls")


def _of_both(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)
