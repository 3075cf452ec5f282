"""The log: the last calls in order, and those that end from now on."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import httpx2
import pytest

from minivault.cli.client import Client
from minivault.cli.console import CliError
from minivault.cli.log import calls_from_now_on, last_calls, log
from minivault.cli.server_records import ServerRecords
from minivault.vault.reader import Call, Page
from tests.cli.process import RunningServer, minivault

CALL = Call(
    index=0,
    outcome_index=None,
    id="a",
    time_ns=0,
    model="guide",
    surface="native",
    source="http",
    api_key_id=None,
    mode="full",
    store=True,
    finish_reason=None,
    prompt_tokens=1,
    completion_tokens=None,
    duration_ns=None,
    prompt="p",
    response=None,
)


def call(index: int, outcome_index: int | None) -> Call:
    return replace(CALL, index=index, outcome_index=outcome_index)


class ScriptedReader:
    """Has these calls, newest first, in pages of two; each look at what has ended finds the next of ``ends``."""

    def __init__(self, calls: list[Call], ends: list[list[Call]] | None = None) -> None:
        self.calls = calls
        self.ends = ends or []

    def list(self, *, cursor: str | None, limit: int) -> Page:
        start = int(cursor or 0)
        end = min(start + min(limit, 2), len(self.calls))
        return Page(tuple(self.calls[start:end]), str(end) if end < len(self.calls) else None)

    def finished_after(self, outcome_index: int) -> tuple[Call, ...]:
        found = self.ends.pop(0) if self.ends else []
        return tuple(one for one in found if one.outcome_index is not None and one.outcome_index > outcome_index)


def test_the_last_calls_come_oldest_first_over_several_pages() -> None:
    reader = ScriptedReader([call(8, 9), call(6, 7), call(4, 5), call(2, 3)])
    assert [one.index for one in last_calls(reader, 3)] == [4, 6, 8]


def test_fewer_than_asked_for_are_all() -> None:
    assert [one.index for one in last_calls(ScriptedReader([call(0, 1)]), 5)] == [0]


def test_following_shows_each_call_once_as_it_ends() -> None:
    known = [call(0, 1), call(2, None)]
    reader = ScriptedReader([], [[call(0, 1)], [call(2, 4)], [call(2, 4), call(3, 5)]])
    waits: list[None] = []
    following = calls_from_now_on(reader, known, lambda: waits.append(None))
    assert [one.outcome_index for one in islice(following, 2)] == [4, 5]
    assert len(waits) == 2


def test_a_call_whose_content_was_not_kept_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from minivault.cli.log import _show

    _show(replace(CALL, prompt=None, finish_reason="stop", outcome_index=1), full=False)
    _show(replace(CALL, prompt=None, finish_reason="stop", outcome_index=1, erased_index=7), full=False)
    shown = capsys.readouterr().out
    assert "> (not kept)" in shown
    assert "> (erased by record 7)" in shown


def test_a_call_without_an_outcome_is_open_and_its_answer_not_ended(capsys: pytest.CaptureFixture[str]) -> None:
    from minivault.cli.log import _show

    _show(replace(CALL, response=None, finish_reason=None, outcome_index=None), full=False)
    head, *_, answer, _ = capsys.readouterr().out.splitlines()
    assert " open " in head
    assert answer == "< (not ended)"


def test_a_call_that_was_altered_is_marked_here_and_from_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    from minivault.cli.log import _show

    listed = [replace(CALL, altered=True).as_dict(), CALL.as_dict()]
    page = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"records": listed, "next_cursor": None}))
    with Client("http://127.0.0.1", transport=page) as client:
        for one in ServerRecords(client).list().calls:
            _show(one, full=False)
    heads = capsys.readouterr().out.splitlines()[::4]
    assert ["ALTERED in the vault's file" in head for head in heads] == [True, False]


def test_the_log_of_no_vault_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(data_dir=tmp_path)
    assert capsys.readouterr().out == ""


def test_a_folder_that_is_not_there_has_no_log(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="There is no folder"):
        log(data_dir=tmp_path / "typo")


def test_the_log_of_a_server_that_is_named_is_the_one_of_its_vault(server: RunningServer) -> None:
    assert minivault("generate", "for the log", "--max-tokens", "3", "--url", server.url).returncode == 0
    asked = minivault("log", "-n", "1", "--json", MINIVAULT_URL=server.url)
    read = minivault("log", "-n", "1", "--json", "--data-dir", str(server.data_dir), MINIVAULT_URL="http://127.0.0.1:1")
    assert (asked.returncode, json.loads(asked.stdout)["prompt"]) == (0, "for the log")
    assert asked.stdout == read.stdout


def test_following_a_server_shows_what_ended_since() -> None:
    ended = [
        replace(CALL, index=index, outcome_index=outcome).as_dict() for index, outcome in ((4, None), (2, 7), (0, 5))
    ]
    page = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"records": ended, "next_cursor": None}))
    with Client("http://127.0.0.1", transport=page) as client:
        assert [call.outcome_index for call in ServerRecords(client).finished_after(4)] == [5, 7]


class PagedServer:
    """Lists its calls by their begin, newest first, in pages of at most ``most``; counts the pages."""

    def __init__(self, most: int) -> None:
        self.calls: dict[int, int | None] = {}
        self.most = most
        self.pages = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.pages += 1
        before = int(request.url.params.get("cursor", 1 << 40))
        listed = sorted((index for index in self.calls if index < before), reverse=True)
        shown = listed[: min(self.most, int(request.url.params["limit"]))]
        records = [replace(CALL, index=index, outcome_index=self.calls[index]).as_dict() for index in shown]
        cursor = str(shown[-1]) if len(shown) < len(listed) else None
        return httpx2.Response(200, json={"records": records, "next_cursor": cursor})


def test_following_a_server_misses_no_call_however_many_end_between_two_looks() -> None:
    server = PagedServer(most=3)
    server.calls.update({index: index + 1 for index in range(0, 20, 2)})
    server.calls.update({20: None, 22: 23})
    with Client("http://127.0.0.1", transport=httpx2.MockTransport(server)) as client:
        records = ServerRecords(client)
        last_calls(records, 1000)
        server.calls.update({index: index + 1 for index in range(24, 44, 2)})
        server.calls.update({44: None, 20: 45})
        assert [call.outcome_index for call in records.finished_after(23)] == [*range(25, 45, 2), 45]
        server.pages = 0
        assert records.finished_after(45) == ()
        assert server.pages == 1
        server.calls[44] = 46
        assert [call.outcome_index for call in records.finished_after(45)] == [46]
