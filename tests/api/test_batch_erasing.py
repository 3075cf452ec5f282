"""What files and batches let go of: what was erased in the vault, and what has had its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.api.app import create_app
from minivault.api.batching import Batching
from minivault.api.line_tries import Tries
from minivault.api.turns import Turns
from minivault.batches.store import BatchStore
from minivault.batches.values import Batch, Counts, Line, Status
from minivault.settings import Settings
from minivault.vault.record import Erasure
from tests.api.batch_crash import crashed_in
from tests.api.batch_server import CHAT, batching_of, chat, done, ended, lines, rows_of, server_of, started, uploaded
from tests.api.keyed import keyring
from tests.fakes import make_bench, says, until


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
        batch = await done(client, lines(chat("a secret"), chat("another")))
        erased = await client.delete(f"/vault/records/{batch['id']}-0/content")
        assert erased.status_code == 200, erased.text
        store = await batching_of(client).store()
        await until(lambda: store.erased_mark() == "1" and not store.noted())
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


async def test_a_call_under_a_name_of_a_batchs_line_is_none(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(chat("a")))
        answer = await client.post(CHAT, json=chat("live"), headers={"x-request-id": f"{batch['id']}-0-r9"})
        called = bench.ledger.intents[-1].request_id
        assert answer.headers["x-request-id"] == called
        assert (await client.delete(f"/vault/records/{called}/content")).status_code == 200
        store = await batching_of(client).store()
        await until(lambda: store.erased_mark() == "1")
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["error"] is None


async def test_a_batch_that_cannot_be_written_over_keeps_neither_others_nor_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BatchStore.write_over
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        faulty, sound = [await done(client, lines(chat("a secret"))) for _ in range(2)]

    def fails(store: BatchStore, batch_id: str) -> None:
        if batch_id == faulty["id"]:
            raise RecursionError
        real(store, batch_id)

    monkeypatch.setattr(BatchStore, "write_over", fails)
    bench.ledger.append_erasure(Erasure((0, 2), "request", "cli"))
    async with server_of(bench, tmp_path) as client:
        store = await batching_of(client).store()
        await until(lambda: store.noted() == [faulty["id"]])
        [row] = await rows_of(client, sound["output_file_id"])
        withheld = await client.get(f"/v1/files/{faulty['output_file_id']}/content")
        monkeypatch.undo()
        batching_of(client)._tidying._due.set()
        await until(lambda: not store.noted())
        [late] = await rows_of(client, faulty["output_file_id"])
    assert row["error"]["code"] == late["error"]["code"] == "content_erased"
    assert (withheld.status_code, withheld.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("deed", ["expire", "note_erased", "noted"])
async def test_a_fault_of_the_tidying_ends_neither_it_nor_the_start(
    tmp_path: Path, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(chat("a secret")))
    bench.ledger.append_erasure(Erasure((0,), "request", "cli"))
    failed: list[str] = []

    def fails(*_: object) -> None:
        failed.append(deed)
        raise OSError("a fault of ours")

    monkeypatch.setattr(BatchStore, deed, fails)
    async with server_of(bench, tmp_path) as client:
        await until(lambda: failed)
        monkeypatch.undo()
        batching_of(client)._tidying._due.set()
        store = await batching_of(client).store()
        await until(lambda: store.erased_mark() == "1" and not store.noted())
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["error"]["code"] == "content_erased"


async def test_the_answer_to_a_line_that_was_erased_while_it_ran_is_recorded_as_nobodys(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        batch_id = await started(client, lines(chat("a secret")))
        await until(lambda: bench.engine.requests)
        (await batching_of(client).store()).note_erased([(f"{batch_id}-0", None)], "1")
        bench.engine.release()
        batch = await ended(client, batch_id)
        store = await batching_of(client).store()
        store.write_over(batch_id)
        [row] = await rows_of(client, batch["error_file_id"])
    assert row["error"]["code"] == "content_erased"
    assert [(one.finish_reason, one.response_text) for one in bench.ledger.outcomes] == [("cancelled", "")]


async def test_a_line_that_was_erased_between_two_tries_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", concurrent=1)
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        client.headers.update(keys.headers("narrow"))
        batching = batching_of(client)
        store = await batching.store()
        quota = batching._app.state.access.caller_of_key(keys.ids["narrow"], "local").quota

        numbers: list[int] = []
        real = batching._runner._try

        async def tried(store: BatchStore, batch: Batch, line: Line, tries: Tries) -> float | None:
            numbers.append(tries.number)
            return await real(store, batch, line, tries)

        async def erased(_turns: Turns, _seconds: float) -> None:
            store.note_erased([(f"{batch.id}-0", keys.ids["narrow"])], "1")
            quota.leave()

        monkeypatch.setattr(Turns, "wait", erased)
        batching._runner._try = tried  # type: ignore[method-assign]
        file_id = await uploaded(client, lines(chat("a secret")))
        batch = Batch("batch_a", keys.ids["narrow"], "local", CHAT, file_id, batching.now())
        quota.enter()
        await batching.submit(batch, 1)
        await until(lambda: store.batch(batch.id).status is Status.COMPLETED)
        assert store.batch(batch.id).counts == Counts(1, 0, 1)
    assert (numbers, bench.ledger.intents) == ([1], [])


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
