"""Makes the modules of `training/guide` importable by name; none of those used here needs torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "training" / "guide"))


@pytest.fixture(scope="session")
def guide_folder() -> Path:
    return ROOT / "src" / "minivault" / "guide"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Chats with their rendering, token ids and greedy answers, written by `training/guide/golden.py`."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
    return loaded
