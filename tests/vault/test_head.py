"""Signed heads: their form, what is never signed, and what they show that the vault alone cannot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from minivault.errors import InvalidRequest, VaultCorrupt
from minivault.vault.findings import Fault
from minivault.vault.head import Head, HeadKeeper, HeadPaths, Signer, VerifierKey, from_base64, open_note
from minivault.vault.merkle import Tree, leaf_hash
from minivault.vault.proof import FIRST_LINE
from tests.vault.samples import intent, open_ledger, record_calls
from tests.vault.scripted import eventually
from tests.vault.tampering import check

ROOT = leaf_hash(b"root")


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def test_a_head_is_a_text_signed_as_a_note(signer: Signer) -> None:
    lines = signer.sign(7, ROOT).split("\n")
    assert lines[:2] == [signer.key.name, "7"]
    assert lines[3] == ""
    assert lines[4].startswith(f"\u2014 {signer.key.name} ")
    assert open_note("\n".join(lines), signer.key) == Head(signer.key.name, 7, ROOT)


def test_a_key_reads_back(signer: Signer) -> None:
    assert VerifierKey.parse(f"{signer.key}\n") == signer.key


# The example of the Go module that brought this form into the world, and the key of Go's own log.
KNOWN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
KNOWN_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_known_keys_and_signatures_are_understood() -> None:
    assert VerifierKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    with pytest.raises(InvalidRequest, match="must be a signed note"):
        open_note(KNOWN_NOTE, VerifierKey.parse(KNOWN_KEY))
    with pytest.raises(InvalidRequest, match="signature is wrong"):
        open_note(KNOWN_NOTE.replace("your problem is", "my problem is"), VerifierKey.parse(KNOWN_KEY))


@pytest.mark.parametrize("text", ["", "a+b", "a+00000000+AAAA", KNOWN_KEY.replace("c74f", "c74e"), "a b+1+!", "\x00"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="key"):
        VerifierKey.parse(text)


def test_any_changed_byte_breaks_a_head(signer: Signer) -> None:
    note = signer.sign(7, ROOT)
    for place in range(len(note)):
        forged = note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :]
        with pytest.raises(InvalidRequest):
            open_note(forged, signer.key)


@pytest.mark.parametrize("text", ["AB==", "AAB=", "AA=", "AA", "A A=", "_w=="])
def test_base64_is_spelled_in_one_way(text: str) -> None:
    assert from_base64(text) is None


def test_base64_is_read() -> None:
    assert [from_base64(text) for text in ("", "AA==", "AQI=", "/+8D")] == [b"", b"\0", b"\1\2", b"\xff\xef\3"]


def test_signatures_of_witnesses_are_passed_over(signer: Signer) -> None:
    other = Signer(Ed25519PrivateKey.generate())
    both = signer.sign(7, ROOT) + other.sign(7, ROOT).split("\n\n")[1]
    assert open_note(both, signer.key).size == 7
    with pytest.raises(InvalidRequest, match="not signed by this key"):
        open_note(signer.sign(7, ROOT), other.key)


@pytest.mark.parametrize(
    "junk",
    [
        "the auditor approves\n",
        "\n",
        "\u2014 witness\n",
        "\u2014 witness !!!!\n",
        "\u2014 witness AAAA\n",
        "\u2014 a+b AAAAAAAA\n",
        "\u2014  AAAAAAAA\n",
        " \u2014 witness AAAAAAAA\n",
        "\u2014 witness AAAAAAAA \n",
        "\u2014 witness AAAAAAAA\r\n",
        "\u2014 witness AAAAAAAA\u2028\n",
        "\u2014 wit\x00ness AAAAAAAA\n",
        "- witness AAAAAAAA\n",
    ],
)
def test_anything_but_signatures_behind_the_head_refuses_it(signer: Signer, junk: str) -> None:
    text, _, signature = signer.sign(7, ROOT).partition("\n\n")
    for lines in (junk + signature, signature + junk):
        with pytest.raises(InvalidRequest):
            open_note(f"{text}\n\n{lines}", signer.key)


def test_a_wrong_signature_of_this_key_refuses_the_head_also_behind_a_good_one(signer: Signer) -> None:
    wrong = signer.sign(8, ROOT).partition("\n\n")[2]
    with pytest.raises(InvalidRequest, match="signature is wrong"):
        open_note(signer.sign(7, ROOT) + wrong, signer.key)


def test_a_head_has_no_more_signatures_than_a_note_may_have(signer: Signer) -> None:
    with pytest.raises(InvalidRequest, match="more than 100 signatures"):
        open_note(signer.sign(7, ROOT) + "\u2014 witness AAAAAAAA\n" * 100, signer.key)


class Grown:
    """A tree with its nodes."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.tree = Tree()
        self._nodes = {(node.level, node.position): node.hash for data in leaves for node in self.tree.append(data)}

    def node(self, level: int, position: int) -> bytes:
        return self._nodes[level, position]


