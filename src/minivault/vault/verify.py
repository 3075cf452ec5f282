"""Does the vault still hold what was recorded? Recomputes everything from the leaves' bytes and says what is wrong.

Two verdicts. *Integrity*: every record, content and derived row that is there is as it was recorded. *Completeness*:
none is missing, moved, doubled or put in, measured against the vault's own heads (the stored one, and the newest signed
one beside the file). Whoever can rewrite the file can rewrite those, so without a head that was kept elsewhere the most
that can be said is *self-attested*; with one it is *attested*, as far as that head reaches.

Reads in pages on short snapshots, so a running server is not held up; what is recorded meanwhile is not judged.
"""

from __future__ import annotations

from collections.abc import Callable

from minivault.errors import VaultCorrupt
from minivault.vault.database import Connection, StorageError, describe, snapshot, stored_node
from minivault.vault.findings import Fault, Finding, Verified, VerifyReport
from minivault.vault.head import Head, HeadPaths
from minivault.vault.leaf_check import erased_by, note_not_erased
from minivault.vault.leaf_shape import misshapen, read_leaf
from minivault.vault.merkle import EMPTY_ROOT, Tree, leaf_hash, root_of
from minivault.vault.page_check import check_page
from minivault.vault.reader import Reader
from minivault.vault.record import RecordKind
from minivault.vault.schema_check import check_schema
from minivault.vault.search_check import check_search
from minivault.vault.stray_check import check_strays
from minivault.vault.walk import MAX_FINDINGS, Enough, Walk

PAGE = 1024

Progress = Callable[[int, int], None]
"""``(records done, records in all)``."""


def verify(
    reader: Reader,
    *,
    contents: bool = True,
    against: Head | None = None,
    since: Verified | None = None,
    progress: Progress | None = None,
    outside: str = "head from outside",
) -> VerifyReport:
    """Verify the vault; with ``contents`` false (faster), only its records, its tree, its schema, and that the search
    index has a row for each call: neither the content that they commit to, nor the words in that index, nor SQLite's
    own check of the whole file. ``against``: a head that was kept elsewhere, called ``outside`` in findings.
    ``since``: what an earlier run verified; only what came later is looked at, and that the tree goes on from there.

    Raises:
        VaultCorrupt, LedgerUnavailable: the file cannot even be opened.
    """
    walk, root = Walk(0, contents, since.size if since else 0), EMPTY_ROOT
    read_to_end = False
    # Before the tree's own size is read: a head is signed after its records, so it can never be ahead of them.
    signed = _signed_head(walk, reader)
    heads = {"newest signed head": signed, outside: against}
    walk.roots = {head.size: b"" for head in heads.values() if head is not None}
    with reader.connection() as db:
        try:
            if db is not None:
                root = _check_all(walk, db, since, progress)
            for name, head in heads.items():
                _check_head(walk, name, head)
            read_to_end = True
        except Enough:
            pass
        except StorageError as error:
            walk.findings.append(Finding(Fault.FILE, walk.tree.size, f"reading stopped: {describe(error)}"))
        except (TypeError, ValueError, OverflowError, LookupError, AttributeError, RecursionError, MemoryError):
            message = "reading stopped: the file holds a value of another type than it must have"
            walk.findings.append(Finding(Fault.FILE, walk.tree.size, message))
    return VerifyReport(
        records=walk.size,
        calls=walk.calls,
        open_calls=len(walk.policies),
        digest_only=walk.digest_only,
        erased=walk.erased,
        root=root.hex(),
        findings=tuple(walk.findings),
        contents_checked=contents,
        signed_size=None if signed is None else signed.size,
        attested_size=None if against is None else against.size,
        read_to_end=read_to_end,
        since=walk.first,
    )


def _check_all(walk: Walk, db: Connection, since: Verified | None, progress: Progress | None) -> bytes:
    if walk.contents and since is None:
        _check_file(walk, db)
    check_schema(walk, db)
    with snapshot(db):
        root = _start(walk, db)
        if since is not None and not _take_up(walk, db, since):
            return root
    for first in range(walk.first, walk.size, PAGE):
        with snapshot(db):
            check_page(walk, db, first, min(first + PAGE, walk.size))
        if progress is not None:
            progress(min(first + PAGE, walk.size), walk.size)
    _check_end(walk, db, root)
    with snapshot(db):
        check_search(walk, db, words=walk.contents and since is None)
    return root


