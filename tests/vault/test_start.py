"""What a start would refuse is known without starting, in the same words, and without making anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.errors import LedgerUnavailable, VaultCorrupt
from minivault.vault.head import HeadKeeper, HeadPaths
from minivault.vault.reader import Reader
from minivault.vault.start import require_continued, require_signing
from tests.vault.samples import intent, open_ledger


def refusal_of_start(vault: Path) -> str | None:
    try:
        HeadKeeper(vault)
    except VaultCorrupt as error:
        return error.message
    return None


def refusal_without_start(vault: Path) -> str | None:
    try:
        require_signing(vault)
    except VaultCorrupt as error:
        return error.message
    return None


def test_a_key_with_any_byte_changed_is_refused_as_a_start_does(tmp_path: Path) -> None:
    vault = tmp_path / "vault.db"
    key = HeadKeeper(vault).paths.private_key
    good = key.read_bytes()
    told = set()
    for place in range(len(good)):
        key.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        told.add(said := refusal_without_start(vault))
        assert said == refusal_of_start(vault), place
    assert {"vault.key holds no private key", "vault.key and vault.pub do not belong together"} <= told


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    locked = serialization.BestAvailableEncryption(b"secret")
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (tmp_path / "vault.key").write_bytes(Ed25519PrivateKey.generate().private_bytes(*pem, locked))
    assert refusal_without_start(tmp_path / "vault.db") == "vault.key holds no private key"


def test_before_the_first_start_there_is_nothing_to_refuse_and_nothing_is_made(tmp_path: Path) -> None:
    vault = tmp_path / "vault.db"
    assert require_signing(vault) is None
    require_continued(Reader.open(vault), None)
    assert list(tmp_path.iterdir()) == []


def test_a_start_under_a_head_makes_no_vault_in_the_place_of_one_that_is_gone(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=3600.0)
    ledger.append_intent(intent()).result(10)
    ledger.close()
    for path in tmp_path.glob("vault.db*"):
        path.unlink()
    with pytest.raises(VaultCorrupt, match="holds 0 records, but a head over 1 was signed"):
        open_ledger(tmp_path, head_interval=3600.0)
    assert not (tmp_path / "vault.db").exists()


def test_a_public_key_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    paths = HeadKeeper(tmp_path / "vault.db").paths
    paths.public_key.unlink()
    assert require_signing(paths.vault) is None
    assert not paths.public_key.exists()


def test_a_key_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    HeadPaths(tmp_path / "vault.db").private_key.mkdir()
    with pytest.raises(LedgerUnavailable, match="keys cannot be read"):
        require_signing(tmp_path / "vault.db")


def test_a_vault_that_grows_meanwhile_goes_on_from_its_head(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=3600.0)
    ledger.append_intent(intent(1)).result(10)
    ledger.sign_head().result(10)
    newest = require_signing(tmp_path / "vault.db")
    ledger.append_intent(intent(2)).result(10)
    reader = Reader.open(tmp_path / "vault.db")
    require_continued(reader, newest)
    assert newest is not None
    assert (newest.size, reader.count()) == (1, 2)
    reader.close()
    ledger.close()
