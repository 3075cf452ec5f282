"""Does the vault still hold what was recorded? Recomputes everything from the leaves' bytes and says what is wrong.

Two verdicts. *Integrity*: every record, content and derived row that is there is as it was recorded. *Completeness*:
none is missing, moved, doubled or put in, measured against the vault's own heads (the stored one, and the newest signed
one beside the file). Whoever can rewrite the file can rewrite those, so without a head that was kept elsewhere the most
that can be said is *self-attested*; with one it is *attested*, as far as that head reaches.

Reads in pages on short snapshots, so a running server is not held up; what is recorded meanwhile is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from minivault.errors import VaultCorrupt
from minivault.vault.database import Connection, StorageError, describe, stored_node
from minivault.vault.head import Head, HeadPaths
from minivault.vault.merkle import EMPTY_ROOT, Tree, leaf_hash, root_of
from minivault.vault.reader import Reader
from minivault.vault.record import FORMAT, ContentKind, RecordKind, commitment, parse_time

PAGE = 1000
MAX_FINDINGS = 1000

Progress = Callable[[int, int], None]
"""``(records done, records in all)``."""


class Fault(StrEnum):
    """What happened to a record."""

    ALTERED = "altered"
    MISSING = "missing"
    MOVED = "moved"
    UNEXPECTED = "unexpected"
    CONTENT_ALTERED = "content altered"
    CONTENT_MISSING = "content missing"
    CONTENT_UNEXPECTED = "content unexpected"
    ERASURE = "erasure not as recorded"
    DERIVED_ALTERED = "derived row altered"
    PAIRING = "pairing broken"
    TREE = "tree altered"
    HEAD = "head altered"
    FILE = "file damaged"


_INCOMPLETE = {Fault.MISSING, Fault.MOVED, Fault.UNEXPECTED, Fault.PAIRING}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    index: int | None
    """The record, where it can be named."""
    message: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found."""

    records: int
    calls: int
    open_calls: int
    digest_only: int
    """Records whose content was never stored, by policy."""
    erased: int
    """Calls whose content was erased, each by a record that says so."""
    root: str
    """Of the stored head, 64 hex digits."""
    findings: tuple[Finding, ...]
    contents_checked: bool
    signed_size: int | None = None
    """Records that the newest signed head covers."""
    attested_size: int | None = None
    """Records that the head from outside covers."""
    since: int = 0
    """Records before this one were verified by an earlier run and not looked at again, but for the tree over them."""

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def integrity(self) -> str:
        """``intact`` or ``broken``."""
        return "broken" if any(finding.fault not in _INCOMPLETE for finding in self.findings) else "intact"

    @property
    def completeness(self) -> str:
        """``attested`` (as far as the head from outside reaches), ``self-attested`` or ``broken``."""
        if any(finding.fault in _INCOMPLETE or finding.fault is Fault.HEAD for finding in self.findings):
            return "broken"
        return "self-attested" if self.attested_size is None else "attested"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "ok": self.ok,
            "integrity": self.integrity,
            "completeness": self.completeness,
            "records": self.records,
            "calls": self.calls,
            "open_calls": self.open_calls,
            "digest_only": self.digest_only,
            "erased": self.erased,
            "contents_checked": self.contents_checked,
            "root": self.root,
            "signed_size": self.signed_size,
            "attested_size": self.attested_size,
            "since": self.since,
            "findings": [
                {"fault": finding.fault.value, "index": finding.index, "message": finding.message}
                for finding in self.findings
            ],
        }


@dataclass(frozen=True, slots=True)
class Verified:
    """What an earlier run found whole: so many records, with this root."""

    size: int
    root: bytes

    @staticmethod
    def path(vault: Path) -> Path:
        """Where it is kept: beside the vault's file. Worth no more than the vault's own heads."""
        return vault.with_suffix(".verified")

    @classmethod
    def load(cls, vault: Path) -> Verified | None:
        """``None``: there was no run yet, or its note cannot be read; all is to be verified."""
        try:
            size, root = cls.path(vault).read_text("ascii").split()
            return cls(int(size), bytes.fromhex(root)) if int(size) >= 0 and len(root) == 64 else None
        except (OSError, ValueError):
            return None

    def text(self) -> str:
        return f"{self.size} {self.root.hex()}\n"


