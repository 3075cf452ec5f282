"""Records, clocks and randomness for tests: plain, repeatable, and short to ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from minivault.vault.ledger import Ledger
from minivault.vault.record import Intent, Outcome, Pin

NOON = 1_700_000_000_123_456_789
"""2023-11-14T22:13:20.123456789Z."""

PIN = Pin(
    model="guide",
    weights_digest="sha256:" + "1" * 64,
    tokenizer_digest="sha256:" + "2" * 64,
    template_digest="sha256:" + "3" * 64,
    engine="native",
    engine_build="0.1.0",
    arithmetic="int8-v1",
    exact=True,
)


def intent(number: int = 1, **changes: Any) -> Intent:
    fields: dict[str, Any] = {
        "request_id": f"gen-{number}",
        "surface": "native",
        "source": "http",
        "api_key_id": None,
        "mode": "full",
        "pin": PIN,
        "parameters": {"max_tokens": 16, "seed": 2**62 + 1, "stop": (), "temperature": 0.7},
        "ignored": (),
        "store": True,
        "prompt_text": f"question {number}",
        "prompt_token_ids": (1, 2, 3),
        "raw_request": b'{"prompt": "question"}',
    }
    return Intent(**(fields | changes))


def outcome(intent_index: int, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "intent_index": intent_index,
        "finish_reason": "stop",
        "response_text": f"answer to {intent_index}",
        "response_token_ids": (4, 5),
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "timings": {"queue_ns": 1_000, "total_ns": 2_500_000},
    }
    return Outcome(**(fields | changes))


def ticking(start: int = NOON, step: int = 1_000) -> Callable[[], int]:
    """A clock that moves by ``step`` each time it is read."""
    ticks = count(start, step)
    return lambda: next(ticks)


def counting_entropy() -> Callable[[int], bytes]:
    """Bytes that look random and are the same in each run."""
    numbers = count()

    def draw(size: int) -> bytes:
        return hashlib.shake_256(next(numbers).to_bytes(8, "big")).digest(size)

    return draw


def open_ledger(folder: Path, **changes: Any) -> Ledger:
    """A ledger in ``folder`` with a ticking clock and plenty of free space, without mirror and heads."""
    fields: dict[str, Any] = {
        "mirror_dir": None,
        "head_interval": None,
        "clock": ticking(),
        "entropy": counting_entropy(),
        "free": lambda _: (1 << 40, 1 << 41),
    }
    return Ledger.open(folder / "vault.db", **(fields | changes))


def record_calls(ledger: Ledger, calls: int, **changes: Any) -> list[int]:
    """So many whole calls, one after the other; gives the indexes of their intents."""
    indexes = []
    for number in range(calls):
        index = ledger.append_intent(intent(number, **changes)).result(30).index
        ledger.append_outcome(outcome(index)).result(30)
        indexes.append(index)
    return indexes
