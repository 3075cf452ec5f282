"""The address of a server beside its vault: who finds it, and what is not believed."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minivault.cli.address import NAME, _network, published, running_at, server_of, serverless
from minivault.cli.console import CliError
from minivault.settings import load_settings
from tests.cli.process import RunningServer, minivault

HERE = "http://127.0.0.1:4711"
NETWORK = _network()


@contextmanager
def locked(path: Path, text: str) -> Iterator[None]:
    path.write_text(text)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_the_address_is_known_while_the_server_runs_and_then_gone(tmp_path: Path) -> None:
    with published(tmp_path, HERE):
        assert running_at(tmp_path) == HERE
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_not_believed_and_is_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("http://127.0.0.1:1\n")
    assert running_at(tmp_path) is None
    with published(tmp_path, HERE):
        assert running_at(tmp_path) == HERE


def test_a_server_that_ends_leaves_the_address_of_the_next(tmp_path: Path) -> None:
    first = published(tmp_path, "http://127.0.0.1:1")
    first.__enter__()
    with published(tmp_path, HERE):
        first.__exit__(None, None, None)
        assert running_at(tmp_path) == HERE


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1:80", "http://example.org:80", "ftp://127.0.0.1:80", "http://127.0.0.1", "", "\xff",
     "http://127.0.0.1:80/x", "http://a@127.0.0.1:80", "http://127.0.0.1:99999"],
)  # fmt: skip
def test_an_address_beyond_this_machine_is_not_believed(url: str, tmp_path: Path) -> None:
    with locked(tmp_path / NAME, f"{url}\n{NETWORK}\n"):
        assert running_at(tmp_path) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with locked(tmp_path / "other", f"{HERE}\n{NETWORK}\n"):
        (tmp_path / NAME).symlink_to(tmp_path / "other")
        assert running_at(tmp_path) is None


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    with published(tmp_path / "missing", HERE):
        assert running_at(tmp_path / "missing") is None


def test_a_named_url_beats_the_server_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with published(tmp_path, HERE):
        assert server_of(load_settings(data_dir=tmp_path)) == HERE
        assert server_of(load_settings(data_dir=tmp_path, url="http://a")) == "http://a"
        monkeypatch.setenv("MINIVAULT_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("MINIVAULT_URL", "http://b")
        assert server_of(load_settings()) == "http://b"


def test_a_named_folder_beats_the_url_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVAULT_URL", "http://b")
    with published(tmp_path, HERE):
        assert server_of(load_settings(data_dir=tmp_path)) == HERE


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_named_folder_without_a_server_has_no_other_asked(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIVAULT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MINIVAULT_PORT", "9000")
    settings = load_settings(data_dir=tmp_path if by == "flag" else None)
    assert serverless(settings)
    with pytest.raises(CliError, match=f"No server runs on {tmp_path}"):
        server_of(settings)


def test_where_nothing_is_named_the_usual_address_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINIVAULT_DATA_DIR")
    monkeypatch.setattr("minivault.settings.DEFAULT_DATA_DIR", tmp_path)
    monkeypatch.setenv("MINIVAULT_PORT", "9000")
    settings = load_settings()
    assert (server_of(settings), serverless(settings)) == ("http://127.0.0.1:9000", False)
    with published(tmp_path, HERE):
        assert server_of(load_settings()) == HERE


@pytest.mark.skipif(not Path("/proc/self/ns/net").is_symlink(), reason="this system has one network alone")
@pytest.mark.parametrize("network", ["net:[1]", ""])
def test_the_address_of_a_container_is_not_believed_and_nothing_else_is_asked(network: str, tmp_path: Path) -> None:
    with locked(tmp_path / NAME, f"http://127.0.0.1:8000\n{network}\n"):
        assert running_at(tmp_path) is None
        with pytest.raises(CliError, match="--url"):
            server_of(load_settings(data_dir=tmp_path))


def test_local_beside_a_server_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with published(tmp_path, HERE):
        refused = minivault("generate", "x", "--local", "--data-dir", str(tmp_path))
    assert (refused.returncode, f"at {HERE}: leave --local out" in refused.stderr) == (1, True)


def test_commands_find_the_server_by_its_data_directory(server: RunningServer) -> None:
    asked = minivault("health", "--json", "--data-dir", str(server.data_dir))
    named = minivault("generate", "x", "--max-tokens", "1", MINIVAULT_DATA_DIR=str(server.data_dir))
    assert (asked.returncode, named.returncode) == (0, 0)


def test_a_prompt_for_a_folder_without_a_server_goes_nowhere(server: RunningServer, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    for folder, more in ((("--data-dir", str(tmp_path)), {}), ((), {"MINIVAULT_DATA_DIR": str(tmp_path)})):
        asked = minivault("generate", "x", *folder, MINIVAULT_PORT=port, **more)
        assert (asked.returncode, asked.stdout) == (1, "")
        assert f"No server runs on {tmp_path}. Start one with: " in asked.stderr
        assert f" serve --data-dir {tmp_path}\n" in asked.stderr
        assert minivault("health", *folder, MINIVAULT_PORT=port, **more).returncode == 1
    named = minivault("generate", "x", "-n", "1", "--url", server.url, MINIVAULT_DATA_DIR=str(tmp_path))
    assert named.returncode == 0


def test_where_no_server_was_found_is_said(tmp_path: Path) -> None:
    asked = minivault("health", HOME=str(tmp_path), MINIVAULT_PORT="1")
    said = f"No server answers at http://127.0.0.1:1, and none runs on {tmp_path / '.minivault'}."
    assert (asked.returncode, said in asked.stderr) == (1, True)
    assert "none runs on" not in minivault("health", "--url", "http://127.0.0.1:1").stderr
