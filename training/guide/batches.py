"""Packs encoded samples into full rows of fixed width, endlessly and repeatably.

Knows ids, rows and random order. Knows nothing of what the ids mean or of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from corpus import marathon, samples
from tokenizers import Tokenizer
from tokens import Encoded, encode
from torch import Tensor

SHORT_WIDTH, LONG_WIDTH = 256, 1024
SAMPLES_AT_ONCE = 1500


@dataclass(frozen=True)
class Batch:
    """Rows of packed samples: ids, the sample each token belongs to (0: padding), and which ids are learnt."""

    ids: Tensor
    sample: Tensor
    learnt: Tensor

    @property
    def tokens(self) -> int:
        return int((self.sample > 0).sum())


def pack(encoded: list[Encoded], width: int) -> list[list[Encoded]]:
    """Rows of samples, each at most `width` tokens in all; longest first, into the fullest row that has room."""
    rows: list[list[Encoded]] = []
    by_room: list[list[int]] = [[] for _ in range(width + 1)]
    for item in sorted(encoded, key=lambda one: -len(one.ids)):
        size = len(item.ids)
        room = next((room for room in range(size, width + 1) if by_room[room]), None)
        if room is None:
            rows.append([item])
            by_room[width - size].append(len(rows) - 1)
        else:
            row = by_room[room].pop()
            rows[row].append(item)
            by_room[room - size].append(row)
    return rows


def to_batch(rows: list[list[Encoded]], width: int) -> Batch:
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    sample = torch.zeros(len(rows), width, dtype=torch.long)
    learnt = torch.zeros(len(rows), width, dtype=torch.bool)
    for at, row in enumerate(rows):
        start = 0
        for number, item in enumerate(row, 1):
            end = start + len(item.ids)
            ids[at, start:end] = torch.tensor(item.ids)
            sample[at, start:end] = number
            # The first token of a sample follows nothing, so there is nothing to learn it from.
            learnt[at, start + 1 : end] = torch.tensor(item.learnt[1:])
            start = end
    return Batch(ids, sample, learnt)


def short_batches(tokenizer: Tokenizer, seed: int, rows: int, sums: float = 0.0, fresh: float = 0.0) -> Iterator[Batch]:
    """Batches of `rows` rows of SHORT_WIDTH tokens from the corpus of a seed; so much is sums, or is new."""
    stream, rng = samples(seed, sums, fresh), Random(seed)
    waiting: list[list[Encoded]] = []
    while True:
        packed = pack(
            [encode(tokenizer, sample, SHORT_WIDTH) for sample in islice(stream, SAMPLES_AT_ONCE)], SHORT_WIDTH
        )
        rng.shuffle(packed)
        waiting += packed
        while len(waiting) >= rows:
            yield to_batch(waiting[:rows], SHORT_WIDTH)
            waiting = waiting[rows:]


def long_batches(tokenizer: Tokenizer, seed: int, rows: int) -> Iterator[Batch]:
    """Batches of conversations that nearly fill the whole context, one a row."""
    rng = Random(-seed - 1)
    while True:
        yield to_batch([[encode(tokenizer, marathon(rng), LONG_WIDTH)] for _ in range(rows)], LONG_WIDTH)
