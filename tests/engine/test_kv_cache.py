from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from minivault.engine.native.kv_cache import BlockPool, KVCache
from minivault.engine.native.sequence import Sequence
from tests.engine.fakes import params


def sequence(tokens: list[int], salt: bytes = b"") -> Sequence:
    return Sequence(0, tokens, params(), cache_salt=salt)


def computed(cache: KVCache, tokens: list[int], salt: bytes = b"") -> Sequence:
    """A sequence that was admitted and run."""
    one = sequence(tokens, salt)
    assert cache.admit(one)
    one.num_computed = len(tokens)
    cache.commit(one)
    return one


def test_gives_as_many_blocks_as_the_tokens_fill() -> None:
    cache = KVCache(8, 4)
    one = sequence([1] * 9)
    assert cache.admit(one)
    assert len(set(one.block_table)) == 3
    assert cache.usage == 3 / 8


def test_refuses_whole_what_does_not_fit_with_its_headroom() -> None:
    cache = KVCache(4, 4)
    one = sequence([1] * 9)
    assert not cache.admit(one, headroom=2)
    assert (one.block_table, cache.pool.num_free) == ([], 4)
    assert cache.admit(one, headroom=1)


def test_grows_by_a_block_only_when_the_last_is_full() -> None:
    cache = KVCache(2, 4)
    one = sequence([1] * 3)
    assert cache.admit(one)
    one.token_ids.append(1)
    assert cache.grow(one)
    assert len(one.block_table) == 1
    one.token_ids.append(1)
    assert cache.grow(one)
    assert len(one.block_table) == 2


def test_does_not_grow_when_no_block_is_free() -> None:
    cache = KVCache(1, 4)
    one = sequence([1] * 4)
    assert cache.admit(one)
    one.token_ids.append(1)
    assert not cache.grow(one)
    assert len(one.block_table) == 1


