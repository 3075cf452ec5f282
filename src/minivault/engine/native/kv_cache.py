"""Which block of KV memory holds which tokens of which sequence, and what of it can be shared.

A block is ``block_size`` consecutive positions of one sequence, in every layer. This file deals in block numbers alone:
it knows nothing of the memory behind them, of budgets, or of who runs next.

Sharing is by prefix. A full block has a digest that chains over the salt and every token up to its end, so equal
digests mean equal keys and values, by the law that the engine computes the same bits for the same prefix. A shared
block is full and therefore never written again: a sequence writes only behind its last shared block.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from hashlib import blake2b

from minivault.engine.native.sequence import Sequence

DIGEST_SIZE = 32


class BlockPool:
    """Blocks by number: who counts on each, which are free, and which still hold something worth finding again.

    Every block is in exactly one of three places: in use (its count is above 0), free and worthless, or free and cached
    (its content can be found by digest until the block is needed; the longest unused goes first). Every operation is
    O(1).
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError("num_blocks must be at least 1.")
        self.num_blocks = num_blocks
        self._counts = [0] * num_blocks
        self._digests: list[bytes | None] = [None] * num_blocks
        self._by_digest: dict[bytes, int] = {}
        self._worthless = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # longest unused first

    @property
    def num_free(self) -> int:
        return len(self._worthless) + len(self._cached)

    def references(self, block: int) -> int:
        """How many count on a block; 0: it is free."""
        return self._counts[block]

    def allocate(self) -> int:
        """Take a free block for oneself. Its old content is lost.

        Raises:
            RuntimeError: none is free; ask ``num_free`` first.
        """
        if self._worthless:
            block = self._worthless.pop()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            self.forget(block)
        else:
            raise RuntimeError("No block is free.")
        self._counts[block] = 1
        return block

    def find(self, digest: bytes) -> int | None:
        return self._by_digest.get(digest)

    def share(self, block: int) -> None:
        """Count on a block that ``find`` gave."""
        if self._digests[block] is None:
            raise RuntimeError(f"Block {block} is not in the prefix cache, so it cannot be shared.")
        if self._counts[block] == 0:
            del self._cached[block]
        self._counts[block] += 1

    def release(self, block: int) -> None:
        """Stop counting on a block; with the last user gone it is free."""
        if self._counts[block] == 0:
            raise RuntimeError(f"Block {block} is free already.")
        self._counts[block] -= 1
        if self._counts[block]:
            return
        if self._digests[block] is None:
            self._worthless.append(block)
        else:
            self._cached[block] = None

    def register(self, block: int, digest: bytes) -> None:
        """Let a full, computed block be found. Where another block has the same digest already, that one stays it."""
        if self._counts[block] == 0:
            raise RuntimeError(f"Block {block} is free, so nothing vouches for its content.")
        if self._digests[block] is None and digest not in self._by_digest:
            self._digests[block] = digest
            self._by_digest[digest] = block

    def forget(self, block: int) -> None:
        """Let a block be found no more. Those who count on it keep it."""
        digest = self._digests[block]
        if digest is None:
            return
        self._digests[block] = None
        del self._by_digest[digest]
        if block in self._cached:
            del self._cached[block]
            self._worthless.append(block)


class KVCache:
    """The block tables of sequences. Owner: the engine thread; ``capacity`` and ``block_size`` never change."""

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        if block_size < 1:
            raise ValueError("block_size must be at least 1.")
        self.block_size = block_size
        self.pool = BlockPool(num_blocks)
        self.prefix_cache = prefix_cache
        self._pack = struct.Struct(f"<{block_size}I").pack

    @property
    def capacity(self) -> int:
        """Tokens that fit when one sequence has all blocks."""
        return self.pool.num_blocks * self.block_size

    @property
    def usage(self) -> float:
        """Share of blocks in use, 0..1."""
        return 1.0 - self.pool.num_free / self.pool.num_blocks

    def admit(self, sequence: Sequence, headroom: int = 0) -> bool:
        """Give a sequence blocks for all its tokens, shared ones first; False, and nothing done, where that would leave
        fewer than ``headroom`` blocks free.

        Sets ``num_computed`` to the tokens that the shared blocks hold: always fewer than there are, since the logits
        of the last token are not in any cache.
        """
        pool = self.pool
        shared = self._shared_prefix(sequence)
        fresh = self._blocks_for(len(sequence.token_ids)) - len(shared)
        revived = sum(pool.references(block) == 0 for block in shared)
        if pool.num_free - fresh - revived < headroom:
            return False
        for block in shared:
            pool.share(block)
        sequence.block_table = shared + [pool.allocate() for _ in range(fresh)]
        sequence.num_registered = len(shared)
        sequence.num_computed = len(shared) * self.block_size
        return True

    def grow(self, sequence: Sequence, extra: int = 0) -> bool:
        """Give the newest token a slot, and ``extra`` more behind it; False, and nothing done, when that takes more
        blocks than are free.
        """
        missing = self._blocks_for(len(sequence.token_ids) + extra) - len(sequence.block_table)
        if missing > self.pool.num_free:
            return False
        for _ in range(missing):
            sequence.block_table.append(self.pool.allocate())
        return True

    def trim(self, sequence: Sequence) -> None:
        """Take back the blocks that lie wholly behind the newest token."""
        for _ in range(len(sequence.block_table) - self._blocks_for(len(sequence.token_ids))):
            self.pool.release(sequence.block_table.pop())

    def commit(self, sequence: Sequence) -> None:
        """Offer what has been computed to the prefix cache; to be called after ``num_computed`` has grown."""
        full = sequence.num_computed // self.block_size
        if full == sequence.num_registered:
            return
        # A text that is pooled comes once: its blocks would push out prefixes that come again.
        if self.prefix_cache and not sequence.pooling:
            self._extend_digests(sequence, full)
            for index in range(sequence.num_registered, full):
                self.pool.register(sequence.block_table[index], sequence.block_digests[index])
        sequence.num_registered = full

    def release(self, sequence: Sequence, *, forget: bool = False) -> None:
        """Take all blocks back. What was offered can still be found, unless it is to be forgotten."""
        # The end goes first: of a cached prefix, the part that most others share is then evicted last.
        for block in reversed(sequence.block_table):
            if forget:
                self.pool.forget(block)
            self.pool.release(block)
        sequence.block_table = []
        sequence.num_registered = 0
        sequence.num_computed = 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def _shared_prefix(self, sequence: Sequence) -> list[int]:
        # Rows that a cached prefix gave would be missing from the pool.
        if not self.prefix_cache or sequence.pooling:
            return []
        most = (len(sequence.token_ids) - 1) // self.block_size
        self._extend_digests(sequence, most)
        shared = []
        for digest in sequence.block_digests[:most]:
            block = self.pool.find(digest)
            if block is None:
                break
            shared.append(block)
        return shared

    def _extend_digests(self, sequence: Sequence, count: int) -> None:
        digests = sequence.block_digests
        if len(digests) >= count:
            return
        # The salt is the root of the chain, so sequences of different salts have no digest in common.
        # Nor have those of different adapters, whose digest is the key of that first hash.
        root = blake2b(sequence.cache_salt, digest_size=DIGEST_SIZE, key=sequence.adapter_digest)
        parent = digests[-1] if digests else root.digest()
        size = self.block_size
        for start in range(len(digests) * size, count * size, size):
            tokens = self._pack(*sequence.token_ids[start : start + size])
            parent = blake2b(parent + tokens, digest_size=DIGEST_SIZE).digest()
            digests.append(parent)
