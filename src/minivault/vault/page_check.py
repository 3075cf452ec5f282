"""Are the records of one page there, unaltered, in their places, and under the tree as it is stored?

A page whose bytes, hashes and subtrees all agree is told so at once; only one that does not is gone through record by
record, to name what is wrong. Knows nothing of heads or of what came before the page but its tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any

from minivault.vault.database import Connection
from minivault.vault.findings import Fault
from minivault.vault.leaf_check import check_leaf_content
from minivault.vault.leaf_shape import misshapen, read_leaf
from minivault.vault.merkle import leaf_hash
from minivault.vault.record import FORMAT
from minivault.vault.walk import Walk


def check_page(walk: Walk, db: Connection, first: int, end: int) -> None:
    """Check the records ``first .. end - 1``, in one snapshot that the caller holds."""
    span = (first, end - 1)
    # A page at a time: the head's word on how many records there are is not yet believed.
    walk.ended.extend(bytes(end - walk.first - len(walk.ended)))
    gone: set[int] = set()
    calls = _rows(walk, db, _CALLS_BY_INTENT, span, gone)
    endings = _rows(walk, db, _CALLS_BY_OUTCOME, span, gone)
    contents = _grouped(db, span) if walk.contents else iter(())
    waiting = next(contents, None)
    for index, leaf in _leaves(walk, db, first, end):
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
            check_leaf_content(walk, index, leaf, calls, endings, None if index in gone else pieces)
    for index in calls.keys() - walk.unsound:
        walk.found(Fault.DERIVED_ALTERED, index, f"the list names a call at record {index}, which is no intent")
    for index in endings.keys() - walk.unsound:
        walk.found(Fault.DERIVED_ALTERED, index, f"the list names an outcome at record {index}, which is none")


def _leaves(walk: Walk, db: Connection, first: int, end: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each record that is there, in order, with its leaf: ``None`` where that is not sound."""
    rows: list[tuple[Any, ...]] = db.execute(_LEAVES, (first, end - 1)).fetchall()
    if any(type(digest) is not bytes or type(data) is not bytes for _, digest, data in rows):
        # Damage to the file can turn a value into one of another type.
        rows = [(index, _as_bytes(digest), _as_bytes(data)) for index, digest, data in rows]
    if _is_whole(walk, db, rows, first, end):
        for index, _, data in rows:
            yield index, _read(walk, index, data)
        return
    nodes = _nodes(db, first, end)
    expected = first
    for index, digest, data in rows:
        for missing in range(expected, index):
            walk.missing(missing)
        expected = index + 1
        sound = _check_hash(walk, nodes, index, digest, data)
        leaf = _read(walk, index, data, told=not sound)
        yield index, leaf if sound else None
    for missing in range(expected, end):
        walk.missing(missing)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _is_whole(walk: Walk, db: Connection, rows: list[tuple[Any, ...]], first: int, end: int) -> bool:
    """Whether all records of the page are there with their hashes, under the stored tree; if so, the walk's tree has
    grown by them. Hashes level by level: several times as fast as record by record.
    """
    if not walk.whole or walk.bad_nodes or len(rows) != end - first:
        return False
    digests = [sha256(b"\x00" + data).digest() for _, _, data in rows]
    if digests != [digest for _, digest, _ in rows]:
        return False
    tree, roots = walk.tree.copy(), {}
    for start, stop in pairwise([first, *sorted(size for size in walk.roots if first < size < end), end]):
        for level, position, hashes in tree.extend(digests[start - first : stop - first]):
            span = (level, position, position + len(hashes) - 1)
            if [digest for (digest,) in db.execute(_HASHES, span)] != hashes:
                return False
        roots[stop] = tree.root()
    walk.tree = tree
    walk.roots |= {size: root for size, root in roots.items() if size in walk.roots}
    return True


def _check_hash(walk: Walk, nodes: Mapping[tuple[int, int], bytes], index: int, digest: bytes, data: bytes) -> bool:
    """The leaf's bytes against its hash, its hashes against the stored tree; whether the leaf has its hash."""
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
            if not children & walk.bad_nodes:
                first, last = node.position << node.level, ((node.position + 1) << node.level) - 1
                walk.found(
                    Fault.TREE, last, f"the tree over records {first} to {last} is altered, or one of them is exchanged"
                )
            walk.bad_nodes.add(key)
        if walk.tree.size in walk.roots:
            walk.roots[walk.tree.size] = walk.tree.root()
    return actual == digest


def _read(walk: Walk, index: int, data: bytes, *, told: bool = False) -> dict[str, Any] | None:
    """The leaf, if it can be read and stands in its place. ``told``: that it is altered is known already."""
    leaf = read_leaf(data)
    if leaf is None:
        if not told:
            walk.found(Fault.ALTERED, index, f"record {index} is not of the format {FORMAT}")
        return None
    place, field = leaf.get("index"), misshapen(leaf)
    if type(place) is int and place != index:
        # Not a number that would fill the screen.
        said = place if 0 <= place < 1 << 63 else "another"
        walk.found(Fault.MOVED, index, f"record {index} is not in its place: it was recorded as {said}")
        return None
    if field is not None:
        if not told:
            walk.found(Fault.ALTERED, index, f"record {index} is not as a record is written: its {field} is not")
        return None
    return leaf


def _rows(walk: Walk, db: Connection, sql: str, span: tuple[int, int], gone: set[int]) -> dict[int, tuple[Any, ...]]:
    """Rows of the list by record. What their last columns say of erasure goes into ``gone`` and the walk's claims."""
    rows: list[tuple[Any, ...]] = db.execute(sql, span).fetchall()
    for row in rows:
        if row[-1] is not None:
            walk.claims.setdefault(row[-1], set()).add(row[-2])
            gone.add(row[0])
    return {row[0]: row[:-2] for row in rows}


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


_LEAVES = "SELECT leaf_index, hash, data FROM leaves WHERE leaf_index BETWEEN ? AND ? ORDER BY leaf_index"
_HASHES = "SELECT hash FROM nodes WHERE level = ? AND position BETWEEN ? AND ? ORDER BY position"
_NODES = "SELECT position, hash FROM nodes WHERE level = ? AND position BETWEEN ? AND ?"
_CONTENTS = """
SELECT leaf_index, kind, salt, data FROM contents WHERE leaf_index BETWEEN ? AND ? ORDER BY leaf_index
"""
_CALLS_BY_INTENT = """
SELECT intent_index, request_id, time_ns, model, surface, source, api_key_id, mode, store, copy_of,
       iif(outcome_index IS NULL, prompt_tokens, NULL),
       iif(outcome_index IS NULL, coalesce(completion_tokens, finish_reason, duration_ns), NULL),
       intent_index, erased_index
FROM calls WHERE intent_index BETWEEN ? AND ?
"""
_CALLS_BY_OUTCOME = """
SELECT outcome_index, intent_index, request_id, finish_reason, prompt_tokens, completion_tokens, duration_ns,
       intent_index, erased_index
FROM calls WHERE outcome_index BETWEEN ? AND ?
"""
