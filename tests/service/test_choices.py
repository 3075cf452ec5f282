"""Several answers to one request: calls of their own, all or none of them begun, read as one."""

from __future__ import annotations

import asyncio

import pytest

from minivault.access.caller import Caller
from minivault.access.limits import Limits, Quota
from minivault.access.windows import MemoryWindows
from minivault.errors import EngineFailed, InvalidRequest, Overloaded
from minivault.generation import GenerationRequest, SamplingParams
from minivault.service import ServiceLimits, spread
from tests.access.clock import Clock
from tests.fakes import breaks_after, make_bench, says, until

CALLER = Caller("10.0.0.1")


def asked(**fields: object) -> GenerationRequest:
    request = GenerationRequest(prompt="hi", request_id="r", sampling=SamplingParams(seed=7))
    return GenerationRequest(**{name: getattr(request, name) for name in ("prompt", "request_id", "sampling")} | fields)


def test_choices_have_ids_and_seeds_that_follow_from_the_first() -> None:
    choices = spread(asked(), 3)
    assert [(one.request_id, one.sampling.seed, one.choice) for one in choices] == [
        ("r", 7, 0),
        ("r.1", 8, 1),
        ("r.2", 9, 2),
    ]


def test_the_last_seed_is_followed_by_the_first() -> None:
    last = SamplingParams(seed=2**63 - 1)
    assert spread(asked(sampling=last), 2)[1].sampling.seed == 0


def test_the_body_of_a_request_is_kept_with_its_first_choice_alone() -> None:
    prompts = [asked(raw_request=b"{}"), asked(raw_request=b"{}")]
    choices = [choice for place, one in enumerate(prompts) for choice in spread(one, 2, first=2 * place)]
    assert [one.raw_request for one in choices] == [b"{}", b"", b"", b""]


async def test_each_choice_is_what_its_seed_gives_alone_and_a_call_of_its_own() -> None:
    bench = make_bench()
    choices = await bench.service.open_all(spread(asked(), 3), CALLER)
    answers = [completion.response for completion in await choices.result()]
    alone = [
        (await bench.service.generate(asked(sampling=SamplingParams(seed=seed)), CALLER)).response for seed in (7, 8, 9)
    ]
    assert answers == alone
    assert [intent.request_id for intent in bench.ledger.intents[:3]] == ["r", "r.1", "r.2"]
    assert [intent.parameters.get("choice", 0) for intent in bench.ledger.intents[:3]] == [0, 1, 2]


async def test_the_pieces_of_all_choices_come_in_turn_and_join_to_their_answers() -> None:
    bench = make_bench(says("abcdef"))
    choices = await bench.service.open_all(spread(asked(stream=True), 3), CALLER)
    pieces = [chunk async for chunk in choices.chunks()]
    choices.close()
    for choice in range(3):
        assert "".join(chunk.text for chunk in pieces if chunk.choice == choice) == "abcdef"
    assert {chunk.choice for chunk in pieces[:6]} == {0, 1, 2}
    assert sum(chunk.completion is not None for chunk in pieces) == 3


async def test_when_one_choice_fails_the_others_are_cancelled_and_all_are_on_the_record() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.answer = lambda request: (breaks_after("x") if request.request_id == "r.1" else says("a" * 50))(
        request
    )
    choices = await bench.service.open_all(spread(asked(), 3), CALLER)
    with pytest.raises(EngineFailed):
        await choices.result()
    assert sorted(outcome.finish_reason for outcome in bench.ledger.outcomes) == ["cancelled", "cancelled", "failed"]


async def test_leaving_a_stream_of_choices_records_each_as_cancelled() -> None:
    bench = make_bench(says("a" * 50))
    choices = await bench.service.open_all(spread(asked(stream=True), 2), CALLER)
    async for _ in choices.chunks():
        choices.abandon()
    choices.close()
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["cancelled", "cancelled"]


async def test_more_choices_than_there_is_room_for_are_all_refused() -> None:
    bench = make_bench(limits=ServiceLimits(max_running=2, max_waiting=1))
    held = await bench.service.open(asked(), CALLER)
    with pytest.raises(Overloaded):
        await bench.service.open_all(spread(asked(), 3), CALLER)
    held.close()
    await until(lambda: bench.service.open_calls == 0)
    assert len(bench.ledger.intents) == 1
    assert len(await (await bench.service.open_all(spread(asked(), 3), CALLER)).result()) == 3


@pytest.mark.parametrize(("key", "most"), [(None, 6), ("a key", 5)])
async def test_more_choices_than_there_are_places_for_one_client_are_refused_for_good(
    key: str | None, most: int
) -> None:
    bench = make_bench(limits=ServiceLimits(max_running=2, max_waiting=4))
    with pytest.raises(InvalidRequest, match=f"^n: .* {most} at most") as refused:
        await bench.service.open_all(spread(asked(), most + 1), Caller("local", api_key_id=key))
    assert (refused.value.param, refused.value.retry_after, bench.ledger.intents) == ("n", None, [])
    assert len(await (await bench.service.open_all(spread(asked(), most), CALLER)).result()) == most


async def test_choices_whose_prompts_are_never_in_the_line_together_are_refused_for_good() -> None:
    bench = make_bench(limits=ServiceLimits(max_waiting_tokens=16))  # a prompt is 3, and 2 are kept
    with pytest.raises(InvalidRequest, match="15 tokens, of 14") as refused:
        await bench.service.open_all(spread(asked(), 5), Caller("local", api_key_id="a key"))
    assert (refused.value.param, bench.ledger.intents, bench.models.leases) == ("n", [], 0)
    assert len(await (await bench.service.open_all(spread(asked(), 4), CALLER)).result()) == 4


async def test_choices_that_a_window_could_never_hold_together_are_refused_for_good() -> None:
    """Each alone would fit, and to wait would not help."""
    bench, limits = make_bench(), Limits(MemoryWindows(Clock()))
    caller = Caller("10.0.0.1", quota=Quota.of(limits, "10.0.0.1", "", "100/day"))
    small = asked(sampling=SamplingParams(max_tokens=20))
    with pytest.raises(InvalidRequest, match="100 in 86400 seconds"):
        await bench.service.open_all(spread(small, 20), caller)
    assert bench.ledger.intents == []
    assert len(await (await bench.service.open_all(spread(small, 4), caller)).result()) == 4  # nothing is kept of them


async def test_one_request_that_fails_its_checks_keeps_all_from_beginning() -> None:
    bench = make_bench()
    good = spread(asked(), 2)
    with pytest.raises(InvalidRequest):
        await bench.service.open_all([*good, asked(sampling=SamplingParams(max_tokens=5000))], CALLER)
    assert bench.ledger.intents == []


async def test_a_ledger_that_fails_for_one_choice_cancels_those_that_began() -> None:
    bench = make_bench()
    bench.ledger.faults = ["intent"]
    with pytest.raises(Exception, match="durable"):
        await bench.service.open_all(spread(asked(), 2), CALLER)
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["cancelled"]


async def test_two_cancellations_leave_no_choice_open() -> None:
    bench = make_bench()
    bench.ledger.hold = True
    opening = asyncio.ensure_future(bench.service.open_all(spread(asked(), 2), CALLER))
    await until(lambda: len(bench.ledger.intents) == 2)
    bench.ledger.release(1)
    await until(lambda: bench.service.open_calls == 1)
    opening.cancel()
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    bench.ledger.release()
    await until(lambda: len(bench.ledger.outcomes) == 2)
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["cancelled", "cancelled"]
    assert all(stream.cancelled for stream in bench.engine.streams)
