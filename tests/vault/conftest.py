"""What the tests of tampering share: a copy of a vault to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def vault(original: Path, tmp_path: Path) -> Path:
    """A copy of the module's ``original``."""
    return Path(shutil.copy(original, tmp_path / "vault.db"))
