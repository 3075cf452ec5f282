"""``minivault doctor`` finds what is wrong, says what to do about it, and changes nothing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from minivault import telemetry
from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.roles import Role
from minivault.cli import examine, examine_machine
from minivault.cli.examine_findings import Finding
from minivault.cli.examine_start import faults
from minivault.models import foreign
from minivault.settings import load_settings
from minivault.vault.cipher import VaultKey
from tests.cli.process import RunningServer, minivault
from tests.vault.samples import open_ledger


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_machine, "COPY_BYTES", 1 << 20)


def findings(data_dir: Path, **flags: object) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine.examine(load_settings(data_dir=data_dir, **flags))}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def test_a_new_machine_has_nothing_to_mend(tmp_path: Path) -> None:
    done = minivault("doctor", "--data-dir", str(tmp_path / "new"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert {"machine", "disk", "config", "vault", "models"} == {finding["area"] for finding in found}
    assert [finding for finding in found if finding["verdict"] == "fail"] == []
    assert not (tmp_path / "new").exists()


def test_a_vault_in_use_can_be_looked_at(server: RunningServer) -> None:
    minivault("generate", "hello", "--url", server.url)
    found = findings(server.data_dir)
    assert (found["records"].verdict, "in order" in found["records"].found) == ("ok", True)


def test_a_file_that_is_no_vault_is_found(data_dir: Path) -> None:
    (data_dir / "vault.db").write_bytes(b"nothing of the kind" * 100)
    found = findings(data_dir)
    assert "fail" in {found[what].verdict for what in ("file", "records") if what in found}


def test_a_model_whose_list_of_files_is_broken_is_found(data_dir: Path) -> None:
    folder = data_dir / "models" / "gone"
    shutil.copytree(Path(examine.__file__).parents[1] / "guide", folder)
    (folder / "minivault.json").write_text('{"format": 1}', encoding="utf-8")
    assert findings(data_dir)["gone"].verdict == "fail"


def test_a_folder_among_the_models_that_was_not_imported_is_found(data_dir: Path) -> None:
    shutil.copytree(Path(examine.__file__).parents[1] / "guide", data_dir / "models" / "by-hand")
    found = findings(data_dir)["by-hand"]
    assert (found.verdict, "was not imported" in found.found) == ("fail", True)


def test_a_default_model_that_is_not_there_is_found(data_dir: Path) -> None:
    assert findings(data_dir, model="nobody")["default"].verdict == "fail"


def test_a_secret_that_others_can_read_is_found(data_dir: Path) -> None:
    (data_dir / "vault.key").write_text("secret", encoding="ascii")
    (data_dir / "vault.key").chmod(0o644)
    found = findings(data_dir)
    assert (found["vault.key"].verdict, "chmod 600" in found["vault.key"].advice) == ("warn", True)


def test_an_address_beyond_this_machine_without_keys_is_found(data_dir: Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - looked at for a moment
    assert findings(data_dir, host=everywhere)["API keys"].verdict == "fail"
    assert findings(data_dir, host=everywhere, require_keys=True)["API keys"].verdict == "fail"
    assert findings(data_dir, host=everywhere, unsafe_bind=True)["API keys"].verdict == "warn"
    assert findings(data_dir)["API keys"].verdict == "ok"


def test_keys_of_which_none_may_administer_are_found(data_dir: Path) -> None:
    keys = KeyStore.in_folder(data_dir)
    keys.create("team", KeyTerms())
    boss = keys.create("ops", KeyTerms(role=Role.ADMIN)).key
    assert findings(data_dir)["API keys"].verdict == "ok"
    keys.revoke(boss.id)
    found = findings(data_dir)["API keys"]
    assert (found.verdict, "keys create NAME --role admin" in found.advice) == ("warn", True)


def test_a_variable_that_is_no_setting_is_found(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_PROT", "9000")
    found = findings(data_dir)["MINIVAULT_PROT"]
    assert (found.verdict, found.advice) == ("warn", "Did you mean MINIVAULT_PORT?")


@pytest.mark.parametrize(("seconds", "verdict"), [(1e-6, "warn"), (1e-3, "ok"), (0.3, "warn")])
def test_a_disk_is_judged_by_its_syncs(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, verdict: str
) -> None:
    monkeypatch.setattr(examine_machine, "_sync_times", lambda folder: [seconds] * 3)
    assert findings(data_dir)["sync"].verdict == verdict


@pytest.mark.parametrize(("kind", "verdict"), [("ext4", "ok"), ("tmpfs", "warn"), ("nfs4", "fail")])
def test_a_file_system_is_judged_by_its_kind(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str, verdict: str
) -> None:
    monkeypatch.setattr(examine_machine, "_kind_of_file_system", lambda folder: kind)
    assert findings(data_dir)["file system"].verdict == verdict


def test_more_threads_than_cores_are_found(data_dir: Path) -> None:
    assert findings(data_dir, threads=1000)["cores"].verdict == "warn"


def test_the_exit_code_says_whether_something_must_be_mended(data_dir: Path) -> None:
    done = minivault("doctor", "--data-dir", str(data_dir), MINIVAULT_MODEL="nobody")
    assert (done.returncode, "MEND: default" in done.stdout) == (1, True)


def test_a_lane_of_a_model_that_is_not_there_is_told(data_dir: Path) -> None:
    found = findings(data_dir, model_precision=["guide=f32", "tyni=int4"])["model_precision"]
    assert (found.verdict, found.found) == ("warn", "names tyni, and no model is called so")
    assert "model_precision" not in findings(data_dir, model_precision=["guide=f32"])


def test_a_key_file_that_is_not_there_is_the_fault_of_the_setting(data_dir: Path) -> None:
    open_ledger(data_dir).close()
    found = findings(data_dir, vault_key_file=data_dir / "none.key")
    assert (found["key file"].verdict, "file" in found) == ("fail", False)
    assert "vault_key_file" in found["key file"].advice
    assert "vault restore" not in found["key file"].advice


def test_a_key_file_that_is_not_there_is_found_before_there_is_a_vault(data_dir: Path) -> None:
    assert findings(data_dir, vault_key_file=data_dir / "none.key")["key file"].verdict == "fail"


def test_a_key_that_does_not_open_the_vault_is_no_reason_to_restore_one(data_dir: Path) -> None:
    key = VaultKey.create(data_dir / "own.key")
    VaultKey.create(data_dir / "other.key")
    open_ledger(data_dir, key=key, mirror_dir=None).close()
    for named in ({"vault_key_file": data_dir / "other.key"}, {}):
        found = findings(data_dir, **named)["file"]
        assert (found.verdict, "vault_key_file" in found.advice) == ("fail", True)
        assert "vault restore" not in found.advice
    assert findings(data_dir, vault_key_file=data_dir / "own.key")["records"].verdict == "ok"


def test_a_key_for_a_vault_that_is_not_encrypted_is_the_fault_of_the_setting(data_dir: Path) -> None:
    open_ledger(data_dir).close()
    VaultKey.create(data_dir / "own.key")
    assert "vault restore" not in findings(data_dir, vault_key_file=data_dir / "own.key")["file"].advice


def test_a_damaged_vault_is_to_be_restored(data_dir: Path) -> None:
    open_ledger(data_dir).close()
    with (data_dir / "vault.db").open("r+b") as file:
        file.seek(16)
        file.write(b"\xff" * 4000)
    assert "vault restore" in findings(data_dir)["file"].advice


def test_every_setting_with_which_no_server_starts_is_found_at_once(data_dir: Path) -> None:
    refused: dict[str, object] = {
        "rate_limit": "lots",
        "trusted_proxies": ["notanip"],
        "tls_cert": "/nope",
        "limits_storage": "postgres://h",
        "host": "host.invalid",
        "preload": ["nobody"],
    }
    settings = load_settings(data_dir=data_dir, tls_key="/nope", **refused)
    assert sorted(name for name, _ in faults(settings)) == sorted(refused)


@pytest.mark.parametrize(
    ("module", "name", "given"),
    [
        ("minivault.telemetry.otel", "otel_endpoint", "http://localhost:4318"),
        ("redis.asyncio", "limits_storage", "redis://localhost:6379"),
    ],
)
def test_a_setting_whose_libraries_are_not_installed_is_found(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, given: str
) -> None:
    settings = load_settings(data_dir=data_dir, **{name: given})
    assert list(faults(settings)) == []
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(telemetry, "otel", raising=False)
    assert [fault[0] for fault in faults(settings)] == [name]


def test_an_engine_that_is_not_installed_is_found(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "is_transformers_installed", lambda: False)
    found = findings(data_dir, engine="transformers")["guide"]
    assert (found.verdict, "minivault[transformers]" in found.advice) == ("fail", True)


def test_the_exit_code_tells_a_setting_that_serve_refuses(data_dir: Path) -> None:
    (data_dir / "config.toml").write_text('rate_limit = "lots"\n', encoding="utf-8")
    done = minivault("doctor", "--data-dir", str(data_dir))
    assert (done.returncode, "MEND: rate_limit: " in done.stdout) == (1, True)
