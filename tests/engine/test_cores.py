"""Compute threads that give way: in long rounds, while others wait for a core, and not for ever; no bit changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minivault.engine.engine import EngineRequest
from minivault.engine.native import _native
from minivault.engine.native.cores import give_way
from minivault.engine.native.runner import RunnerOptions
from minivault.generation import SamplingParams
from tests.engine.checkpoints import engine

LONG = RunnerOptions(kernels="scalar", threads=1, max_batch_tokens=4096)
"""Rounds of this engine over a prompt take tens of milliseconds."""
ANSWER = SamplingParams(max_tokens=24, temperature=0.9, seed=3, ignore_eos=True)


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    give_way(False)
    yield
    give_way(False)


async def tokens(options: RunnerOptions, *prompts: range, sampling: SamplingParams = ANSWER) -> list[int]:
    native = engine("llama-gqa", options, prefix_cache=False)
    try:
        found: list[int] = []
        for prompt in prompts:
            stream = native.submit(EngineRequest("r", tuple(token % 256 for token in prompt), sampling))
            found += [token async for step in stream for token in step.token_ids]
        return found
    finally:
        await native.close()


def given(before: int) -> int:
    return before - _native.ways_left()


@pytest.mark.anyio
async def test_long_rounds_give_way_while_others_wait() -> None:
    one = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    give_way(True)
    at_first = _native.ways_left()
    await tokens(LONG, range(250), range(90, 340), sampling=one)
    assert given(at_first) > 0


@pytest.mark.anyio
async def test_they_do_not_once_nobody_waits_any_more() -> None:
    one = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    give_way(True)
    give_way(False)
    await tokens(LONG, range(250), range(90, 340), sampling=one)
    assert _native.ways_left() == 0


@pytest.mark.anyio
async def test_giving_way_changes_no_token() -> None:
    alone = await tokens(LONG, range(200), range(40))
    give_way(True)
    assert await tokens(LONG, range(200), range(40)) == alone
    assert await tokens(RunnerOptions(threads=3), range(200), range(40)) == alone
    assert len(alone) == 48
