"""Files and batches on disk: whole or not there, ended once, and never shown to another owner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minivault.batches.database import recoded_copy
from minivault.batches.lines import CHUNK_LINES
from minivault.batches.store import MAX_UNFINISHED, BatchStore, new_id
from minivault.batches.values import Batch, Counts, Fault, IllegalStep, Line, Result, Status
from minivault.errors import ConfigError, InvalidRequest, LedgerUnavailable, RateLimited, UnknownRecord
from minivault.vault.cipher import VaultKey

LINES = [Line(number, f"c{number}", "{}") for number in range(3)]


def opened(tmp_path: Path, key_file: Path | None = None) -> BatchStore:
    return BatchStore.open(tmp_path / "batches.db", key_file)


def filled(store: BatchStore, *pieces: bytes, owner: str | None = None) -> str:
    file_id = store.begin_file(owner, 1)
    for piece in pieces:
        store.append(file_id, piece)
    return store.finish_file(file_id, "in.jsonl", "batch").id


def added(store: BatchStore, owner: str | None = None) -> Batch:
    batch = Batch(new_id("batch"), owner, "local", "/v1/completions", filled(store, b"x"), created_at=1)
    store.add(batch)
    return batch


def test_a_file_is_kept_piece_by_piece(tmp_path: Path) -> None:
    store = opened(tmp_path)
    file_id = filled(store, b"ab", b"c")
    assert b"".join(store.content(file_id)) == b"abc"
    assert (store.file(file_id).bytes, store.stored_bytes()) == (3, 3)


def test_a_file_that_was_never_finished_is_gone_at_the_next_start(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(store.begin_file(None, 1), b"half")
    assert store.files() == []
    store.close()
    assert opened(tmp_path).stored_bytes() == 0


def test_files_are_listed_newest_first_and_by_owner(tmp_path: Path) -> None:
    store = opened(tmp_path)
    mine = [filled(store, b"x", owner="k1") for _ in range(3)]
    theirs = filled(store, b"x", owner="k2")
    assert [file.id for file in store.files("k1")] == mine[::-1]
    assert [file.id for file in store.files("k1", after=mine[1])] == mine[:1]
    assert len(store.files(None)) == 4
    with pytest.raises(UnknownRecord):
        store.file(theirs, "k1")
    with pytest.raises(UnknownRecord):
        store.delete_file(theirs, "k1")


def test_a_file_that_a_batch_needs_cannot_be_deleted(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    with pytest.raises(InvalidRequest):
        store.delete_file(batch.input_file_id)
    store.step(batch.id, Status.FAILED, 2)
    store.delete_file(batch.input_file_id)
    assert store.stored_bytes() == 0


def test_files_expire_but_for_those_that_a_batch_needs(tmp_path: Path) -> None:
    store = opened(tmp_path)
    needed = added(store).input_file_id
    filled(store, b"old")
    new = store.finish_file(store.begin_file(None, 9), "in.jsonl", "batch").id
    assert store.expire(9, 5) == 1
    assert [file.id for file in store.files()] == [new, needed]


def test_a_batch_comes_back_as_it_was(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = replace(added(store), id="batch_b", metadata={"a": "ü"}, concurrency=2)
    store.add(batch)
    batch = store.step(batch.id, Status.FAILED, 2, [Fault("c", "m", 3, "p")])
    store.close()
    assert opened(tmp_path).batch(batch.id) == batch


def test_a_line_ends_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store.begin(batch.id, LINES, 2)
    store.finish_line(batch.id, 1, Result("first", failed=False))
    store.finish_line(batch.id, 1, Result("second", failed=True))
    store.finish_line(batch.id, 2, Result("wrong", failed=True))
    assert store.pending(batch.id) == [0]
    assert store.batch(batch.id).counts == Counts(3, 1, 1)
    store.finish_line(batch.id, 0, Result("zeroth", failed=False))
    store.step(batch.id, Status.FINALIZING, 3)
    ended = store.end(batch.id, Status.COMPLETED, 4)
    assert ended.output_file_id is not None
    assert ended.error_file_id is not None
    assert b"".join(store.content(ended.output_file_id)) == b"zeroth\nfirst\n"
    assert b"".join(store.content(ended.error_file_id)) == b"wrong\n"
    assert ended.counts == Counts(3, 2, 1)
    assert store.unfinished() == []


def lines_in(store: BatchStore) -> int:
    return int(store._db.execute("SELECT count(*) FROM lines").get)


def test_a_batch_that_has_ended_keeps_its_counts_and_none_of_its_lines(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store.begin(batch.id, LINES, 2)
    store.finish_line(batch.id, 0, Result("zeroth", failed=False))
    store.finish_line(batch.id, 2, Result("wrong", failed=True))
    store.step(batch.id, Status.CANCELLING, 3)
    store.end(batch.id, Status.CANCELLED, 4)
    store.finish_line(batch.id, 1, Result("late", failed=False))
    assert lines_in(store) == 0
    assert [one.counts for one in store.batches()] == [Counts(3, 1, 1)]


def everything_on_disk(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_what_was_deleted_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    store = opened(tmp_path)
    kept, old, deleted = (filled(store, name) for name in (b"kept words", b"old words", b"deleted words"))
    store._db.execute("UPDATE files SET created_at = 100 WHERE id <> ?", (old,))
    batch = Batch(new_id("batch"), None, "local", "/v1/completions", kept, created_at=1)
    store.add(batch)
    store.begin(batch.id, [Line(0, "secret name", "secret body")], 2)
    store.step(batch.id, Status.CANCELLING, 3)
    store.end(batch.id, Status.CANCELLED, 4)
    assert b"secret" not in everything_on_disk(tmp_path)
    store.expire(50, 50)
    assert b"old words" not in everything_on_disk(tmp_path)
    store.delete_file(deleted)
    assert b"deleted words" not in everything_on_disk(tmp_path)
    assert b"kept words" in everything_on_disk(tmp_path)


def test_what_is_wrong_with_a_late_line_leaves_none_of_the_lines(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)

    def broken() -> Iterator[Line]:
        yield from (Line(number, f"c{number}", "{}") for number in range(CHUNK_LINES + 1))
        assert lines_in(store) == CHUNK_LINES  # they are written while the rest is read
        raise ValueError("a wrong line")

    with pytest.raises(ValueError, match="a wrong line"):
        store.begin(batch.id, broken(), 2)
    assert (store.batch(batch.id), lines_in(store)) == (batch, 0)


def test_lines_that_a_crash_left_behind_are_written_anew(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store._copy(batch.id, LINES[:2])
    store.close()
    store = opened(tmp_path)
    assert store.begin(batch.id, LINES, 2).counts == Counts(3, 0, 0)
    assert store.pending(batch.id) == [0, 1, 2]


def test_a_batch_that_is_cancelled_while_its_lines_are_read_has_none(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)

    def cancelled() -> Iterator[Line]:
        yield LINES[0]
        store.step(batch.id, Status.CANCELLING, 2)

    with pytest.raises(IllegalStep):
        store.begin(batch.id, cancelled(), 3)
    assert (store.batch(batch.id).counts, lines_in(store)) == (Counts(), 0)


def back_to_version_2(store: BatchStore) -> None:
    for table, name in (
        ("files", "expires_at"),
        ("batches", "output_seconds"),
        ("batches", "usage"),
        ("lines", "calls"),
    ):
        store._db.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    store._db.execute("DROP TABLE marks")
    store._db.execute("DROP TABLE erasures")
    store._db.execute("PRAGMA user_version = 2")


def test_a_file_of_the_second_version_goes_on_where_it_was(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store.begin(batch.id, LINES, 2)
    store.finish_line(batch.id, 0, Result("zeroth", failed=False))
    was = store.batch(batch.id)
    back_to_version_2(store)
    store.close()
    for _ in range(2):
        store = opened(tmp_path)
        assert (store.batch(batch.id), store.pending(batch.id), store.drafted(batch.id)) == (was, [1, 2], [])
        store.close()


def test_a_draft_counts_for_nothing_until_it_is_released(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store.begin(batch.id, LINES, 2)
    assert [store.draft_line(batch.id, 1, Result("draft", failed=False), "[]") for _ in range(2)] == [True, True]
    assert not store.draft_line(batch.id, 1, Result("another", failed=True), "[1]")
    store.draft_line(batch.id, 2, Result("dropped", failed=True), "[]")
    store.drop_draft(batch.id, 2)
    store.close()
    store = opened(tmp_path)
    assert (store.pending(batch.id), store.drafted(batch.id)) == ([0, 1, 2], [1])
    assert store.batch(batch.id).counts == Counts(3, 0, 0)
    assert [store.release_draft(batch.id, 1) for _ in range(2)] == [False, None]
    assert [store.release_draft(batch.id, number) for number in (0, 2)] == [None, None]
    assert (store.pending(batch.id), store.batch(batch.id).counts) == ([0, 2], Counts(3, 1, 0))
    store.draft_line(batch.id, 0, Result("never on record", failed=False), "[]")
    store.step(batch.id, Status.CANCELLING, 3)
    ended = store.end(batch.id, Status.CANCELLED, 4)
    assert b"".join(store.content(ended.output_file_id or "")) == b"draft\n"


def test_a_file_of_the_first_version_comes_with_its_counts(tmp_path: Path) -> None:
    store = opened(tmp_path)
    ended, running = added(store), added(store)
    for batch in (ended, running):
        store.begin(batch.id, LINES, 2)
        store.finish_line(batch.id, 0, Result("zeroth", failed=False))
        store.finish_line(batch.id, 1, Result("wrong", failed=True))
    store._db.execute("UPDATE batches SET status = 'completed' WHERE id = ?", (ended.id,))  # as it left them then
    back_to_version_2(store)
    for name in ("total", "completed", "failed"):
        store._db.execute(f"ALTER TABLE batches DROP COLUMN {name}")
    store._db.execute("PRAGMA user_version = 1")
    store.close()
    store = opened(tmp_path)
    assert [store.batch(one.id).counts for one in (ended, running)] == [Counts(3, 1, 1)] * 2
    assert (store.pending(ended.id), store.pending(running.id), lines_in(store)) == ([], [2], 3)
    store.finish_line(running.id, 2, Result("second", failed=False))
    assert store.batch(running.id).counts == Counts(3, 2, 1)


@pytest.mark.parametrize("after", ["file-0", "batch_0", "other"])
def test_a_page_behind_what_is_not_there_is_no_first_page(tmp_path: Path, after: str) -> None:
    store = opened(tmp_path)
    batch = added(store, "alice")
    others = {"other": batch.id}
    with pytest.raises(UnknownRecord):
        store.batches("bob", after=others.get(after, after))
    with pytest.raises(UnknownRecord):
        store.files("bob", after=batch.input_file_id if after == "other" else after)


def test_a_batch_that_was_cancelled_neither_begins_nor_completes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store.step(batch.id, Status.CANCELLING, 2)
    with pytest.raises(IllegalStep):
        store.begin(batch.id, LINES, 3)
    with pytest.raises(IllegalStep):
        store.end(batch.id, Status.COMPLETED, 3)
    assert (store.batch(batch.id).status, store.pending(batch.id), len(store.files())) == (Status.CANCELLING, [], 1)


def test_a_batch_that_has_its_files_keeps_them_when_it_is_cancelled_too_late(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    store.begin(batch.id, LINES, 2)
    store.finish_line(batch.id, 0, Result("zeroth", failed=False))
    store.step(batch.id, Status.FINALIZING, 3)
    ended = store.end(batch.id, Status.COMPLETED, 4)
    with pytest.raises(IllegalStep):
        store.step(batch.id, Status.CANCELLING, 5)
    assert store.batch(batch.id) == ended


def test_lines_count_as_stored_until_their_batch_has_ended(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store)
    assert store.stored_bytes() == 2  # the file, and the copy of it that is about to be made
    store.begin(batch.id, [Line(0, "a", "ü" * 50)], 2)
    assert store.stored_bytes() == 102
    store.step(batch.id, Status.CANCELLING, 3)
    store.end(batch.id, Status.CANCELLED, 3)
    assert store.stored_bytes() == 1


def test_an_owners_unfinished_batches_are_bounded(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, *_ = [added(store, "k1") for _ in range(MAX_UNFINISHED)]
    with pytest.raises(RateLimited, match="20 batches"):
        added(store, "k1")
    added(store, "k2")
    store.step(first.id, Status.FAILED, 2)
    added(store, "k1")


def test_another_owner_sees_no_batch(tmp_path: Path) -> None:
    store = opened(tmp_path)
    batch = added(store, "k1")
    assert [one.id for one in store.batches("k1")] == [batch.id]
    assert store.batches("k2") == []
    with pytest.raises(UnknownRecord):
        store.batch(batch.id, "k2")


def test_a_batch_that_has_ended_stays_so() -> None:
    ended = Batch("b", None, "a", "e", "f", 1, status=Status.COMPLETED)
    for status in Status:
        with pytest.raises(IllegalStep, match="completed"):
            ended.become(status, 1)


def test_with_the_vaults_key_the_file_is_encrypted_also_one_that_was_plain(tmp_path: Path) -> None:
    store = opened(tmp_path)
    file_id = filled(store, b"a secret of ours")
    store.close()
    assert b"a secret of ours" in (tmp_path / "batches.db").read_bytes()
    VaultKey.create(tmp_path / "key")
    store = opened(tmp_path, tmp_path / "key")
    assert b"".join(store.content(file_id)) == b"a secret of ours"
    store.close()
    assert b"a secret of ours" not in (tmp_path / "batches.db").read_bytes()
    assert opened(tmp_path, tmp_path / "key").file(file_id).bytes == 16


@pytest.mark.parametrize("first", [None, "one"])
@pytest.mark.parametrize("then", [None, "one", "two"])
@pytest.mark.parametrize("again", [False, True])
def test_its_key_is_exchanged_with_the_vaults(tmp_path: Path, first: str | None, then: str | None, again: bool) -> None:
    for name in ("one", "two"):
        VaultKey.create(tmp_path / name)
    before, after = (None if name is None else tmp_path / name for name in (first, then))
    store = opened(tmp_path, before)
    file_id = filled(store, b"what is asked it")
    store.close()
    old, new = VaultKey.of(before), VaultKey.of(after)
    for _ in range(1 + again):
        if recoded_copy(tmp_path / "batches.db", tmp_path / "copy", old, new):
            assert not list(tmp_path.glob("batches.db-*"))
            (tmp_path / "copy").replace(tmp_path / "batches.db")
    assert opened(tmp_path, after).file(file_id).bytes == 16
    plain = b"what is asked" in b"".join(path.read_bytes() for path in tmp_path.glob("batches.db*"))
    assert plain == (after is None)


def test_a_key_is_not_exchanged_without_the_present_one(tmp_path: Path) -> None:
    VaultKey.create(tmp_path / "key")
    opened(tmp_path, tmp_path / "key").close()
    with pytest.raises(ConfigError):
        recoded_copy(tmp_path / "batches.db", tmp_path / "copy", VaultKey(bytes(32)), VaultKey(bytes(range(32))))
    assert not (tmp_path / "copy").exists()


def test_without_its_key_an_encrypted_file_does_not_open(tmp_path: Path) -> None:
    VaultKey.create(tmp_path / "key")
    opened(tmp_path, tmp_path / "key").close()
    VaultKey.create(tmp_path / "other")
    for key in (None, tmp_path / "other"):
        with pytest.raises(ConfigError, match=r"batches\.db"):
            opened(tmp_path, key)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match="their folder cannot be written"):
        opened(tmp_path / "file")
