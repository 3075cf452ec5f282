"""Descriptors: files have theirs beside the connections, however many of these are wanted."""

from __future__ import annotations

import pytest

from minivault.cli.descriptors import allow_descriptors

resource = pytest.importorskip("resource", reason="counts no sockets as files")


@pytest.mark.parametrize(
    ("soft", "hard", "set_to", "room"),
    [
        (1024, 20_000, 1768, 1256),
        (1024, resource.RLIM_INFINITY, 1768, 1256),
        (4096, 20_000, None, 1256),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 1256),
        (1024, 1024, None, 512),
        (256, 800, 800, 400),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_needed_and_allowed(
    soft: int, hard: int, set_to: int | None, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: now.append(limits))
    assert allow_descriptors(1256) == room
    assert now == ([] if set_to is None else [(set_to, hard)])
