"""The tree: RFC 9162 by its definition, by known answers, and against forged proofs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.vault.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The inputs and roots that Certificate Transparency's implementations have been checked with since RFC 6962.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Grown:
    """A tree with every node and every root it ever had."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.tree = Tree()
        self.roots = [EMPTY_ROOT]
        for data in leaves:
            for node in self.tree.append(leaf_hash(data)):
                self.nodes[node.level, node.position] = node.hash
            self.roots.append(self.tree.root())

    def node(self, level: int, position: int) -> bytes:
        return self.nodes[level, position]


def defined_root(leaves: list[bytes]) -> bytes:
    """The definition in RFC 9162, 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(defined_root(leaves[:split]), defined_root(leaves[split:]))


VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "merkle.json").read_text("utf-8"))


def decoded(values: list[str]) -> list[bytes]:
    return [base64.b64decode(value) for value in values]


leaf_lists = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


def test_known_roots() -> None:
    assert [root.hex() for root in Grown(LEAVES).roots[1:]] == ROOTS


@pytest.mark.parametrize("row", range(98))
def test_public_inclusion_vectors_are_judged_rightly(row: int) -> None:
    good, index, size, leaf, proof, root = VECTORS["inclusion"][row]
    leaf, root = decoded([leaf, root])
    assert verify_inclusion(index, size, leaf, decoded(proof), root) is good


@pytest.mark.parametrize("row", range(98))
def test_public_consistency_vectors_are_judged_rightly(row: int) -> None:
    good, first, second, first_root, second_root, proof = VECTORS["consistency"][row]
    first_root, second_root = decoded([first_root, second_root])
    assert verify_consistency(first, second, first_root, second_root, decoded(proof)) is good


@given(leaf_lists)
def test_growing_gives_the_defined_root(leaves: list[bytes]) -> None:
    assert Grown(leaves).roots[-1] == defined_root(leaves)


@given(leaf_lists, st.data())
def test_a_tree_is_taken_up_where_it_was_left(leaves: list[bytes], data: st.DataObject) -> None:
    grown = Grown(leaves)
    size = data.draw(st.integers(0, len(leaves)))
    assert Tree.load(size, grown.node).root() == root_of(size, grown.node) == grown.roots[size]


@given(leaf_lists, st.data())
def test_each_leaf_is_proven_in_its_place_and_in_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    grown = Grown([bytes([number]) for number in range(len(leaves))])
    size = data.draw(st.integers(1, len(leaves)))
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, grown.node)
    proven = verify_inclusion(other, size, leaf_hash(bytes([index])), proof, grown.roots[size])
    assert proven == (other == index)


@given(st.integers(1, 70), st.data())
def test_each_prefix_is_proven_and_no_other_size(size: int, data: st.DataObject) -> None:
    grown = Grown([bytes([number]) for number in range(size)])
    first, other = data.draw(st.integers(1, size)), data.draw(st.integers(1, size))
    proof = consistency_proof(first, size, grown.node)
    assert verify_consistency(first, size, grown.roots[first], grown.roots[size], proof)
    if other != first:
        assert not verify_consistency(first, size, grown.roots[other], grown.roots[size], proof)
        assert not verify_consistency(other, size, grown.roots[first], grown.roots[size], proof)


@given(st.integers(2, 70), st.data())
def test_a_proof_with_any_bit_changed_proves_nothing(size: int, data: st.DataObject) -> None:
    grown = Grown([bytes([number]) for number in range(size)])
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, grown.node)
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    forged = [*proof]
    forged[place] = (int.from_bytes(proof[place], "big") ^ 1 << bit).to_bytes(32, "big")
    assert not verify_inclusion(index, size, leaf_hash(bytes([index])), forged, grown.roots[size])


@pytest.mark.parametrize("change", ["drop", "double", "short"])
def test_a_proof_of_another_shape_proves_nothing(change: str) -> None:
    grown = Grown(LEAVES)
    proof = inclusion_proof(3, 8, grown.node)
    shapes = {"drop": proof[:-1], "double": [*proof, proof[-1]], "short": [proof[0][:31], *proof[1:]]}
    assert not verify_inclusion(3, 8, leaf_hash(LEAVES[3]), shapes[change], grown.roots[8])


def test_equal_sizes_need_equal_roots_and_an_empty_proof() -> None:
    grown = Grown(LEAVES)
    assert verify_consistency(8, 8, grown.roots[8], grown.roots[8], [])
    assert not verify_consistency(8, 8, grown.roots[8], grown.roots[8], [grown.roots[1]])
    assert not verify_consistency(8, 8, grown.roots[7], grown.roots[8], [])


@pytest.mark.parametrize(("first", "second"), [(0, 8), (8, 7), (-1, 8)])
def test_sizes_that_cannot_be_are_rejected(first: int, second: int) -> None:
    grown = Grown(LEAVES)
    assert not verify_consistency(first, second, grown.roots[1], grown.roots[7], [])
    with pytest.raises(ValueError, match="first"):
        consistency_proof(first, second, grown.node)


def test_an_index_outside_the_tree_is_rejected() -> None:
    grown = Grown(LEAVES)
    assert not verify_inclusion(8, 8, leaf_hash(b""), [], grown.roots[8])
    with pytest.raises(ValueError, match="index"):
        inclusion_proof(8, 8, grown.node)


@pytest.mark.parametrize("before", range(0, 20))
@pytest.mark.parametrize("added", [0, 1, 2, 3, 5, 8, 17])
def test_leaves_added_at_once_make_the_tree_that_leaves_one_by_one_make(before: int, added: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(before + added)]
    single, grouped = Tree(), Tree()
    for leaf in leaves[:before]:
        single.append(leaf)
    grouped.extend(leaves[:before])
    completed = {(node.level, node.position, node.hash) for leaf in leaves[before:] for node in single.append(leaf)[1:]}
    extended = {
        (level, first + place, digest)
        for level, first, hashes in grouped.extend(leaves[before:])
        for place, digest in enumerate(hashes)
    }
    assert (extended, grouped.root(), grouped.size) == (completed, single.root(), single.size)
