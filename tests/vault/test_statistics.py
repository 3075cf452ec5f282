from __future__ import annotations

import random
import statistics as exact
import tracemalloc
from collections import Counter
from dataclasses import dataclass

import apsw
import pytest

from minivault.vault.database import open_scratch
from minivault.vault.record import format_time
from minivault.vault.statistics import statistics

DAY_NS = 86_400 * 10**9
COLUMNS = (
    "intent_index INTEGER PRIMARY KEY, outcome_index INTEGER, time_ns INTEGER, model TEXT, api_key_id TEXT,"
    " finish_reason TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, duration_ns INTEGER"
)
WIDTH = 0.032
"""Of a percentile: how far it may be from the exact one."""


@dataclass
class Row:
    index: int
    time_ns: int
    model: str
    key: str | None
    reason: str | None
    prompt_tokens: int
    completion_tokens: int | None
    duration_ns: int | None


def drawn(count: int) -> list[Row]:
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    rows = []
    for index in range(0, 3 * count, 3):
        ended = chance.random() < 0.9
        time_ns = 1_700_000_000 * 10**9 + chance.randrange(5 * DAY_NS)
        model, key = chance.choice(["a", "b"]), chance.choice([None, "alice", "bob"])
        reason = chance.choice(["stop", "length", "cancelled"]) if ended else None
        duration = int(chance.lognormvariate(18, 2)) if ended else None
        answer = chance.randrange(200) if ended else None
        rows.append(Row(index, time_ns, model, key, reason, chance.randrange(500), answer, duration))
    return rows


def vault_of(rows: list[Row]) -> apsw.Connection:
    db = open_scratch()
    db.execute(f"CREATE TABLE calls ({COLUMNS})")
    values = [
        (
            row.index,
            None if row.reason is None else row.index + 1,
            row.time_ns,
            row.model,
            row.key,
            row.reason,
            row.prompt_tokens,
            row.completion_tokens,
            row.duration_ns,
        )
        for row in rows
    ]
    db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    return db


def percentiles(rows: list[Row]) -> list[float]:
    durations = [row.duration_ns / 1e6 for row in rows if row.duration_ns is not None]
    found = exact.quantiles(durations, n=100, method="inclusive")
    return [found[49], found[94], found[98]]


def same(group: dict[str, object], rows: list[Row]) -> None:
    assert group["calls"] == len(rows)
    assert group["open_calls"] == sum(row.reason is None for row in rows)
    assert group["prompt_tokens"] == sum(row.prompt_tokens for row in rows)
    assert group["completion_tokens"] == sum(row.completion_tokens or 0 for row in rows)
    times = group["processing_time_ms"]
    assert isinstance(times, dict)
    assert list(times.values()) == pytest.approx(percentiles(rows), rel=WIDTH)


@pytest.mark.parametrize("page", [1, 100, 10**6])
def test_pages_add_up_to_what_the_calls_say(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.vault.statistics._PAGE_RECORDS", page)
    rows = drawn(2000)
    found = statistics(vault_of(rows), "1", [])
    same(found, rows)
    by_day = {group["day"]: group for group in found["by_day"]}
    assert list(by_day) == sorted({format_time(row.time_ns)[:10] for row in rows})
    for day, group in by_day.items():
        same(group, [row for row in rows if format_time(row.time_ns).startswith(day)])
    assert [group["model"] for group in found["by_model"]] == ["a", "b"]
    for group in found["by_model"]:
        same(group, [row for row in rows if row.model == group["model"]])
    assert [group["api_key_id"] for group in found["by_key"]] == [None, "alice", "bob"]
    for group in found["by_key"]:
        same(group, [row for row in rows if row.key == group["api_key_id"]])
    assert found["finish_reasons"] == dict(sorted(Counter(row.reason or "open" for row in rows).items()))
    assert found["days"] == {day: group["calls"] for day, group in by_day.items()}
    assert (found["first"], found["last"]) == tuple(
        format_time(choose(row.time_ns for row in rows)) for choose in (min, max)
    )


@pytest.mark.parametrize(
    ("durations", "error"), [([3, 700, 10, 45], 1e-9), ([7, 7, 7], 1e-9), ([1000, 1001, 1010], WIDTH)]
)
def test_percentiles_of_a_few_calls(durations: list[int], error: float) -> None:
    rows = [Row(3 * at, DAY_NS, "a", None, "stop", 1, 1, ms * 10**6) for at, ms in enumerate(durations)]
    times = statistics(vault_of(rows), "1", [])["processing_time_ms"]
    assert times == pytest.approx(dict(zip(("p50", "p95", "p99"), percentiles(rows), strict=True)), rel=error)


def test_a_selection_is_counted_and_nothing_else() -> None:
    rows = drawn(500)
    found = statistics(vault_of(rows), "c.model = ? AND c.api_key_id = ?", ["b", "bob"])
    same(found, [row for row in rows if (row.model, row.key) == ("b", "bob")])
    nothing = statistics(vault_of(rows), "c.model = ?", ["none"])
    assert (nothing["calls"], nothing["first"], nothing["by_day"]) == (0, None, [])
    assert nothing["processing_time_ms"] == {"p50": None, "p95": None, "p99": None}


def test_calls_of_no_time_at_all_are_counted() -> None:
    rows = [Row(at, DAY_NS, "a", None, "stop", 1, 1, 0) for at in range(3)]
    assert statistics(vault_of(rows), "1", [])["processing_time_ms"] == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_memory_for_it_does_not_grow_with_the_calls() -> None:
    needed = []
    for count in (20_000, 200_000):
        rows = drawn(200)
        db = vault_of(rows)
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO calls SELECT 3000 + i, 3000 + i, i * 1000000, 'a', NULL, 'stop', 1, 1, i * 1000 FROM n",
            (count,),
        )
        before = apsw.memory_used()
        apsw.memory_high_water(True)
        tracemalloc.start()
        assert statistics(db, "1", [])["calls"] == count + 200
        needed.append(apsw.memory_high_water() - before + tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert needed[1] < needed[0] * 1.2 + (1 << 20)
