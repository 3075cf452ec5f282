"""``minivault config`` says what is set and where, and writes a file that the settings take."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from minivault.cli.config import plain, template
from minivault.settings import Settings, load_settings
from tests.cli.process import RunningServer, minivault


def shown(*arguments: str, **environment: str) -> dict[str, dict[str, object]]:
    done = minivault("config", "show", "--json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def test_every_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("max_tokens = 77\n", encoding="utf-8")
    rows = shown("--data-dir", str(tmp_path), MINIVAULT_PORT="9000")
    assert list(rows) == list(Settings.model_fields)
    assert rows["port"] == {"value": 9000, "from": "MINIVAULT_PORT"}
    assert rows["max_tokens"] == {"value": 77, "from": "config.toml"}
    assert rows["host"] == {"value": "127.0.0.1", "from": "default"}
    assert rows["data_dir"] == {"value": str(tmp_path), "from": "--data-dir"}


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    for flags in (["--json"], []):
        done = minivault("config", "show", "--data-dir", str(tmp_path), *flags, MINIVAULT_API_KEY="mv_abc_secret")
        assert "secret" not in done.stdout + done.stderr
    assert shown("--data-dir", str(tmp_path), MINIVAULT_API_KEY="mv_abc_secret")["api_key"]["value"] == "(set)"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://user:s3cret@db:6379/0", "redis://user:***@db:6379/0"),
        ("redis://:s3c/r@t@db:6379", "redis://:***@db:6379"),
        ("redis://s3cret@db", "redis://***@db"),
        ("redis://db:6379/0?password=s3cret&db=1", "redis://db:6379/0?password=***&db=1"),
        ("redis://db:6379/0", "redis://db:6379/0"),
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str, told: str) -> None:
    settings = Settings.model_construct(limits_storage=url)
    assert plain(settings, "limits_storage") == told


def test_a_folder_on_the_command_line_beats_the_servers_variable(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port = 9000\n", encoding="utf-8")
    rows = shown("--data-dir", str(tmp_path), MINIVAULT_URL="http://example.org")
    assert rows["url"] == {"value": None, "from": "no server runs here"}
    assert shown(HOME=str(tmp_path), MINIVAULT_PORT="9000")["url"] == {
        "value": "http://127.0.0.1:9000",
        "from": "host and port",
    }


def test_the_server_that_runs_on_the_folder_is_the_one_that_is_asked(server: RunningServer) -> None:
    found = shown("--data-dir", str(server.data_dir))["url"]
    assert found == {"value": server.url, "from": "server.url of the server that runs here"}
    assert shown(MINIVAULT_DATA_DIR=str(server.data_dir), MINIVAULT_URL="http://a.example")["url"] == {
        "value": "http://a.example",
        "from": "MINIVAULT_URL",
    }


def test_a_variable_that_is_no_setting_is_told(tmp_path: Path) -> None:
    done = minivault("config", "show", "--data-dir", str(tmp_path), MINIVAULT_PROT="9000")
    assert "MINIVAULT_PROT is set" in done.stderr


def test_the_path_is_that_of_the_file(tmp_path: Path) -> None:
    assert minivault("config", "path", "--data-dir", str(tmp_path)).stdout == f"{tmp_path / 'config.toml'}\n"


def test_init_writes_a_file_once(tmp_path: Path) -> None:
    first = minivault("config", "init", "--data-dir", str(tmp_path / "new"))
    assert (first.returncode, first.stdout) == (0, f"{tmp_path / 'new' / 'config.toml'}\n")
    again = minivault("config", "init", "--data-dir", str(tmp_path / "new"))
    assert (again.returncode, "left as it is" in again.stderr) == (1, True)


def test_every_line_of_the_file_can_be_put_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIVAULT_DATA_DIR", raising=False)
    lines = [line.removeprefix("# ") for line in template().splitlines()]
    settings = [line for line in lines if line.partition(" = ")[0] in Settings.model_fields and not line.endswith("=")]
    assert len(settings) > 25
    (tmp_path / "config.toml").write_text("\n".join(settings), encoding="utf-8")
    assert tomllib.loads("\n".join(settings))
    assert load_settings(data_dir=tmp_path).port == 8000
