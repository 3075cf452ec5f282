"""Batches over HTTP: every line once, and live work first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minivault.api.turns import Turns
from minivault.batches.values import Batch
from minivault.errors import InvalidRequest
from tests.api.batch_server import CHAT, batching_of, chat, done, ended, lines, rows_of, server_of, started, uploaded
from tests.api.keyed import keyring
from tests.fakes import make_bench, says, until


async def test_each_line_is_answered_under_its_name(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(chat("a"), chat("b"), chat(n=2)))
        rows = await rows_of(client, batch["output_file_id"])
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 3, "failed": 0})
    assert [row["custom_id"] for row in rows] == ["c0", "c1", "c2"]
    assert {row["response"]["status_code"] for row in rows} == {200}
    assert [len(row["response"]["body"]["choices"]) for row in rows] == [1, 1, 2]
    assert rows[0]["response"]["body"]["choices"][0]["message"]["content"] == "Yes."
    assert {intent.request_id for intent in bench.ledger.intents} == {
        *(f"{batch['id']}-{number}" for number in range(3)), f"{batch['id']}-2.1",
    }  # fmt: skip


async def test_what_ends_a_line_to_some_readers_ends_none_of_a_result(tmp_path: Path) -> None:
    said = "a\n\r\v\x1c\x85\u2028\u2029b"
    async with server_of(make_bench(says(said, at_once=99), template=True), tmp_path) as client:
        batch = await done(client, lines(chat(said)))
        (row,) = await rows_of(client, batch["output_file_id"])
    assert row["response"]["body"]["choices"][0]["message"]["content"] == said


async def test_lines_that_are_refused_stand_in_the_error_file(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        data = lines(chat(temperature=-1), chat(), {"model": "nope", "messages": chat()["messages"]})
        batch = await done(client, data)
        failed = await rows_of(client, batch["error_file_id"])
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert [row["response"]["status_code"] for row in failed] == [422, 404]
    assert failed[0]["response"]["body"]["error"]["param"] == "temperature"


async def test_a_batch_of_no_file_says_which_field_names_it(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        asked = {"input_file_id": "file-s3cr3t", "endpoint": "/v1/completions", "completion_window": "24h"}
        answer = await client.post("/v1/batches", json=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (404, "input_file_id")
    assert error["message"] == "input_file_id: there is no such file"


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [("/v1/completions", {"model": "fake", "prompt": "hi"}), ("/v1/responses", {"model": "fake", "input": "hi"})],
)
async def test_other_endpoints_run_too(tmp_path: Path, endpoint: str, body: dict[str, Any]) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        batch = await done(client, lines(body, url=endpoint), endpoint)
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["response"]["status_code"] == 200


async def test_vectors_are_asked_of_models_that_make_them(tmp_path: Path) -> None:
    endpoint = "/v1/embeddings"
    async with server_of(make_bench(), tmp_path) as client:
        data = lines({"model": "fake", "input": "hi"}, url=endpoint)
        batch = await done(client, data, endpoint)
        [row] = await rows_of(client, batch["error_file_id"])
    assert row["response"]["status_code"] == 422
    assert row["response"]["body"]["error"]["param"] == "model"


async def test_a_file_with_a_wrong_line_runs_nothing(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(chat()) + b"{nope\n")
    assert batch["status"] == "failed"
    assert batch["errors"]["data"][0]["line"] == 2
    assert bench.ledger.intents == []


async def test_a_cancelled_batch_begins_no_more_lines(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path, batch_concurrency=1) as client:
        batch_id = await started(client, lines(*[chat()] * 4))
        await until(lambda: bench.engine.requests)
        assert (await client.post(f"/v1/batches/{batch_id}/cancel")).json()["status"] == "cancelling"
        bench.engine.release()
        batch = await ended(client, batch_id)
        assert (await client.post(f"/v1/batches/{batch_id}/cancel")).status_code == 422
    assert batch["status"] == "cancelled"
    assert batch["request_counts"] == {"total": 4, "completed": 1, "failed": 0}


async def test_a_batch_that_ends_while_it_is_cancelled_keeps_its_answers(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        batching = batching_of(client)
        batch_id = await started(client, lines(chat()))
        seen = await asyncio.to_thread((await batching.store()).batch, batch_id)
        await ended(client, batch_id)
        with pytest.raises(InvalidRequest, match="completed"):
            await batching.cancel(seen)
        batch = (await client.get(f"/v1/batches/{batch_id}")).json()
    assert batch["status"] == "completed"
    assert batch["output_file_id"] is not None


async def test_lines_are_counted_against_their_keys_limits(tmp_path: Path) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", requests="3/hour", concurrent=1)
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        client.headers.update(keys.headers("narrow"))
        await started(client, lines(*[chat()] * 4))  # two requests of the three
        client.headers.update(keys.headers("admin"))
        await until(lambda: bench.engine.requests)
        live = await client.post("/generate", json={"prompt": "hi"}, headers=keys.headers("narrow"))
        bench.engine.release()
        [batch] = (await client.get("/v1/batches")).json()["data"]
        while batch["request_counts"]["completed"] < 1:
            [batch] = (await client.get("/v1/batches")).json()["data"]
        for _ in range(200):
            await asyncio.sleep(0)
        assert live.status_code == 429
        assert len(bench.engine.requests) == 1
        assert (await client.get("/v1/batches")).json()["data"][0]["request_counts"]["failed"] == 0


async def test_a_batch_that_takes_all_places_of_its_key_can_be_cancelled(tmp_path: Path) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", concurrent=1)
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        client.headers.update(keys.headers("narrow"))
        batch_id = await started(client, lines(chat()))
        await until(lambda: bench.engine.requests)
        cancelled = await client.post(f"/v1/batches/{batch_id}/cancel")
        bench.engine.release()
        await ended(client, batch_id)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelling")


async def test_a_line_that_waits_for_its_turn_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", concurrent=1)
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        client.headers.update(keys.headers("admin"))
        file_id = await uploaded(client, lines(chat()))
        batching = batching_of(client)
        quota = batching._app.state.access.caller_of_key(keys.ids["narrow"], "local").quota
        quota.enter()
        waits: list[float] = []

        async def leaves(_: Turns, seconds: float) -> None:
            waits.append(seconds)
            quota.leave()

        monkeypatch.setattr(Turns, "wait", leaves)
        await batching.submit(Batch("batch_a", keys.ids["narrow"], "local", CHAT, file_id, batching.now()), 1)
        await ended(client, "batch_a")
    assert waits == [1.0]
    assert [intent.request_id for intent in bench.ledger.intents] == ["batch_a-0"]


async def test_a_batch_says_at_its_end_what_it_used(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        batch = await done(client, lines(chat(), chat(temperature=-1), chat()))
        used = [row["response"]["body"]["usage"] for row in await rows_of(client, batch["output_file_id"])]
    assert batch["model"] == "fake"
    assert batch["usage"]["input_tokens"] == sum(one["prompt_tokens"] for one in used) > 0
    assert batch["usage"]["output_tokens"] == sum(one["completion_tokens"] for one in used) > 0
    assert batch["usage"]["total_tokens"] == sum(one["total_tokens"] for one in used)


async def test_too_many_unfinished_batches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.batches.store.MAX_UNFINISHED", 1)
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        await started(client, lines(chat()))
        asked = {"input_file_id": await uploaded(client, lines(chat())), "endpoint": CHAT, "completion_window": "24h"}
        answer = await client.post("/v1/batches", json=asked)
        bench.engine.release()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_batches")
    assert answer.headers["retry-after"] == "60"


async def test_no_more_lines_run_together_than_asked_for(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        batch_id = await started(client, lines(*[chat()] * 6), concurrency=2)
        for _ in range(200):
            await asyncio.sleep(0)
        together = len(bench.engine.requests)
        bench.engine.release()
        await ended(client, batch_id)
    assert together <= 2
    assert len(bench.engine.requests) == 6


async def test_batches_and_files_are_listed_and_files_deleted(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        ids = [await started(client, lines(chat()), metadata={"n": str(number)}) for number in range(3)]
        for batch_id in ids:
            await ended(client, batch_id)
        page = (await client.get("/v1/batches", params={"limit": 2})).json()
        rest = (await client.get("/v1/batches", params={"after": page["last_id"]})).json()
        files = (await client.get("/v1/files", params={"purpose": "batch"})).json()["data"]
        gone = [(await client.delete(f"/v1/files/{file['id']}")).json()["deleted"] for file in files]
        left = (await client.get("/v1/files")).json()["data"]
    assert [one["metadata"]["n"] for one in page["data"] + rest["data"]] == ["2", "1", "0"]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert gone == [True] * 3
    assert {file["purpose"] for file in left} == {"batch_output"}
