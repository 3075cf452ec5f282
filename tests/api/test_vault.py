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
import httpx
import pytest
from fastapi import Response
from pyarrow import parquet

from minivault.api.native import json_response
from minivault.service import Service
from minivault.vault.head import HeadPaths
from minivault.vault.proof import check_proof
from minivault.vault.reader import Reader
from tests.api.client import client_of
from tests.fakes import make_bench
from tests.vault.samples import open_ledger, record_calls


@asynccontextmanager
async def over_vault(folder: Path, **calls: Any) -> AsyncIterator[httpx.AsyncClient]:
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
    assert [record["altered"] for record in found] == [True, False, False, False]


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
