"""Whatever comes, in whatever order: the scheduler gives each sequence the tokens that it would have alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from minivault.generation import SamplingParams
from tests.engine.fakes import Bench, FakeRunner, choose, choose_looping, params, reference

prompts = st.one_of(
    st.integers(1, 26).map(lambda length: [1] * length),
    st.lists(st.integers(0, 2), min_size=1, max_size=26),
)
"""Few different tokens, so that prefixes are shared often; and many of one kind, so that whole prompts are."""

sampling = st.builds(
    params,
    max_tokens=st.integers(1, 14),
    min_tokens=st.integers(0, 4),
    seed=st.integers(0, 3),
    ignore_eos=st.booleans(),
    stop_token_ids=st.sampled_from([(), (5,), (5, 9)]),
)

jobs = st.tuples(prompts, sampling, st.sampled_from(["a", "b", "c"]))

benches = st.builds(
    lambda num_blocks, block_size, choose, **given: Bench(FakeRunner(num_blocks, block_size, choose), **given),
    num_blocks=st.integers(10, 24),
    block_size=st.sampled_from([4, 5, 8]),
    choose=st.sampled_from([choose, choose_looping]),
    max_batch_tokens=st.integers(1, 24),
    max_running=st.integers(1, 6),
    prefix_cache=st.booleans(),
    max_decode_rows=st.sampled_from([0, 4, 16]),
)


@settings(max_examples=300)
@given(bench=benches, work=st.lists(st.tuples(jobs, st.integers(0, 5)), min_size=1, max_size=8))
def test_tokens_do_not_depend_on_company_arrival_chunks_memory_cache_or_speculation(
    bench: Bench, work: list[tuple[tuple[list[int], SamplingParams, str], int]]
) -> None:
    added = []
    for (prompt, chosen, key), steps_before in work:
        for _ in range(steps_before):
            if not bench.scheduler.is_idle:
                bench.step()
        added.append((bench.add(prompt, chosen, key=key), prompt, chosen))
    bench.run()
    for one, prompt, chosen in added:
        assert (bench.tokens(one), bench.reason(one)) == reference(prompt, chosen, choose=bench.runner.choose)
    assert bench.scheduler.stats().kv_cache_usage == 0


class SchedulerMachine(RuleBasedStateMachine):
    """Anything in any order: come, cancel, step. ``Bench`` checks budget, decodes and blocks in every step."""

    live = Bundle("live")

    @initialize(bench=benches)
    def begin(self, bench: Bench) -> None:
        self.bench = bench

    @rule(target=live, job=jobs)
    def add(self, job: tuple[list[int], SamplingParams, str]) -> object:
        prompt, chosen, key = job
        return self.bench.add(prompt, chosen, key=key), prompt, chosen

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            if not self.bench.scheduler.is_idle:
                self.bench.step()

    @rule(one=consumes(live))
    def cancel(self, one: tuple[Any, list[int], SamplingParams]) -> None:
        sequence, prompt, chosen = one
        held = len(sequence.block_table)
        free = self.bench.kv_cache.pool.num_free
        shared = sum(self.bench.kv_cache.pool.references(block) > 1 for block in sequence.block_table)
        self.bench.cancel(sequence)
        assert self.bench.kv_cache.pool.num_free == free + held - shared
        self.bench.check_blocks()
        answer, _ = reference(prompt, chosen, choose=self.bench.runner.choose)
        told = self.bench.tokens(sequence)
        assert told == answer[: len(told)]

    @rule(one=consumes(live))
    def finish(self, one: tuple[Any, list[int], SamplingParams]) -> None:
        sequence, prompt, chosen = one
        for _ in range(3_000):
            if sequence.is_finished:
                break
            self.bench.step()
        expected = reference(prompt, chosen, choose=self.bench.runner.choose)
        assert (self.bench.tokens(sequence), self.bench.reason(sequence)) == expected

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.run()
            assert self.bench.scheduler.stats().kv_cache_usage == 0


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=80, stateful_step_count=30)
