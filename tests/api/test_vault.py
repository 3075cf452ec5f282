"""The vault over HTTP, over a real vault: export, statistics, filters, proofs, and whose calls are seen."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
from fastapi import Response
from pyarrow import parquet

from minivault.api.native import json_response
from minivault.service import Service
from minivault.vault.head import HeadPaths
from minivault.vault.proof import check_proof
from minivault.vault.reader import Reader
from tests.api.client import client_of
from tests.api.keyed import Keyring, keyed_client
from tests.fakes import make_bench
from tests.vault.samples import open_ledger, record_calls


@asynccontextmanager
async def over_vault(folder: Path, **calls: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server whose vault holds three calls of alice's and one of nobody's, kept as a digest."""
    bench = make_bench()
    opened = open_ledger(folder, head_interval=3600)
    reader = Reader.open(folder / "vault.db")
    try:
        await asyncio.to_thread(record_calls, opened, 3, api_key_id="alice", surface="openai", **calls)
        await asyncio.to_thread(record_calls, opened, 1, store=False)
        bench.service = Service(bench.models, opened, reader)
        async with client_of(bench) as client:
            yield client
    finally:
        reader.close()
        await asyncio.to_thread(opened.close)


async def test_an_export_is_a_line_a_call(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.get("/vault/export")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["prompt"] for line in lines] == ["question 0", "question 1", "question 2", None]
    assert answer.headers["content-type"] == "application/x-ndjson"


