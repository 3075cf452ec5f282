"""The systemd unit, judged by systemd itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "minivault.service"
NEEDS_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    path = tmp_path / UNIT.name
    path.write_text(
        UNIT.read_text(encoding="utf-8").replace("/opt/minivault/bin/minivault", "/bin/true"), encoding="utf-8"
    )
    return path


@NEEDS_SYSTEMD
def test_systemd_finds_no_fault_in_the_unit(unit: Path) -> None:
    judged = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


@NEEDS_SYSTEMD
def test_what_the_service_may_do_is_little(unit: Path) -> None:
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)], capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stdout[-400:]
