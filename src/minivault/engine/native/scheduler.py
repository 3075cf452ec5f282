"""Who runs in the next step, for how many tokens, and what becomes of the tokens that come back.

Continuous batching: what decodes goes first, the rest of the token budget goes to prefill in chunks. None of the
choices made here can be seen in a sequence's tokens; they are about time and memory alone. Knows nothing of arrays,
threads, streams or text.

Why everything ends, whatever comes in: ``_running`` is in the order of admission, victims are taken from its end, and
no one new is admitted while a victim waits. So the oldest sequence is never preempted, and decodes in every step or
prefills first of its key; when it ends, the next is the oldest.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from minivault.engine.engine import EngineStats, TokenStep
from minivault.engine.native.kv_cache import KVCache
from minivault.engine.native.sequence import Batch, BatchItem, Event, SampledToken, SampledTokens, Sequence, State
from minivault.engine.native.speculation import Drafter
from minivault.errors import ContextTooLong, InvalidRequest, Overloaded
from minivault.generation import FinishReason

MIN_TURN = 64
"""Tokens of prefill that a key gets at least in its turn; smaller pieces would only delay everyone's first token."""

MAX_DECODE_ROWS = 16
"""Up to here a step is mostly bound by reading the weights, and one more row costs roughly a tenth of it. Beyond, it is
bound by computing, and a row costs nearly as much as the token that it may give."""

LEAST_ODDS = 0.15
"""Of a draft to be accepted, when nearly no rows are taken: somewhat more than what a row costs then, in steps. On
prose and code, replayed, anything from 0.1 to 0.3 did nearly as well."""

NOT_FINITE = "The model produced numbers that are not finite."