def test_shares_the_full_blocks_of_an_equal_prefix() -> None:
    cache = KVCache(8, 4)
    first = computed(cache, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    second = sequence([1, 2, 3, 4, 5, 6, 7, 8, 10, 11])
    assert cache.admit(second)
    assert second.block_table[:2] == first.block_table[:2]
    assert second.block_table[2] != first.block_table[2]
    assert second.num_computed == 8


def test_shares_nothing_behind_the_first_difference() -> None:
    cache = KVCache(8, 4)
    first = computed(cache, [1, 2, 3, 4, 5, 6, 7, 8])
    second = sequence([9, 2, 3, 4, 5, 6, 7, 8, 9])
    assert cache.admit(second)
    assert not set(first.block_table) & set(second.block_table)


def test_leaves_a_token_to_compute_when_all_are_cached() -> None:
    cache = KVCache(8, 4)
    computed(cache, [1, 2, 3, 4, 5, 6, 7, 8])
    again = sequence([1, 2, 3, 4, 5, 6, 7, 8])
    assert cache.admit(again)
    assert again.num_computed == 4


def test_shares_nothing_between_salts() -> None:
    cache = KVCache(8, 4)
    computed(cache, [1] * 8, salt=b"one")
    other = sequence([1] * 8, salt=b"two")
    assert cache.admit(other)
    assert other.num_computed == 0


def test_shares_nothing_that_has_not_been_computed() -> None:
    cache = KVCache(8, 4)
    assert cache.admit(sequence([1] * 9))
    other = sequence([1] * 9)
    assert cache.admit(other)
    assert other.num_computed == 0


def test_shares_of_a_prompt_in_the_middle_of_prefill_only_what_has_been_computed() -> None:
    cache = KVCache(8, 4)
    first = sequence([1] * 13)
    assert cache.admit(first)
    first.num_computed = 6
    cache.commit(first)
    other = sequence([1] * 13)
    assert cache.admit(other)
    assert other.num_computed == 4


def test_switched_off_it_shares_nothing() -> None:
    cache = KVCache(8, 4, prefix_cache=False)
    computed(cache, [1] * 8)
    again = sequence([1] * 8)
    assert cache.admit(again)
    assert (again.num_computed, again.block_digests) == (0, [])


def test_finds_a_prefix_whose_owner_is_gone() -> None:
    cache = KVCache(8, 4)
    cache.release(computed(cache, [1] * 9))
    assert cache.usage == 0
    again = sequence([1] * 9)
    assert cache.admit(again)
    assert again.num_computed == 8


def test_forgets_what_is_released_to_be_forgotten() -> None:
    cache = KVCache(8, 4)
    cache.release(computed(cache, [1] * 9), forget=True)
    again = sequence([1] * 9)
    assert cache.admit(again)
    assert again.num_computed == 0


def test_a_free_cached_block_that_is_shared_counts_against_the_room() -> None:
    cache = KVCache(3, 4)
    cache.release(computed(cache, [1] * 9))
    assert not cache.admit(sequence([1] * 9), headroom=1)
    assert cache.admit(sequence([1] * 9))
    assert cache.pool.num_free == 0


def test_evicts_the_longest_unused_first_and_of_a_prefix_its_end() -> None:
    cache = KVCache(4, 4)
    cache.release(computed(cache, [1] * 8))
    cache.release(computed(cache, [2] * 8))
    assert cache.admit(sequence([3] * 4))  # takes the end of the first
    probe = sequence([1] * 9)
    assert cache.admit(probe)
    assert probe.num_computed == 4


def test_what_two_computed_at_once_is_found_once_and_freed_twice() -> None:
    cache = KVCache(4, 4)
    both = [sequence([1] * 5), sequence([1] * 5)]
    for one in both:
        assert cache.admit(one)
    for one in both:
        one.num_computed = 5
        cache.commit(one)
    for one in both:
        cache.release(one)
    assert cache.pool.num_free == 4


def test_a_block_is_not_released_twice() -> None:
    pool = BlockPool(1)
    block = pool.allocate()
    pool.release(block)
    with pytest.raises(RuntimeError, match="free already"):
        pool.release(block)


def test_an_empty_pool_says_so() -> None:
    pool = BlockPool(1)
    pool.allocate()
    with pytest.raises(RuntimeError, match="No block is free"):
        pool.allocate()


class PoolMachine(RuleBasedStateMachine):
    """The pool against the plainest account of it: a multiset of holders, and digests of blocks."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(5)
        self.counts = [0] * 5
        self.digests: dict[int, bytes] = {}

    @rule(target=held)
    def allocate(self) -> object:
        if self.pool.num_free == 0:
            return multiple()
        block = self.pool.allocate()
        assert self.counts[block] == 0
        self.counts[block] = 1
        self.digests.pop(block, None)
        return block

    @rule(target=held, number=st.integers(0, 7))
    def share(self, number: int) -> object:
        block = self.pool.find(bytes([number]))
        if block is None:
            return multiple()
        assert self.digests[block] == bytes([number])
        self.pool.share(block)
        self.counts[block] += 1
        return block

    @rule(block=held, number=st.integers(0, 7))
    def register(self, block: int, number: int) -> None:
        if self.counts[block] == 0:
            return
        self.pool.register(block, bytes([number]))
        if block not in self.digests and bytes([number]) not in self.digests.values():
            self.digests[block] = bytes([number])

    @rule(block=held)
    def forget(self, block: int) -> None:
        self.pool.forget(block)
        self.digests.pop(block, None)

    @rule(block=held)
    def release(self, block: int) -> None:
        if self.counts[block]:
            self.pool.release(block)
            self.counts[block] -= 1

    @invariant()
    def counts_agree(self) -> None:
        assert [self.pool.references(block) for block in range(5)] == self.counts
        assert self.pool.num_free == self.counts.count(0)

    @invariant()
    def what_was_registered_is_found(self) -> None:
        assert {number: self.pool.find(bytes([number])) for number in range(8)} == {
            number: next((block for block, digest in self.digests.items() if digest == bytes([number])), None)
            for number in range(8)
        }


TestPoolMachine = PoolMachine.TestCase
