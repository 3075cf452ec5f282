"""A model of other servers that leads back to this one."""

from __future__ import annotations

from minivault import circle
from tests.api.client import client_of
from tests.engine.remote import engine_for, hear
from tests.engine.upstream import says, serving
from tests.fakes import make_bench


async def test_a_request_that_has_come_through_this_server_is_refused() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        answers = [
            await client.post("/v1/completions", json={"model": "fake", "prompt": "hi"}, headers={circle.HEADER: told})
            for told in ("0123456789abcdef", f"0123456789abcdef,{circle.onward()}", '"; x', "")
        ]
    assert [answer.status_code for answer in answers] == [200, 508, 200, 200]
    assert answers[1].json()["error"]["code"] == "remote_circle"
    assert len(bench.ledger.intents) == 3


async def test_servers_behind_are_told_which_servers_a_request_has_come_through() -> None:
    before = [f"{number:016x}" for number in range(20)]
    async with serving(says("a")) as upstream, engine_for(upstream) as engine:
        await hear(engine)
        circle.enter(",".join(before))
        await hear(engine)
        circle.enter("")
        told = [one.headers[circle.HEADER] for one in upstream.asked if one.method == "POST"]
    own = circle.onward()
    assert told == [own, ",".join([*before[-7:], own])]
