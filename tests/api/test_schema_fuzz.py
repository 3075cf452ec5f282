"""/openapi.json is true: requests that are drawn from it, well-formed and not, are answered as it says.

Every route, over a real socket, with a real vault and an engine that follows a script. A short run here; ``make fuzz``
draws 20,000.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.roles import Role
from minivault.api.app import create_app
from minivault.service import Service
from minivault.settings import Settings
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from tests.api.test_socket import Server
from tests.fakes import FakeModel, FakeModels, ScriptedEngine, TurnTemplate, says

Prepare = Callable[[Any], None]
Send = Callable[[Any, GenerationMode], None]
CASES = int(os.environ.get("MINIVAULT_FUZZ_CASES") or 400)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of fakes without any key."""
    with serving(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server of fakes on a thread of its own."""
    import uvicorn

    started = threading.Event()
    found: list[str] = []

    async def serve() -> None:
        ledger = Ledger.open(folder / "vault.db", mirror_dir=None)
        model = FakeModel(ScriptedEngine(says("Yes, it is.")), chat_template=TurnTemplate())
        service = Service(FakeModels(model), ledger, Reader.open(folder / "vault.db"))
        chosen = Settings(rate_limit="", data_dir=folder, offline=True)
        app = create_app(chosen, service=service)
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=5)
        server = Server(config)
        running = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.01)
        found.append(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
        ends.append(lambda: setattr(server, "should_exit", True))
        started.set()
        await running
        ledger.close()

    ends: list[Callable[[], None]] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    try:
        yield found[0]
    finally:
        ends[0]()
        thread.join(60)


def test_every_route_answers_as_the_document_says(url: str) -> None:
    operations = operations_of(url)
    assert_true(operations, url, {}, unhurried, each=each_of(len(operations)))


def test_an_admins_routes_answer_as_the_document_says(tmp_path: Path) -> None:
    """A server for each route: many keys are made on the way, and to list them all again and again would take hours."""
    states: set[str] = set()
    with keyed(tmp_path / "first") as (url, _, _):
        routes = [one.label for one in operations_of(url) if one.path.startswith("/admin")]
    assert len(routes) > 4
    for number, route in enumerate(routes):
        with keyed(tmp_path / str(number)) as (url, keys, headers):
            operations = [one for one in operations_of(url) if one.label == route]
            assert_true(operations, url, headers, of_a_key(keys), each=each_of(len(routes)))
            listed = httpx2.get(f"{url}/admin/keys", headers=headers).json()["keys"]
            states |= {key["state"] for key in listed} | {"rotated" for key in listed if key["rotated_at"]}
    assert states >= {"active", "revoked", "rotated"}


@contextmanager
def keyed(folder: Path) -> Iterator[tuple[str, KeyStore, dict[str, str]]]:
    """A server that has keys, its keys, and the headers of an admin whose name nobody will guess."""
    folder.mkdir()
    keys = KeyStore.in_folder(folder)
    made = keys.create("an admin of this test alone", KeyTerms(role=Role.ADMIN))
    with serving(folder) as url:
        yield url, keys, {"Authorization": f"Bearer {made.text}"}


def of_a_key(keys: KeyStore) -> Prepare:
    """A sound request is for a key that is there."""
    fresh = (keys.create(f"drawn {number}", KeyTerms()).key.id for number in itertools.count())

    def prepare(case: Any) -> None:
        if "key_id" in (case.path_parameters or {}):
            case.path_parameters["key_id"] = next(fresh)

    return prepare


def unhurried(case: Any) -> None:
    """A sound request has time: one that is cut off on the way says so by breaking off, in plain text."""
    if isinstance(case.body, dict) and case.body.get("timeout") is not None:
        case.body["timeout"] = 60.0
    for name in [name for name in case.headers or {} if name.lower() == "minivault-timeout"]:
        case.headers[name] = "60"


def each_of(operations: int) -> int:
    """How often each is drawn, in either mode."""
    return max(2, CASES // (2 * operations))


def assert_true(operations: list[Any], url: str, headers: dict[str, str], prepare: Prepare, *, each: int) -> None:
    """``prepare`` may change a sound request before it is sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about its own

        def send(case: Any, mode: GenerationMode) -> None:
            if mode is GenerationMode.POSITIVE:
                prepare(case)
            case.call_and_validate(base_url=url, headers=headers)

        wrong = [
            fault
            for operation in operations
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            for fault in _draw(operation, mode, each, send)
        ]
    assert not wrong, "\n\n".join(wrong)


def operations_of(url: str) -> list[Any]:
    chosen = schemathesis.Config.from_dict(
        {
            "checks": {
                # A body can be well-formed and still ask for what cannot be: two fields that exclude each other, say.
                "negative_data_rejection": {
                    "expected-statuses": [400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 503]
                },
                "positive_data_acceptance": {"expected-statuses": ["2xx", 401, 403, 404, 409, 413, 422, 429, 503, 504]},
                # Overload, and a `timeout` that is asked for and over: both are declared where they can come.
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503, 504]},
            }
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=chosen)
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def _draw(operation: Any, mode: GenerationMode, count: int, send: Send) -> list[str]:
    """What was wrong with the answers."""
    cases = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def drawn(case: Any) -> None:
        send(case, mode)

    try:
        drawn()
    except Unsatisfiable:
        return []  # there is no wrong way to ask for it
    except (Exception, BaseExceptionGroup) as wrong:  # why both: it has groups of its own
        faults = wrong.exceptions if isinstance(wrong, BaseExceptionGroup) else (wrong,)
        return [f"{operation.label} ({mode.value}): {wrong}\n{fault}" for fault in faults]
    return []
