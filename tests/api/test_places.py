"""Places in the queue, over HTTP: one key does not take them all, and what never fits is the request's fault."""

from __future__ import annotations

import asyncio

from minivault.service import ServiceLimits
from tests.api.batch_server import chat
from tests.api.keyed import keyed_client
from tests.fakes import Bench, make_bench, says, until


def small() -> Bench:
    return make_bench(says("Yes."), template=True, limits=ServiceLimits(max_running=2, max_waiting=4))


async def test_one_key_does_not_hold_up_anothers_single_request() -> None:
    bench = small()
    bench.engine.hold_after = 0
    async with keyed_client(bench) as (client, keys):

        async def status(key: str) -> int:
            return (await client.post("/generate", json={"prompt": "a"}, headers=keys.headers(key))).status_code

        many = [asyncio.ensure_future(status("user")) for _ in range(8)]
        await until(lambda: len(bench.engine.requests) == 5 and sum(task.done() for task in many) == 3)
        single = asyncio.ensure_future(status("other"))
        await until(lambda: len(bench.engine.requests) == 6)
        bench.engine.release()
        assert sorted(await asyncio.gather(*many)) == [200] * 5 + [503] * 3
        assert await single == 200


async def test_more_choices_than_there_are_places_name_their_field_and_its_bound() -> None:
    async with keyed_client(small()) as (client, keys):
        answer = await client.post("/v1/chat/completions", json=chat(n=8), headers=keys.headers("user"))
        error = answer.json()["error"]
    assert (answer.status_code, error["param"], "retry-after" in answer.headers) == (422, "n", False)
    assert error["message"] == "n: prompts times n may be 5 at most on this server"
