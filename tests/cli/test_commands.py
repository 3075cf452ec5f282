"""The commands as a person runs them: against a real server, and without one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import minivault as package
from minivault.cli.main import app
from minivault.cli.replay import sentence
from minivault.engine.native import _native
from tests.cli.process import MINIVAULT, RunningServer, environment, minivault, serving


def command_names(group: typer.Typer = app, above: str = "") -> Iterator[str]:
    """Every command, with the names of its groups before its own."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield above + (command.name or command.callback.__name__)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from command_names(inner.typer_instance, f"{above}{inner.name} ")


ASK = ("What model are you?", "--seed", "7", "--max-tokens", "12")


def test_help_shows_examples() -> None:
    done = minivault("--help")
    assert done.returncode == 0
    assert 'minivault generate "What model are you?"' in done.stdout


@pytest.mark.parametrize("command", sorted(command_names()))
def test_every_command_teaches_by_examples(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=200)
    assert shown.exit_code == 0
    assert f"minivault {command}" in shown.output or command.startswith("vault ")


def test_the_version_is_an_option_too() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"minivault {package.__version__}\n"


def test_version_names_package_and_engine() -> None:
    facts = json.loads(minivault("version", "--json").stdout)
    assert facts["minivault"] == package.__version__
    assert facts["kernels"] in _native.available_kernels()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full, which takes nothing")
def test_output_that_is_not_taken_ends_in_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MINIVAULT, "version"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The disk is full" in done.stderr


def test_generate_and_stream_give_the_same_bytes(server: RunningServer) -> None:
    whole = minivault("generate", *ASK, "--url", server.url)
    pieces = minivault("stream", *ASK, "--url", server.url)
    assert (whole.returncode, pieces.returncode) == (0, 0)
    assert whole.stdout == pieces.stdout != ""


def test_a_server_and_no_server_give_the_same_bytes(server: RunningServer, tmp_path: Path) -> None:
    there = minivault("generate", *ASK, "--url", server.url)
    here = minivault("generate", *ASK, "--local", "--data-dir", str(tmp_path))
    assert here.stdout == there.stdout != ""


def test_the_server_can_be_named_by_the_environment(server: RunningServer) -> None:
    assert minivault("health", MINIVAULT_URL=server.url).returncode == 0


def test_json_is_the_servers_answer(server: RunningServer) -> None:
    answer = json.loads(minivault("generate", *ASK, "--json", "--url", server.url).stdout)
    assert answer["model"] == "guide"
    assert answer["usage"]["completion_tokens"] <= 12
    assert answer["seed"] == 7


def test_streamed_json_is_json_lines_that_join_to_the_answer(server: RunningServer) -> None:
    whole = json.loads(minivault("generate", *ASK, "--json", "--url", server.url).stdout)
    lines = [json.loads(line) for line in minivault("stream", *ASK, "--json", "--url", server.url).stdout.splitlines()]
    assert "".join(line["response"] for line in lines) == whole["response"]
    assert lines[-1]["done"] is True


def test_the_prompt_may_come_from_standard_input(server: RunningServer) -> None:
    arguments = ("--seed", "7", "--max-tokens", "12", "--url", server.url)
    assert (
        minivault("generate", "-", *arguments, stdin=ASK[0]).stdout
        == minivault("generate", *ASK[:1], *arguments).stdout
    )


def test_the_prompt_may_be_an_option(server: RunningServer) -> None:
    assert minivault("generate", "-p", "Hello", "--max-tokens", "3", "--url", server.url).returncode == 0


def test_standard_input_that_is_no_utf8_is_refused(server: RunningServer) -> None:
    done = minivault("generate", "-", "--url", server.url, stdin=b"abc\xff")
    assert (done.returncode, done.stdout) == (2, "")
    assert "byte 3" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("one", "-p", "two"), ("x", "--seed", "seven"), ("x", "--frobnicate")])
def test_wrong_use_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert minivault("generate", *arguments).returncode == 2


def test_a_value_out_of_bounds_is_named(server: RunningServer) -> None:
    done = minivault("generate", "x", "--temperature", "99", "--url", server.url)
    assert done.returncode == 2
    assert "temperature" in done.stderr


