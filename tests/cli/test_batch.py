"""``minivault batch`` over a real server: in order, through kill -9 of command and server, and nothing twice."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from minivault.cli.batch import MARK, _begin_anew, _read, merged
from minivault.cli.batch_client import BatchClient
from minivault.cli.console import CliError
from tests.cli.process import MINIVAULT, RunningServer, environment, minivault
from tests.e2e.server import Server, serving

PATIENCE_SECONDS = 60


def asked(tmp_path: Path, count: int, **fields: Any) -> Path:
    body = {"messages": [{"role": "user", "content": "What model are you?"}], "seed": 7, "max_tokens": 24, **fields}
    rows = [
        {"custom_id": f"c{number}", "url": "/v1/chat/completions", "body": body | {"seed": number}}
        for number in range(count)
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return source


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in output.read_text(encoding="utf-8").splitlines()]


def test_every_line_is_answered_in_its_order(server: RunningServer, tmp_path: Path) -> None:
    source, output = asked(tmp_path, 5), tmp_path / "out.jsonl"
    with source.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"custom_id": "bad", "body": {"messages": []}}) + "\n")
    done = minivault("batch", str(source), "-o", str(output), "--concurrency", "2", "--url", server.url, "--json")
    assert done.returncode == 1, done.stderr
    assert f"1 line was refused or failed; {output} has" in done.stderr
    rows = rows_of(output)
    assert [row["custom_id"] for row in rows] == ["c0", "c1", "c2", "c3", "c4", "bad"]
    assert [row["response"]["status_code"] for row in rows] == [200] * 5 + [422]
    assert json.loads(done.stdout)["request_counts"] == {"total": 6, "completed": 5, "failed": 1}
    assert "5 answered, 1 refused, of 6" in done.stderr
    # What was uploaded and written for it is gone from the server.
    assert httpx2.get(f"{server.url}/v1/files").json()["data"] == []


def test_a_batch_waits_for_what_its_own_lines_have_used_up(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = minivault("keys", "create", "narrow", "--requests", "4/second", "--json", "--data-dir", str(data))
    key = json.loads(made.stdout)["key"]
    source, output = asked(tmp_path, 12), tmp_path / "out.jsonl"
    with serving(data) as server:
        done = minivault("batch", str(source), "-o", str(output), "--url", server.url, MINIVAULT_API_KEY=key)
    assert done.returncode == 0, done.stderr
    assert [row["response"]["status_code"] for row in rows_of(output)] == [200] * 12


def test_an_output_that_is_there_is_not_written_over(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    done = minivault("batch", str(asked(tmp_path, 1)), "-o", str(tmp_path / "out.jsonl"), "--url", server.url)
    assert (done.returncode, (tmp_path / "out.jsonl").read_text()) == (2, "mine")


@pytest.mark.parametrize("named", ["in.jsonl", "symbolic", "hard"])
def test_the_input_is_not_written_over_by_its_answers(tmp_path: Path, named: str) -> None:
    source = asked(tmp_path, 1)
    (tmp_path / "symbolic").symlink_to(source)
    (tmp_path / "hard").hardlink_to(source)
    before = source.read_bytes()
    done = minivault("batch", str(source), "-o", str(tmp_path / named), "--overwrite", "--url", "http://127.0.0.1:9")
    assert (done.returncode, source.read_bytes()) == (2, before)
    assert "-o must name another file than the input." in done.stderr


def test_an_output_without_a_folder_is_told_before_anything_is_asked(server: RunningServer, tmp_path: Path) -> None:
    done = minivault("batch", str(asked(tmp_path, 1)), "-o", str(tmp_path / "none" / "out.jsonl"), "--url", server.url)
    assert (done.returncode, "There is no folder" in done.stderr) == (1, True)
    assert httpx2.get(f"{server.url}/v1/files").json()["data"] == []


def test_lines_that_are_none_are_named(server: RunningServer, tmp_path: Path) -> None:
    source = asked(tmp_path, 1)
    source.write_text(source.read_text() + "{nope\n")
    done = minivault("batch", str(source), "-o", str(tmp_path / "out.jsonl"), "--url", server.url)
    assert done.returncode == 2
    assert "line 2: The line is not valid JSON, at character 2." in done.stderr
    assert "What was uploaded is deleted from the server again." in done.stderr
    assert httpx2.get(f"{server.url}/v1/files").json()["data"] == []


def running(source: Path, output: Path, url: str) -> subprocess.Popen[bytes]:
    command = [*MINIVAULT, "batch", str(source), "-o", str(output), "--url", url]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)


def until_done(url: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        data = httpx2.get(f"{url}/v1/batches").json()["data"]
        if data and data[0]["request_counts"]["completed"] >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the batch does not get on")


def begun(source: Path, url: str) -> str:
    """The batch that ``minivault batch`` begins of this file, a line at a time, without a command that waits for it."""
    upload = httpx2.post(f"{url}/v1/files", files={"file": source.read_bytes()}, data={"purpose": "batch"}).json()["id"]
    body = {"input_file_id": upload, "endpoint": "/v1/chat/completions", "completion_window": "24h", "concurrency": 1,
            "metadata": {MARK: f"{_read(source)[2]}:/v1/chat/completions"}}  # fmt: skip
    return str(httpx2.post(f"{url}/v1/batches", json=body).json()["id"])


def test_a_batch_that_is_cancelled_hands_over_what_it_has_and_leaves_no_file(
    server: RunningServer, tmp_path: Path
) -> None:
    source, output = asked(tmp_path, 100, max_tokens=400, ignore_eos=True), tmp_path / "out.jsonl"
    batch_id = begun(source, server.url)
    until_done(server.url, 1)
    done = minivault("batch", str(source), "--cancel", "-o", str(output), "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert [row["custom_id"] for row in rows_of(output)] == [f"c{number}" for number in range(len(rows_of(output)))]
    assert 1 <= len(rows_of(output)) < 100
    assert f"{batch_id} begins no more lines." in done.stderr
    assert httpx2.get(f"{server.url}/v1/files").json()["data"] == []
    again = minivault("batch", str(source), "--cancel", "--url", server.url)
    assert (again.returncode, "No batch of this file is running." in again.stderr) == (1, True)


def test_what_was_cancelled_and_is_asked_again_begins_anew_and_says_so(server: RunningServer, tmp_path: Path) -> None:
    source, output = asked(tmp_path, 40), tmp_path / "out.jsonl"
    batch_id = begun(source, server.url)
    assert httpx2.post(f"{server.url}/v1/batches/{batch_id}/cancel").status_code == 200
    while httpx2.get(f"{server.url}/v1/batches/{batch_id}").json()["status"] != "cancelled":
        pass
    done = minivault("batch", str(source), "-o", str(output), "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert f"{batch_id} of this file is cancelled: a new batch asks all lines." in done.stderr
    assert len(rows_of(output)) == 40
    assert httpx2.get(f"{server.url}/v1/files").json()["data"] == []


def test_the_answers_of_an_ended_batch_are_not_thrown_away_by_cancelling(server: RunningServer, tmp_path: Path) -> None:
    source = asked(tmp_path, 1)
    begun(source, server.url)
    until_done(server.url, 1)
    done = minivault("batch", str(source), "--cancel", "--url", server.url)
    assert (done.returncode, "Its answers are taken with -o" in done.stderr) == (1, True)
    assert minivault("batch", str(source), "-o", str(tmp_path / "out.jsonl"), "--url", server.url).returncode == 0
    assert httpx2.get(f"{server.url}/v1/files").json()["data"] == []


@pytest.mark.slow
def test_command_and_server_are_killed_and_no_line_is_answered_or_recorded_twice(tmp_path: Path) -> None:
    source, output, data_dir = asked(tmp_path, 30, max_tokens=48), tmp_path / "out.jsonl", tmp_path / "data"
    server = Server(data_dir, "--batch-concurrency", "3")
    command = running(source, output, server.url)
    until_done(server.url, 5)
    command.kill()
    command.wait()
    server.kill()
    assert not output.exists()
    server = Server(data_dir, "--batch-concurrency", "3")
    try:
        until_done(server.url, 12)
        command = running(source, output, server.url)
        command.send_signal(signal.SIGINT)
        if command.wait() != 0:  # a signal that comes before the interpreter listens may be lost, and all is done
            done = minivault("batch", str(source), "-o", str(output), "--url", server.url)
            assert done.returncode == 0, done.stderr
        assert [row["custom_id"] for row in rows_of(output)] == [f"c{number}" for number in range(30)]
        records = httpx2.get(f"{server.url}/vault/records", params={"limit": 1000}).json()["records"]
    finally:
        server.kill()
    ends = collections.Counter(record["finish_reason"] for record in records)
    assert ends["stop"] + ends["length"] == 30
    assert set(ends) <= {"stop", "length", "interrupted"}
    assert ends["interrupted"] <= 3


DYING = (sys.executable, str(Path(__file__).with_name("dying_server.py")))
KINDS: tuple[dict[str, Any], ...] = ({"logprobs": True, "top_logprobs": 2}, {"store": False}, {}, {"n": 2})


def mixed(tmp_path: Path) -> tuple[Path, int]:
    """A file of lines whose answers the vault holds less or more of, and how many calls they are."""
    source = asked(tmp_path, 2 * len(KINDS), max_tokens=8)
    rows = [json.loads(row) for row in source.read_text().splitlines()]
    for row, kind in zip(rows, KINDS * 2, strict=True):
        row["body"] |= kind
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return source, sum(row["body"].get("n", 1) for row in rows)


def embedding_texts(tmp_path: Path) -> tuple[Path, int]:
    source = tmp_path / "in.jsonl"
    rows = [{"custom_id": f"c{number}", "url": "/v1/embeddings", "body": {"model": "guide", "input": f"cat {number}"}}
            for number in range(6)]  # fmt: skip
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return source, len(rows)


def told(rows: list[dict[str, Any]]) -> list[Any]:
    """What lines were answered, without names and times."""
    bodies = [row["response"]["body"] for row in rows]
    return [body.get("choices") or body["data"] for body in bodies]


@pytest.mark.slow
@pytest.mark.parametrize("make", [mixed, embedding_texts])
@pytest.mark.parametrize(
    "step",
    ["after-append_intent", "before-draft_line", "after-draft_line", "before-append_outcomes", "after-append_outcomes",
     "before-release_draft", "after-release_draft"],
)  # fmt: skip
def test_a_server_killed_at_any_step_of_a_line_neither_records_nor_answers_it_twice(
    tmp_path: Path, step: str, make: Callable[[Path], tuple[Path, int]]
) -> None:
    (source, calls), output, data_dir = make(tmp_path), tmp_path / "out.jsonl", tmp_path / "data"
    server = Server(data_dir, "--batch-concurrency", "2", program=(*DYING, step))
    broken = minivault("batch", str(source), "-o", str(output), "--url", server.url)
    assert broken.returncode == 1, broken.stderr
    assert server.process.wait() == -signal.SIGKILL
    assert not output.exists()
    with serving(data_dir, "--batch-concurrency", "2") as again:
        done = minivault("batch", str(source), "-o", str(output), "--url", again.url)
        assert done.returncode == 0, done.stderr
        records = httpx2.get(f"{again.url}/vault/records", params={"limit": 1000}).json()["records"]
        asked_live = [json.loads(row) for row in source.read_text().splitlines()]
        live = [httpx2.post(again.url + row["url"], json=row["body"], timeout=60).json() for row in asked_live]
    rows = rows_of(output)
    assert [row["custom_id"] for row in rows] == [row["custom_id"] for row in asked_live]
    assert told(rows) == [body.get("choices") or body["data"] for body in live]
    ends = collections.Counter(record["finish_reason"] for record in records)
    assert ends["stop"] + ends["length"] == calls
    assert set(ends) <= {"stop", "length", "interrupted"}
    assert ends["interrupted"] <= 4


def test_a_line_too_deep_to_read_is_left_to_the_server(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"[" * 200_000 + b'\n{"custom_id": "a"}\n')
    names, url, _ = _read(source)
    assert (names, url) == (["None", "a"], None)


def test_lines_of_two_files_come_in_the_order_of_the_input() -> None:
    def lines(*names: str) -> list[bytes]:
        return [json.dumps({"custom_id": name}).encode() for name in names]

    got = merged(["a", "b", "c", "d"], iter(lines("a", "d")), iter(lines("b")))
    assert [json.loads(line)["custom_id"] for line in got] == ["a", "b", "d"]


class Full(BatchClient):
    """A server with no room for another file. What is deleted from it is kept in ``deleted``."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")
        self.deleted: list[str] = []

    def upload(self, source: Path) -> dict[str, Any]:
        raise CliError("there is no room")

    def delete_file(self, file_id: str) -> None:
        self.deleted.append(file_id)


def test_answers_of_a_batch_that_was_given_up_stay_until_the_new_one_is_there(tmp_path: Path) -> None:
    former = {"id": "b", "status": "expired", "input_file_id": "i", "output_file_id": "o", "error_file_id": None}
    with Full() as client:
        with pytest.raises(CliError, match="no room"):
            _begin_anew(client, former, asked(tmp_path, 1), "/v1/chat/completions", "m", None)
        assert client.deleted == []
