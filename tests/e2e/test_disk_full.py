"""A full disk: a clear refusal, never an unrecorded answer, and service again when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.e2e.server import serving


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this machine does not allow mounting a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_gives_503_and_service_resumes_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    body = {"prompt": "hello", "max_tokens": 4, "seed": 1}
    with (
        serving(small_disk / "data", "--receipt-deadline", "60") as server,
        httpx2.Client(base_url=server.url, timeout=200) as client,
    ):
        assert client.post("/generate", json=body).status_code == 200
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        answered, refused = 0, []
        for _ in range(60):
            response = client.post("/generate", json=body)
            answered += response.status_code == 200
            if response.status_code != 200:
                refused.append(response)
        assert refused, "the disk never filled"
        assert {response.status_code for response in refused} == {503}
        assert all("disk" in response.json()["error"]["message"] for response in refused)
        filler.unlink()
        resumed = client.post("/generate", json=body)
        assert resumed.status_code == 200
        page = client.get("/vault/records", params={"limit": 200}).json()
        assert resumed.json()["id"] in str(page)
    recorded = [line for line in (small_disk / "data" / "logs" / "log.jsonl").read_text().splitlines() if line]
    assert len(recorded) >= answered + 2  # every answer that left is in the book
