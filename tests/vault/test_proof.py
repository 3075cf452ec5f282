"""Proofs: made from the vault, checked without it; a forged one proves nothing."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from minivault.errors import InvalidRequest, UnknownRecord
from minivault.vault.head import HeadPaths, Signer, VerifierKey
from minivault.vault.proof import check_proof, prove
from minivault.vault.reader import Reader
from tests.vault.samples import intent, open_ledger, record_calls

CALLS = 6


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("vault")
    ledger = open_ledger(folder, head_interval=3600)
    record_calls(ledger, CALLS, api_key_id="alice")
    ledger.append_intent(intent(9)).result(30)
    ledger.close()
    return Reader.open(folder / "vault.db")


@pytest.fixture(scope="module")
def key(vault: Reader) -> VerifierKey:
    found = HeadPaths(vault.path).load_key()
    assert found is not None
    return found


def test_every_record_can_be_proven(vault: Reader, key: VerifierKey) -> None:
    for index in range(2 * CALLS + 1):
        proven = check_proof(prove(vault, index), key)
        detail = vault.get(index)
        leaves = {detail.call.index: detail.intent_leaf, detail.call.outcome_index: detail.outcome_leaf}
        assert (proven.index, proven.leaf["index"], proven.leaf_hash) == (index, index, leaves[index])
        assert proven.head.size == 2 * CALLS + 1


def test_an_id_proves_the_outcome_and_for_an_open_call_the_intent(vault: Reader, key: VerifierKey) -> None:
    assert check_proof(prove(vault, "gen-2"), key).leaf["kind"] == "outcome"
    assert check_proof(prove(vault, "gen-9"), key).leaf["kind"] == "intent"


def test_a_proof_holds_no_content(vault: Reader) -> None:
    extra = prove(vault, 0).splitlines()[1].removeprefix("extra ")
    assert b"question" not in base64.b64decode(extra)


def test_a_proof_has_the_form_of_tlog_proofs(vault: Reader) -> None:
    heading, _, note = prove(vault, 3).partition("\n\n")
    lines = heading.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[2] == "index 3"
    assert all(len(base64.b64decode(line)) == 32 for line in lines[3:])
    assert note == HeadPaths(vault.path).load_note()


def test_any_changed_character_proves_nothing_else(vault: Reader, key: VerifierKey) -> None:
    text = prove(vault, 3)
    truth = check_proof(text, key)
    for place in range(len(text)):
        forged = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        try:
            assert check_proof(forged, key) == truth
        except InvalidRequest:
            continue


def test_a_forged_leaf_proves_nothing(vault: Reader, key: VerifierKey) -> None:
    lines = prove(vault, 3).split("\n")
    leaf = base64.b64decode(lines[1].removeprefix("extra ")).replace(b'"stop"', b'"fake"')
    lines[1] = f"extra {base64.b64encode(leaf).decode()}"
    with pytest.raises(InvalidRequest, match="not in the tree"):
        check_proof("\n".join(lines), key)


def test_a_proof_under_another_key_proves_nothing(vault: Reader) -> None:
    with pytest.raises(InvalidRequest, match="not signed by this key"):
        check_proof(prove(vault, 3), Signer(Ed25519PrivateKey.generate()).key)


@pytest.mark.parametrize("text", ["", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nx"])
def test_what_is_no_proof_is_refused(key: VerifierKey, text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_proof(text, key)


def test_another_keys_record_is_not_proven(vault: Reader) -> None:
    with pytest.raises(UnknownRecord):
        prove(vault, 1, owner="bob")


def test_a_record_that_no_head_covers_is_not_proven_yet(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.close()
    with pytest.raises(InvalidRequest, match="no signed head"):
        prove(Reader.open(tmp_path / "vault.db"), 1)
