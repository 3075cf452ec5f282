"""A runner without a model, strict about its block tables, and what it must give, worked out without any engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from minivault.engine.engine import EngineInfo, TokenStep
from minivault.engine.native.kv_cache import KVCache
from minivault.engine.native.scheduler import Limits, Scheduler
from minivault.engine.native.sequence import Batch, BatchItem, SampledToken, SampledTokens, Sequence, State
from minivault.generation import FinishReason, SamplingParams, TokenLogprob

VOCAB = 16
CONTEXT = 48
EOS = (3,)
_PRIME = (1 << 61) - 1

Choose = Callable[[list[int], SamplingParams], int]


def params(max_tokens: int = 8, **changes: object) -> SamplingParams:
    """Resolved parameters."""
    neutral = SamplingParams(max_tokens, 0, 0.0, 0, 1.0, 0.0, 1.0, 1.0, seed=0)
    return replace(neutral, **changes)  # type: ignore[arg-type]


def chain(before: int, token_id: int) -> int:
    """What the fake keeps for a position instead of keys and values: a number that stands for all tokens up to it."""
    return (before * 1_000_003 + token_id + 1) % _PRIME


def choose(prefix: list[int], sampling: SamplingParams) -> int:
    """The fake model: the next token as a function of the tokens before it and the seed."""
    state = chain(17, sampling.seed or 0)
    for token_id in prefix:
        state = chain(state, token_id)
    return state % 1_000_033 % VOCAB


def choose_looping(prefix: list[int], sampling: SamplingParams) -> int:
    """A fake model that repeats itself for a while: it looks at the last two tokens, and little at the length."""
    turn = len(prefix) // 20
    return chain(chain(turn, sampling.seed or 0), sum(prefix[-2:])) % 1_000_033 % 7


def choose_masked(prefix: list[int], sequence: Sequence, choose: Choose = choose) -> int:
    """The token that is sampled: what would end the sequence is masked until ``min_tokens``."""
    token_id = choose(prefix, sequence.params)
    while sequence.num_generated < sequence.params.min_tokens and token_id in sequence.ending_ids:
        token_id = (token_id + 1) % VOCAB
    return token_id


def reference(
    prompt: list[int], sampling: SamplingParams, context_length: int = CONTEXT, choose: Choose = choose
) -> tuple[list[int], FinishReason]:
    """What a sequence must come to, by the plainest loop there is."""
    sequence = Sequence(-1, list(prompt), sampling, EOS)
    answer: list[int] = []
    assert sampling.max_tokens is not None
    while True:
        token_id = choose_masked(sequence.token_ids, sequence, choose)
        if token_id in sequence.ending_ids and len(answer) >= sampling.min_tokens:
            return answer, FinishReason.STOP
        answer.append(token_id)
        sequence.token_ids.append(token_id)
        if len(answer) == sampling.max_tokens or len(prompt) + len(answer) == context_length:
            return answer, FinishReason.LENGTH


@dataclass
class FakeRunner:
    """Writes and reads a pretended KV memory through the block tables; fails where it finds anything but the truth."""

    num_blocks: int = 64
    block_size: int = 4
    choose: Choose = choose
    before_step: Callable[[Batch], None] = lambda _: None
    infinite: set[int] = field(default_factory=set)
    """Ids of sequences whose logits are not finite."""
    infinite_after: int = 0
    """So many tokens of them are sound."""
    speculation: bool = True
    closed: int = 0
    memory: dict[tuple[int, int], int] = field(default_factory=dict)
    """(block, slot) to the chain value of the tokens that end there."""

    def step(self, batch: Batch) -> SampledTokens:
        assert not self.closed, "a step after close"
        self.before_step(batch)
        assert batch, "an empty batch"
        assert len({item.sequence.id for item in batch}) == len(batch), "a sequence twice in one batch"
        for item in batch:
            self._write(item)
        return [self._sample(item) for item in batch]

    def close(self) -> None:
        self.closed += 1

    def _place(self, sequence: Sequence, position: int) -> tuple[int, int]:
        index, slot = divmod(position, self.block_size)
        return sequence.block_table[index], slot

    def _write(self, item: BatchItem) -> None:
        sequence = item.sequence
        end = item.start + item.count
        tokens = sequence.token_ids + item.draft
        assert sequence.state is State.RUNNING
        assert item.start == sequence.num_computed
        assert item.start < end <= len(sequence.token_ids)
        assert item.sample == (end == len(sequence.token_ids))
        assert item.sample or not item.draft
        assert len(tokens) < sequence.max_length, "a draft beyond the end of the sequence"
        for position in range(item.start, end + len(item.draft)):
            before = self.memory[self._place(sequence, position - 1)] if position else 0
            self.memory[self._place(sequence, position)] = chain(before, tokens[position])

    def _sample(self, item: BatchItem) -> list[SampledToken]:
        sequence, truth = item.sequence, 0
        for position in range(item.start + item.count):
            truth = chain(truth, sequence.token_ids[position])
            assert self.memory[self._place(sequence, position)] == truth, "a block holds another sequence's tokens"
        if not item.sample:
            return []
        sequence.sampler_state = "in use"
        future = replace_tokens(sequence, sequence.token_ids)
        sampled: list[SampledToken] = []
        for drafted in (*item.draft, None):
            token_id = choose_masked(future.token_ids, future, self.choose)
            logprob = None if sequence.params.logprobs is None else TokenLogprob(token_id, -0.5)
            broken = sequence.id in self.infinite and future.num_generated >= self.infinite_after
            sampled.append(SampledToken(token_id, logprob, finite=not broken))
            future.token_ids.append(token_id)
            if broken or token_id != drafted:
                break
        return sampled


def replace_tokens(sequence: Sequence, token_ids: list[int]) -> Sequence:
    """The same request, standing at other tokens."""
    copy = Sequence(sequence.id, token_ids[: sequence.prompt_length], sequence.params, sequence.eos_token_ids)
    copy.token_ids = list(token_ids)
    return copy


INFO = EngineInfo("native", "test", "fake-v1", exact=True, context_length=CONTEXT, vocab_size=VOCAB)

_ids = count()


def make_sequence(prompt: list[int], sampling: SamplingParams | None = None, *, key: str = "") -> Sequence:
    return Sequence(next(_ids), list(prompt), sampling or params(), EOS, cache_salt=b"", fairness_key=key)


@dataclass
class Bench:
    """A scheduler, its cache and the fake runner; ``step`` is one step of an engine, with everything checked."""

    runner: FakeRunner = field(default_factory=FakeRunner)
    max_batch_tokens: int = 16
    max_running: int = 8
    max_waiting: int = 64
    prefix_cache: bool = True
    max_decode_rows: int = 16
    outputs: dict[int, list[TokenStep]] = field(default_factory=dict)
    admitted: dict[Sequence, int] = field(default_factory=dict)
    """Who ran, numbered in the order of their first step."""

    def __post_init__(self) -> None:
        self.kv_cache = KVCache(self.runner.num_blocks, self.runner.block_size, prefix_cache=self.prefix_cache)
        self.limits = Limits(
            CONTEXT,
            self.kv_cache.capacity,
            self.max_batch_tokens,
            self.max_running,
            self.max_waiting,
            self.max_decode_rows,
        )
        self.scheduler = Scheduler(self.kv_cache, self.limits)

    def add(self, prompt: list[int], sampling: SamplingParams | None = None, *, key: str = "") -> Sequence:
        sequence = make_sequence(prompt, sampling, key=key)
        self.scheduler.add(sequence)
        self.outputs[sequence.id] = []
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        step = self.scheduler.cancel(sequence)
        if step is not None:
            self.outputs[sequence.id].append(step)

    def step(self) -> Batch:
        decoding = [one for one in self.scheduler.live() if one.state is State.RUNNING and one.num_uncomputed == 1]
        batch = self.scheduler.schedule()
        assert sum(item.count + len(item.draft) for item in batch) <= self.max_batch_tokens, "over the token budget"
        rows = sum(1 + len(item.draft) for item in batch if item.draft)
        assert rows <= self.max_decode_rows, "over the rows that drafts may fill"
        assert self.scheduler.stats().running <= self.max_running
        chosen = {item.sequence for item in batch}
        assert all(one in chosen or one.state is State.PREEMPTED for one in decoding), "prefill held up a decode"
        for sequence, step in self.scheduler.update(batch, self.runner.step(batch)):
            self.outputs[sequence.id].append(step)
        self.check_blocks()
        self.check_order()
        return batch

    def check_order(self) -> None:
        """Who runs is older than who was preempted, and both are in the order of their first admission."""
        ran = [one for one in self.scheduler.live() if one.state is not State.WAITING]
        for one in ran:
            self.admitted.setdefault(one, len(self.admitted))
        assert ran == sorted(ran, key=self.admitted.__getitem__)

    def run(self, limit: int = 10_000) -> None:
        """Step until all have finished."""
        for _ in range(limit):
            if self.scheduler.is_idle:
                return
            self.step()
        raise AssertionError("sequences starve")

    def tokens(self, sequence: Sequence) -> list[int]:
        return [token_id for step in self.outputs[sequence.id] for token_id in step.token_ids]

    def reason(self, sequence: Sequence) -> FinishReason | None:
        *before, last = self.outputs[sequence.id]
        assert all(step.finish_reason is None for step in before), "something came after the end"
        return last.finish_reason

    def check_blocks(self) -> None:
        """No block leaked, and none shared but full ones that nobody writes any more."""
        holders: dict[int, list[Sequence]] = {}
        for sequence in self.scheduler.live():
            assert bool(sequence.block_table) == (sequence.state is State.RUNNING)
            assert len(set(sequence.block_table)) == len(sequence.block_table)
            assert (len(sequence.block_table) - 1) * self.runner.block_size < len(sequence.token_ids), "a draft's block"
            for index, block in enumerate(sequence.block_table):
                holders.setdefault(block, []).append(sequence)
                full = (index + 1) * self.runner.block_size <= sequence.num_computed
                assert full or self.kv_cache.pool.references(block) == 1, "a block that is still written is shared"
        for block in range(self.runner.num_blocks):
            assert self.kv_cache.pool.references(block) == len(holders.get(block, ()))
        assert self.kv_cache.pool.num_free == self.runner.num_blocks - len(holders)
