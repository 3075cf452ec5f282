"""Proofs that a record is in the vault, in the C2SP tlog-proof format: made here, checked anywhere, without the vault.

A proof holds the record's leaf (as ``extra``, which the path authenticates), its place, the path to the root, and the
signed head. Knows nothing of content: a leaf holds commitments, not what was said.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from minivault.errors import InvalidRequest, UnknownRecord
from minivault.vault.database import stored_node
from minivault.vault.head import PROOF, Head, HeadPaths, VerifierKey, from_base64, open_note
from minivault.vault.merkle import inclusion_proof, leaf_hash, verify_inclusion
from minivault.vault.reader import Reader

FIRST_LINE: Final = f"{PROOF}v1"
MAX_PROOF_BYTES: Final = 16 << 20
_HEADING = re.compile(r"c2sp\.org/tlog-proof@v1\nextra (\S+)\nindex (0|[1-9][0-9]{0,17})\n((?:\S+\n)*)\n")


class Uncovered(InvalidRequest):
    """No signed head covers the record yet."""


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """What a good proof says."""

    index: int
    leaf: dict[str, Any]
    leaf_hash: str
    """64 hex digits, as receipts name it."""
    head: Head


def prove(reader: Reader, id_or_index: str | int, *, owner: str | None = None) -> str:
    """The proof of one record: the one with this index, or for an id the outcome of the call (else its intent).

    Raises:
        UnknownRecord: there is none, or it belongs to another key.
        Uncovered: no signed head covers it yet.
    """
    index = _index_of(reader, id_or_index, owner)
    paths = HeadPaths(reader.path)
    # Once read, the note's head stays a prefix of the tree, however far it grows meanwhile.
    note, key = paths.load_note(), paths.load_key()
    head = None if note is None or key is None else open_note(note, key)
    if note is None or head is None or index >= head.size:
        raise Uncovered("no signed head covers this record yet; one is signed every minute and at the end")
    return _assemble(reader, index, head, note)


def _index_of(reader: Reader, id_or_index: str | int, owner: str | None) -> int:
    number = int(id_or_index) if re.fullmatch(r"[0-9]{1,18}", str(id_or_index)) else None
    try:
        call = reader.get(id_or_index, owner=owner).call
    except UnknownRecord:
        # An erasure is a record of no single call.
        if number is None or owner is not None or not _is_leaf(reader, number):
            raise
        return number
    if number is not None and number in (call.index, call.outcome_index):
        return number
    return call.record_index


def _is_leaf(reader: Reader, index: int) -> bool:
    with reader.connection() as db:
        return db is not None and db.execute("SELECT 1 FROM leaves WHERE leaf_index = ?", (index,)).get is not None


def _assemble(reader: Reader, index: int, head: Head, note: str) -> str:
    with reader.connection() as db:
        if db is None:
            raise UnknownRecord("no such record in the vault")
        data = bytes(db.execute("SELECT data FROM leaves WHERE leaf_index = ?", (index,)).get)
        path = inclusion_proof(index, head.size, lambda level, position: stored_node(db, level, position))
    lines = [FIRST_LINE, f"extra {_encoded(data)}", f"index {index}", *map(_encoded, path)]
    return "\n".join(lines) + "\n\n" + note


def check_proof(text: str, key: VerifierKey) -> ProvenRecord:
    """Check a proof against a log's public key; needs nothing else.

    Raises:
        InvalidRequest: it is no proof, or proves nothing.
    """
    match = _HEADING.match(text) if len(text) <= MAX_PROOF_BYTES else None
    if match is None:
        raise InvalidRequest("proof must be a c2sp.org/tlog-proof@v1 with its leaf as extra data", param="proof")
    head = open_note(text[match.end() :], key)
    data, index = _decoded(match[1]), int(match[2])
    path = [_decoded(line) for line in match[3].split()]
    digest = leaf_hash(data)
    if not verify_inclusion(index, head.size, digest, path, head.root):
        raise InvalidRequest("the record is not in the tree of this head", param="proof")
    try:
        leaf = json.loads(data.decode("utf-8"))
    except ValueError:
        raise InvalidRequest("proof is of something that is no record of a vault", param="proof") from None
    return ProvenRecord(index=index, leaf=leaf, leaf_hash=digest.hex(), head=head)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    data = from_base64(text)
    if data is None:
        raise InvalidRequest("proof holds a line that is not base64", param="proof")
    return data
