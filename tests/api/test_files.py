"""Files over HTTP: whole or not there, with room for all, and listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minivault.api.room import MAX_UPLOADS
from minivault.batches.store import BatchStore
from tests.api.batch_server import CHAT, batching_of, chat, lines, server_of, uploaded
from tests.fakes import make_bench, until


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


async def test_files_are_listed_in_either_order(tmp_path: Path) -> None:
    async with server_of(make_bench(), tmp_path) as client:
        ids = [await uploaded(client, b"x") for _ in range(3)]
        first = (await client.get("/v1/files", params={"order": "asc", "limit": 2})).json()
        rest = (await client.get("/v1/files", params={"order": "asc", "after": first["last_id"]})).json()
        newest = (await client.get("/v1/files", params={"order": "desc"})).json()
    assert [file["id"] for file in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [file["id"] for file in newest["data"]] == ids[::-1]


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


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/batches")])
async def test_where_the_folder_cannot_be_written_the_answer_says_so(tmp_path: Path, method: str, path: str) -> None:
    (tmp_path / "file").touch()
    sent: dict[str, Any] = (
        {"files": {"file": ("in.jsonl", b"x")}, "data": {"purpose": "batch"}} if method == "POST" else {}
    )
    async with server_of(make_bench(), tmp_path) as client:
        batching_of(client)._open_store = lambda: BatchStore.open(tmp_path / "file" / "batches.db")
        answer = await client.request(method, path, **sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert "their folder cannot be written" in answer.json()["error"]["message"]
