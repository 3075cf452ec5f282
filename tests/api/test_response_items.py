"""What a response was made from: listed, and referred to by ids instead of being sent again."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import Bench, make_bench, says

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}
CALL = 'Well.\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def templated(answer: Any = None) -> Bench:
    return make_bench(answer or says("A."), template=True)


async def create(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"model": "fake", "input": "hi"} | fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def listed(client: httpx2.AsyncClient, response_id: str, **query: Any) -> dict[str, Any]:
    return dict((await client.get(f"{PATH}/{response_id}/input_items", params=query)).json())


def prompts(bench: Bench) -> list[str]:
    return [bytes(intent.prompt_token_ids).decode() for intent in bench.ledger.intents]


async def test_text_alone_is_listed_as_a_message() -> None:
    async with client_of(templated()) as client:
        made = await create(client)
        page = await listed(client, made["id"])
    [item] = page["data"]
    assert (item["type"], item["role"], item["status"]) == ("message", "user", "completed")
    assert item["content"] == [{"type": "input_text", "text": "hi"}]
    assert (page["object"], page["has_more"], page["first_id"], page["last_id"]) == (
        "list",
        False,
        item["id"],
        item["id"],
    )


async def test_items_are_listed_with_all_that_was_sent_of_them() -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "S"}]},
        {"role": "assistant", "content": "A"},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}", "id": "fc_mine"},
        {"type": "function_call_output", "call_id": "c", "output": "2"},
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": "U"},
    ]
    async with client_of(templated()) as client:
        made = await create(client, input=items)
        data = (await listed(client, made["id"], order="asc"))["data"]
    assert [item["type"] for item in data] == [
        "message", "message", "function_call", "function_call_output", "reasoning", "message",
    ]  # fmt: skip
    assert data[1]["content"] == [{"type": "output_text", "text": "A", "annotations": []}]
    assert (data[2]["id"], data[2]["call_id"], data[2]["name"], data[2]["arguments"]) == ("fc_mine", "c", "add", "{}")
    assert data[3]["output"] == "2"
    assert len({item["id"] for item in data}) == len(data)


async def test_those_that_it_went_on_from_are_listed_with_their_answers() -> None:
    async with client_of(templated()) as client:
        first = await create(client, input="one")
        second = await create(client, input="two", previous_response_id=first["id"])
        data = (await listed(client, second["id"]))["data"]
    assert [(item["role"], item["content"][0]["text"]) for item in data] == [
        ("user", "two"), ("assistant", "A."), ("user", "one"),
    ]  # fmt: skip
    assert data[1] == first["output"][0]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_follow_each_other_without_a_gap(order: str) -> None:
    async with client_of(templated()) as client:
        made = await create(client, input=[{"role": "user", "content": str(number)} for number in range(5)])
        ids, page = [], await listed(client, made["id"], limit=2, order=order)
        ids += [item["id"] for item in page["data"]]
        while page["has_more"]:
            page = await listed(client, made["id"], limit=2, order=order, after=page["last_id"])
            ids += [item["id"] for item in page["data"]]
        whole = await listed(client, made["id"], order=order)
    assert ids == [item["id"] for item in whole["data"]]
    assert len(ids) == 5


@pytest.mark.parametrize(("query", "status"), [({"limit": 0}, 422), ({"order": "up"}, 422), ({"after": "msg_x"}, 422)])
async def test_a_page_that_cannot_be_is_refused(query: dict[str, Any], status: int) -> None:
    async with client_of(templated()) as client:
        made = await create(client)
        answer = await client.get(f"{PATH}/{made['id']}/input_items", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, next(iter(query)))


async def test_an_earlier_response_is_not_streamed() -> None:
    async with client_of(templated()) as client:
        made = await create(client)
        answer = await client.get(f"{PATH}/{made['id']}", params={"stream": "true"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "stream")
        assert (await client.get(f"{PATH}/{made['id']}", params={"stream": "false"})).status_code == 200


async def test_tokens_are_counted_as_they_would_be_given_and_nothing_is_recorded() -> None:
    bench = templated()
    async with client_of(bench) as client:
        first = await create(client, instructions="Be brief.")
        ask = {"model": "fake", "input": "more", "previous_response_id": first["id"]}
        counted = (await client.post(f"{PATH}/input_tokens", json=ask)).json()
        assert len(bench.ledger.intents) == 1
        made = await create(client, **ask)
        unknown = await client.post(f"{PATH}/input_tokens", json=ask | {"previous_response_id": "resp_none"})
    assert counted == {"object": "response.input_tokens", "input_tokens": made["usage"]["input_tokens"]}
    assert unknown.status_code == 404


async def test_items_of_no_response_are_404() -> None:
    async with client_of(templated()) as client:
        assert (await client.get(f"{PATH}/resp_none/input_items")).status_code == 404


async def test_items_of_earlier_answers_may_be_named_instead_of_sent() -> None:
    bench = templated(says(CALL))
    async with client_of(bench) as client:
        first = await create(client, tools=[TOOL], input="one")
        message, call = first["output"]
        sent = [
            {"role": "user", "content": "one"},
            {"type": "item_reference", "id": message["id"]},
            {"id": call["id"]},
            {"type": "function_call_output", "call_id": call["call_id"], "output": "2"},
        ]
        second = await create(client, tools=[TOOL], input=sent)
        whole = await create(client, tools=[TOOL], input=[sent[0], message, call, sent[3]])
        again = await create(client, tools=[TOOL], input="three", previous_response_id=second["id"])
        data = (await listed(client, second["id"], order="asc"))["data"]
    assert prompts(bench)[1] == prompts(bench)[2]
    assert '{"name": "add", "arguments": {"a": 1}}' in prompts(bench)[1]
    assert prompts(bench)[3].startswith(prompts(bench)[1])
    assert again["previous_response_id"] == second["id"]
    assert [item["id"] for item in data[1:3]] == [message["id"], call["id"]]
    assert whole["usage"] == second["usage"]


async def refused(client: httpx2.AsyncClient, item_id: str, **headers: str) -> bool:
    item = {"type": "item_reference", "id": item_id}
    answer = await client.post(PATH, json={"model": "fake", "input": [item]}, headers=headers)
    if answer.status_code == 404:
        assert answer.json()["error"]["param"] == "input[0].id"
    return answer.status_code == 404


async def test_an_item_that_is_not_there_is_404_by_its_place() -> None:
    bench = templated()
    async with client_of(bench) as client:
        made = await create(client)
        item_id = made["output"][0]["id"]
        others = ["msg_none_0", "msg", "", item_id.replace("msg_", "fc_"), item_id[:-1] + "7"]
        assert [await refused(client, one) for one in others] == [True] * len(others)
        await client.delete(f"{PATH}/{made['id']}")
        assert await refused(client, item_id)
    assert len(bench.ledger.intents) == 1


async def test_an_item_of_another_key_is_not_there() -> None:
    async with keyed_client(templated()) as (client, keys):
        ask = {"model": "fake", "input": "hi"}
        made = (await client.post(PATH, json=ask, headers=keys.headers("user"))).json()
        assert await refused(client, made["output"][0]["id"], **keys.headers("other"))
        assert not await refused(client, made["output"][0]["id"], **keys.headers("user"))


async def test_items_of_many_answers_are_refused_with_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.api.earlier.MAX_EARLIER", 1)
    async with client_of(templated()) as client:
        ids = [(await create(client))["output"][0]["id"] for _ in range(2)]
        one = await client.post(PATH, json={"model": "fake", "input": [{"id": ids[0]}, {"id": ids[0]}]})
        two = await client.post(PATH, json={"model": "fake", "input": [{"id": one} for one in ids]})
    assert one.status_code == 200
    assert (two.status_code, two.json()["error"]["param"]) == (422, "input")