class _Enough(Exception):
    """So much is wrong that more need not be listed."""


@dataclass(slots=True)
class _Walk:
    """The state of one verification."""

    size: int
    contents: bool
    first: int = 0
    """The first record to look at."""
    findings: list[Finding] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    bad_nodes: set[tuple[int, int]] = field(default_factory=set)
    policies: dict[int, str] = field(default_factory=dict)
    """Of calls whose outcome has not been met."""
    ended: bytearray = field(default_factory=bytearray)
    """By index: 1 for an intent whose outcome was met."""
    calls: int = 0
    digest_only: int = 0
    erased: int = 0
    claims: dict[int, set[int]] = field(default_factory=dict)
    """Calls that the list names as erased, by the record that is to say so; until that record is met."""
    unsound: set[int] = field(default_factory=set)
    """Records that were found missing, altered or moved: what hangs on them is not reported again."""
    roots: dict[int, bytes] = field(default_factory=dict)
    """Recomputed roots at the sizes of the heads to compare with; filled on the way."""
    whole: bool = True
    """No record is missing, so the root can be computed."""

    def missing(self, index: int, why: str = "") -> None:
        self.whole = False
        self.unsound.add(index)
        self.found(Fault.MISSING, index, f"record {index} is missing{why}")

    def found(self, fault: Fault, index: int | None, message: str) -> None:
        self.findings.append(Finding(fault, index, message))
        if len(self.findings) >= MAX_FINDINGS:
            raise _Enough