def grown(size: int, salt: bytes = b"") -> Grown:
    return Grown([leaf_hash(salt + bytes([number])) for number in range(size)])


def keeper(folder: Path) -> HeadKeeper:
    return HeadKeeper(folder / "vault.db")


def test_a_head_that_does_not_go_on_from_the_newest_is_never_signed(tmp_path: Path) -> None:
    first, shorter, other = grown(5), grown(4), grown(9, b"other")
    keeper(tmp_path).sign(first.tree, first.node)
    before = (tmp_path / "vault.head").read_bytes()
    for tree, match in ((shorter, "set back"), (other, "not those")):
        with pytest.raises(VaultCorrupt, match=match):
            keeper(tmp_path).sign(tree.tree, tree.node)
    assert (tmp_path / "vault.head").read_bytes() == before
    longer = grown(9)
    keeper(tmp_path).sign(longer.tree, longer.node)


def test_the_public_key_is_for_all_to_read_and_the_private_one_is_not(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        keeper(tmp_path)
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("vault.pub", "vault.key")]
    assert modes == [0o640, 0o600]


def test_a_head_that_somebody_else_put_there_is_not_overwritten(tmp_path: Path) -> None:
    mine, other = keeper(tmp_path), keeper(tmp_path)
    small, large = grown(2), grown(5)
    other.sign(large.tree, large.node)
    with pytest.raises(VaultCorrupt, match="changed by another"):
        mine.sign(small.tree, small.node)


@pytest.mark.parametrize("lost", ["vault.key", "vault.pub"])
def test_without_its_keys_a_series_of_heads_does_not_go_on(tmp_path: Path, lost: str) -> None:
    tree = grown(2)
    keeper(tmp_path).sign(tree.tree, tree.node)
    (tmp_path / lost).unlink()
    with pytest.raises(VaultCorrupt, match="gone"):
        keeper(tmp_path)


def test_another_key_put_in_place_is_refused(tmp_path: Path) -> None:
    keeper(tmp_path)
    (tmp_path / "other").mkdir()
    keeper(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "vault.key", tmp_path / "vault.key")
    with pytest.raises(VaultCorrupt, match="belong together"):
        keeper(tmp_path)


@pytest.mark.parametrize("name", ["vault.key", "vault.pub", "vault.head"])
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    tree = grown(2)
    keeper(tmp_path).sign(tree.tree, tree.node)
    (tmp_path / name).write_bytes(b"\xffbroken")
    with pytest.raises(VaultCorrupt, match=name):
        keeper(tmp_path)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    keeper(tmp_path)
    assert (tmp_path / "vault.key").stat().st_mode & 0o077 == 0


# With the ledger


def signed_size(folder: Path) -> int:
    head = HeadPaths(folder / "vault.db").load_head()
    return 0 if head is None else head.size


def test_the_ledger_signs_soon_after_the_first_record_and_at_the_end(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=3600)
    index = ledger.append_intent(intent()).result(30).index
    eventually(lambda: ledger.status().head_size == 1)
    assert (index, ledger.status().signed_at is not None) == (0, True)
    record_calls(ledger, 3)
    assert signed_size(tmp_path) == 1
    ledger.close()
    assert signed_size(tmp_path) == 7


def test_heads_follow_at_intervals_without_traffic(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=0.02)
    record_calls(ledger, 2)
    eventually(lambda: ledger.status().head_size == 4)
    ledger.close()


