"""The scheduler: how sequences come in, run, wait and end."""

from __future__ import annotations

from typing import Any

import pytest

from minivault.engine.native.scheduler import Limits
from minivault.engine.native.sequence import Batch, SampledToken, State
from minivault.errors import ContextTooLong, InvalidRequest, Overloaded
from minivault.generation import FinishReason, TokenLogprob
from tests.engine.fakes import CONTEXT, Bench, FakeRunner, make_sequence, params, reference


def scripted(*answer: int) -> FakeRunner:
    """A runner that answers prompts of one token with these tokens."""
    return FakeRunner(choose=lambda prefix, _: answer[len(prefix) - 1])


def shape(batch: Batch) -> list[tuple[int, int]]:
    return [(item.start, item.count) for item in batch]


# -- how a sequence ends


def test_the_end_of_sequence_stops_and_is_not_part_of_the_answer() -> None:
    bench = Bench(scripted(5, 6, 3))
    one = bench.add([1])
    bench.run()
    assert (bench.tokens(one), bench.reason(one)) == ([5, 6], FinishReason.STOP)


def test_an_ignored_end_of_sequence_is_a_token_like_others() -> None:
    bench = Bench(scripted(5, 3, 6))
    one = bench.add([1], params(3, ignore_eos=True))
    bench.run()
    assert (bench.tokens(one), bench.reason(one)) == ([5, 3, 6], FinishReason.LENGTH)


def test_a_stop_id_stops_and_is_not_part_of_the_answer() -> None:
    bench = Bench(scripted(5, 7, 6))
    one = bench.add([1], params(stop_token_ids=(7,)))
    bench.run()
    assert (bench.tokens(one), bench.reason(one)) == ([5], FinishReason.STOP)


def test_nothing_stops_before_min_tokens() -> None:
    one_sampled = SampledToken(3)
    bench = Bench()
    one = bench.add([1], params(min_tokens=2))
    for _ in range(3):
        for sequence, step in bench.scheduler.update(bench.scheduler.schedule(), [[one_sampled]]):
            bench.outputs[sequence.id].append(step)
    assert (bench.tokens(one), bench.reason(one)) == ([3, 3], FinishReason.STOP)


def test_max_tokens_ends_with_length_in_the_step_of_the_last_token() -> None:
    bench = Bench(scripted(5, 6, 7))
    one = bench.add([1], params(2))
    bench.run()
    assert [(step.token_ids, step.finish_reason) for step in bench.outputs[one.id]] == [
        ((5,), None),
        ((6,), FinishReason.LENGTH),
    ]


def test_the_end_of_the_context_ends_with_length() -> None:
    bench = Bench(FakeRunner(choose=lambda prefix, sampling: 5))
    one = bench.add([1] * (CONTEXT - 2), params(100))
    bench.run()
    assert (bench.tokens(one), bench.reason(one)) == ([5, 5], FinishReason.LENGTH)


def test_logits_that_are_not_finite_fail_that_sequence_alone() -> None:
    bench = Bench()
    bad, good = bench.add([1] * 5), bench.add([2] * 5)
    bench.runner.infinite.add(bad.id)
    bench.run()
    assert bench.outputs[bad.id][-1].error == "The model produced numbers that are not finite."
    assert (bench.tokens(bad), bench.reason(bad)) == ([], FinishReason.FAILED)
    assert (bench.tokens(good), bench.reason(good)) == reference([2] * 5, params())


def test_nobody_builds_on_what_a_failed_sequence_computed() -> None:
    bench = Bench()
    bad = bench.add([1] * 9)
    bench.runner.infinite.add(bad.id)
    bench.run()
    again = bench.add([1] * 9)
    bench.run()
    assert again.num_cached == 0


def test_logprobs_come_with_their_tokens() -> None:
    bench = Bench(scripted(5, 6))
    one = bench.add([1], params(2, logprobs=0))
    bench.run()
    assert [step.logprobs for step in bench.outputs[one.id]] == [(TokenLogprob(5, -0.5),), (TokenLogprob(6, -0.5),)]


def test_a_finished_sequence_holds_nothing() -> None:
    bench = Bench()
    one = bench.add([1, 2, 3])
    bench.run()
    assert (one.state, one.block_table, one.sampler_state) == (State.FINISHED, [], None)
    assert bench.scheduler.stats().kv_cache_usage == 0


# -- what comes in


@pytest.mark.parametrize(
    ("prompt_length", "max_tokens", "param"),
    [(CONTEXT, 1, "prompt"), (CONTEXT + 9, 1, "prompt"), (30, 4, "max_tokens"), (33, 1, "max_tokens")],
)
def test_what_can_never_fit_is_refused_up_front(prompt_length: int, max_tokens: int, param: str) -> None:
    limits = Limits(context_length=CONTEXT, kv_tokens=32)
    with pytest.raises(ContextTooLong) as caught:
        limits.max_length(prompt_length, max_tokens)
    assert caught.value.param in {param, "prompt"}


