"""Reads what a running server has recorded, once it is there."""

from __future__ import annotations

import time
from typing import Any

import httpx

PATIENCE_SECONDS = 20


def until_recorded(url: str, finish_reason: str, surface: str, mode: str = "stream") -> dict[str, Any]:
    """The latest call that ended so. Polls, since the server is another process."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        listed = httpx.get(f"{url}/vault/records", params={"finish_reason": finish_reason}).json()["records"]
        found: list[dict[str, Any]] = [one for one in listed if one["surface"] == surface and one["mode"] == mode]
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no {finish_reason} call of {surface} was recorded")
