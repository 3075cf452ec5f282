"""Drafts of the scheduler: what they may take, what of them stays, and that they change no token."""

from __future__ import annotations

from minivault.engine.native.sequence import Batch, SampledToken, State
from minivault.generation import FinishReason
from tests.engine.fakes import CONTEXT, Bench, FakeRunner, params


def period(*cycle: int) -> FakeRunner:
    """A runner that says the same again and again, whatever the prompt."""
    return FakeRunner(choose=lambda prefix, _: cycle[len(prefix) % len(cycle)])


def drafting(bench: Bench, *, at_least: int = 1) -> Batch:
    """Step until a batch holds drafts of so many tokens; returns it before it runs."""
    for _ in range(CONTEXT):
        batch = bench.scheduler.schedule()
        if sum(len(item.draft) for item in batch) >= at_least:
            return batch
        for sequence, step in bench.scheduler.update(batch, bench.runner.step(batch)):
            bench.outputs[sequence.id].append(step)
    raise AssertionError("nothing was drafted")


def test_text_that_repeats_takes_fewer_steps_and_is_the_same() -> None:
    sampling = params(40, ignore_eos=True, logprobs=0)
    bench = Bench(period(5, 6, 7))
    one = bench.add([1], sampling)
    bench.run()
    assert bench.tokens(one) == [(5, 6, 7)[n % 3] for n in range(1, 41)]
    assert [entry.token_id for step in bench.outputs[one.id] for entry in step.logprobs] == bench.tokens(one)
    assert len(bench.outputs[one.id]) <= 40 / 2
    stats = bench.scheduler.stats()
    assert stats.generation_tokens == 40
    assert 0 < stats.spec_decode_num_drafts < stats.spec_decode_num_draft_tokens
    assert len(bench.outputs[one.id]) == 40 - stats.spec_decode_num_accepted_tokens


def test_an_end_in_the_middle_of_a_draft_drops_what_follows() -> None:
    bench = Bench(period(5, 6))
    one = bench.add([1], params(40, ignore_eos=True, stop_token_ids=(9,)))
    item = drafting(bench, at_least=4)[0]
    before = len(one.token_ids)
    sampled = [SampledToken(item.draft[0]), SampledToken(9), SampledToken(item.draft[2])]
    ((_, step),) = bench.scheduler.update([item], [sampled])
    assert (step.token_ids, step.finish_reason) == ((item.draft[0],), FinishReason.STOP)
    assert len(one.token_ids) == before + 1


def test_numbers_that_are_not_finite_in_the_middle_of_a_draft_fail_behind_what_was_sound() -> None:
    bench = Bench(period(5, 6))
    one = bench.add([1], params(40, ignore_eos=True))
    bench.runner.infinite.add(one.id)
    bench.runner.infinite_after = 17
    bench.run()
    assert (len(bench.tokens(one)), bench.reason(one)) == (17, FinishReason.FAILED)
    assert bench.outputs[one.id][-1].token_ids, "it failed at the beginning of a step"


def test_a_draft_ends_before_the_sequence_must() -> None:
    bench = Bench(period(5, 6), max_batch_tokens=64)
    one = bench.add([5, 6] * 20, params(3, ignore_eos=True))
    bench.step()
    (item,) = bench.scheduler.schedule()
    assert (one.num_generated, len(item.draft)) == (1, 1)


def test_drafts_take_free_blocks_alone_and_without_one_a_sequence_just_decodes() -> None:
    bench = Bench(FakeRunner(num_blocks=7, choose=period(5, 6).choose), max_batch_tokens=64, prefix_cache=False)
    one, other = (bench.add([5, 6] * 5 + [5], params(8, ignore_eos=True)) for _ in range(2))
    bench.step()  # each fills three blocks of four tokens; one more is free
    assert [len(item.draft) for item in bench.scheduler.schedule()] == [2, 0]
    assert (one.state, other.state) == (State.RUNNING, State.RUNNING)


def test_the_blocks_of_a_rejected_draft_are_free_again() -> None:
    bench = Bench(period(5, 6))
    one = bench.add([5, 6] * 6, params(30, ignore_eos=True))
    bench.step()
    (item,) = bench.scheduler.schedule()
    held = len(one.block_table)
    assert held * bench.runner.block_size >= len(one.token_ids) + len(item.draft)
    bench.scheduler.update([item], [[SampledToken(9)]])
    assert (one.num_computed, len(one.token_ids)) == (13, 14)
    bench.check_blocks()


def test_drafts_share_the_rows_that_decoding_leaves() -> None:
    bench = Bench(period(5, 6), max_batch_tokens=64, max_decode_rows=8)
    for _ in range(3):
        bench.add([5, 6] * 5, params(30, ignore_eos=True))
    assert sorted(len(item.draft) for item in drafting(bench, at_least=5)) == [1, 2, 2]


def test_where_all_rows_are_taken_nothing_is_drafted() -> None:
    bench = Bench(period(5, 6), max_decode_rows=3)
    for _ in range(3):
        bench.add([5, 6] * 2, params(20, ignore_eos=True))
    bench.run()
    assert (bench.scheduler.stats().generation_tokens, bench.scheduler.stats().spec_decode_num_drafts) == (60, 0)


def test_prefill_keeps_most_of_the_budget_from_drafts() -> None:
    bench = Bench(period(5, 6), max_batch_tokens=16)
    one = bench.add([5, 6] * 4, params(40, ignore_eos=True), key="decodes")
    while one.num_generated < 12:
        bench.step()
    bench.add([4] * 40, key="prefills")
    assert [(item.count, len(item.draft)) for item in bench.scheduler.schedule()] == [(1, 3), (12, 0)]


def test_a_sequence_with_a_constraint_gets_no_drafts() -> None:
    class Anything:
        is_complete = False
        is_broken = False

        def mask(self) -> bytes:
            return b""

        def accept(self, token_id: int) -> bool:
            return True

    bench = Bench(period(5, 6))
    one = bench.add([1], params(30, ignore_eos=True))
    one.constraint = Anything()
    bench.run()
    assert len(bench.tokens(one)) == 30
    assert bench.scheduler.stats().spec_decode_num_drafts == 0
