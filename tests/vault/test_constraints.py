"""Parameters that a caller wrote as text or structure are content: committed to, erased, not stored, and never altered
unseen; leaves of vaults from before, which hold them in plain, stay good.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from minivault.vault.backup import back_up, restore
from minivault.vault.calls import CallDetail
from minivault.vault.cipher import VaultKey
from minivault.vault.constraints import joined, parted
from minivault.vault.export import ExportForm
from minivault.vault.findings import Fault
from minivault.vault.head import HeadPaths
from minivault.vault.leaf_shape import misshapen, read_leaf
from minivault.vault.merkle import leaf_hash
from minivault.vault.proof import check_proof, prove
from minivault.vault.reader import Reader
from minivault.vault.record import Erasure, canonical_json, commitment, seal_intent
from tests.vault.samples import NOON, counting_entropy, intent, open_ledger, outcome, record_calls
from tests.vault.tampering import change, check, faults

STOP, FIELD = "stopxylophone", "fieldxylophone"
PARAMETERS: dict[str, Any] = {
    "max_tokens": 16,
    "response_format": {"compiler": "llguidance 1", "kind": "json_schema", "source": f'{{"{FIELD}": 0}}'},
    "seed": 2**62 + 1,
    "stop": [STOP],
    "temperature": 0.7,
}
NAMES = ("stop", "response_format.source")
TEXT = f'{{"response_format.source":"{{\\"{FIELD}\\": 0}}","stop":["{STOP}"]}}'


def constrained(number: int = 1, **changes: Any) -> Any:
    return intent(number, **{"parameters": PARAMETERS, "constraints": NAMES} | changes)


def vault_of(folder: Path, *, store: bool = True, mirror: bool = True, **changes: Any) -> Path:
    """One ordinary call, one constrained call (intent 2), with mirror and a signed head."""
    ledger = open_ledger(folder, mirror_dir=folder / "logs" if mirror else None, head_interval=3600)
    record_calls(ledger, 1)
    index = ledger.append_intent(constrained(store=store, **changes)).result(30).index
    ledger.append_outcome(outcome(index)).result(30)
    ledger.close()
    return folder / "vault.db"


def detail_of(vault: Path, index: int = 2) -> CallDetail:
    reader = Reader.open(vault)
    try:
        return reader.get(index)
    finally:
        reader.close()


def traces(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files for word in (STOP, FIELD) if word.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vault_of(tmp_path_factory.mktemp("original"), mirror=False)


def test_a_leaf_names_them_and_commits_to_their_canonical_bytes() -> None:
    sealed = seal_intent(constrained(), index=6, time_ns=NOON, entropy=counting_entropy())
    leaf, piece = json.loads(sealed.data), sealed.contents[-1]
    assert leaf["parameters"] == {
        "constraints": ["response_format.source", "stop"],
        "max_tokens": 16,
        "response_format": {"compiler": "llguidance 1", "kind": "json_schema"},
        "seed": 2**62 + 1,
        "temperature": 0.7,
    }
    assert (piece.kind, piece.data) == ("constraints", TEXT.encode())
    assert leaf["commitments"]["constraints"] == commitment("constraints", counting_entropy()(128)[96:], TEXT.encode())
    assert misshapen(leaf) is None


def test_a_leaf_of_a_call_without_any_is_what_it_was() -> None:
    leaf = json.loads(seal_intent(intent(), index=6, time_ns=NOON, entropy=counting_entropy()).data)
    assert leaf["commitments"].keys() == {"prompt_text", "prompt_token_ids", "raw_request"}
    assert leaf["parameters"] == {"max_tokens": 16, "seed": 2**62 + 1, "stop": [], "temperature": 0.7}


def test_parting_is_undone_by_joining_and_what_is_gone_is_null() -> None:
    plain, apart = parted(PARAMETERS, NAMES)
    whole = PARAMETERS | {"constraints": sorted(NAMES)}
    assert joined(plain, canonical_json(apart).decode()) == whole
    assert PARAMETERS["stop"] == [STOP], "the caller's own stay as they are"
    gone = joined(plain, None)
    assert (gone["stop"], gone["response_format"]["source"], gone["response_format"]["kind"]) == (
        None, None, "json_schema",
    )  # fmt: skip
    with pytest.raises(ValueError, match="none of the parameters"):
        parted(PARAMETERS, ("no.such",))


def test_a_ledger_refuses_a_name_of_no_parameter_and_goes_on(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(Exception, match="canonical bytes"):
        ledger.append_intent(constrained(constraints=("top_p",))).result(30)
    assert record_calls(ledger, 1) == [0]
    ledger.close()


@pytest.mark.parametrize(
    "kept", [TEXT, None, "[]", "{", "[" * 200_000, "7", '{"stop":NaN}', '{"stop":"\\ud800"}'], ids=range(8)
)
def test_a_content_that_is_none_is_read_as_gone(kept: str | None) -> None:
    plain, _ = parted(PARAMETERS, NAMES)
    assert joined(plain, kept)["stop"] == ([STOP] if kept == TEXT else None)


def test_they_are_shown_whole_as_long_as_they_are_kept(original: Path) -> None:
    shown = detail_of(original).as_dict()
    assert shown["parameters"] == PARAMETERS | {"constraints": sorted(NAMES)}
    assert (shown["constraints"], len(shown["salts"]["constraints"])) == (TEXT, 64)
    assert (detail_of(original).withheld, check(original).ok) == ((), True)


def test_erasing_leaves_no_trace_of_them_and_every_proof_good(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    assert set(traces(tmp_path)) == {"vault.db"}
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", head_interval=3600)
    ledger.append_erasure(Erasure((2,), "request", "cli")).result(30)
    ledger.close()
    assert traces(tmp_path) == []
    report, reader, key = check(vault), Reader.open(vault), HeadPaths(vault).load_key()
    assert key is not None
    assert (report.ok, report.erased) == (True, 1)
    assert check_proof(prove(reader, 2), key).leaf["commitments"]["constraints"]
    found = reader.get(2)
    assert (found.withheld, found.constraints, found.parameters["stop"]) == (tuple(sorted(NAMES)), None, None)
    assert found.parameters["response_format"] == {"compiler": "llguidance 1", "kind": "json_schema", "source": None}
    reader.close()


def test_retention_takes_them_too(tmp_path: Path) -> None:
    vault_of(tmp_path)
    later = NOON + 2 * 86_400 * 10**9
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", retention_days=1, clock=lambda: later)
    record_calls(ledger, 1)
    ledger.close()
    assert traces(tmp_path) == []


def test_what_is_not_to_be_stored_never_reaches_a_file(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    ledger.append_outcome(outcome(ledger.append_intent(constrained(store=False)).result(30).index)).result(30)
    assert traces(tmp_path) == [], "the write-ahead log is there yet"
    ledger.close()
    assert traces(tmp_path) == []
    found, report = detail_of(tmp_path / "vault.db", 0), check(tmp_path)
    assert (found.withheld, found.parameters["stop"], found.salts) == (tuple(sorted(NAMES)), None, None)
    assert (report.ok, report.digest_only) == (True, 1)


def test_a_proof_shows_the_commitment_and_not_the_text(original: Path) -> None:
    reader, key = Reader.open(original), HeadPaths(original).load_key()
    assert key is not None
    leaf = check_proof(prove(reader, 2), key).leaf
    found = reader.get(2)
    reader.close()
    assert STOP not in json.dumps(leaf)
    assert FIELD not in json.dumps(leaf)
    assert found.salts is not None
    shown = commitment("constraints", bytes.fromhex(found.salts["constraints"]), TEXT.encode())
    assert leaf["commitments"]["constraints"] == shown


TAMPERING = {
    "altered": (
        "UPDATE contents SET data = CAST(replace(data, 'stopx', 'other') AS BLOB) WHERE kind = 'constraints'",
        Fault.CONTENT_ALTERED,
    ),
    "another salt": ("UPDATE contents SET salt = zeroblob(32) WHERE kind = 'constraints'", Fault.CONTENT_ALTERED),
    "deleted": ("DELETE FROM contents WHERE kind = 'constraints'", Fault.CONTENT_MISSING),
    "put in": (
        "INSERT INTO contents SELECT 0, kind, salt, data FROM contents WHERE kind = 'constraints'",
        Fault.CONTENT_UNEXPECTED,
    ),
}


@pytest.mark.parametrize("row", TAMPERING)
def test_each_tampering_with_them_is_named(vault: Path, row: str) -> None:
    sql, fault = TAMPERING[row]
    change(vault, sql)
    at = 0 if row == "put in" else 2
    assert faults(check(vault)) == {(fault, at)}
    reader = Reader.open(vault)
    assert [index for index in (0, 2) if not reader.is_sound(index)] == [at]
    reader.get(at)
    reader.close()


@pytest.mark.parametrize(
    ("index", "change", "field"),
    [
        (2, {"commitments": {}}, "commitments"),
        (2, {"parameters": {}}, "commitments"),
        (2, {"parameters": {"constraints": []}}, "parameters"),
        (2, {"parameters": {"constraints": "stop"}}, "parameters"),
        (2, {"parameters": {"constraints": [["stop"]]}}, "parameters"),
        (3, {"commitments": {"constraints": "0" * 64}}, "commitments"),
    ],
)
def test_a_leaf_that_does_not_agree_with_itself_is_named(
    vault: Path, index: int, change: dict[str, Any], field: str
) -> None:
    db = apsw.Connection(str(vault))
    leaf = json.loads(db.execute("SELECT data FROM leaves WHERE leaf_index = ?", (index,)).get)
    data = json.dumps(leaf | change).encode()
    db.execute("UPDATE leaves SET data = ?, hash = ? WHERE leaf_index = ?", (data, leaf_hash(data), index))
    db.close()
    assert misshapen(read_leaf(data) or {}) == field
    assert not check(vault).ok
    detail_of(vault, index)


def test_a_leaf_from_before_holds_them_in_plain_and_stays_good(tmp_path: Path) -> None:
    vault = vault_of(tmp_path, constraints=())
    found = detail_of(vault)
    assert (found.parameters, found.constraints, found.withheld) == (PARAMETERS, None, ())
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", head_interval=3600)
    ledger.append_erasure(Erasure((2,), "request", "cli")).result(30)
    ledger.close()
    assert (check(vault).ok, detail_of(vault).parameters) == (True, PARAMETERS)


def test_exports_have_them_and_null_once_they_are_gone(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)

    def exported() -> dict[str, Any]:
        reader = Reader.open(vault)
        lines = b"".join(reader.export(ExportForm.JSONL)).splitlines()
        assert STOP.encode() not in b"".join(reader.export(ExportForm.CSV))
        reader.close()
        return dict(json.loads(lines[1]))

    assert exported()["parameters"]["stop"] == [STOP]
    ledger = open_ledger(tmp_path)
    ledger.append_erasure(Erasure((2,), "request", "cli")).result(30)
    ledger.close()
    assert (exported()["parameters"]["stop"], exported()["constraints"]) == (None, None)


def test_parquet_has_them_among_the_parameters(vault: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    reader = Reader.open(vault)
    (tmp_path / "all.parquet").write_bytes(b"".join(reader.export(ExportForm.PARQUET)))
    reader.close()
    column = parquet.read_table(tmp_path / "all.parquet")["parameters"].to_pylist()
    assert json.loads(column[1])["stop"] == [STOP]


def test_a_backup_has_them_and_a_restored_vault_too(tmp_path: Path) -> None:
    vault, copy = vault_of(tmp_path), tmp_path / "copy" / "vault.db"
    copy.parent.mkdir()
    back_up(vault, copy)
    shutil.rmtree(tmp_path / "logs")
    restore(copy, vault, replace=True)
    assert (detail_of(vault).parameters["stop"], check(vault).ok) == ([STOP], True)


def test_an_encrypted_vault_hides_them_and_verifies(tmp_path: Path) -> None:
    key = VaultKey(bytes(range(32)))
    ledger = open_ledger(tmp_path, key=key)
    ledger.append_outcome(outcome(ledger.append_intent(constrained()).result(30).index)).result(30)
    ledger.close()
    assert (traces(tmp_path), check(tmp_path, key=key).ok) == ([], True)
    reader = Reader.open(tmp_path / "vault.db", key)
    assert reader.get(0).parameters["stop"] == [STOP]
    reader.close()


def test_a_call_that_a_crash_left_open_is_ended_and_keeps_them(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.append_intent(constrained()).result(30)
    ledger.close()
    open_ledger(tmp_path).close()
    found = detail_of(tmp_path / "vault.db", 0)
    assert (found.call.finish_reason, found.parameters["stop"], check(tmp_path).ok) == ("interrupted", [STOP], True)
