"""Keys with a real server: the commands, a listener beyond this machine, and where the secret must not show."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.process import MINIVAULT, RunningServer, environment, minivault, serving

ASK = {"prompt": "What model are you?", "max_tokens": 8, "seed": 7}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, dict[str, str]]]:
    """A server that listens on every address, since it has keys; and the keys."""
    folder = tmp_path_factory.mktemp("keyed")
    terms = {"ops": ("--role", "admin"), "team": ("--requests", "1000/minute"), "guest": ("--no-store",)}
    keys = {}
    for name, options in terms.items():
        done = minivault("keys", "create", name, *options, "--data-dir", str(folder))
        assert done.returncode == 0, done.stderr
        keys[name] = done.stdout.strip()
    with serving(folder, "--host", "0.0.0.0") as server:  # noqa: S104  that it may is the point
        yield RunningServer(server.url.replace("0.0.0.0", "127.0.0.1"), server.data_dir, server.process), keys  # noqa: S104


def shown(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_stranger_is_refused_and_a_key_is_answered(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, keys = keyed
    with httpx2.Client(base_url=server.url, timeout=200) as client:
        assert client.get("/livez").status_code == 200
        assert client.post("/generate", json=ASK).status_code == 401
        made = client.post("/generate", json=ASK, headers=shown(keys["team"]))
        assert made.status_code == 200
        own = client.get("/vault/records", headers=shown(keys["team"])).json()["records"]
        others = client.get("/vault/records", headers=shown(keys["guest"])).json()["records"]
    assert made.json()["id"] in [record["id"] for record in own]
    assert made.json()["id"] not in [record["id"] for record in others]


def test_a_user_counts_finds_exports_and_erases_its_own_alone(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, keys = keyed
    with httpx2.Client(base_url=server.url, timeout=200) as client:
        team = client.post("/generate", json={**ASK, "prompt": "Say quokka."}, headers=shown(keys["team"])).json()["id"]
        ops = client.post("/generate", json={**ASK, "prompt": "Say quokka."}, headers=shown(keys["ops"])).json()["id"]

        def ids(path: str, key: str, **params: str) -> str:
            return client.get(path, params=params, headers=shown(keys[key])).text

        for path, params in (("/vault/records", {"query": "quokka"}), ("/vault/export", {"format": "jsonl"})):
            assert team in ids(path, "team", **params)
            assert ops not in ids(path, "team", **params)
            assert ops in ids(path, "ops", **params)
        totals = [client.get("/vault/stats", headers=shown(keys[name])).json()["calls"] for name in ("team", "ops")]
        assert 0 < totals[0] < totals[1]
        filters = {"after": "2020-01-01T00:00:00Z"}
        assert client.delete("/vault/contents", params=filters, headers=shown(keys["team"])).status_code == 200
        kept = client.get(f"/vault/records/{ops}", headers=shown(keys["ops"])).json()
        gone = client.get(f"/vault/records/{team}", headers=shown(keys["team"])).json()
    assert (kept["prompt"], gone["prompt"]) == ("Say quokka.", None)


def test_a_key_of_which_nothing_is_kept_is_told_so_by_a_response(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, keys = keyed
    body = {"model": "guide", "input": "hi", "max_output_tokens": 2}
    with httpx2.Client(base_url=server.url, timeout=200) as client:
        stored = [client.post("/v1/responses", json=body, headers=shown(keys[name])).json()["store"] for name in keys]
    assert dict(zip(keys, stored, strict=True)) == {"ops": True, "team": True, "guest": False}


def test_a_command_erases_all_that_is_named_or_nothing(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, keys = keyed

    def erase(*ids: str) -> subprocess.CompletedProcess[str]:
        return minivault("vault", "erase", *ids, "--yes", "--url", server.url, "--api-key", keys["ops"])

    with httpx2.Client(base_url=server.url, timeout=200, headers=shown(keys["ops"])) as client:
        calls = [client.post("/generate", json=ASK | {"seed": seed}).json()["id"] for seed in (1, 2)]
        again = client.post(f"/vault/records/{calls[0]}/replay").json()
        refused = erase(*calls, "nobody")
        assert (refused.returncode, "no such record" in refused.stderr) == (1, True)
        assert all(client.get(f"/vault/records/{one}").json()["prompt"] for one in calls)
        done = erase(calls[0], calls[0], str(again["record"]["index"]), calls[1])
        assert (done.returncode, done.stderr) == (0, "")
        assert "Erased: the content of 3 calls" in done.stdout
        assert [client.get(f"/vault/records/{one}").json()["prompt"] for one in calls] == [None, None]
    nothing = erase(*calls)
    assert (nothing.returncode, "Nothing was erased" in nothing.stderr) == (1, True)


def test_client_commands_show_the_key_of_the_environment(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, keys = keyed
    ask = ("generate", "What model are you?", "--max-tokens", "8", "--url", server.url)
    without = minivault(*ask)
    assert (without.returncode, without.stdout) == (1, "")
    assert "MINIVAULT_API_KEY" in without.stderr
    done = minivault(*ask, MINIVAULT_API_KEY=keys["team"])
    assert done.returncode == 0, done.stderr
    assert minivault(*ask, "--api-key", keys["team"]).stdout.strip() != ""


def test_a_secret_is_in_no_file_of_the_data_directory_and_no_process_title(
    keyed: tuple[RunningServer, dict[str, str]],
) -> None:
    server, keys = keyed
    with httpx2.Client(base_url=server.url, timeout=200) as client:
        for key in keys.values():
            assert client.post("/generate", json=ASK, headers=shown(key)).status_code == 200
    secrets = [key.rpartition("_")[2].encode() for key in keys.values()]
    files = [path for path in server.data_dir.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert {path.name for path in files} >= {"keys.json", "vault.db", "log.jsonl"}
    title = Path(f"/proc/{server.process.pid}/cmdline")
    seen = [path.read_bytes() for path in [*files, title] if path.exists()]
    assert [secret for secret in secrets for data in seen if secret in data] == []


def test_what_a_key_that_keeps_nothing_said_is_nowhere(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, keys = keyed
    word = "Zyzzyvaesque"
    with httpx2.Client(base_url=server.url, timeout=200) as client:
        client.post("/generate", json={**ASK, "prompt": f"Say {word}."}, headers=shown(keys["guest"]))
        found = client.get("/vault/records", params={"query": word}, headers=shown(keys["ops"])).json()
    assert found["records"] == []
    files = [path for path in server.data_dir.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert [path.name for path in files if word.encode() in path.read_bytes()] == []


def test_a_key_that_is_revoked_is_refused_at_once(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, _ = keyed
    folder = ("--data-dir", str(server.data_dir))
    key = json.loads(minivault("keys", "create", "brief", "--json", *folder).stdout)["key"]
    with httpx2.Client(base_url=server.url, timeout=200) as client:
        assert client.get("/models", headers=shown(key)).status_code == 200
        assert minivault("keys", "revoke", "brief", *folder).returncode == 0
        assert client.get("/models", headers=shown(key)).status_code == 401


def test_beyond_this_machine_is_refused_without_a_key(tmp_path: Path) -> None:
    command = [*MINIVAULT, "serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path)]  # noqa: S104
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert "keys create NAME --role admin" in done.stderr