def test_the_longest_that_fits_is_taken() -> None:
    assert Limits(context_length=48, kv_tokens=32).max_length(30, 3) == 33
    assert Limits(context_length=48, kv_tokens=64).max_length(47, 1) == 48
    assert Limits(context_length=48, kv_tokens=64).max_length(10, None) == 48


@pytest.mark.parametrize(("prompt_length", "max_tokens", "param"), [(0, 1, "prompt"), (1, 0, "max_tokens")])
def test_an_empty_prompt_and_no_answer_are_refused(prompt_length: int, max_tokens: int, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Limits(context_length=CONTEXT, kv_tokens=32).max_length(prompt_length, max_tokens)
    assert caught.value.param == param


def test_a_full_queue_refuses_and_takes_again_when_one_has_ended() -> None:
    bench = Bench(max_running=1, max_waiting=1)
    bench.add([1])
    second = bench.add([2])
    with pytest.raises(Overloaded) as caught:
        bench.add([3])
    assert caught.value.retry_after
    bench.cancel(second)
    bench.add([3])


def test_without_a_queue_an_idle_engine_still_takes_what_it_can_run() -> None:
    bench = Bench(max_running=2, max_waiting=0)
    bench.add([1])
    bench.add([2])
    with pytest.raises(Overloaded):
        bench.add([3])


def test_a_small_budget_of_a_step_lets_fewer_run_and_as_many_in() -> None:
    bench = Bench(max_batch_tokens=2, max_running=4, max_waiting=1)
    several = [bench.add([n]) for n in range(5)]
    with pytest.raises(Overloaded):
        bench.add([5])
    bench.run()
    assert all(bench.reason(one) for one in several)


def test_pooled_sequences_take_no_room() -> None:
    bench = Bench(max_running=1, max_waiting=0)
    pooled = [make_sequence([n], params(1)) for n in range(5)]
    for one in pooled:
        one.pooling = "mean"
        bench.outputs[one.id] = []
    for one in pooled[:4]:
        bench.scheduler.add(one)
    bench.add([5])
    bench.scheduler.add(pooled[4])
    bench.cancel(pooled[0])
    with pytest.raises(Overloaded):
        bench.add([6])
    bench.run()
    bench.add([7])


@pytest.mark.parametrize("field", ["context_length", "kv_tokens", "max_batch_tokens", "max_running"])
def test_limits_of_nothing_are_refused(field: str) -> None:
    given: dict[str, Any] = {"context_length": 8, "kv_tokens": 8, field: 0}
    with pytest.raises(ValueError, match=field):
        Limits(**given)


# -- who runs


def test_a_long_prompt_is_cut_to_the_budget_and_sampled_at_its_end() -> None:
    bench = Bench(max_batch_tokens=16)
    bench.add(list(range(8)) * 5, params(1))
    assert [shape(bench.step()) for _ in range(3)] == [[(0, 16)], [(16, 16)], [(32, 8)]]


def test_decode_comes_first_and_prefill_gets_the_rest() -> None:
    bench = Bench(max_batch_tokens=16)
    bench.add([1, 2], params(8, ignore_eos=True))
    bench.step()
    bench.add([4] * 40)
    assert shape(bench.step()) == [(2, 1), (0, 15)]


def test_a_long_prompt_of_one_key_does_not_hold_up_the_short_one_of_another() -> None:
    bench = Bench(max_batch_tokens=16)
    bench.add([4] * 40, key="long")
    bench.step()
    short = bench.add([5] * 4, params(1), key="short")
    shapes = [shape(bench.step()) for _ in range(2)]
    assert shapes == [[(16, 16)], [(0, 4), (32, 8)]]
    assert short.is_finished


def test_keys_are_admitted_in_turn_whoever_came_first() -> None:
    bench = Bench(max_running=1)
    order: list[str] = []
    flood = [bench.add([1, n], params(1), key="flood") for n in range(4)]
    single = bench.add([2], params(1), key="single")
    while not bench.scheduler.is_idle:
        order += [item.sequence.fairness_key for item in bench.step()]
    assert order == ["flood", "single", "flood", "flood", "flood"]
    assert all(one.is_finished for one in (*flood, single))


def test_one_that_waits_for_memory_is_not_overtaken_by_smaller_ones() -> None:
    bench = Bench(FakeRunner(num_blocks=8))
    bench.add([1] * 16, params(4, ignore_eos=True))
    bench.step()
    large, small = bench.add([2] * 24, params(1), key="large"), bench.add([5], params(1), key="small")
    while not large.is_finished:
        bench.step()
        assert large.is_finished or not small.is_finished


def test_a_later_one_finds_the_prefix_that_an_earlier_one_computed() -> None:
    bench = Bench(max_batch_tokens=16)
    first, second = bench.add([4] * 33), bench.add([4] * 33)
    bench.run()
    assert (first.num_cached, second.num_cached) == (0, 32)
    stats = bench.scheduler.stats()
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits, stats.prompt_tokens) == (66, 32, 66)