def _signed_head(walk: Walk, reader: Reader) -> Head | None:
    try:
        return HeadPaths(reader.path).load_head()
    except VaultCorrupt as error:
        walk.found(Fault.HEAD, None, error.message)
        return None


def _check_head(walk: Walk, name: str, head: Head | None) -> None:
    if head is None or (head.size == 0 and head.root == EMPTY_ROOT):
        return
    if head.size > walk.size:
        message = f"the {name} counts {head.size} records, the vault holds {walk.size}: it was set back or cut off"
        walk.found(Fault.HEAD, None, message)
    elif walk.whole and not walk.bad_nodes and walk.roots[head.size] != head.root:
        walk.found(Fault.HEAD, None, f"the first {head.size} records are not those of the {name}")


def _check_file(walk: Walk, db: Connection) -> None:
    for (message,) in db.execute("PRAGMA integrity_check(20)"):
        if message != "ok":
            walk.found(Fault.FILE, None, f"SQLite's own check: {message}")


def _start(walk: Walk, db: Connection) -> bytes:
    """Take the head as the measure, and compare it with the number of records in the same snapshot."""
    row = next(db.execute("SELECT size, root, (SELECT max(leaf_index) FROM leaves) FROM tree_state"), None)
    if row is None:
        walk.found(Fault.HEAD, None, "the vault's head is gone")
        row = (0, EMPTY_ROOT, db.execute("SELECT max(leaf_index) FROM leaves").get)
    size, root, last = row
    there = 0 if last is None else int(last) + 1
    for index in range(size, min(there, size + MAX_FINDINGS)):
        walk.found(Fault.UNEXPECTED, index, f"record {index} lies behind the head, which counts {size} records")
    for index in range(there, min(size, there + MAX_FINDINGS)):
        walk.missing(index, f": the head counts {size} records")
    walk.size = max(0, min(size, there))
    return bytes(root)


def _take_up(walk: Walk, db: Connection, since: Verified) -> bool:
    """Go on from what an earlier run verified; false if the vault does not."""
    if since.size > walk.size:
        walk.found(Fault.HEAD, None, f"{since.size} records were verified before, the vault holds {walk.size}")
        return False
    try:
        walk.tree = Tree.load(since.size, lambda level, position: stored_node(db, level, position))
        walk.roots |= {size: _root(db, size) for size in walk.roots if size <= since.size}
    except VaultCorrupt as error:
        walk.found(Fault.TREE, None, error.message)
        return False
    if walk.tree.root() != since.root:
        walk.found(Fault.HEAD, None, f"the first {since.size} records are not those that were verified before")
        return False
    for intent, store in db.execute(_OPEN_BEFORE, (since.size,)):
        walk.policies[intent] = "full" if store else "digest"
    for erasure, intent in db.execute(_ERASED_SINCE, (since.size,)):
        walk.claims.setdefault(erasure, set()).add(intent)
    return True


def _root(db: Connection, size: int) -> bytes:
    return root_of(size, lambda level, position: stored_node(db, level, position))


def _check_late_erasures(walk: Walk, db: Connection) -> None:
    """Erasures that came while the walk went on lie behind its end; any other claim left is false."""
    for erasure, intents in walk.claims.items():
        row = next(db.execute("SELECT hash, data FROM leaves WHERE leaf_index = ?", (erasure,)), None)
        sound = row is not None and erasure >= walk.size and leaf_hash(row[1]) == row[0]
        leaf = read_leaf(row[1]) if row is not None and sound else None
        is_erasure = leaf is not None and leaf.get("kind") == RecordKind.ERASURE and misshapen(leaf) is None
        named = erased_by(leaf) if leaf is not None and is_erasure else set()
        walk.erased += len(named & intents)
        for intent in sorted(intents - named):
            if erasure not in walk.unsound:
                note_not_erased(walk, intent, erasure)


def _check_end(walk: Walk, db: Connection, root: bytes) -> None:
    """The recomputed root against the head, unless what is wrong below already says why they differ."""
    _check_late_erasures(walk, db)
    if walk.whole and not walk.bad_nodes and walk.tree.root() != root:
        walk.found(Fault.HEAD, None, "the records do not lead to the stored head")
    with snapshot(db):
        check_strays(walk, db)


_OPEN_BEFORE = """
SELECT intent_index, store FROM calls WHERE intent_index < ?1 AND (outcome_index IS NULL OR outcome_index >= ?1)
"""
_ERASED_SINCE = "SELECT erased_index, intent_index FROM calls WHERE erased_index >= ?1 AND intent_index < ?1"
