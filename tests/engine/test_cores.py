"""Compute threads that give way: while others wait for a core, and for no longer than they do; no bit changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minivault.engine.engine import EngineRequest
from minivault.engine.native.cores import give_way
from minivault.engine.native.runner import RunnerOptions
from minivault.generation import SamplingParams
from tests.engine.checkpoints import engine

SAMPLING = SamplingParams(max_tokens=24, temperature=0.9, seed=3, ignore_eos=True)
REQUEST = EngineRequest("r", tuple(range(40)), SAMPLING)


@pytest.fixture
def others_wait() -> Iterator[None]:
    give_way(True)
    yield
    give_way(False)


async def tokens() -> tuple[int, ...]:
    native = engine("llama-gqa", RunnerOptions(threads=2))
    try:
        return tuple([token async for step in native.submit(REQUEST) for token in step.token_ids])
    finally:
        await native.close()


@pytest.mark.usefixtures("others_wait")
@pytest.mark.anyio
async def test_the_engine_goes_on_while_others_wait_for_a_core_for_ever() -> None:
    assert len(await tokens()) == 24


@pytest.mark.anyio
async def test_giving_way_changes_no_token() -> None:
    give_way(True)
    hurried = await tokens()
    give_way(False)
    assert hurried == await tokens()