def test_each_head_is_appended_to_the_export(tmp_path: Path) -> None:
    export = tmp_path / "elsewhere.heads"
    for _ in range(2):
        ledger = open_ledger(tmp_path / "v", head_interval=3600, head_export=export)
        record_calls(ledger, 1)
        ledger.close()
    sizes = [int(note.split("\n")[1]) for note in export.read_text().split("\n\n\u2014")[0:1]]
    assert sizes[0] >= 1
    assert export.read_text().rstrip("\n").endswith((tmp_path / "v" / "vault.head").read_text().rstrip("\n"))


def test_a_head_that_cannot_be_signed_harms_no_record(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=0.0)
    record_calls(ledger, 1)
    eventually(lambda: ledger.status().head_size == 2)
    (tmp_path / "vault.head").write_text("somebody's")
    record_calls(ledger, 1)
    eventually(lambda: ledger.status().head_error is not None)
    assert ledger.status().writable
    ledger.close()


def rolled_back(folder: Path) -> None:
    """Record, keep a copy, record on, put the copy back: sound in itself, but older than its head."""
    ledger = open_ledger(folder, head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    shutil.copy(folder / "vault.db", folder / "copy")
    ledger = open_ledger(folder, head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    shutil.copy(folder / "copy", folder / "vault.db")


def test_a_vault_that_was_set_back_is_not_opened(tmp_path: Path) -> None:
    rolled_back(tmp_path)
    with pytest.raises(VaultCorrupt, match="set back"):
        open_ledger(tmp_path, head_interval=3600)
    (tmp_path / "vault.head").unlink()
    open_ledger(tmp_path, head_interval=3600).close()


def test_verify_tells_that_a_vault_was_set_back(tmp_path: Path) -> None:
    rolled_back(tmp_path)
    report = check(tmp_path)
    assert (report.completeness, [finding.fault for finding in report.findings]) == ("broken", [Fault.HEAD])
    assert "counts 8 records, the vault holds 4" in report.findings[0].message


def test_verify_does_not_trust_a_head_that_is_not_signed(tmp_path: Path) -> None:
    rolled_back(tmp_path)
    note = (tmp_path / "vault.head").read_text()
    (tmp_path / "vault.head").write_text(note.replace("\n8\n", "\n4\n"))
    assert [finding.fault for finding in check(tmp_path).findings] == [Fault.HEAD]


def test_a_head_kept_elsewhere_attests_what_it_covers(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    kept = HeadPaths(tmp_path / "vault.db").load_head()
    ledger = open_ledger(tmp_path, head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    report = check(tmp_path, against=kept)
    assert (report.ok, report.completeness, report.attested_size, report.records) == (True, "attested", 4, 8)


def test_a_vault_written_anew_from_the_first_record_is_found_out_by_a_kept_head(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "true", head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    kept = HeadPaths(tmp_path / "true" / "vault.db").load_head()
    forged = open_ledger(tmp_path / "forged", head_interval=3600)
    record_calls(forged, 2, prompt_text="something else")
    forged.close()
    assert check(tmp_path / "forged").completeness == "self-attested"
    report = check(tmp_path / "forged", against=kept)
    assert (report.completeness, [finding.fault for finding in report.findings]) == ("broken", [Fault.HEAD])


def test_a_deleted_vault_is_found_out_by_a_kept_head(tmp_path: Path) -> None:
    assert check(tmp_path, against=Head("log", 4, ROOT)).completeness == "broken"


def test_a_changed_record_is_named_rather_than_the_head(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    db = apsw.Connection(str(tmp_path / "vault.db"))
    db.execute("UPDATE leaves SET data = CAST(replace(CAST(data AS TEXT), 'stop', 'spot') AS BLOB)")
    db.close()
    assert {finding.fault for finding in check(tmp_path).findings} == {Fault.ALTERED}


def test_a_proof_that_is_taken_for_a_head_is_told_so() -> None:
    with pytest.raises(InvalidRequest, match="proof of a record, and no head"):
        open_note(
            f"{FIRST_LINE}\nextra YQ==\nindex 0\n\nx\n1\nYQ==\n\n— x YQ==\n", Signer(Ed25519PrivateKey.generate()).key
        )


def test_an_empty_public_key_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "vault.pub").write_text("")
    with pytest.raises(VaultCorrupt, match=r"vault\.pub holds no verifier key: bring it back"):
        HeadPaths(tmp_path / "vault.db").load_key()
