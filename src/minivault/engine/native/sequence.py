"""One sequence inside the native engine, its lifecycle, and what one step of the engine takes and gives.

Knows nothing of queues, budgets, arrays, text or time: who runs next is decided by ``scheduler.py``, what is computed
by ``runner.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from minivault.engine.engine import Constraint
from minivault.engine.native.speculation import Drafter
from minivault.generation import SamplingParams, TokenLogprob


class State(Enum):
    """Where a sequence is in its life."""

    WAITING = "waiting"
    """Never ran; holds no blocks."""
    RUNNING = "running"
    """Holds blocks for every token it knows; prefills or decodes in the coming steps."""
    PREEMPTED = "preempted"
    """Ran, lost its blocks to an older sequence, and waits to compute them again. Keeps its tokens."""
    FINISHED = "finished"
    """Final. Holds no blocks and no sampler state."""


class Event(Enum):
    """What can happen to a sequence."""

    ADMIT = "admit"
    PREEMPT = "preempt"
    COMPLETE = "complete"
    """It ended of itself: end of sequence, a stop id, ``max_tokens`` or the end of the context."""
    FAIL = "fail"
    """Its numbers were not finite."""
    CANCEL = "cancel"


# Every legal step, and no other: an event that a state does not list is a bug of the caller. Only what runs can
# complete or fail, for no token is sampled for a sequence that holds no blocks.
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.WAITING: {
        Event.ADMIT: State.RUNNING,
        Event.CANCEL: State.FINISHED,
    },
    State.RUNNING: {
        Event.PREEMPT: State.PREEMPTED,
        Event.COMPLETE: State.FINISHED,
        Event.FAIL: State.FINISHED,
        Event.CANCEL: State.FINISHED,
    },
    State.PREEMPTED: {
        Event.ADMIT: State.RUNNING,
        Event.CANCEL: State.FINISHED,
    },
    State.FINISHED: {},
}


class IllegalTransition(RuntimeError):
    """An event came in a state that does not know it: a bug inside the engine, never the caller's fault."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"A sequence that is {state.name} cannot take the event {event.name}.")
        self.state = state
        self.event = event


@dataclass(slots=True, eq=False)
class Sequence:
    """The tokens of one request and where they stand. Equal only to itself.

    Owner: whoever builds it, until it is handed to the scheduler; the engine thread from then on.
    """

    id: int
    """Unique within its engine."""
    token_ids: list[int]
    """Prompt, then what was generated. Only ever appended to; ``block_digests`` counts on it."""
    params: SamplingParams
    """Resolved: nothing but ``logprobs`` is ``None``."""
    eos_token_ids: tuple[int, ...] = ()
    cache_salt: bytes = b""
    fairness_key: str = ""
    constraint: Constraint | None = None
    """The runner asks it before, and tells it after, each token; it has seen every generated token."""

    prompt_length: int = field(init=False)
    ending_ids: frozenset[int] = field(init=False)
    """The tokens that end it: end of sequence unless ignored, which no constraint does, and the stop ids."""
    state: State = State.WAITING
    max_length: int = 0
    """Tokens, prompt included, at which it ends with ``LENGTH``. Set by the scheduler, which knows the limits."""

    # Owner of the three below: kv_cache.py. The runner reads ``block_table``.
    block_table: list[int] = field(default_factory=list)
    """Position ``p`` lives in block ``block_table[p // block_size]`` at slot ``p % block_size``."""
    num_registered: int = 0
    """Leading blocks of ``block_table`` that were taken from, or offered to, the prefix cache."""
    block_digests: list[bytes] = field(default_factory=list)
    """Chained digests of the leading full blocks; a function of the tokens, so they outlive a preemption."""

    num_computed: int = 0
    """Leading tokens whose keys and values are in the blocks."""
    num_cached: int = 0
    """Of the prompt, how many tokens the prefix cache gave when it was first admitted."""
    drafter: Drafter | None = None
    """The scheduler's own, once it drafts; dropped when the sequence finishes."""
    sampler_state: object | None = None
    """The runner's own; dropped when the sequence finishes."""
    pooling: str = ""
    """Not empty: the prompt's vectors are pooled so; the sequence then shares no prefix, for all rows must be run."""
    normalized: bool = True
    adapter: object | None = None
    """The runner's: what it runs the sequence with; ``None``: the weights as they are."""
    adapter_digest: bytes = b""
    """Tells its keys and values from those of other adapters; empty without one."""
    vector: bytes | None = None
    """The pooled vector, little-endian 32-bit floats; set by the runner with the first sample, unless not finite."""

    def __post_init__(self) -> None:
        self.prompt_length = len(self.token_ids)
        ignored = self.params.ignore_eos and self.constraint is None
        eos = () if ignored else self.eos_token_ids
        self.ending_ids = frozenset((*eos, *self.params.stop_token_ids))

    def advance(self, event: Event) -> None:
        """Take one step of the lifecycle.

        Raises:
            IllegalTransition: the table has no such step.
        """
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise IllegalTransition(self.state, event) from None

    @property
    def is_finished(self) -> bool:
        return self.state is State.FINISHED

    @property
    def num_generated(self) -> int:
        return len(self.token_ids) - self.prompt_length

    @property
    def num_uncomputed(self) -> int:
        """Known tokens still to run. Exactly 1: the next step decodes. More: it prefills."""
        return len(self.token_ids) - self.num_computed

    def ends_with(self, token_id: int) -> bool:
        """Whether ``token_id``, sampled now, ends the sequence. Not before ``min_tokens``, unless a constraint rules:
        what it allows is sampled, and behind an end of sequence it allows nothing else.
        """
        due = self.constraint is not None or self.num_generated >= self.params.min_tokens
        return due and token_id in self.ending_ids


@dataclass(slots=True)
class BatchItem:
    """One sequence's part of one step: run the tokens at positions ``start`` to ``start + count - 1``."""

    sequence: Sequence
    start: int
    count: int
    """At least 1; more than 1 is a chunk of prefill."""
    sample: bool
    """Whether the last of them is the newest token, so that its logits give the next one."""
    draft: list[int] = field(default_factory=list)
    """Guesses of what follows the newest token, to be run behind it; only with ``sample``."""


Batch: TypeAlias = list[BatchItem]


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token that the runner chose."""

    token_id: int
    logprob: TokenLogprob | None = None
    """Set when the sequence's ``logprobs`` is."""
    finite: bool = True
    """False: the logits held NaN or infinity. The token means nothing and the sequence fails."""
    ends: bool = False
    """The sequence's constraint is fulfilled: nothing may follow this token."""
    error: str | None = None
    """The sequence fails, for this reason; the token means nothing."""


SampledTokens: TypeAlias = list[list[SampledToken]]
"""For each item of a batch, in its order: nothing where no sample was due; else the next token, and, as long as what
was sampled is what was drafted in its place, the one after it. A sample that failed is the last of its item."""
