"""Reads what a running server has recorded, once it is there. Polls, since the server is another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2

from tests.e2e.server import PATIENCE

TRIES = 20
T = TypeVar("T")


def left_midway(leave: Callable[[], T], surface: str, *urls: str, mode: str = "stream") -> tuple[T, dict[str, Any]]:
    """Leave a call in its midst: what ``leave`` gave, and the record of the call, ``cancelled`` on each server.

    On a fast server, or with a slow client, an answer can be whole before its client has left. That is recorded as
    what it is and shows nothing here, so the client leaves another.
    """
    for _ in range(TRIES):
        before = [newest(url) for url in urls]
        got = leave()
        ended = [_ended_since(url, index) for url, index in zip(urls, before, strict=True)]
        found = [[call for call in calls if _is_cancelled(call, surface, mode)] for calls in ended]
        if all(found):
            return got, found[0][0]
    raise AssertionError(f"{TRIES} answers of {surface} were whole before their client had left")


def newest(url: str) -> int:
    """The index of the latest call; -1 when there is none."""
    return max((call["index"] for call in _calls(url)), default=-1)


def until_cancelled(url: str, surface: str) -> dict[str, Any]:
    """The latest stream of ``surface`` that was cancelled."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [call for call in _calls(url) if _is_cancelled(call, surface, "stream")]
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no cancelled call of {surface} was recorded")


def _ended_since(url: str, index: int) -> list[dict[str, Any]]:
    """The calls after ``index``, once there are some and all have ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [call for call in _calls(url) if call["index"] > index]
        if found and all(call["finish_reason"] for call in found):
            return found
        time.sleep(0.02)
    raise AssertionError(f"no call after {index} was recorded with its end")


def _calls(url: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = httpx2.get(f"{url}/vault/records", timeout=PATIENCE).json()["records"]
    return listed


def _is_cancelled(call: dict[str, Any], surface: str, mode: str) -> bool:
    return (call["finish_reason"], call["surface"], call["mode"]) == ("cancelled", surface, mode)
