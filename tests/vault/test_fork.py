"""A vault that goes on in two ways: each is sound in itself, and a head of the one convicts the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from minivault.errors import VaultCorrupt
from minivault.vault.database import open_reader, stored_node
from minivault.vault.findings import Fault
from minivault.vault.head import Head, HeadPaths
from minivault.vault.merkle import consistency_proof, verify_consistency
from tests.vault.samples import open_ledger, record_calls
from tests.vault.tampering import check


def grow(folder: Path, calls: int, prompt: str) -> Head:
    """Record so many calls and give the head over them."""
    ledger = open_ledger(folder, head_interval=3600)
    record_calls(ledger, calls, prompt_text=prompt)
    ledger.close()
    head = HeadPaths(folder / "vault.db").load_head()
    assert head is not None
    return head


@pytest.fixture
def forked(tmp_path: Path) -> tuple[Head, Head]:
    """Two calls in common; then one that goes on in ``told``, and three in ``hidden``."""
    grow(tmp_path / "told", 2, "in common")
    shutil.copytree(tmp_path / "told", tmp_path / "hidden")
    return grow(tmp_path / "told", 1, "what is told"), grow(tmp_path / "hidden", 3, "what is hidden")


def test_each_is_sound_in_itself_and_a_head_of_the_other_convicts_it(tmp_path: Path, forked: tuple[Head, Head]) -> None:
    told, hidden = forked
    for folder, head in ((tmp_path / "told", told), (tmp_path / "hidden", hidden)):
        assert check(folder, against=head).completeness == "attested"
    for folder, head in ((tmp_path / "told", hidden), (tmp_path / "hidden", told)):
        report = check(folder, against=head)
        assert (report.completeness, [finding.fault for finding in report.findings]) == ("broken", [Fault.HEAD])


def test_no_proof_leads_from_the_one_head_to_the_other(tmp_path: Path, forked: tuple[Head, Head]) -> None:
    told, hidden = forked
    db = open_reader(tmp_path / "hidden" / "vault.db")
    proof = consistency_proof(told.size, hidden.size, lambda level, place: stored_node(db, level, place))
    common = consistency_proof(4, hidden.size, lambda level, place: stored_node(db, level, place))
    db.close()
    assert not verify_consistency(told.size, hidden.size, told.root, hidden.root, proof)
    kept = HeadPaths(tmp_path / "told" / "vault.db")
    assert kept.load_head() == told
    assert common, "what they have in common is proven"


def test_the_one_put_in_the_place_of_the_other_is_not_opened(tmp_path: Path, forked: tuple[Head, Head]) -> None:
    shutil.copy(tmp_path / "hidden" / "vault.db", tmp_path / "told" / "vault.db")
    with pytest.raises(VaultCorrupt):
        open_ledger(tmp_path / "told", head_interval=3600)
    assert check(tmp_path / "told").completeness == "broken"
