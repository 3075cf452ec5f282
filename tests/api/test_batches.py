"""Files and batches over HTTP: every line once, live work first, and nothing lost or done twice over a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from minivault.api.app import create_app
from minivault.api.batching import Batching
from minivault.api.room import MAX_UPLOADS
from minivault.batches.store import BatchStore
from minivault.batches.values import Batch, Status
from minivault.errors import InvalidRequest, LedgerUnavailable
from minivault.settings import Settings
from minivault.vault.record import Erasure, Outcome
from tests.api.client import BASE
from tests.api.keyed import keyring
from tests.fakes import Bench, breaks_after, make_bench, says, until

ENDED = ("completed", "failed", "cancelled", "expired")
CHAT = "/v1/chat/completions"


@asynccontextmanager
async def server_of(bench: Bench, data_dir: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A server with its lifespan: at the end it is closed as one is that was told to stop."""
    app = create_app(Settings(**{"rate_limit": "", "data_dir": data_dir, **settings}), service=bench.service)
    batching: Batching = app.state.batching
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        if (data_dir / "batches.db").exists():
            await batching.resume()
        try:
            yield client
        finally:
            await batching.close()


def batching_of(client: httpx.AsyncClient) -> Batching:
    batching: Batching = client._transport.app.state.batching  # type: ignore[attr-defined]
    return batching


def lines(*bodies: dict[str, Any], url: str = CHAT) -> bytes:
    rows = [{"custom_id": f"c{place}", "method": "POST", "url": url, "body": body} for place, body in enumerate(bodies)]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def chat(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **fields}


