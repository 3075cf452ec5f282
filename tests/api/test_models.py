"""The catalog over HTTP: who may change it, and what a pull, an import, a check and a removal answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import Message, Send
from structlog.testing import capture_logs

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.roles import Role
from minivault.api.app import create_app
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.hub import Hub
from minivault.models.pulling import PullProgress
from minivault.models.remote_config import RemoteConfig
from minivault.models.remote_entry import add_remote
from minivault.service import Service
from minivault.service.keeping import Keeper
from minivault.settings import Settings
from tests.fakes import make_bench, until
from tests.models.fake_hub import FakeHub, FakeRepository, fake_hub
from tests.models.folders import copy_of
from tests.models.gguf_writer import write_gguf
from tests.oracle.golden import DATA

BASE = "http://localhost:8000"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub() as running:
        files = {path.name: path.read_bytes() for path in (DATA / "llama-gqa").iterdir()}
        running.repositories["org/Tiny"] = FakeRepository(files)
        yield running


def keeper_at(hub: FakeHub, settings: Settings, service: Service) -> Keeper:
    return Keeper(settings, service, open_hub=lambda offline: Hub(offline=offline, endpoint=hub.url))


@asynccontextmanager
async def client_of(
    data_dir: Path, hub: FakeHub | None = None, address: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    chosen = Settings(data_dir=data_dir, rate_limit="", **settings)
    bench = make_bench()
    app = create_app(chosen, service=bench.service)
    if hub is not None:
        app.state.keeper = Keeper(
            chosen, bench.service, open_hub=lambda offline: Hub(offline=offline, endpoint=hub.url)
        )
    transport = httpx2.ASGITransport(app, client=(address, 4321))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


def lines_of(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.content.splitlines()]


async def test_a_pull_tells_how_far_it_is_and_ends_with_the_model(hub: FakeHub, tmp_path: Path) -> None:
    async with client_of(tmp_path, hub) as client:
        lines = lines_of(await client.post("/models/pull", json={"model": "org/Tiny"}))
        shown = (await client.get("/models/tiny")).json()
    *steps, last = lines
    assert {step["status"] for step in steps} == {"downloading"}
    assert [step["completed"] for step in steps] == sorted(step["completed"] for step in steps)
    assert steps[-1]["completed"] == steps[-1]["total"]
    assert last == {"status": "success", "model": shown}
    assert shown["source"]["repository"] == "org/Tiny"
    assert str(tmp_path) not in json.dumps(lines)


async def test_a_pull_can_be_waited_for(hub: FakeHub, tmp_path: Path) -> None:
    async with client_of(tmp_path, hub) as client:
        answer = (await client.post("/models/pull", json={"model": "org/Tiny", "name": "mine", "stream": False})).json()
    assert (answer["status"], answer["model"]["name"]) == ("success", "mine")


@pytest.mark.parametrize(
    ("body", "settings", "status"),
    [
        ({"model": "org/Other"}, {}, 400),
        ({"model": "nothing like it"}, {}, 422),
        ({"model": "org/Tiny", "name": "guide"}, {}, 422),
        ({"model": "org/Tiny", "nmae": "x"}, {}, 422),
        ({"model": "org/Tiny"}, {"offline": True}, 403),
    ],
)
async def test_what_is_refused_before_anything_came_has_a_status(
    hub: FakeHub, tmp_path: Path, body: dict[str, Any], settings: dict[str, Any], status: int
) -> None:
    async with client_of(tmp_path, hub, **settings) as client:
        response = await client.post("/models/pull", json=body)
    assert response.status_code == status
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


async def test_a_pull_that_breaks_says_so_on_its_last_line(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["org/Tiny"].lies = {"model.safetensors": bytes(413_024)}
    async with client_of(tmp_path, hub) as client:
        native = lines_of(await client.post("/models/pull", json={"model": "org/Tiny"}))
        ollama = lines_of(await client.post("/api/pull", json={"model": "org/Tiny"}))
    assert native[-1]["error"]["code"] == "checkpoint_corrupt"
    assert isinstance(ollama[-1]["error"], str)


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}),
        ("::1", {"Forwarded": "for=192.0.2.7"}),
    ],
    ids=["another machine", "a proxy", "another proxy"],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/models/pull", {"model": "org/Tiny"}),
        ("POST", "/models/import", {"path": "x"}),
        ("POST", "/models/guide/verify", {}),
        ("DELETE", "/models/mine", None),
        ("POST", "/api/pull", {"model": "org/Tiny"}),
        ("DELETE", "/api/delete", {"model": "mine"}),
    ],
)
async def test_without_keys_only_this_machine_changes_models(
    hub: FakeHub, tmp_path: Path, address: str, headers: dict[str, str], method: str, path: str, body: Any
) -> None:
    async with client_of(tmp_path, hub, address) as client:
        response = await client.request(method, path, json=body, headers=headers)
    assert response.status_code == 403
    assert "minivault keys create" in response.text
    assert hub.authorizations == []


@pytest.mark.parametrize(("role", "status"), [(Role.USER, 403), (Role.AUDITOR, 403), (Role.ADMIN, 200)])
async def test_with_keys_only_an_admins_opens_the_hub_from_anywhere(
    hub: FakeHub, tmp_path: Path, role: Role, status: int
) -> None:
    key = KeyStore.in_folder(tmp_path).create("k", KeyTerms(role=role)).text
    async with client_of(tmp_path, hub, "192.0.2.7") as client:
        body = {"model": "org/Tiny", "stream": False}
        response = await client.post("/models/pull", json=body, headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == status
    assert bool(hub.authorizations) == (status == 200)


@pytest.mark.parametrize(("role", "told"), [(Role.USER, False), (Role.AUDITOR, False), (Role.ADMIN, True)])
async def test_where_the_servers_of_a_remote_model_are_is_for_admins(tmp_path: Path, role: Role, told: bool) -> None:
    config = RemoteConfig(("http://10.0.0.7:9/v1",), "theirs", api_key_env="THEIR_KEY")
    add_remote(Catalog(tmp_path / "models"), "far", config)
    key = KeyStore.in_folder(tmp_path).create("k", KeyTerms(role=role)).text
    async with client_of(tmp_path) as client:
        shown = await client.get("/models/far", headers={"Authorization": f"Bearer {key}"})
    assert shown.status_code == 200
    assert ("10.0.0.7" in shown.text, "THEIR_KEY" in shown.text) == (told, told)


@pytest.mark.parametrize(("address", "told"), [("192.0.2.7", False), ("127.0.0.1", True)])
async def test_without_keys_they_are_for_this_machine(tmp_path: Path, address: str, told: bool) -> None:
    add_remote(Catalog(tmp_path / "models"), "far", RemoteConfig(("http://10.0.0.7:9/v1",), "theirs"))
    async with client_of(tmp_path, address=address) as client:
        shown = await client.get("/models/far")
    assert (shown.status_code, "10.0.0.7" in shown.text) == (200, told)


@dataclass(slots=True)
class StuckKeeper(Keeper):
    """Its pull takes one step where it is told to, and then waits for ever or breaks. Copies end alike."""

    begins: bool = True
    breaks: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def pull(self, model: str, name: str | None) -> AsyncGenerator[PullProgress | ModelEntry]:
        try:
            if self.begins:
                yield PullProgress("a", "sha256:00", 1, 2, 1, 2)
            if self.breaks:
                raise ValueError("secret text")
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def stuck_app(data_dir: Path, *, begins: bool, breaks: bool = False) -> tuple[FastAPI, StuckKeeper]:
    chosen, bench = Settings(data_dir=data_dir, rate_limit=""), make_bench()
    app = create_app(chosen, service=bench.service)
    keeper = StuckKeeper(chosen, bench.service, begins=begins, breaks=breaks)
    app.state.keeper = keeper
    return app, keeper


@pytest.mark.parametrize("path", ["/models/pull", "/api/pull"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_anything_came_stops_its_pull(
    tmp_path: Path, path: str, stream: bool
) -> None:
    app, keeper = stuck_app(tmp_path, begins=False)
    await hang_up_after_body(app, path, {"model": "org/Tiny", "stream": stream})
    await until(keeper.ended.is_set)


async def test_a_pull_whose_answer_never_starts_is_stopped(tmp_path: Path) -> None:
    app, keeper = stuck_app(tmp_path, begins=True)

    async def refuse(message: Message) -> None:
        raise OSError(message["type"])

    await hang_up_after_body(app, "/models/pull", {"model": "org/Tiny"}, send=refuse, stays=True)
    await until(keeper.ended.is_set)


async def test_a_pull_that_breaks_on_this_side_is_logged_without_its_words(tmp_path: Path) -> None:
    app, _ = stuck_app(tmp_path, begins=True, breaks=True)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, client=("127.0.0.1", 1)), base_url=BASE
    ) as client:
        with capture_logs() as logs:
            lines = lines_of(await client.post("/models/pull", json={"model": "org/Tiny"}))
    assert "error" in lines[-1]
    assert [line["error_type"] for line in logs if line["event"] == "pull failed"] == ["ValueError"]
    assert "secret" not in json.dumps(lines) + str(logs)


async def hang_up_after_body(
    app: FastAPI, path: str, body: Any, *, send: Send | None = None, stays: bool = False
) -> None:
    """Post ``body`` and, unless it ``stays``, leave at once."""
    sent = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive() -> Message:
        message = next(sent, None)
        if message is None and stays:
            await asyncio.Event().wait()
        return message or {"type": "http.disconnect"}

    async def ignore(message: Message) -> None:
        del message

    headers = [(b"host", b"localhost:8000"), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 8000), "scheme": "http",
        "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    async with asyncio.timeout(30):
        with suppress(OSError, ClientDisconnect):
            await app(scope, receive, send or ignore)


async def test_a_client_that_leaves_stops_its_pull_and_what_came_is_kept(hub: FakeHub, tmp_path: Path) -> None:
    chosen = Settings(data_dir=tmp_path, rate_limit="")
    keeper = keeper_at(hub, chosen, make_bench().service)
    steps = keeper.pull("org/Tiny", None)
    await anext(steps)
    await steps.aclose()
    for thread in threading.enumerate():
        if thread.name == "minivault-pull":
            thread.join(30)
    assert Catalog(tmp_path / "models").names() == ("guide",)
    assert (await keeper.pulled("org/Tiny", None)).name == "tiny"


async def test_an_import_comes_from_the_one_folder_that_the_settings_name(tmp_path: Path) -> None:
    source = copy_of("gpt2", tmp_path / "incoming" / "tiny")
    write_gguf(source, tmp_path / "incoming" / "other.gguf")
    async with client_of(tmp_path / "data", import_dir=tmp_path / "incoming") as client:
        folder = await client.post("/models/import", json={"path": "tiny"})
        file = await client.post("/models/import", json={"path": "other.gguf", "name": "mine"})
    assert (folder.status_code, folder.json()["name"]) == (201, "tiny")
    assert (file.status_code, file.json()["source"]["file"]) == (201, "other.gguf")


@pytest.mark.parametrize("path", ["../secret", "/etc", "tiny/../..", ".", "link", "\0"])
async def test_an_import_from_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    copy_of("gpt2", tmp_path / "secret")
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "link").symlink_to(tmp_path / "secret")
    async with client_of(tmp_path / "data", import_dir=tmp_path / "incoming") as client:
        response = await client.post("/models/import", json={"path": path})
    assert response.status_code in (403, 422)
    assert not (tmp_path / "data" / "models").exists()


async def test_without_an_import_folder_nothing_is_imported(tmp_path: Path) -> None:
    copy_of("gpt2", tmp_path / "tiny")
    async with client_of(tmp_path / "data") as client:
        response = await client.post("/models/import", json={"path": str(tmp_path / "tiny")})
    assert response.status_code == 403
    assert "import_dir" in response.text


@pytest.mark.parametrize("ollama", [False, True])
async def test_a_model_is_removed(tmp_path: Path, ollama: bool) -> None:
    Catalog(tmp_path / "models").import_folder(DATA / "gpt2", "mine")
    async with client_of(tmp_path) as client:
        if ollama:
            response = await client.request("DELETE", "/api/delete", json={"model": "mine:latest"})
        else:
            response = await client.delete("/models/mine")
    assert (response.status_code, response.content) == (200 if ollama else 204, b"")
    assert Catalog(tmp_path / "models").names() == ("guide",)


async def test_what_is_served_embedded_or_unknown_stays(tmp_path: Path) -> None:
    Catalog(tmp_path / "models").import_folder(DATA / "gpt2", "fake")  # the name that the fakes serve
    async with client_of(tmp_path) as client:
        found = [(await client.delete(f"/models/{name}")).status_code for name in ("fake", "guide", "nothing", ".gone")]
    assert found == [409, 422, 404, 404]
    assert Catalog(tmp_path / "models").names() == ("guide", "fake")


async def test_a_check_names_the_file_that_changed(tmp_path: Path) -> None:
    entry = Catalog(tmp_path / "models").import_folder(DATA / "gpt2", "mine")
    (entry.path / "tokenizer.json").write_text("{}")
    async with client_of(tmp_path) as client:
        found = (await client.post("/models/mine/verify", json={})).json()
        sound = (await client.post("/models/guide/verify", json={})).json()
    assert [file["name"] for file in found["files"] if file["fault"]] == ["tokenizer.json"]
    assert (found["sound"], sound["sound"]) == (False, True)


async def test_ollamas_client_sees_its_own_lines(hub: FakeHub, tmp_path: Path) -> None:
    async with client_of(tmp_path, hub) as client:
        lines = lines_of(await client.post("/api/pull", json={"model": "org/Tiny"}))
        asked = [("org/Tiny", False), ("org/Tiny", None), ("tiny", True), ("tiny:latest", False), ("guide", False)]
        again = [await client.post("/api/pull", json={"name": name, "stream": stream}) for name, stream in asked]
        other = await client.post("/api/pull", json={"name": "else/Tiny", "stream": False})
    assert lines[-1] == {"status": "success"}
    weights = [line for line in lines if line["status"] == "pulling model.safetensors"]
    assert weights[-1]["digest"].startswith("sha256:")
    assert weights[-1]["completed"] == weights[-1]["total"]
    assert [answer.json() for answer in again] == [{"status": "success"}] * len(asked)  # as Ollama's, once it is there
    assert again[1].headers["content-type"] == "application/x-ndjson"
    assert other.status_code != 200