async def test_a_record_that_was_altered_says_so_and_one_without_content_does_not(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        await client.delete("/vault/records/2/content")
        with closing(apsw.Connection(str(tmp_path / "vault.db"))) as db:
            db.set_busy_timeout(10_000)  # the index is still being cleared of what was erased
            db.execute("UPDATE contents SET data = x'41' WHERE leaf_index = 1 AND kind = 'response_text'")
        found = [(await client.get(f"/vault/records/{index}")).json() for index in (0, 2, 4, 6)]
        listed = (await client.get("/vault/records")).json()["records"]
        exported = [json.loads(line) for line in (await client.get("/vault/export")).text.splitlines()]
    assert [record["altered"] for record in found] == [True, False, False, False]
    assert [record.get("altered") for record in listed] == [None, None, None, True]
    assert [record["altered"] for record in exported] == [True, False, False, False]


async def test_a_record_shows_what_its_caller_wrote_until_it_is_erased(tmp_path: Path) -> None:
    parameters = {"max_tokens": 16, "response_format": {"kind": "regex", "source": "xylo|phone"}}
    async with over_vault(tmp_path, parameters=parameters, constraints=("response_format.source",)) as client:
        kept = (await client.get("/vault/records/0")).json()
        proof = (await client.get("/vault/records/0/proof")).text
        await client.delete("/vault/records/0/content")
        gone = (await client.get("/vault/records/0")).json()
    assert kept["parameters"]["response_format"] == {"kind": "regex", "source": "xylo|phone"}
    assert json.loads(kept["constraints"]) == {"response_format.source": "xylo|phone"}
    assert gone["parameters"] == kept["parameters"] | {"response_format": {"kind": "regex", "source": None}}
    assert (gone["constraints"], gone["commitments"]) == (None, kept["commitments"])
    assert "xylo" not in base64.b64decode(proof.split()[2]).decode()


async def test_an_export_takes_filters(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.get("/vault/export", params={"format": "csv", "key": "alice", "query": "question 1"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert len(answer.text.splitlines()) == 2


async def test_an_export_as_parquet(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.get("/vault/export", params={"format": "parquet"})
    assert parquet.read_table(io.BytesIO(answer.content))["store"].to_pylist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("asked", "calls"),
    [
        ({"source": "http"}, 4),
        ({"source": "cli"}, 0),
        ({"min_duration_ms": "2.5"}, 4),
        ({"min_duration_ms": "2.500001"}, 0),
        ({"max_duration_ms": "2.5"}, 4),
        ({"max_duration_ms": "2.4"}, 0),
        ({"finish_reason": "imported"}, 0),
    ],
)
async def test_lists_and_exports_filter_by_source_and_duration(
    tmp_path: Path, asked: dict[str, str], calls: int
) -> None:
    async with over_vault(tmp_path) as client:
        listed = (await client.get("/vault/records", params=asked)).json()["records"]
        exported = (await client.get("/vault/export", params=asked)).text.splitlines()
    assert (len(listed), len(exported)) == (calls, calls)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e10", "long", ""])
async def test_a_duration_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.get("/vault/records", params={"min_duration_ms": value})
    assert (answer.status_code, "min_duration_ms" in answer.text) == (422, True)


@pytest.mark.parametrize("asked", [{"format": "xml"}, {"after": "yesterday"}, {"query": "?!"}])
async def test_a_wrong_export_is_refused_before_it_begins(tmp_path: Path, asked: dict[str, str]) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.get("/vault/export", params=asked)
    assert answer.status_code in (400, 422)


async def test_statistics_by_key_and_of_one(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        found = (await client.get("/vault/stats")).json()
        one = (await client.get("/vault/stats", params={"key": "alice"})).json()
    assert [(group["api_key_id"], group["calls"]) for group in found["by_key"]] == [(None, 1), ("alice", 3)]
    assert (one["calls"], one["by_model"][0]["processing_time_ms"]["p95"]) == (3, 2.5)


async def test_records_of_one_surface(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        found = (await client.get("/vault/records", params={"surface": "native"})).json()["records"]
    assert [call["index"] for call in found] == [6]


async def test_a_page_of_records_is_written_off_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def noticed(value: Any) -> Response:
        threads.append(threading.current_thread() is threading.main_thread())
        return json_response(value)

    monkeypatch.setattr("minivault.api.vault.json_response", noticed)
    async with over_vault(tmp_path) as client:
        assert len((await client.get("/vault/records")).json()["records"]) == 4
        assert (await client.get("/vault/records/0")).json()["index"] == 0
    assert threads == [False, False]


async def test_a_digest_says_that_nothing_was_kept(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        found = (await client.get("/vault/records/6")).json()
    assert (found["store"], found["prompt"], found["salts"], len(found["commitments"])) == (False, None, None, 5)


async def test_a_fresh_record_is_proven_at_once(tmp_path: Path) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.get("/vault/records/7/proof")
    key = HeadPaths(tmp_path / "vault.db").load_key()
    assert key is not None
    assert check_proof(answer.text, key).index == 7


@pytest.mark.parametrize(("sent", "kept"), [({}, True), ({"store": True}, True), ({"store": False}, False)])
async def test_a_request_says_whether_its_content_is_kept(sent: dict[str, bool], kept: bool) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        assert (await client.post("/generate", json={"prompt": "hi", **sent})).status_code == 200
    assert bench.ledger.intents[0].store is kept


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/vault/contents?after=2020-01-01T00:00:00Z&befor=2021-01-01T00:00:00Z"),
        ("GET", "/vault/records?modle=nope"),
        ("GET", "/vault/export?format=csv&modle=nope"),
        ("GET", "/vault/stats?moddel=nope"),
    ],
)
async def test_a_misspelt_filter_is_not_no_filter(tmp_path: Path, method: str, path: str) -> None:
    async with over_vault(tmp_path) as client:
        answer = await client.request(method, path)
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] in ("befor", "modle", "moddel")
        assert "nope" not in answer.text
        kept = (await client.get("/vault/records?key=alice")).json()["records"]
        assert [call["prompt"] is None for call in kept] == [False] * 3


FILTERED = [
    ("GET", "/vault/records"),
    ("GET", "/vault/export"),
    ("GET", "/vault/stats"),
    ("DELETE", "/vault/contents"),
]


@asynccontextmanager
async def with_keys(folder: Path) -> AsyncIterator[tuple[httpx2.AsyncClient, Keyring]]:
    """As :func:`over_vault`, with keys: a call of the key ``user``, and one of a key that is gone."""
    bench = make_bench()
    opened = open_ledger(folder, head_interval=3600)
    reader = Reader.open(folder / "vault.db")
    bench.service = Service(bench.models, opened, reader)
    try:
        async with keyed_client(bench) as (client, keys):
            for key_id in (keys.ids["user"], "gone0gone0go"):
                await asyncio.to_thread(record_calls, opened, 1, api_key_id=key_id)
            yield client, keys
    finally:
        reader.close()
        await asyncio.to_thread(opened.close)


def _calls_in(answer: httpx2.Response) -> int:
    """How many calls an answer is about, of whichever route."""
    if answer.headers["content-type"].startswith("application/x-ndjson"):
        return len(answer.text.splitlines())
    body = answer.json()
    found = body.get("records", body.get("erased", body.get("calls")))
    return found if isinstance(found, int) else len(found)


@pytest.mark.parametrize(("method", "path"), FILTERED)
async def test_a_key_is_meant_by_its_name_its_id_or_what_records_name(tmp_path: Path, method: str, path: str) -> None:
    async with with_keys(tmp_path) as (client, keys):
        headers, found = keys.headers("admin"), []
        for word in ("gone0gone0go", "user", "other", "nobody"):
            answer = await client.request(method, path, params={"key": word}, headers=headers)
            found.append(_calls_in(answer) if answer.status_code == 200 else answer.status_code)
    assert found == [1, 1, 0, 422]


@pytest.mark.parametrize(("method", "path"), FILTERED)
async def test_of_a_key_that_is_another_s_a_user_learns_no_more_than_of_none(
    tmp_path: Path, method: str, path: str
) -> None:
    async with with_keys(tmp_path) as (client, keys):
        headers = keys.headers("other")
        words = ("nobody", "user", keys.ids["user"], "gone0gone0go", "admin")
        answers = [await client.request(method, path, params={"key": word}, headers=headers) for word in words]
        own = await client.request(method, path, params={"key": "other"}, headers=headers)
    assert {(answer.status_code, answer.text) for answer in answers} == {(422, answers[0].text)}
    assert (own.status_code, _calls_in(own)) == (200, 0)


async def test_an_auditor_may_say_the_ids_that_records_name_and_learns_no_names(tmp_path: Path) -> None:
    async with with_keys(tmp_path) as (client, keys):
        headers = keys.headers("auditor")
        words = (keys.ids["user"], "user", keys.ids["other"], "auditor")
        answers = [await client.get("/vault/records", params={"key": word}, headers=headers) for word in words]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 200]
    assert answers[1].json()["error"]["param"] == "key"