def verify(
    reader: Reader,
    *,
    contents: bool = True,
    against: Head | None = None,
    since: Verified | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify the vault; with ``contents`` false, only its records and tree: neither the content that they commit to nor
    SQLite's own check of the whole file (faster). ``against``: a head that was kept elsewhere.
    ``since``: what an earlier run verified; only what came later is looked at, and that the tree goes on from there.

    Raises:
        VaultCorrupt, LedgerUnavailable: the file cannot even be opened.
    """
    walk, root = _Walk(0, contents, since.size if since else 0), EMPTY_ROOT
    # Before the tree's own size is read: a head is signed after its records, so it can never be ahead of them.
    signed = _signed_head(walk, reader)
    heads = {"newest signed head": signed, "head from outside": against}
    walk.roots = {head.size: b"" for head in heads.values() if head is not None}
    with reader.connection() as db:
        try:
            if db is not None:
                root = _check_all(walk, db, since, progress)
            for name, head in heads.items():
                _check_head(walk, name, head)
        except _Enough:
            pass
        except StorageError as error:
            walk.findings.append(Finding(Fault.FILE, walk.tree.size, f"reading stopped: {describe(error)}"))
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
        since=walk.first,
    )


def _check_all(walk: _Walk, db: Connection, since: Verified | None, progress: Progress | None) -> bytes:
    if walk.contents and since is None:
        _check_file(walk, db)
    with _snapshot(db):
        root = _start(walk, db)
        if since is not None and not _take_up(walk, db, since):
            return root
    for first in range(walk.first, walk.size, PAGE):
        with _snapshot(db):
            _check_page(walk, db, first, min(first + PAGE, walk.size))
        if progress is not None:
            progress(min(first + PAGE, walk.size), walk.size)
    _check_end(walk, db, root)
    return root


def _signed_head(walk: _Walk, reader: Reader) -> Head | None:
    try:
        return HeadPaths(reader.path).load_head()
    except VaultCorrupt as error:
        walk.found(Fault.HEAD, None, error.message)
        return None


def _check_head(walk: _Walk, name: str, head: Head | None) -> None:
    if head is None or (head.size == 0 and head.root == EMPTY_ROOT):
        return
    if head.size > walk.size:
        message = f"the {name} counts {head.size} records, the vault holds {walk.size}: it was set back or cut off"
        walk.found(Fault.HEAD, None, message)
    elif walk.whole and not walk.bad_nodes and walk.roots[head.size] != head.root:
        walk.found(Fault.HEAD, None, f"the first {head.size} records are not those of the {name}")


def _check_file(walk: _Walk, db: Connection) -> None:
    for (message,) in db.execute("PRAGMA integrity_check(20)"):
        if message != "ok":
            walk.found(Fault.FILE, None, f"SQLite's own check: {message}")


def _start(walk: _Walk, db: Connection) -> bytes:
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
    walk.size = min(size, there)
    walk.ended = bytearray(walk.size)
    return bytes(root)


def _take_up(walk: _Walk, db: Connection, since: Verified) -> bool:
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


def _check_page(walk: _Walk, db: Connection, first: int, end: int) -> None:
    span = (first, end - 1)
    gone: set[int] = set()
    calls = dict(_rows(walk, db, _CALLS_BY_INTENT, span, gone))
    endings = dict(_rows(walk, db, _CALLS_BY_OUTCOME, span, gone))
    nodes = _nodes(db, first, end)
    contents = _grouped(db, span) if walk.contents else iter(())
    waiting = next(contents, None)
    expected = first
    for index, digest, data in db.execute(_LEAVES, span):
        for missing in range(expected, index):
            walk.missing(missing)
        expected = index + 1
        leaf = _check_leaf(walk, nodes, index, digest, data)
        pieces: dict[str, tuple[bytes, bytes]] = {}
        while waiting is not None and waiting[0] <= index:
            if waiting[0] == index:
                pieces = waiting[1]
            waiting = next(contents, None)
        if leaf is None:
            walk.unsound.add(index)
        else:
            if index in gone and pieces:
                walk.found(Fault.CONTENT_UNEXPECTED, index, f"record {index} is listed as erased, and has content")
            _check_leaf_content(walk, index, leaf, calls, endings, None if index in gone else pieces)
    for missing in range(expected, end):
        walk.missing(missing)
    for index in calls.keys() - walk.unsound:
        walk.found(Fault.DERIVED_ALTERED, index, f"the list names a call at record {index}, which is no intent")
    for index in endings.keys() - walk.unsound:
        walk.found(Fault.DERIVED_ALTERED, index, f"the list names an outcome at record {index}, which is none")


def _check_leaf(
    walk: _Walk, nodes: Mapping[tuple[int, int], bytes], index: int, digest: bytes, data: bytes
) -> dict[str, Any] | None:
    """The leaf's bytes against its hash, its hashes against the stored tree; returns the leaf if it can be read."""
    actual = leaf_hash(data)
    if actual != digest:
        walk.found(Fault.ALTERED, index, f"record {index} is altered: its bytes do not have its hash")
        walk.bad_nodes.add((0, index))
    if walk.whole:
        for node in walk.tree.append(actual)[1:]:
            key = (node.level, node.position)
            if nodes.get(key) == node.hash:
                continue
            children = {(node.level - 1, 2 * node.position), (node.level - 1, 2 * node.position + 1)}
            if children & walk.bad_nodes:
                walk.bad_nodes.add(key)
            else:
                first, last = node.position << node.level, ((node.position + 1) << node.level) - 1
                walk.bad_nodes.add(key)
                walk.found(
                    Fault.TREE, last, f"the tree over records {first} to {last} is altered, or one of them is exchanged"
                )
        if walk.tree.size in walk.roots:
            walk.roots[walk.tree.size] = walk.tree.root()
    try:
        leaf = json.loads(data.decode("utf-8"))
    except ValueError:
        leaf = None
    if not isinstance(leaf, dict) or leaf.get("format") != FORMAT:
        if actual == digest:
            walk.found(Fault.ALTERED, index, f"record {index} is not of the format {FORMAT}")
        return None
    if leaf.get("index") != index:
        walk.found(Fault.MOVED, index, f"record {index} is not in its place: it was recorded as {leaf.get('index')}")
        return None
    return leaf if actual == digest else None


def _check_leaf_content(
    walk: _Walk,
    index: int,
    leaf: Mapping[str, Any],
    calls: dict[int, tuple[Any, ...]],
    endings: dict[int, tuple[Any, ...]],
    pieces: dict[str, tuple[bytes, bytes]] | None,
) -> None:
    """``pieces``: the content that is there; ``None`` where it is gone, and the list names the record that says so."""
    policy: str | None
    if leaf.get("kind") == RecordKind.INTENT:
        policy = str(leaf.get("policy"))
        walk.calls += 1
        walk.digest_only += policy == "digest"
        walk.policies[index] = policy
        if calls.pop(index, None) != _intent_row(leaf):
            walk.found(Fault.DERIVED_ALTERED, index, f"the list's row of record {index} does not say what it says")
    elif leaf.get("kind") == RecordKind.ERASURE:
        _check_erasure(walk, index, leaf)
        policy = "digest"
    else:
        policy = _check_outcome(walk, index, leaf, endings)
    if walk.contents and policy is not None and pieces is not None:
        _check_contents(walk, index, leaf, policy, pieces)


def _check_erasure(walk: _Walk, index: int, leaf: Mapping[str, Any]) -> None:
    """The calls that it names are those that the list names as erased by it."""
    named = _erased_by(leaf)
    claimed = walk.claims.pop(index, set())
    walk.erased += len(named & claimed)
    for intent in sorted(named - claimed - walk.unsound):
        walk.found(Fault.ERASURE, index, f"record {index} says that record {intent} was erased, and the list does not")
    for intent in sorted(claimed - named):
        _not_erased(walk, intent, index)


def _erased_by(leaf: Mapping[str, Any]) -> set[int]:
    intents = leaf.get("intents")
    return {intent for intent in intents if isinstance(intent, int)} if isinstance(intents, list) else set()


def _not_erased(walk: _Walk, intent: int, erasure: int) -> None:
    walk.found(
        Fault.CONTENT_MISSING, intent, f"record {intent} is listed as erased by record {erasure}, which does not say so"
    )


def _check_late_erasures(walk: _Walk, db: Connection) -> None:
    """Erasures that came while the walk went on lie behind its end; any other claim left is false."""
    for erasure, intents in walk.claims.items():
        row = next(db.execute("SELECT hash, data FROM leaves WHERE leaf_index = ?", (erasure,)), None)
        sound = row is not None and erasure >= walk.size and leaf_hash(row[1]) == row[0]
        named = _erased_by(json.loads(row[1])) if row is not None and sound else set()
        walk.erased += len(named & intents)
        for intent in sorted(intents - named):
            if erasure not in walk.unsound:
                _not_erased(walk, intent, erasure)


def _check_outcome(walk: _Walk, index: int, leaf: Mapping[str, Any], endings: dict[int, tuple[Any, ...]]) -> str | None:
    intent = leaf.get("intent_index")
    row = endings.pop(index, None)
    if not isinstance(intent, int) or not 0 <= intent < index:
        walk.found(Fault.PAIRING, index, f"record {index} is an outcome of no earlier record")
        return None
    if walk.ended[intent]:
        walk.found(Fault.PAIRING, index, f"record {index} is a second outcome of record {intent}")
        return None
    walk.ended[intent] = 1
    policy = walk.policies.pop(intent, None)
    if policy is None and intent in walk.unsound:
        return None
    if policy is None:
        walk.found(Fault.PAIRING, index, f"record {index} is the outcome of record {intent}, which is no sound intent")
    if row != _outcome_row(leaf):
        walk.found(Fault.DERIVED_ALTERED, index, f"the list's row of record {index} does not say what it says")
    return policy


def _check_contents(
    walk: _Walk, index: int, leaf: Mapping[str, Any], policy: str, pieces: dict[str, tuple[bytes, bytes]]
) -> None:
    commitments = leaf.get("commitments", {})
    for kind in pieces.keys() - commitments.keys():
        walk.found(Fault.CONTENT_UNEXPECTED, index, f"record {index} has a content that it does not name: {kind}")
    for kind, committed in commitments.items():
        piece = pieces.get(kind)
        if piece is None:
            if policy == "full":
                walk.found(Fault.CONTENT_MISSING, index, f"the {kind} of record {index} is missing")
        elif policy != "full":
            walk.found(Fault.CONTENT_UNEXPECTED, index, f"the {kind} of record {index} was not to be stored")
        elif commitment(ContentKind(kind), *piece) != committed:
            walk.found(Fault.CONTENT_ALTERED, index, f"the {kind} of record {index} is altered")


def _check_end(walk: _Walk, db: Connection, root: bytes) -> None:
    """The recomputed root against the head, unless what is wrong below already says why they differ."""
    _check_late_erasures(walk, db)
    if walk.whole and not walk.bad_nodes and walk.tree.root() != root:
        walk.found(Fault.HEAD, None, "the records do not lead to the stored head")
    stray = db.execute(
        "SELECT count(*) FROM nodes, tree_state WHERE ((nodes.position + 1) << nodes.level) > tree_state.size"
    ).get
    if stray:
        walk.found(Fault.TREE, None, f"the tree holds {stray} nodes over records that do not exist")
    orphans = db.execute(_ORPHANS, (walk.first,)).get
    if orphans:
        walk.found(Fault.CONTENT_UNEXPECTED, None, f"{orphans} contents belong to no record")


@contextmanager
def _snapshot(db: Connection) -> Iterator[None]:
    """One state of the file for all reads of the block: an erasure takes content and changes the list together."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


def _rows(
    walk: _Walk, db: Connection, sql: str, span: tuple[int, int], gone: set[int]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Rows of the list by record. What their last columns say of erasure goes into ``gone`` and the walk's claims."""
    for row in db.execute(sql, span):
        *fields, intent, erasure = row
        if erasure is not None:
            walk.claims.setdefault(erasure, set()).add(intent)
            gone.add(row[0])
        yield row[0], tuple(fields)


def _nodes(db: Connection, first: int, end: int) -> dict[tuple[int, int], bytes]:
    """The stored subtrees that the records ``first .. end - 1`` complete."""
    found: dict[tuple[int, int], bytes] = {}
    for level in range(1, end.bit_length()):
        for position, digest in db.execute(_NODES, (level, first >> level, (end >> level) - 1)):
            found[level, position] = digest
    return found


def _grouped(db: Connection, span: tuple[int, int]) -> Iterator[tuple[int, dict[str, tuple[bytes, bytes]]]]:
    """Contents by record, in the order of the records; one record's content in memory at a time."""
    current, pieces = -1, dict[str, tuple[bytes, bytes]]()
    for index, kind, salt, data in db.execute(_CONTENTS, span):
        if index != current:
            if pieces:
                yield current, pieces
            current, pieces = index, {}
        pieces[kind] = (salt, data)
    if pieces:
        yield current, pieces


def _intent_row(leaf: Mapping[str, Any]) -> tuple[Any, ...] | None:
    try:
        return (
            leaf["index"],
            leaf["request_id"],
            parse_time(leaf["time"]),
            leaf["pin"]["model"],
            leaf["surface"],
            leaf["source"],
            leaf["api_key_id"],
            leaf["mode"],
            int(leaf["policy"] == "full"),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _outcome_row(leaf: Mapping[str, Any]) -> tuple[Any, ...] | None:
    try:
        return (
            leaf["index"],
            leaf["intent_index"],
            leaf["request_id"],
            leaf["finish_reason"],
            leaf["prompt_tokens"],
            leaf["completion_tokens"],
            leaf["timings"].get("total_ns"),
        )
    except (KeyError, TypeError, AttributeError):
        return None


_LEAVES = "SELECT leaf_index, hash, data FROM leaves WHERE leaf_index BETWEEN ? AND ? ORDER BY leaf_index"
_NODES = "SELECT position, hash FROM nodes WHERE level = ? AND position BETWEEN ? AND ?"
_CONTENTS = """
SELECT leaf_index, kind, salt, data FROM contents WHERE leaf_index BETWEEN ? AND ? ORDER BY leaf_index
"""
_ORPHANS = """
SELECT count(*) FROM contents WHERE leaf_index >= ? AND leaf_index NOT IN (SELECT leaf_index FROM leaves)
"""
_OPEN_BEFORE = """
SELECT intent_index, store FROM calls WHERE intent_index < ?1 AND (outcome_index IS NULL OR outcome_index >= ?1)
"""
_ERASED_SINCE = "SELECT erased_index, intent_index FROM calls WHERE erased_index >= ?1 AND intent_index < ?1"
_CALLS_BY_INTENT = """
SELECT intent_index, request_id, time_ns, model, surface, source, api_key_id, mode, store,
       intent_index, erased_index
FROM calls WHERE intent_index BETWEEN ? AND ?
"""
_CALLS_BY_OUTCOME = """
SELECT outcome_index, intent_index, request_id, finish_reason, prompt_tokens, completion_tokens, duration_ns,
       intent_index, erased_index
FROM calls WHERE outcome_index BETWEEN ? AND ?
"""