async def uploaded(client: httpx.AsyncClient, data: bytes) -> str:
    answer = await client.post("/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": "batch"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def started(client: httpx.AsyncClient, data: bytes, endpoint: str = CHAT, **fields: Any) -> str:
    asked = {"input_file_id": await uploaded(client, data), "endpoint": endpoint, "completion_window": "24h"}
    answer = await client.post("/v1/batches", json=asked | fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def ended(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    while True:
        batch: dict[str, Any] = (await client.get(f"/v1/batches/{batch_id}")).json()
        if batch["status"] in ENDED:
            return batch
        await asyncio.sleep(0)


async def rows_of(client: httpx.AsyncClient, file_id: str | None) -> list[dict[str, Any]]:
    text = (await client.get(f"/v1/files/{file_id}/content")).text
    return [json.loads(row) for row in text.splitlines()]


async def test_each_line_is_answered_under_its_name(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, await started(client, lines(chat("a"), chat("b"), chat(n=2))))
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
        batch = await ended(client, await started(client, lines(chat(said))))
        (row,) = await rows_of(client, batch["output_file_id"])
    assert row["response"]["body"]["choices"][0]["message"]["content"] == said


async def test_lines_that_are_refused_stand_in_the_error_file(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        data = lines(chat(temperature=-1), chat(), {"model": "nope", "messages": chat()["messages"]})
        batch = await ended(client, await started(client, data))
        failed = await rows_of(client, batch["error_file_id"])
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert [row["response"]["status_code"] for row in failed] == [422, 404]
    assert failed[0]["response"]["body"]["error"]["param"] == "temperature"


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [("/v1/completions", {"model": "fake", "prompt": "hi"}), ("/v1/responses", {"model": "fake", "input": "hi"})],
)
async def test_other_endpoints_run_too(tmp_path: Path, endpoint: str, body: dict[str, Any]) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        batch = await ended(client, await started(client, lines(body, url=endpoint), endpoint))
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["response"]["status_code"] == 200


async def test_vectors_are_asked_of_models_that_make_them(tmp_path: Path) -> None:
    endpoint = "/v1/embeddings"
    async with server_of(make_bench(), tmp_path) as client:
        data = lines({"model": "fake", "input": "hi"}, url=endpoint)
        batch = await ended(client, await started(client, data, endpoint))
        [row] = await rows_of(client, batch["error_file_id"])
    assert row["response"]["status_code"] == 422
    assert row["response"]["body"]["error"]["param"] == "model"


async def test_a_file_with_a_wrong_line_runs_nothing(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, await started(client, lines(chat()) + b"{nope\n"))
    assert batch["status"] == "failed"
    assert batch["errors"]["data"][0]["line"] == 2
    assert bench.ledger.intents == []


async def test_a_batch_goes_on_after_a_restart_and_no_line_is_run_twice(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 1
    async with server_of(bench, tmp_path, batch_concurrency=2) as client:
        batch_id = await started(client, lines(*[chat(str(number)) for number in range(5)]))
        await until(lambda: len(bench.engine.requests) == 2)
    # That server is gone with two lines under way; both are on record as cancelled.
    assert {outcome.finish_reason for outcome in bench.ledger.outcomes} == {"cancelled"}
    bench.engine.hold_after = None
    async with server_of(bench, tmp_path, batch_concurrency=2) as client:
        batch = await ended(client, batch_id)
        rows = await rows_of(client, batch["output_file_id"])
    assert [row["custom_id"] for row in rows] == [f"c{number}" for number in range(5)]
    whole = [bench.ledger.intent_of(one).request_id for one in bench.ledger.outcomes if one.finish_reason == "stop"]
    assert sorted(whole) == sorted([f"{batch_id}-0-r2", f"{batch_id}-1-r2", *(f"{batch_id}-{n}" for n in (2, 3, 4))])


BODIES = [
    (CHAT, chat(n=2)),
    (CHAT, chat(logprobs=True, top_logprobs=1)),
    (CHAT, chat(store=False)),
    ("/v1/completions", {"model": "fake", "prompt": ["hi", "ho"], "echo": True}),
    ("/v1/completions", {"model": "fake", "prompt": "hi", "logprobs": 1}),
    ("/v1/responses", {"model": "fake", "input": "hi", "store": False}),
]


class CrashError(BaseException):
    """In the place of a kill: what comes after it does not happen."""


async def crashed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench, deed: str, endpoint: str, body: dict[str, Any]
) -> tuple[str, list[tuple[Any, ...]]]:
    """A batch of one line whose process ended as it was about to do ``deed``; its id, and what was drafted by then."""
    at_it = asyncio.Event()
    loop = asyncio.get_running_loop()

    def dies(*_: object) -> None:
        loop.call_soon_threadsafe(at_it.set)
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(BatchStore, deed, dies)
        async with server_of(bench, tmp_path) as client:
            batch_id = await started(client, lines(body, url=endpoint), endpoint)
            await at_it.wait()
            store = await batching_of(client).store()
            drafts = store._db.execute("SELECT result FROM lines WHERE calls IS NOT NULL").fetchall()
    return batch_id, drafts


@pytest.mark.parametrize(("endpoint", "body"), BODIES)
async def test_a_line_that_was_recorded_before_the_crash_is_not_run_again_and_answered_as_drafted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, body: dict[str, Any]
) -> None:
    bench = make_bench(says("Yes.", logprobs=True), template=True)
    batch_id, [(draft,)] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", endpoint, body)
    calls = len(bench.ledger.intents)
    assert {outcome.finish_reason for outcome in bench.ledger.outcomes} == {"stop"}
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
        content = (await client.get(f"/v1/files/{batch['output_file_id']}/content")).text
    assert len(bench.ledger.intents) == calls == len(bench.ledger.outcomes)
    assert content == draft + "\n"


@pytest.mark.parametrize(("endpoint", "body"), BODIES)
async def test_a_line_that_was_not_recorded_before_the_crash_is_run_again_and_its_first_try_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, body: dict[str, Any]
) -> None:
    bench = make_bench(says("Yes.", logprobs=True), template=True)
    batch_id, drafts = await crashed_in(tmp_path, monkeypatch, bench, "draft_line", endpoint, body)
    calls = len(bench.ledger.intents)
    assert drafts == []
    assert {(one.finish_reason, one.response_text) for one in bench.ledger.outcomes} == {("cancelled", "")}
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    assert next(intent.request_id for intent in bench.ledger.intents[calls:]) == f"{batch_id}-0-r2"
    whole = [outcome for outcome in bench.ledger.outcomes if outcome.finish_reason == "stop"]
    assert len(whole) == calls


async def test_a_draft_whose_call_ended_otherwise_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(says("Yes."), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat())
    [outcome] = bench.ledger.outcomes
    bench.ledger.outcomes[:] = [replace(outcome, finish_reason="interrupted", response_text="")]
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["response"]["request_id"] == f"{batch_id}-0-r2"


async def test_an_engine_that_broke_is_recorded_once_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(breaks_after("Yes"), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat())
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
    assert batch["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["failed"]


async def test_a_draft_of_a_batch_that_was_cancelled_counts_if_it_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(says("Yes."), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat())
    store = BatchStore.open(tmp_path / "batches.db")
    store.step(batch_id, Status.CANCELLING, 9)
    store.close()
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 1)


async def test_an_outcome_that_the_vault_is_not_sure_of_is_looked_up_before_the_line_is_run_again(
    tmp_path: Path,
) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.ledger.faults = ["outcome"]
    async with server_of(bench, tmp_path) as client:
        batch_id = await started(client, lines(chat()))
        await until(lambda: bench.ledger.intents and not bench.ledger.faults)
        # As the ledger ends a call by itself whose outcome it could not write.
        bench.ledger.append_outcome(Outcome(0, "failed", "", (), 0, 0, {"total_ns": 0}, "the record was lost"))
        batch = await ended(client, batch_id)
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["response"]["request_id"] == f"{batch_id}-0-r2"
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["failed", "stop"]


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


async def test_a_line_that_waits_for_its_turn_keeps_its_id(tmp_path: Path) -> None:
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

        async def leaves(seconds: float) -> None:
            waits.append(seconds)
            quota.leave()

        batching._patience.wait = leaves  # type: ignore[method-assign]
        await batching.submit(Batch("batch_a", keys.ids["narrow"], "local", CHAT, file_id, batching.now()), 1)
        await ended(client, "batch_a")
    assert waits == [1.0]
    assert [intent.request_id for intent in bench.ledger.intents] == ["batch_a-0"]


@pytest.mark.parametrize("deed", ["line", "draft_line", "release_draft", "begin", "end"])
async def test_a_batch_waits_where_the_disk_does_not_let_it(
    tmp_path: Path, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(BatchStore, deed)
    failures = [LedgerUnavailable("the disk is full", retry_after=0) for _ in range(2)]

    def unsure(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(BatchStore, deed, unsure)
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, await started(client, lines(chat())))
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 1)
    assert len(bench.ledger.intents) == 1


async def test_a_batch_whose_task_failed_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("a fault of ours")

    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        monkeypatch.setattr(BatchStore, "line", fails)
        batch_id = await started(client, lines(chat()))
        await until(lambda: not batching_of(client)._running)
        assert (await client.post(f"/v1/batches/{batch_id}/cancel")).json()["status"] == "cancelling"
        assert (await ended(client, batch_id))["status"] == "cancelled"


async def test_a_batch_whose_lines_have_no_room_is_refused(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path, max_stored_bytes=1024) as client:
        file_id = await uploaded(client, b"x" * 600)
        asked = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        answer = await client.post("/v1/batches", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_full")


async def test_batches_made_at_the_same_time_share_the_room(tmp_path: Path) -> None:
    data = lines(chat("x" * 1000))
    async with server_of(make_bench(template=True), tmp_path, max_stored_bytes=2 * len(data) + 500) as client:
        asked = {"input_file_id": await uploaded(client, data), "endpoint": CHAT, "completion_window": "24h"}
        batching_of(client)._start = lambda batch: None  # type: ignore[method-assign]  # none of them ends meanwhile
        answers = await asyncio.gather(*(client.post("/v1/batches", json=asked) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 413, 413, 413]


async def test_files_go_when_their_time_is_over(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        await uploaded(client, b"x")
        made = batching_of(client).now()
    async with server_of(make_bench(), tmp_path, retention=1) as client:
        assert len((await client.get("/v1/files")).json()["data"]) == 1
    app = create_app(Settings(data_dir=tmp_path, retention=1), service=make_bench().service)
    batching: Batching = app.state.batching
    batching._now = lambda: made + 86_402.0
    store = await batching.store()
    await until(lambda: not store.files())
    await batching.close()


async def test_an_erased_call_is_erased_from_the_files_of_its_batch(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, await started(client, lines(chat("a secret"), chat("another"))))
        erased = await client.delete(f"/vault/records/{batch['id']}-0/content")
        assert erased.status_code == 200, erased.text
        store = await batching_of(client).store()
        await until(lambda: store.erased_mark() == 0)
        rows = await rows_of(client, batch["output_file_id"])
        asked = await rows_of(client, batch["input_file_id"])
    assert [row["error"] and row["error"]["code"] for row in rows] == ["content_erased", None]
    assert [row["body"] for row in asked] == [{}, chat("another")]


async def test_what_was_erased_while_no_server_ran_is_erased_before_its_batch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(says("Yes."), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat("a secret"))
    bench.ledger.append_erasure(Erasure((0,), "request", "cli"))
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
        [row] = await rows_of(client, batch["error_file_id"])
    assert row["error"]["code"] == "content_erased"
    assert len(bench.ledger.intents) == 1


async def test_files_stay_as_long_as_their_owner_said(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        form = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        file = (await client.post("/v1/files", files={"file": ("in", lines(chat()))}, data=form)).json()
        assert file["expires_at"] == file["created_at"] + 3600
        asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        lasts = {"output_expires_after": {"anchor": "created_at", "seconds": 7200}}
        batch = await ended(client, (await client.post("/v1/batches", json=asked | lasts)).json()["id"])
        output = (await client.get(f"/v1/files/{batch['output_file_id']}")).json()
        assert output["expires_at"] == output["created_at"] + 7200
        batching = batching_of(client)
        batching._now = lambda: output["expires_at"] - 1.0
        await batching._tidying.once(await batching.store())
        assert [one["id"] for one in (await client.get("/v1/files")).json()["data"]] == [output["id"]]
        batching._now = lambda: float(output["expires_at"])
        await batching._tidying.once(await batching.store())
        assert (await client.get(f"/v1/files/{output['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("anchor", "seconds", "param"),
    [
        ("created_at", "3599", "seconds"),
        ("created_at", "2592001", "seconds"),
        ("created_at", "soon", "seconds"),
        ("last_active_at", "3600", "anchor"),
    ],
)
async def test_a_time_that_no_file_can_have_is_refused(tmp_path: Path, anchor: str, seconds: str, param: str) -> None:
    form = {"purpose": "batch", "expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    async with server_of(make_bench(), tmp_path) as client:
        answer = await client.post("/v1/files", files={"file": ("in", b"x")}, data=form)
        assert (await client.get("/v1/files")).json()["data"] == []
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, f"expires_after.{param}")


async def test_a_batch_says_at_its_end_what_it_used(tmp_path: Path) -> None:
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        batch = await ended(client, await started(client, lines(chat(), chat(temperature=-1), chat())))
        used = [row["response"]["body"]["usage"] for row in await rows_of(client, batch["output_file_id"])]
    assert batch["model"] == "fake"
    assert batch["usage"]["input_tokens"] == sum(one["prompt_tokens"] for one in used) > 0
    assert batch["usage"]["output_tokens"] == sum(one["completion_tokens"] for one in used) > 0
    assert batch["usage"]["total_tokens"] == sum(one["total_tokens"] for one in used)


async def test_files_are_listed_in_either_order(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        ids = [await uploaded(client, b"x") for _ in range(3)]
        first = (await client.get("/v1/files", params={"order": "asc", "limit": 2})).json()
        rest = (await client.get("/v1/files", params={"order": "asc", "after": first["last_id"]})).json()
        newest = (await client.get("/v1/files", params={"order": "desc"})).json()
    assert [file["id"] for file in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [file["id"] for file in newest["data"]] == ids[::-1]


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


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=x", b"nonsense", 400),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na', 422),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("multipart/form-data; boundary=" + "y" * 71, b"", 415),
    ],
)
async def test_a_form_that_is_none_is_refused(tmp_path: Path, content_type: str, body: bytes, status: int) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        answer = await client.post("/v1/files", content=body, headers={"content-type": content_type})
        assert answer.status_code == status, answer.text
        assert (await client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize("data", [{"purpose": "assistants"}, {}, {f"f{n}": "" for n in range(9)}, {"a": "b" * 2000}])
async def test_a_form_with_wrong_fields_keeps_nothing(tmp_path: Path, data: dict[str, str]) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        answer = await client.post("/v1/files", files={"file": ("a", b"x")}, data=data)
        assert answer.status_code == 422
        store = await client._transport.app.state.batching.store()  # type: ignore[attr-defined]
        assert store.stored_bytes() == 0


async def test_a_file_that_is_too_large_keeps_nothing(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path, max_file_bytes=2048) as client:
        files = {"file": ("a", b"x" * 2049)}
        answer = await client.post("/v1/files", files=files, data={"purpose": "batch"})
        assert answer.status_code == 413
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_when_all_room_is_taken_no_file_is_kept(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path, max_stored_bytes=1024) as client:
        await uploaded(client, b"x" * 1000)
        answer = await client.post("/v1/files", files={"file": ("a", b"x" * 100)}, data={"purpose": "batch"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_full")


def form_of(size: int) -> tuple[dict[str, str], list[bytes]]:
    """A form with a file of so many bytes, in two pieces."""
    head = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    head += b'--b\r\nContent-Disposition: form-data; name="file"; filename="in"\r\n\r\n'
    return {"content-type": "multipart/form-data; boundary=b"}, [head + b"x" * size, b"\r\n--b--\r\n"]


async def test_uploads_at_the_same_time_share_the_room(tmp_path: Path) -> None:
    go = asyncio.Event()
    size = 1 << 20

    async def held(pieces: list[bytes]) -> AsyncIterator[bytes]:
        yield pieces[0]
        await go.wait()
        yield pieces[1]

    async with server_of(make_bench(), tmp_path, max_stored_bytes=2 * size + 10) as client:
        headers, pieces = form_of(size)
        waiting = [asyncio.ensure_future(client.post("/v1/files", content=held(pieces), headers=headers))
                   for _ in range(4)]  # fmt: skip
        await until(lambda: sum(one.done() for one in waiting) == 2)  # before any of them has come whole
        go.set()
        answers = [await one for one in waiting]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 413, 413]


async def test_room_that_an_upload_held_is_free_when_it_ends(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path, max_stored_bytes=2048) as client:
        for _ in range(3):
            refused = await client.post("/v1/files", files={"file": ("a", b"x" * 1500)}, data={"purpose": "none"})
            assert refused.status_code == 422
        file_id = await uploaded(client, b"x" * 1500)
        assert (await client.delete(f"/v1/files/{file_id}")).status_code == 200
        await uploaded(client, b"x" * 2048)


@pytest.mark.parametrize(("length", "code"), [(100 << 20, "storage_full"), (200 << 20, "file_too_large")])
async def test_an_upload_that_says_it_is_too_long_is_refused_before_it_comes(
    tmp_path: Path, length: int, code: str
) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    async with server_of(make_bench(), tmp_path, max_stored_bytes=1 << 20) as client:
        headers = form_of(0)[0] | {"content-length": str(length)}
        answer = await client.post("/v1/files", content=never(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, code)


async def test_one_client_has_few_uploads_under_way(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(pieces: list[bytes]) -> AsyncIterator[bytes]:
        await go.wait()
        yield b"".join(pieces)

    async with server_of(make_bench(), tmp_path) as client:
        headers, pieces = form_of(1)
        waiting = [asyncio.ensure_future(client.post("/v1/files", content=held(pieces), headers=headers))
                   for _ in range(MAX_UPLOADS + 1)]  # fmt: skip
        await until(lambda: any(one.done() for one in waiting))
        go.set()
        answers = [await one for one in waiting]
    [refused] = [answer for answer in answers if answer.status_code != 200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_uploads")


async def test_a_files_name_is_never_a_path(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        files = {"file": ("../../etc/pass\u202ewd", b"x")}
        answer = await client.post("/v1/files", files=files, data={"purpose": "batch"})
    assert answer.json()["filename"] == "passwd"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files?after=file-0",
        "/v1/batches?after=batch_0",
        "/v1/files/file-0",
        "/v1/files/file-0/content",
        "/v1/batches/batch_0",
    ],
)
async def test_what_is_not_there_is_404(tmp_path: Path, path: str) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        assert (await client.get(path)).status_code == 404
