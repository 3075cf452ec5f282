"""What all tests share: one event loop kind, a fixed hypothesis profile, and no way to touch a person's own vault."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Repeatable, and without a time limit per example: a loaded machine is not a failure.
settings.register_profile("house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# A shell's background job does not hear Ctrl-C, and neither would the commands that these tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings come from the test alone, and the default data directory lies in its own folder."""
    for name in [name for name in os.environ if name.startswith("MINIVAULT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MINIVAULT_DATA_DIR", str(tmp_path / "home"))
