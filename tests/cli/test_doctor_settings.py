"""``minivault doctor`` looks at what the settings name: keys that others read, a Redis, where heads are exported to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from minivault.cli.examine_config import examine_config
from minivault.cli.examine_findings import Finding
from minivault.settings import load_settings
from minivault.vault.cipher import VaultKey
from minivault.vault.head_export import HeadExport, why_not
from tests.access.redis_server import running_redis
from tests.cli.test_tls import make_pair


def findings(data_dir: Path, **flags: object) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_config(load_settings(data_dir=data_dir, **flags))}


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, None), (0o400, None), (0o640, "warn"), (0o644, "warn")])
def test_a_tls_key_that_others_can_read_is_found(tmp_path: Path, mode: int, verdict: str | None) -> None:
    cert, key = make_pair(tmp_path)
    key.chmod(mode)
    found = findings(tmp_path / "data", tls_cert=cert, tls_key=key).get("tls_key")
    assert (found and found.verdict) == verdict
    assert found is None or found.advice.endswith(f": chmod 600 {key}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(("mode", "found"), [(0o640, False), (0o644, True)])
def test_a_key_of_another_user_may_be_read_through_its_group(tmp_path: Path, mode: int, found: bool) -> None:
    cert, key = make_pair(tmp_path)
    key.chmod(mode)
    os.chown(key, 65534, 65534)
    told = findings(tmp_path / "data", tls_cert=cert, tls_key=key)
    assert ("tls_key" in told) is found
    assert not found or f"chmod o-rwx {key}" in told["tls_key"].advice


def test_a_key_of_the_vault_that_others_can_read_is_found(tmp_path: Path) -> None:
    VaultKey.create(tmp_path / "own.key")
    assert "vault_key_file" not in findings(tmp_path, vault_key_file=tmp_path / "own.key")
    (tmp_path / "own.key").chmod(0o604)
    assert findings(tmp_path, vault_key_file=tmp_path / "own.key")["vault_key_file"].verdict == "warn"


def test_a_redis_that_does_not_answer_is_found(tmp_path: Path) -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens there
        found = findings(tmp_path, limits_storage=f"redis://127.0.0.1:{taken.getsockname()[1]}")["limits_storage"]
    assert (found.verdict, "Redis does not answer" in found.found) == ("fail", True)
    assert "start that Redis" in found.advice


def test_a_redis_that_answers_is_told(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis:
        assert findings(tmp_path, limits_storage=redis.url)["limits_storage"].verdict == "ok"


def test_an_address_that_is_none_is_told_once(tmp_path: Path) -> None:
    told = list(examine_config(load_settings(data_dir=tmp_path, limits_storage="postgres://h")))
    assert [finding.verdict for finding in told if finding.what == "limits_storage"] == ["fail"]


def test_an_export_of_heads_to_nowhere_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path, head_export=tmp_path / "none" / "heads")["head_export"]
    assert (found.verdict, found.found) == ("fail", "heads cannot be exported: its folder is not there")
    assert "make that folder" in found.advice
    assert "head_export" not in findings(tmp_path, head_export=tmp_path / "heads")


def test_looking_at_where_heads_go_makes_and_changes_nothing(tmp_path: Path) -> None:
    assert why_not(tmp_path / "heads") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "heads").write_text("kept", encoding="ascii")
    before = (tmp_path / "heads").stat().st_mtime_ns
    assert why_not(tmp_path / "heads") is None
    assert ((tmp_path / "heads").read_text("ascii"), (tmp_path / "heads").stat().st_mtime_ns) == ("kept", before)


def test_what_is_no_place_for_heads_is_told_as_the_export_tells_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "none/heads", "pipe/heads"):
        export = HeadExport(tmp_path / name)
        export.offer("note")
        export.close()
        assert export.error == f"the head is signed, but cannot be exported: {why_not(tmp_path / name)}", name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_export_of_heads_that_may_not_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "heads").touch(0o400)
    (tmp_path / "folder").mkdir(0o500)
    assert why_not(tmp_path / "heads") == why_not(tmp_path / "folder" / "heads") == "the file may not be written"
