"""Guesses the next tokens of a sequence from what it has said before: speculation by prompt look-up.

A draft is run together with the newest token. The sampler is a function of logits, parameters, history, seed and
position, so each drafted token either is the token that is sampled in its place, and its successor's logits are there
already, or it is not, and it and all that follow are dropped. Nothing of this can be seen in the tokens.

Sequences with a constraint get no drafts for now: the mask of a token is known only once the one before it is accepted,
and one step accepts all of them. Knows nothing of batches, blocks, arrays or text.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

MAX_DRAFT = 7
"""Drafted tokens at most. With the newest token they make 8 rows, which cost little more than 1 as long as a step is
bound by reading the weights."""

FIRST_ODDS = 0.5
GAIN = 1 / 8
"""How much one guess, right or wrong, moves the odds."""


@dataclass(slots=True)
class _Index:
    """Where each run of ``length`` tokens was last followed by another token, and how often that one came again."""

    length: int
    after: dict[tuple[int, ...], int] = field(default_factory=dict)
    odds: float = FIRST_ODDS

    def learn(self, *, right: bool) -> None:
        self.odds += ((1.0 if right else 0.0) - self.odds) * GAIN


class Drafter:
    """The guesses for one sequence, whose tokens are only ever appended to.

    Costs two look-ups a step and two entries a token. Every guess is checked against the token that came, also one that
    was not drafted. So a text that does not repeat itself soon gets no drafts, and one that begins to gets them again.
    """

    __slots__ = ("_guessed_by", "_guesses", "_indexes", "_seen")

    def __init__(self) -> None:
        self._indexes = (_Index(3), _Index(2))  # the longer run is the better witness
        self._seen = 0
        self._guesses: list[int] = []  # for the tokens from `_seen` on
        self._guessed_by = self._indexes[0]

    def propose(
        self, token_ids: list[int], most: int, least_odds: float, ending_ids: Collection[int] = frozenset()
    ) -> list[int]:
        """The tokens that probably follow, at most ``most`` of them; an end of the sequence is never one of them.

        ``least_odds``: of the last one drafted, that it will be accepted. The odds fall with every further token, so
        drafts grow while guesses come true, and shrink to none while they do not.
        """
        self._catch_up(token_ids)
        self._guess(token_ids, ending_ids)
        length, odds = 0, self._guessed_by.odds
        while length < min(most, MAX_DRAFT) and odds >= least_odds:
            length += 1
            odds *= self._guessed_by.odds
        return self._guesses[:length]

    def _catch_up(self, token_ids: list[int]) -> None:
        came = token_ids[self._seen : self._seen + len(self._guesses)]
        for guess, token_id in zip(self._guesses, came, strict=False):
            self._guessed_by.learn(right=guess == token_id)
            if guess != token_id:
                break
        for index in self._indexes:
            length, after = index.length, index.after
            for position in range(max(self._seen, length), len(token_ids)):
                after[tuple(token_ids[position - length : position])] = position
        self._seen = len(token_ids)

    def _guess(self, token_ids: list[int], ending_ids: Collection[int]) -> None:
        """One more than can be drafted: if all come true, a step gives that many."""
        self._guesses = []
        for index in self._indexes:
            position = index.after.get(tuple(token_ids[-index.length :]))
            if position is None:
                continue
            self._guessed_by = index
            period = len(token_ids) - position  # beyond the known end, the guess repeats itself
            for offset in range(MAX_DRAFT + 1):
                token_id = token_ids[position + offset % period]
                if token_id in ending_ids:
                    break
                self._guesses.append(token_id)
            return