def test_a_value_out_of_bounds_is_named_without_a_server_too(tmp_path: Path) -> None:
    done = minivault("generate", "x", "--temperature", "99", "--local", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "temperature" in done.stderr


def test_url_and_local_exclude_each_other() -> None:
    assert minivault("generate", "x", "--local", "--url", "http://127.0.0.1:1").returncode == 2


def test_without_a_server_it_says_how_to_start_one() -> None:
    done = minivault("generate", "x", "--url", f"http://127.0.0.1:{unused_port()}")
    assert (done.returncode, done.stdout) == (1, "")
    assert " serve\n" in done.stderr


def test_a_setting_out_of_bounds_is_wrong_use() -> None:
    done = minivault("health", MINIVAULT_PORT="no-number-at-all")
    assert done.returncode == 2
    assert "port" in done.stderr
    assert "no-number-at-all" not in done.stderr


def test_health_of_a_server_that_is_well(server: RunningServer) -> None:
    report = json.loads(minivault("health", "--json", "--url", server.url).stdout)
    assert report["status"] == "ok"


def test_what_was_asked_is_in_the_log(server: RunningServer) -> None:
    minivault("generate", "A question for the log.", "--max-tokens", "3", "--url", server.url)
    lines = minivault("log", "-n", "200", "--json", "--data-dir", str(server.data_dir)).stdout.splitlines()
    assert "A question for the log." in [json.loads(line)["prompt"] for line in lines]


def test_what_was_asked_without_a_server_is_in_the_log_too(tmp_path: Path) -> None:
    minivault("stream", "Hello", "--max-tokens", "3", "--local", "--data-dir", str(tmp_path))
    call = json.loads(minivault("log", "--json", "--data-dir", str(tmp_path)).stdout)
    assert (call["prompt"], call["source"], call["mode"], call["finish_reason"]) == ("Hello", "cli", "stream", "length")


def test_the_log_shows_the_newest_last(tmp_path: Path) -> None:
    minivault(
        "chat", "--local", "--max-tokens", "2", "--data-dir", str(tmp_path), stdin="one\n/reset\ntwo\n/reset\nthree\n"
    )
    lines = minivault("log", "-n", "2", "--json", "--data-dir", str(tmp_path)).stdout.splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["two", "three"]


def test_an_empty_vault_has_an_empty_log(tmp_path: Path) -> None:
    done = minivault("log", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing is on record" in done.stderr


def test_piped_output_has_no_colours(server: RunningServer) -> None:
    for command in (["health", "--url", server.url], ["log", "--data-dir", str(server.data_dir)], ["models", "list"]):
        assert "\x1b" not in minivault(*command, FORCE_COLOR="").stdout


def test_a_conversation_over_http_goes_on(server: RunningServer) -> None:
    done = minivault(
        "chat", "--seed", "7", "--max-tokens", "8", "--url", server.url, stdin="Hello\n/stream\nAnd now?\n/exit\n"
    )
    assert done.returncode == 0, done.stderr
    assert "printed whole" in done.stderr


def test_the_embedded_model_is_listed() -> None:
    entries = [json.loads(line) for line in minivault("models", "list", "--json").stdout.splitlines()]
    assert [(entry["name"], entry["embedded"]) for entry in entries[:1]] == [("guide", True)]


def test_an_imported_model_can_be_asked(tmp_path: Path) -> None:
    source = Path(package.__file__).parent / "guide"
    data = ("--data-dir", str(tmp_path))
    assert minivault("models", "import", str(source), "--name", "copy", *data).returncode == 0
    names = [json.loads(line)["name"] for line in minivault("models", "list", "--json", *data).stdout.splitlines()]
    assert names == ["guide", "copy"]
    answer = json.loads(minivault("generate", *ASK, "--local", "--model", "copy", "--json", *data).stdout)
    assert answer["model"] == "copy"


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    done = minivault("models", "import", str(tmp_path), "--data-dir", str(tmp_path / "data"))
    assert done.returncode != 0
    assert "model.safetensors" in done.stderr


def test_an_unknown_model_names_what_there_is(server: RunningServer) -> None:
    done = minivault("generate", "x", "--model", "giude", "--url", server.url)
    assert done.returncode == 1
    assert "guide" in done.stderr


LONG = ("stream", "Tell me a story.", "--max-tokens", "900", "--ignore-eos", "--seed", "7")


SLOW = {"MINIVAULT_KERNELS": "scalar"}
"""So slow that no answer of that length ends while a busy machine brings the signal."""


def interrupted(*arguments: str) -> int:
    """The exit code of a command that gets Ctrl-C once it has begun to answer."""
    with subprocess.Popen([*MINIVAULT, *arguments], env=environment(**SLOW), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        return process.wait(60)


def test_ctrl_c_stops_an_answer_and_it_is_recorded_as_cancelled(tmp_path: Path) -> None:
    assert interrupted(*LONG, "--local", "--data-dir", str(tmp_path)) == 130
    call = json.loads(minivault("log", "--json", "--data-dir", str(tmp_path)).stdout)
    assert call["finish_reason"] == "cancelled"
    assert call["response"]


def test_ctrl_c_stops_the_servers_answer_too(tmp_path: Path) -> None:
    with serving(tmp_path, "--kernels", "scalar") as server:
        assert interrupted(*LONG, "--url", server.url) == 130
    call = json.loads(minivault("log", "--json", "--data-dir", str(tmp_path)).stdout)
    assert call["finish_reason"] == "cancelled"


def test_a_recorded_answer_comes_again(server: RunningServer) -> None:
    answer = json.loads(minivault("generate", *ASK, "--json", "--url", server.url).stdout)
    done = minivault("vault", "replay", answer["id"], "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"MATCH: all {answer['usage']['completion_tokens']} recorded tokens")


def test_a_sample_of_the_vault_comes_again(server: RunningServer) -> None:
    minivault("generate", *ASK, "--url", server.url)
    done = minivault("vault", "replay", "--sample", "1", "--url", server.url)
    assert (done.returncode, done.stdout) == (0, "1 replayed: 1 MATCH, 0 MISMATCH, 0 NOT COMPARABLE\n")


@pytest.mark.parametrize("by", ["--url", "--data-dir"])
def test_content_is_erased_through_the_server_that_writes_it(server: RunningServer, by: str) -> None:
    answer = json.loads(minivault("generate", *ASK, "--json", "--url", server.url).stdout)
    place = server.url if by == "--url" else str(server.data_dir)
    done = minivault("vault", "erase", answer["id"], "--yes", by, place)
    assert (done.returncode, done.stdout) == (0, "Erased: the content of 1 call\n")
    replayed = minivault("vault", "replay", answer["id"], "--url", server.url)
    assert (replayed.returncode, replayed.stdout) == (1, "NOT COMPARABLE: its content was erased\n")


@pytest.mark.parametrize("served", [True, False])
def test_erasing_counts_the_replays_that_go_too(served: bool, server: RunningServer, tmp_path: Path) -> None:
    place = ("--url", server.url) if served else ("--local", "--data-dir", str(tmp_path))
    answer = json.loads(minivault("generate", *ASK, "--json", *place).stdout)
    minivault("vault", "replay", str(answer["record"]["index"]), *place)
    done = minivault("vault", "erase", str(answer["record"]["index"]), "--yes", *place[-2:])
    assert (done.returncode, done.stdout) == (0, "Erased: the content of 1 call and of 1 replay or repeat of it\n")


def test_a_folder_beats_the_server_of_the_environment_when_erasing(server: RunningServer) -> None:
    there = ("--data-dir", str(server.data_dir))
    answer = json.loads(minivault("generate", *ASK, "--json", "--url", server.url).stdout)
    done = minivault("vault", "erase", answer["id"], "--yes", *there, MINIVAULT_URL="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (0, "Erased: the content of 1 call\n")


def test_a_recorded_answer_comes_again_without_a_server(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    minivault("generate", *ASK, "--local", *data)
    verdict = json.loads(minivault("vault", "replay", "0", "--local", "--json", *data).stdout)
    assert verdict["verdict"] == "MATCH"
    assert 0 < verdict["compared_tokens"] <= 12


def test_the_records_of_a_folder_without_a_server_are_replayed_here_and_no_other_server_is_asked(
    server: RunningServer, tmp_path: Path
) -> None:
    port = server.url.rpartition(":")[2]
    minivault("generate", *ASK, "--local", "--data-dir", str(tmp_path))
    before = minivault("vault", "stats", "--json", "--data-dir", str(server.data_dir)).stdout
    done = minivault("vault", "replay", "1", MINIVAULT_DATA_DIR=str(tmp_path), MINIVAULT_PORT=port)
    assert (done.returncode, done.stderr) == (0, f"No server runs on {tmp_path}: replaying in this process.\n")
    assert done.stdout.startswith("MATCH: ")
    assert minivault("vault", "stats", "--json", "--data-dir", str(server.data_dir)).stdout == before


@pytest.mark.parametrize("how", [(), ("--local",)])
def test_a_folder_without_a_vault_has_nothing_to_replay(how: tuple[str, ...], tmp_path: Path) -> None:
    done = minivault("vault", "replay", "0", *how, "--data-dir", str(tmp_path / "x"))
    assert (done.returncode, done.stderr) == (1, f"Error: There is no vault in {tmp_path / 'x'}: nothing to replay.\n")
    assert not (tmp_path / "x").exists()


def test_which_server_was_asked_is_said_where_none_was_named(server: RunningServer, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    answer = json.loads(minivault("generate", *ASK, "--json", "--url", server.url).stdout)
    replayed = minivault("vault", "replay", answer["id"], HOME=str(tmp_path), MINIVAULT_PORT=port)
    erased = minivault("vault", "erase", answer["id"], "--yes", MINIVAULT_DATA_DIR=str(server.data_dir))
    for done in (replayed, erased):
        assert (done.returncode, done.stderr) == (0, f"Asking the server at {server.url}.\n")


def test_another_arithmetic_is_not_comparable(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    minivault("generate", *ASK, "--local", *data, MINIVAULT_PRECISION="f32")
    done = minivault("vault", "replay", "0", "--local", *data)
    assert done.returncode == 1
    assert "NOT COMPARABLE: it was answered in another arithmetic" in done.stdout


def test_a_record_that_is_not_there_is_told(server: RunningServer) -> None:
    done = minivault("vault", "replay", "no/such", "--url", server.url)
    assert done.returncode == 1
    assert "Error:" in done.stderr


def test_a_mismatch_names_where_and_what() -> None:
    result = {
        "verdict": "MISMATCH",
        "position": 3,
        "expected_token_id": 7,
        "actual_token_id": None,
        "compared_tokens": 3,
    }
    assert sentence(result) == "MISMATCH at token 3: token id 7 is on record, and the end came"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
