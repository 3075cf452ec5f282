"""The Merkle tree of RFC 9162 over SHA-256: hashes, growth, proofs and their verification.

A tree grows by :class:`Tree`, which keeps only the peaks (the roots of the complete subtrees, left to right), so an
append costs one hash on average and a start costs as many look-ups as the size has bits. Proofs are made from a
``NodeSource``, whatever holds the complete subtrees' hashes.

Knows nothing of records, of SQLite or of signatures; the verifying functions need nothing but their arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeSource = Callable[[int, int], bytes]
"""``(level, position) -> hash`` of the complete subtree over leaves ``position << level`` and on; level 0 is a leaf."""


@dataclass(frozen=True, slots=True)
class Node:
    """The hash of one complete subtree, and where it stands."""

    level: int
    position: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """``SHA-256(0x00 data)``."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 left right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def peaks(size: int) -> Iterator[tuple[int, int]]:
    """``(level, position)`` of the complete subtrees of a tree of ``size`` leaves, largest (leftmost) first."""
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, start >> level
            start += 1 << level


class Tree:
    """A tree that only grows. Holds O(log size) hashes."""

    def __init__(self, size: int = 0, peak_hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peak_hashes)
        if len(self._peaks) != size.bit_count():
            raise ValueError("a tree has one peak for each bit of its size")

    @classmethod
    def load(cls, size: int, node: NodeSource) -> Tree:
        """Take up a tree of ``size`` leaves where it was left: O(log size) look-ups, no scan."""
        return cls(size, [node(level, position) for level, position in peaks(size)])

    def append(self, hash_of_leaf: bytes) -> list[Node]:
        """Add a leaf; returns the subtrees it completed, the leaf itself first."""
        completed = [Node(0, self.size, hash_of_leaf)]
        self.size += 1
        size = self.size
        while not size & 1:
            last = completed[-1]
            completed.append(Node(last.level + 1, last.position >> 1, node_hash(self._peaks.pop(), last.hash)))
            size >>= 1
        self._peaks.append(completed[-1].hash)
        return completed

    def extend(self, leaf_hashes: Iterable[bytes]) -> list[tuple[int, int, list[bytes]]]:
        """Add leaves at once; returns the subtrees they completed, the leaves left out, level by level:
        ``(level, position of the first, hashes)``.
        """
        hashes = list(leaf_hashes)
        level, position = 0, self.size
        self.size += len(hashes)
        completed: list[tuple[int, int, list[bytes]]] = []
        new_peaks: list[bytes] = []
        while hashes:
            if position & 1:
                hashes.insert(0, self._peaks.pop())
            if len(hashes) & 1:
                new_peaks.append(hashes.pop())
            pairs = zip(hashes[::2], hashes[1::2], strict=True)
            hashes = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
            level, position = level + 1, position >> 1
            if hashes:
                completed.append((level, position, list(hashes)))
        self._peaks += reversed(new_peaks)
        return completed

    def copy(self) -> Tree:
        return Tree(self.size, self._peaks)

    def root(self) -> bytes:
        return _fold(self._peaks)


def root_of(size: int, node: NodeSource) -> bytes:
    """The root that the first ``size`` leaves had, from stored subtrees alone."""
    return _fold([node(level, position) for level, position in peaks(size)])


def inclusion_proof(index: int, size: int, node: NodeSource) -> list[bytes]:
    """The audit path of leaf ``index`` in a tree of ``size`` leaves (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError("index must lie in 0 .. size - 1")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(_range_hash(split, end, node))
            end = split
        else:
            path.append(_range_hash(start, split, node))
            start = split
    path.reverse()
    return path


def consistency_proof(first: int, second: int, node: NodeSource) -> list[bytes]:
    """That a tree of ``first`` leaves is a prefix of one of ``second`` leaves (RFC 9162, 2.1.4.1)."""
    if not 0 < first <= second:
        raise ValueError("sizes must obey 0 < first <= second")
    proof: list[bytes] = []
    start, end = 0, second
    whole = True
    while first != end:
        split = start + _split(end - start)
        if first <= split:
            proof.append(_range_hash(split, end, node))
            end = split
        else:
            proof.append(_range_hash(start, split, node))
            start, whole = split, False
    if not whole:
        proof.append(_range_hash(start, end, node))
    proof.reverse()
    return proof


def verify_inclusion(index: int, size: int, hash_of_leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2: whether the leaf stands at ``index`` in the tree of ``size`` leaves with this ``root``."""
    if not 0 <= index < size or not _all_hashes([hash_of_leaf, root, *proof]):
        return False
    first, last, running = index, size - 1, hash_of_leaf
    for step in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            running = node_hash(step, running)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            running = node_hash(running, step)
        first, last = first >> 1, last >> 1
    return last == 0 and running == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, 2.1.4.2: whether the tree of ``first`` leaves is a prefix of the tree of ``second`` leaves."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if not _all_hashes([first_root, second_root, *proof]):
        return False
    path = list(proof) if first & (first - 1) else [first_root, *proof]
    if not path:
        return False
    low, high = first - 1, second - 1
    while low & 1:
        low, high = low >> 1, high >> 1
    old = new = path[0]
    for step in path[1:]:
        if high == 0:
            return False
        if low & 1 or low == high:
            old, new = node_hash(step, old), node_hash(step, new)
            while low and not low & 1:
                low, high = low >> 1, high >> 1
        else:
            new = node_hash(new, step)
        low, high = low >> 1, high >> 1
    return high == 0 and old == first_root and new == second_root


def _split(size: int) -> int:
    """The largest power of two smaller than ``size`` (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(start: int, end: int, node: NodeSource) -> bytes:
    """The hash over leaves ``start .. end - 1``, a subtree that RFC 9162 would cut: its start is aligned."""
    hashes = [node(level, (start >> level) + position) for level, position in peaks(end - start)]
    return _fold(hashes)


def _fold(peak_hashes: Sequence[bytes]) -> bytes:
    if not peak_hashes:
        return EMPTY_ROOT
    running = peak_hashes[-1]
    for left in reversed(peak_hashes[:-1]):
        running = node_hash(left, running)
    return running


def _all_hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
