"""The systemd unit, judged by systemd itself; and the server at work under the system calls that it leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.e2e.server import MINIVAULT, Server

UNIT = Path(__file__).parents[2] / "deploy" / "minivault.service"
TOOLS = Path(sys.prefix) / "deploy" / "bin" / "python"
CONFINED = [str(TOOLS), str(Path(__file__).parent / "confined.py"), str(UNIT)]
NEEDS_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")

NEEDS_SECCOMP = pytest.mark.skipif(
    not TOOLS.exists() or shutil.which("systemd-analyze") is None or sys.platform != "linux",
    reason="needs Linux, systemd-analyze and `make deploy-tools`",
)
FORBIDDEN = {
    "memory both written and run": "import mmap; mmap.mmap(-1, 4096, prot=7)",
    "another owner": "import os; os.chown('.', 0, 0)",
    "another family of addresses": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
}


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
        ["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(unit)], capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stdout[-400:]


@NEEDS_SECCOMP
@pytest.mark.parametrize("program", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_the_unit_forbids_is_refused(program: str, tmp_path: Path) -> None:
    done = subprocess.run([*CONFINED, sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert "PermissionError" in done.stderr


@NEEDS_SECCOMP
def test_the_server_does_its_work_under_what_the_unit_leaves_it(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", program=[*CONFINED, *MINIVAULT])
    try:
        answer = httpx2.post(f"{server.url}/generate", json={"prompt": "hello", "seed": 7, "max_tokens": 8}, timeout=60)
        assert (answer.status_code, bool(answer.json()["response"])) == (200, True)
        assert server.stop() == 0
    finally:
        server.kill()