def test_the_youngest_gives_its_blocks_to_the_oldest_and_computes_again() -> None:
    bench = Bench(FakeRunner(num_blocks=8), prefix_cache=False)
    old, young = (bench.add([n] * 11, params(12, ignore_eos=True)) for n in (1, 2))
    while bench.scheduler.stats().preemptions == 0:
        bench.step()
    assert (old.state, young.state, young.block_table) == (State.RUNNING, State.PREEMPTED, [])
    bench.run()
    for one, prompt in ((old, [1] * 11), (young, [2] * 11)):
        assert (bench.tokens(one), bench.reason(one)) == reference(prompt, params(12, ignore_eos=True))


def test_of_two_that_were_preempted_the_older_comes_back_first() -> None:
    bench = Bench(FakeRunner(num_blocks=12), prefix_cache=False)
    _, middle, young = (bench.add([n] * 11, params(24, ignore_eos=True)) for n in (1, 2, 4))
    while middle.state is not State.PREEMPTED:
        bench.step()
    assert young.state is State.PREEMPTED
    while middle.state is State.PREEMPTED:
        assert young.state is State.PREEMPTED
        bench.step()
    bench.run()


def test_nobody_new_is_admitted_while_a_preempted_one_waits() -> None:
    bench = Bench(FakeRunner(num_blocks=8), prefix_cache=False)
    for n in (1, 2):
        bench.add([n] * 11, params(12, ignore_eos=True))
    while bench.scheduler.stats().preemptions == 0:
        bench.step()
    newcomer = bench.add([7], params(1))
    while bench.scheduler.stats().waiting == 2:
        bench.step()
        assert newcomer.state is State.WAITING or bench.scheduler.stats().waiting < 2


def test_a_newcomer_leaves_those_who_run_a_block_each_to_grow_into() -> None:
    bench = Bench(FakeRunner(num_blocks=8))
    bench.add([1] * 12, params(8, ignore_eos=True))
    bench.step()  # it holds three blocks of four tokens, and four from the next step on
    larger = bench.add([2] * 16, params(1))
    bench.step()
    assert larger.state is State.WAITING
    bench.cancel(larger)
    smaller = bench.add([2] * 12, params(1))
    bench.step()
    assert smaller.is_finished


# -- cancel


def test_cancel_ends_a_sequence_wherever_it_is_and_frees_its_blocks_at_once() -> None:
    bench = Bench(FakeRunner(num_blocks=8), max_running=2, prefix_cache=False)
    old, young = (bench.add([n] * 11, params(12, ignore_eos=True)) for n in (1, 2))
    waiting = bench.add([3])
    while bench.scheduler.stats().preemptions == 0:
        bench.step()
    assert [one.state for one in (old, young, waiting)] == [State.RUNNING, State.PREEMPTED, State.WAITING]
    for one in (young, old, waiting):
        bench.cancel(one)
        assert bench.reason(one) is FinishReason.CANCELLED
        bench.check_blocks()
    assert bench.scheduler.is_idle
    assert bench.scheduler.stats().kv_cache_usage == 0


def test_cancel_in_the_middle_of_prefill_frees_its_blocks_at_once() -> None:
    bench = Bench(max_batch_tokens=16)
    one = bench.add([4] * 40)
    bench.step()
    assert 0 < one.num_computed < 40
    bench.cancel(one)
    assert bench.scheduler.stats().kv_cache_usage == 0


def test_cancel_between_schedule_and_update_drops_the_token() -> None:
    bench = Bench()
    one = bench.add([1])
    batch = bench.scheduler.schedule()
    bench.cancel(one)
    assert bench.scheduler.update(batch, [[SampledToken(5)]]) == []


def test_cancel_after_the_end_does_nothing() -> None:
    bench = Bench()
    one = bench.add([1], params(1))
    bench.run()
    assert bench.scheduler.cancel(one) is None


# -- a runner that breaks its contract


def test_a_token_that_is_missing_is_an_error() -> None:
    bench = Bench()
    bench.add([1])
    with pytest.raises(RuntimeError, match="no token"):
        bench.scheduler.update(bench.scheduler.schedule(), [[]])


def test_more_tokens_than_items_are_an_error() -> None:
    bench = Bench()
    bench.add([1])
    with pytest.raises(ValueError, match="zip"):
        bench.scheduler.update(bench.scheduler.schedule(), [[SampledToken(5)], []])


def test_more_samples_than_were_drafted_are_an_error() -> None:
    bench = Bench()
    bench.add([1])
    with pytest.raises(RuntimeError, match="more than were drafted"):
        bench.scheduler.update(bench.scheduler.schedule(), [[SampledToken(5), SampledToken(6)]])


# -- no starvation while others keep coming


def test_a_long_sequence_ends_under_an_endless_flow_of_short_ones_of_new_keys() -> None:
    bench = Bench(FakeRunner(num_blocks=16), max_batch_tokens=8, max_running=4, prefix_cache=False)
    one = bench.add([4] * 40, params(8, ignore_eos=True), key="patient")
    for number in range(100):
        if one.is_finished:
            break
        while bench.scheduler.stats().waiting < 2:
            bench.add([5] * 8, params(1), key=f"{number} {bench.scheduler.stats().waiting}")
        bench.step()
    assert one.is_finished
