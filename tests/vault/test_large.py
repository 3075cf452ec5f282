"""A vault of 100,000 records: verified in full, opened at once, and read without going through it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest
from bench.vault import make_vault

from minivault.access.caller import Caller
from minivault.generation import GenerationRequest
from minivault.service.opening import open_service
from minivault.settings import Settings
from minivault.vault.ledger import Ledger
from minivault.vault.reader import CallFilter, Reader

RECORDS = 100_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vault = tmp_path_factory.mktemp("large") / "vault.db"
    make_vault(vault, RECORDS)
    return vault


def verified(vault: Path, *options: str) -> dict[str, object]:
    words = [sys.executable, "-m", "minivault.cli.main", "vault", "verify", "--json", *options]
    done = subprocess.run(
        [*words, "--data-dir", str(vault.parent)], capture_output=True, text=True, timeout=600, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_it_verifies_and_then_only_what_is_new(large: Path) -> None:
    found = verified(large)
    assert (found["records"], found["ok"], found["digest_only"]) == (RECORDS, True, RECORDS // 100)
    again = verified(large, "--since-last")
    assert (again["since"], again["ok"]) == (RECORDS, True)


def test_it_opens_without_a_scan(large: Path) -> None:
    started = time.process_time()
    Ledger.open(large, mirror_dir=None).close()
    assert time.process_time() - started < 2


async def test_a_server_is_ready_on_it_without_a_scan(large: Path) -> None:
    started = time.process_time()
    async with open_service(
        Settings(data_dir=large.parent, mirror=False, threads=1, kv_cache_memory=64 << 20)
    ) as service:
        ready = time.process_time() - started
        assert service.not_ready_because() is None
        answer = await service.generate(GenerationRequest(prompt="hi"), Caller("local"))
    assert ready < 2
    assert answer.record.index == RECORDS + 1


@pytest.mark.parametrize(
    "chosen",
    [CallFilter(model="nobody"), CallFilter(query="zzzzzz"), CallFilter(api_key_id="alice", model="guide")],
    ids=["no such model", "no such word", "of a key and a model"],
)
def test_a_filter_does_not_go_through_all_of_it(large: Path, chosen: CallFilter) -> None:
    reader = Reader.open(large)
    steps = 0

    def counted() -> bool:
        nonlocal steps
        steps += 1
        return False

    with reader.connection() as db:
        assert db is not None
        db.set_progress_handler(counted, 1000)
    reader.list(chosen)
    reader.close()
    assert steps < 100  # a walk over all the calls takes some 500


def test_a_reader_keeps_little_of_it_in_memory(large: Path) -> None:
    reader = Reader.open(large)
    reader.stats()
    with reader.connection() as db:
        assert db is not None
        used, _ = db.status(apsw.SQLITE_DBSTATUS_CACHE_USED)
    reader.close()
    assert used < 6 << 20 < large.stat().st_size