@dataclass(frozen=True, slots=True)
class Limits:
    """What may come in and what may run together. Values only, so any thread may ask."""

    context_length: int
    kv_tokens: int
    """Tokens that the KV cache holds."""
    max_batch_tokens: int = 512
    """Token budget of a step."""
    max_running: int = 64
    max_waiting: int = 256
    """Sequences that may queue when all places to run are taken."""
    max_decode_rows: int = MAX_DECODE_ROWS
    """Drafts are added to the tokens that decode in a step until they come to this together; 0: no speculation."""

    def __post_init__(self) -> None:
        for name in ("context_length", "kv_tokens", "max_batch_tokens", "max_running"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1.")
        for name in ("max_waiting", "max_decode_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0.")

    @property
    def running(self) -> int:
        """Places to run. Everyone who decodes must fit into one step, hence never more than its budget."""
        return min(self.max_running, self.max_batch_tokens)

    def max_length(self, prompt_length: int, max_tokens: int | None) -> int:
        """The length, prompt included, at which a sequence ends if nothing ends it before.

        The KV cache must hold the sequence to that very end. One that might outgrow it is refused rather than cut
        short: where an answer ends must not depend on how much memory this machine has.

        Raises:
            ContextTooLong: it cannot fit the context or the KV cache.
            InvalidRequest: the prompt is empty, or ``max_tokens`` is below 1.
        """
        if prompt_length < 1:
            raise InvalidRequest("The prompt must have at least 1 token.", param="prompt")
        if max_tokens is not None and max_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1.", param="max_tokens")
        if prompt_length >= self.context_length:
            raise ContextTooLong(
                f"The prompt has {prompt_length} tokens; with room for an answer at most {self.context_length - 1} "
                f"fit the model's context of {self.context_length}.",
                param="prompt",
            )
        longest = self.context_length if max_tokens is None else min(self.context_length, prompt_length + max_tokens)
        if longest - 1 > self.kv_tokens:  # the last token is given out and never run
            raise ContextTooLong(
                f"Prompt and answer may come to {longest} tokens; the KV cache holds {self.kv_tokens}. "
                "Lower max_tokens, shorten the prompt, or raise kv_cache_memory.",
                param="max_tokens" if prompt_length <= self.kv_tokens else "prompt",
            )
        return longest

    def check_room(self, live: int) -> None:
        """Raises Overloaded when ``live`` sequences, running and queued, are all that may be here at once. Pooled ones
        do not count: who embeds bounds them.
        """
        # Not ``running``: the service admits by the settings, and what it admits must not be refused here.
        if live >= self.max_running + self.max_waiting:
            raise Overloaded("Too many requests are waiting for the model; try again in a moment.", retry_after=1.0)


class Scheduler:
    """Owner: the engine thread. ``limits`` may be read by anyone."""

    def __init__(self, kv_cache: KVCache, limits: Limits) -> None:
        self.limits = limits
        self._kv_cache = kv_cache
        self._running: list[Sequence] = []  # in the order of admission
        self._preempted: deque[Sequence] = deque()  # in the order of admission; all are younger than who runs
        self._waiting: OrderedDict[str, deque[Sequence]] = OrderedDict()  # by fairness key; the first key is next
        self._num_waiting = 0
        self._num_pooled = 0  # of all that are here
        self._served: dict[str, int] = {}  # for each key that prefills: the turn it last had, or came in
        self._turn = 0
        self._preemptions = 0
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._cache_queries = 0  # both in tokens of prompts
        self._cache_hits = 0
        self._drafts = 0
        self._draft_tokens = 0
        self._accepted_tokens = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._preempted) + self._num_waiting

    @property
    def is_idle(self) -> bool:
        return not (self._running or self._preempted or self._num_waiting)

    def live(self) -> list[Sequence]:
        """Everyone who has not finished."""
        return [*self._running, *self._preempted, *(one for queue in self._waiting.values() for one in queue)]

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._running),
            waiting=len(self._preempted) + self._num_waiting,
            kv_cache_usage=self._kv_cache.usage,
            preemptions=self._preemptions,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            prefix_cache_queries=self._cache_queries,
            prefix_cache_hits=self._cache_hits,
            spec_decode_num_drafts=self._drafts,
            spec_decode_num_draft_tokens=self._draft_tokens,
            spec_decode_num_accepted_tokens=self._accepted_tokens,
        )

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence.

        Raises:
            Overloaded: the queue is full.
            ContextTooLong: it could never run to its end.
            InvalidRequest: the prompt is empty, or ``max_tokens`` is below 1.
        """
        if not sequence.pooling:
            self.limits.check_room(len(self) - self._num_pooled)
        sequence.max_length = self.limits.max_length(sequence.prompt_length, sequence.params.max_tokens)
        self._waiting.setdefault(sequence.fairness_key, deque()).append(sequence)
        self._num_waiting += 1
        self._num_pooled += bool(sequence.pooling)

    def cancel(self, sequence: Sequence) -> TokenStep | None:
        """End a sequence wherever it is; its blocks are free at once. ``None`` if it has ended already."""
        if sequence.is_finished:
            return None
        return self._finish(sequence, Event.CANCEL, FinishReason.CANCELLED)

    # -- before a step

    def schedule(self) -> Batch:
        """Choose the next step: at most ``max_batch_tokens`` tokens, each item of a sequence of its own.

        Raises:
            RuntimeError: sequences are here and none can run, which a bug alone can bring about.
        """
        batch, prefilling = self._decode()
        prefilling += self._resume()
        budget = self.limits.max_batch_tokens - len(batch)
        self._admit(prefilling, budget)
        budget -= self._draft(batch, budget // 4 if prefilling else budget)
        if prefilling:
            self._prefill(batch, prefilling, budget)
        if not batch and not self.is_idle:
            raise RuntimeError("Sequences are waiting and none can run.")
        return batch

    def _decode(self) -> tuple[Batch, list[Sequence]]:
        """One token for each that has just one to run, and the list of those that have more."""
        batch: Batch = []
        prefilling: list[Sequence] = []
        # Not a for loop over a copy: making room takes victims from the end, who must not be visited then.
        index = 0
        while index < len(self._running):
            sequence = self._running[index]
            index += 1
            if sequence.num_uncomputed > 1:
                prefilling.append(sequence)
            elif self._make_room(sequence):
                batch.append(BatchItem(sequence, sequence.num_computed, 1, True))
        return batch, prefilling

    def _make_room(self, sequence: Sequence) -> bool:
        """A slot for its newest token, at the cost of the youngest if need be; False when that is itself."""
        while not self._kv_cache.grow(sequence):
            victim = self._running.pop()
            self._kv_cache.release(victim)
            victim.advance(Event.PREEMPT)
            self._preempted.appendleft(victim)
            self._preemptions += 1
            if victim is sequence:
                return False
        return True

    def _draft(self, decoding: Batch, budget: int) -> int:
        """Add drafts to what decodes; returns how many tokens. They take only blocks that are free when all others have
        theirs: nobody is preempted for a guess.
        """
        rows = self.limits.max_decode_rows
        left = min(rows - len(decoding), budget)
        if left <= 0 or not decoding:
            return 0
        most = left
        least_odds = max(LEAST_ODDS, len(decoding) / rows)  # the fuller a step, the more a row costs
        for index, item in enumerate(decoding):
            sequence = item.sequence
            share = -(-left // (len(decoding) - index))
            # The token after the last accepted one is sampled too, and it may be the last of all.
            share = min(share, sequence.max_length - len(sequence.token_ids) - 1)
            if share <= 0 or sequence.constraint is not None:
                continue
            sequence.drafter = sequence.drafter or Drafter()
            draft = sequence.drafter.propose(sequence.token_ids, share, least_odds, sequence.ending_ids)
            if draft and self._kv_cache.grow(sequence, len(draft)):
                item.draft = draft
                left -= len(draft)
        return most - left

    def _resume(self) -> list[Sequence]:
        resumed = []
        while self._preempted and self._start(self._preempted[0]):
            resumed.append(self._preempted.popleft())
        return resumed

    def _admit(self, prefilling: list[Sequence], budget: int) -> None:
        """Let new ones run, a key at a time. No sooner than there is budget for them, since one that comes in later may
        find its prefix computed; but a key that has nothing in prefill need not wait for the long prompt of another.
        """
        if self._preempted or not self._num_waiting:
            return
        demand = sum(sequence.num_uncomputed for sequence in prefilling)
        busy = {sequence.fairness_key for sequence in prefilling}
        admitted = True
        while admitted:
            admitted = False
            for key in tuple(self._waiting):
                if len(self._running) >= self.limits.running:
                    return
                if demand >= budget and key in busy:
                    continue
                sequence = self._waiting[key][0]
                if not self._start(sequence):
                    return  # it stays in front of all who come later: smaller ones must not overtake it forever
                self._leave_queue(sequence)
                prefilling.append(sequence)
                demand += sequence.num_uncomputed
                busy.add(key)
                admitted = True

    def _start(self, sequence: Sequence) -> bool:
        """Give it blocks and a place among the running; False where they do not suffice. Every one that runs is left a
        free block to grow into, or the newcomer would soon be thrown out again.
        """
        if not self._kv_cache.admit(sequence, headroom=len(self._running)):
            return False
        if sequence.state is State.WAITING:
            sequence.num_cached = sequence.num_computed
            self._prompt_tokens += sequence.prompt_length
            if self._kv_cache.prefix_cache and not sequence.pooling:
                self._cache_queries += sequence.prompt_length
                self._cache_hits += sequence.num_cached
        sequence.advance(Event.ADMIT)
        self._running.append(sequence)
        return True

    def _leave_queue(self, sequence: Sequence) -> None:
        key = sequence.fairness_key
        queue = self._waiting[key]
        queue.remove(sequence)
        self._num_waiting -= 1
        if queue:
            self._waiting.move_to_end(key)
        else:
            del self._waiting[key]

    def _prefill(self, batch: Batch, prefilling: list[Sequence], budget: int) -> None:
        """Share the budget between the keys, in turns; within a key, the oldest first."""
        queues: dict[str, deque[Sequence]] = {}
        for sequence in prefilling:
            queues.setdefault(sequence.fairness_key, deque()).append(sequence)
        # Longest without a turn first. A key that is new counts from now, so a flow of new keys cannot hold up the old.
        self._served = {key: self._served.get(key, self._turn) for key in queues}
        turns = deque(sorted(queues, key=self._served.__getitem__))
        size = budget if len(queues) == 1 else max(MIN_TURN, budget // 4)
        items: dict[Sequence, BatchItem] = {}
        while budget and turns:
            key = turns.popleft()
            budget -= _take_turn(queues[key], items, min(size, budget))
            self._turn += 1
            self._served[key] = self._turn
            if queues[key]:
                turns.append(key)
        batch.extend(items.values())

    # -- after a step

    def update(self, batch: Batch, tokens: SampledTokens) -> list[tuple[Sequence, TokenStep]]:
        """Take in what a step gave; returns what each sequence that got a token may show.

        Raises:
            RuntimeError: a token is missing where one was due.
            ValueError: there are more or fewer entries than items.
        """
        outputs: list[tuple[Sequence, TokenStep]] = []
        for item, sampled in zip(batch, tokens, strict=True):
            sequence = item.sequence
            if sequence.is_finished:
                continue  # cancelled between schedule and update
            if item.sample:
                outputs.append((sequence, self._accept(item, sampled)))
            else:
                sequence.num_computed += item.count
                self._kv_cache.commit(sequence)
        return outputs

    def _accept(self, item: BatchItem, sampled: list[SampledToken]) -> TokenStep:
        """Take in what was sampled, up to where the sequence ends; what lies behind is dropped."""
        if not 1 <= len(sampled) <= 1 + len(item.draft):
            raise RuntimeError("The runner gave no token where one was due, or more than were drafted.")
        sequence = item.sequence
        count, reason = _take(sequence, sampled)
        # Of those taken, all but what was sampled last were drafted, so their keys and values are the true ones.
        accepted = min(count, len(sampled) - 1)
        sequence.num_computed += item.count + accepted
        self._kv_cache.commit(sequence)
        self._kv_cache.trim(sequence)
        self._tally(item, count, accepted)
        token_ids = tuple(token.token_id for token in sampled[:count])
        logprobs = tuple(token.logprob for token in sampled[:count] if token.logprob is not None)
        if reason is None:
            return TokenStep(token_ids, logprobs)
        if reason is FinishReason.FAILED:
            end = self._finish(sequence, Event.FAIL, reason, error=sampled[count].error or NOT_FINITE)
        else:
            end = self._finish(sequence, Event.COMPLETE, reason)
        return replace(end, token_ids=token_ids, logprobs=logprobs)

    def _tally(self, item: BatchItem, taken: int, accepted: int) -> None:
        self._generation_tokens += taken
        self._drafts += bool(item.draft)
        self._draft_tokens += len(item.draft)
        self._accepted_tokens += accepted

    def _finish(self, sequence: Sequence, event: Event, reason: FinishReason, *, error: str | None = None) -> TokenStep:
        if sequence.state is State.WAITING:
            self._leave_queue(sequence)
        elif sequence.state is State.PREEMPTED:
            self._preempted.remove(sequence)
        elif sequence.state is State.RUNNING:
            self._running.remove(sequence)
        self._num_pooled -= bool(sequence.pooling)
        sequence.advance(event)
        # What a failed sequence computed may be what made it fail: nobody else shall build on it.
        self._kv_cache.release(sequence, forget=event is Event.FAIL)
        sequence.sampler_state = None
        sequence.drafter = None
        return TokenStep((), finish_reason=reason, error=error)


def _take(sequence: Sequence, sampled: list[SampledToken]) -> tuple[int, FinishReason | None]:
    """Append what was sampled, up to the sequence's end; returns how many tokens, and why it ends behind them."""
    for index, token in enumerate(sampled):
        if not token.finite or token.error is not None:
            return index, FinishReason.FAILED
        if sequence.ends_with(token.token_id):
            return index, FinishReason.STOP
        sequence.token_ids.append(token.token_id)
        if token.ends:
            return index + 1, FinishReason.STOP
        if len(sequence.token_ids) >= sequence.max_length:
            return index + 1, FinishReason.LENGTH
    return len(sampled), None


def _take_turn(queue: deque[Sequence], items: dict[Sequence, BatchItem], budget: int) -> int:
    """Put up to ``budget`` tokens of a key's sequences into ``items``; returns how many. Who has all, leaves."""
    left = budget
    while left and queue:
        sequence = queue[0]
        item = items.get(sequence)
        if item is None:
            item = items[sequence] = BatchItem(sequence, sequence.num_computed, 0, False)
        count = min(left, sequence.num_uncomputed - item.count)
        item.count += count
        left -= count
        if item.count == sequence.num_uncomputed:
            item.sample = True
            queue.popleft()
    return budget - left
