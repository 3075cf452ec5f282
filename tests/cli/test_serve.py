"""``minivault serve``: a flag for every setting, and a refusal in one sentence for whatever stands in its way."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer.main

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.byte_size import written
from minivault.cli.console import CliError
from minivault.cli.files import prepare_data_dir
from minivault.cli.listener import bound_url_of, is_this_machine_alone, listen, url_of
from minivault.cli.main import app
from minivault.cli.serve import announce, refuse_open_door, serve, shows_requests, warn_of_unknown_variables
from minivault.settings import Settings, is_bytes, load_settings
from tests.cli.process import RunningServer, environment, minivault, serving


def test_every_setting_of_the_server_is_a_flag() -> None:
    assert set(inspect.signature(serve).parameters) - {"ctx"} == set(Settings.model_fields) - {
        "url",
        "api_key",
        "ca_file",
    }


def test_lists_come_from_the_file_and_from_variables_where_no_option_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {name for name, field in Settings.model_fields.items() if field.annotation == list[str]}
    in_file = {"allowed_hosts": ["one.example"], "preload": ["mine"], "trusted_proxies": ["10.0.0.1"]}
    assert lists == {*in_file, "cors_origins", "model_precision"}
    (tmp_path / "config.toml").write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in in_file.items()), encoding="utf-8"
    )
    monkeypatch.setenv("MINIVAULT_CORS_ORIGINS", "https://a.example")
    monkeypatch.setenv("MINIVAULT_MODEL_PRECISION", "a=int4")
    served: list[Settings] = []
    monkeypatch.setattr("minivault.cli.serve.run", served.append)
    program = typer.main.get_command(app)
    program(["serve", "--data-dir", str(tmp_path)], standalone_mode=False)
    program(["serve", "--data-dir", str(tmp_path), "--allowed-host", "two.example"], standalone_mode=False)
    assert {name: list(getattr(served[0], name)) for name in in_file} == in_file
    assert (served[0].cors_origins, served[0].model_precision) == (["https://a.example"], ["a=int4"])
    assert served[1].allowed_hosts == ["two.example"]


def test_the_defaults_that_help_names_are_true() -> None:
    said = {
        "unsafe_bind": "no",
        "allowed_hosts": None,
        "require_keys": "no",
        "trusted_proxies": None,
        "cors_origins": None,
        "share_prefix_cache": "no",
        "tls_cert": "none; plain HTTP",
        "tls_key": "none",
        "head_timeout": "10",
        "body_timeout": "30",
        "write_timeout": "30",
        "request_timeout": "0",
        "preload": "none",
        "model_precision": "none",
        "keep_alive": "1800",
        "load_timeout": "300",
        "sse_keep_alive": "15",
        "offline": "no",
        "import_dir": "none; not at all",
        "mirror": "yes",
        "speculation": "yes",
        "shutdown_timeout": "30",
        "receipt_deadline": "10",
        "head_interval": "60",
        "head_export": "none",
        "vault_key_file": "none",
        "retention": "0",
        "answer_from_record": "no",
        "otel_endpoint": "none",
        "otel_content": "no",
    }
    for name, parameter in inspect.signature(serve).parameters.items():
        if name != "ctx":
            field = Settings.model_fields[name]
            default = said.get(name, written(field.default) if is_bytes(field) else str(field.default))
            help_text = inspect.get_annotations(serve, eval_str=True)[name].__metadata__[0].help
            assert default is None or f"(default: {default})" in help_text, parameter


def is_refused(**flags: Any) -> bool:
    try:
        refuse_open_door(load_settings(**flags))
    except CliError:
        return True
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_machine_may_be_listened_on(host: str) -> None:
    assert not is_refused(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "2001:db8::1", ""])  # noqa: S104  refused is the point
def test_beyond_this_machine_is_refused(host: str) -> None:
    with pytest.raises(CliError, match="unsafe-bind") as caught:
        refuse_open_door(load_settings(host=host))
    assert caught.value.exit_code == 2
    assert "keys create NAME --role admin --data-dir " in str(caught.value)


def test_beyond_this_machine_can_be_insisted_on() -> None:
    assert not is_refused(host="0.0.0.0", unsafe_bind=True)  # noqa: S104  nothing is bound here


def test_beyond_this_machine_may_be_listened_on_once_there_is_a_key(tmp_path: Path) -> None:
    host = "0.0.0.0"  # noqa: S104  nothing is bound here
    assert is_refused(host=host, data_dir=tmp_path, require_keys=True)
    KeyStore.in_folder(tmp_path).create("ops", KeyTerms())
    assert not is_refused(host=host, data_dir=tmp_path)


def test_a_port_that_is_taken_is_told() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(CliError, match="program has it: choose another with --port"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "\udcff"])
def test_a_host_that_is_none_is_told(host: str) -> None:
    for use in (lambda: listen(host, 0), lambda: is_this_machine_alone(host)):
        with pytest.raises(CliError, match="not an address"):
            use()


def test_a_second_server_on_one_port_is_told_of_the_first(server: RunningServer, tmp_path: Path) -> None:
    done = minivault("serve", "--port", server.url.rpartition(":")[2], "--data-dir", str(tmp_path))
    assert (done.returncode, f"answers there already, at {server.url}." in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("given", "terminal", "shown"),
    [({}, True, False), ({"log_level": "info"}, True, True), ({}, False, True), ({"log_level": "error"}, True, True)],
)
def test_requests_are_shown_on_a_terminal_only_when_a_level_was_asked_for(
    given: dict[str, Any], terminal: bool, shown: bool
) -> None:
    assert shows_requests(load_settings(**given), terminal) is shown


def test_a_variable_that_is_no_setting_is_warned_of_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIVAULT_PROT", "9000")
    monkeypatch.setenv("MINIVAULT_XYZZY", "1")
    monkeypatch.setenv("MINIVAULT_PORT", "9000")
    warn_of_unknown_variables()
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "MINIVAULT_PROT is" in line and line.endswith("Did you mean MINIVAULT_PORT?")]
    assert [line for line in told if "MINIVAULT_XYZZY is" in line and "Did you mean" not in line]
    assert not [line for line in told if "MINIVAULT_PORT is" in line]


def test_the_address_is_told_as_a_url() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("host", "here"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])  # noqa: S104  see below
def test_where_every_address_is_listened_on_the_start_says_so(
    host: str, here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        listener = listen(host, 0)  # for the length of this block, and nobody is answered
    except CliError:
        pytest.skip("this machine has no IPv6")
    with listener:
        announce(Settings(host=host, data_dir=tmp_path), url_of(listener), bound_url_of(listener))
        port = listener.getsockname()[1]
    first, second, *others = capsys.readouterr().err.splitlines()
    assert f"listens on http://{f'[{host}]' if ':' in host else host}:{port} " in first
    assert "every address of this machine" in second
    assert f"http://{here}:{port}" in second
    assert any(f"http://{here}:{port}/docs" in line for line in others)


def test_where_one_address_is_listened_on_the_start_names_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listen("127.0.0.1", 0) as listener:
        announce(Settings(data_dir=tmp_path), url_of(listener), bound_url_of(listener))
    told = capsys.readouterr().err
    assert "listens on http://127.0.0.1:" in told
    assert "every address" not in told


def test_the_data_dir_is_its_owners_alone(tmp_path: Path) -> None:
    prepare_data_dir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_data_dir_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="--data-dir"):
        prepare_data_dir(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_dir_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CliError, match="cannot be written"):
        prepare_data_dir(tmp_path)


def test_a_second_server_on_one_vault_is_refused(server: RunningServer) -> None:
    done = minivault("serve", "--port", "0", "--data-dir", str(server.data_dir))
    assert done.returncode == 1
    assert f"already, at {server.url}:" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_model_ends_the_start(tmp_path: Path) -> None:
    done = minivault("serve", "--port", "0", "--model", "giude", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "guide" in done.stderr
    assert "Traceback" not in done.stderr


def test_kernels_that_this_machine_lacks_end_the_server(tmp_path: Path) -> None:
    lacking = "avx2" if os.uname().machine == "aarch64" else "neon"
    done = minivault("serve", "--port", "0", "--kernels", lacking, "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "kernels" in done.stderr


def test_ctrl_c_is_a_clean_end(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0


def test_a_stream_is_finished_before_the_server_stops(tmp_path: Path) -> None:
    body = {"prompt": "Tell me a story.", "max_tokens": 200, "ignore_eos": True, "seed": 7}
    with (
        serving(tmp_path, stopped=True) as running,
        httpx2.stream("POST", f"{running.url}/generate/stream", json=body) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        running.process.send_signal(signal.SIGTERM)
        assert '"finish_reason": "length"' in list(lines)[-1]


def test_a_free_port_is_found_by_the_system(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)):
        assert port > 0


NEVER_LOADED = """
import threading
from minivault.cli.main import main
from minivault.service import loading_native

loading_native.NativeLoader.load = lambda self, entry, report: threading.Event().wait()
main()
"""


def test_ctrl_c_ends_a_server_whose_model_still_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NEVER_LOADED, "serve", "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("listens on" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
