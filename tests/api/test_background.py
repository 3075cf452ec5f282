"""Responses in the background: asked for by their ids, cancelled by them, and bounded like all others."""

from __future__ import annotations

from typing import Any

import httpx2

from minivault.access.roles import Role
from minivault.api.app import create_app
from minivault.settings import Settings
from tests.api.client import BASE, client_of
from tests.api.keyed import keyed_client
from tests.fakes import Bench, breaks_after, make_bench, says, until

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "fake", "input": "hi", "background": True}


def held(answer: Any = None) -> Bench:
    """An engine that makes one step, and goes on when it is told to."""
    bench = make_bench(answer or says("héllo"), template=True)
    bench.engine.hold_after = 1
    return bench


async def ended(client: httpx2.AsyncClient, response_id: str, **headers: str) -> dict[str, Any]:
    while (body := (await client.get(f"{PATH}/{response_id}", headers=headers)).json())["status"] == "in_progress":
        pass
    return dict(body)


async def test_it_is_answered_at_once_and_found_whole_when_it_has_ended() -> None:
    bench = held()
    async with client_of(bench) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        assert (begun["status"], begun["background"], begun["output"]) == ("in_progress", True, [])
        assert (await client.get(f"{PATH}/{begun['id']}")).json() | {"created_at": 0} == begun | {"created_at": 0}
        bench.engine.release()
        body = await ended(client, begun["id"])
    assert (body["status"], body["output"][0]["content"][0]["text"]) == ("completed", "héllo")
    assert bench.outcome.finish_reason == "stop"
    assert bench.models.leases == 0


async def test_a_cancelled_one_stops_its_engine_and_is_on_record_and_can_be_cancelled_again() -> None:
    bench = held()
    async with client_of(bench) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        first = await client.post(f"{PATH}/{begun['id']}/cancel")
        second = await client.post(f"{PATH}/{begun['id']}/cancel")
    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    assert second.json() == first.json()
    assert bench.engine.streams[0].cancelled
    assert bench.outcome.finish_reason == "cancelled"


async def test_one_that_has_ended_stays_as_it_is() -> None:
    bench = make_bench(says("héllo"), template=True)
    async with client_of(bench) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        whole = await ended(client, begun["id"])
        assert (await client.post(f"{PATH}/{begun['id']}/cancel")).json() == whole


async def test_others_are_not_cancelled_by_their_ids() -> None:
    async with client_of(make_bench(template=True)) as client:
        made = (await client.post(PATH, json=ASK | {"background": False})).json()
        refused = await client.post(f"{PATH}/{made['id']}/cancel")
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "response_id")
        assert (await client.post(f"{PATH}/resp_none/cancel")).status_code == 404


async def test_one_that_breaks_has_failed_and_says_so() -> None:
    bench = make_bench(breaks_after("part"), template=True)
    async with client_of(bench) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        body = await ended(client, begun["id"])
    assert (body["status"], body["error"]["code"], body["output"]) == ("failed", "server_error", [])


async def test_nothing_goes_on_from_one_that_did_not_end_well() -> None:
    async with client_of(held()) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        await client.post(f"{PATH}/{begun['id']}/cancel")
        refused = await client.post(PATH, json=ASK | {"previous_response_id": begun["id"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "previous_response_id")


async def test_deleting_one_that_runs_stops_and_erases_it() -> None:
    bench = held()
    async with client_of(bench) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        assert (await client.delete(f"{PATH}/{begun['id']}")).json()["deleted"] is True
        assert (await client.get(f"{PATH}/{begun['id']}")).status_code == 404
    assert bench.outcome.finish_reason == "cancelled"
    assert bench.ledger.erasures[0].intents == (0,)


async def test_it_keeps_its_place_among_those_of_its_key_until_it_ends() -> None:
    bench = held()
    async with keyed_client(bench) as (client, keys):
        keys.add("one", concurrent=1)
        mine = keys.headers("one")
        begun = (await client.post(PATH, json=ASK, headers=mine)).json()
        refused = await client.post(PATH, json=ASK, headers=mine)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
        # To cancel takes no place, and gives that of what ran back.
        assert (await client.post(f"{PATH}/{begun['id']}/cancel", headers=mine)).status_code == 200
        bench.engine.release()
        assert (await client.post(PATH, json=ASK, headers=mine)).status_code == 200


async def test_another_key_neither_sees_nor_cancels_it() -> None:
    bench = held()
    async with keyed_client(bench) as (client, keys):
        begun = (await client.post(PATH, json=ASK, headers=keys.headers(Role.USER))).json()
        for method, path in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel")):
            answer = await client.request(method, f"{PATH}/{begun['id']}{path}", headers=keys.headers("other"))
            assert answer.status_code == 404
        assert not bench.engine.streams[0].cancelled
        await client.post(f"{PATH}/{begun['id']}/cancel", headers=keys.headers(Role.USER))


async def test_a_key_of_which_nothing_is_kept_has_none() -> None:
    bench = held()
    async with keyed_client(bench) as (client, keys):
        keys.add("discreet", store=False)
        refused = await client.post(PATH, json=ASK, headers=keys.headers("discreet"))
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "background")
    assert bench.ledger.intents == []


async def test_a_server_that_shuts_down_ends_it_with_an_outcome() -> None:
    bench = held()
    app = create_app(Settings(rate_limit="", shutdown_timeout=0), service=bench.service)
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        begun = (await client.post(PATH, json=ASK)).json()
        await until(lambda: bench.engine.streams)
    assert begun["status"] == "in_progress"
    assert bench.outcome.finish_reason == "failed"
