"""``minivault vault replay --all | --sample``: which calls are run again, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
import typer

from minivault.cli.console import CliError
from minivault.cli.replay import NO_MODEL, audit, comparable, replay, replay_one
from tests.vault.samples import PIN, open_ledger, record_calls

MATCH = {"verdict": "MATCH", "compared_tokens": 4}
MISMATCH = {
    "verdict": "MISMATCH", "compared_tokens": 1, "position": 1, "expected_token_id": 5, "actual_token_id": None,
}  # fmt: skip


def call(index: int, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "outcome_index": index + 1,
        "surface": "native",
        "finish_reason": "stop",
        "prompt": "x",
        "usage": {"completion_tokens": 0},
        **changes,
    }


class ScriptedBackend:
    """Pages of one call each; verdicts, or refusals, by index."""

    def __init__(self, *calls: dict[str, Any], **answers: Any) -> None:
        self.calls = calls
        self.answers = answers
        self.asked: list[int] = []

    def records(self, cursor: str | None) -> dict[str, Any]:
        at = int(cursor or 0)
        following = str(at + 1) if at + 1 < len(self.calls) else None
        return {"records": list(self.calls[at : at + 1]), "next_cursor": following}

    def replay(self, record_id: str) -> dict[str, Any]:
        self.asked.append(int(record_id))
        answer = self.answers.get(f"_{record_id}", MATCH)
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, CliError):
            raise answer
        assert isinstance(answer, dict)
        return answer

    def takes(self, field: str) -> bool:
        raise NotImplementedError

    def generate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        raise NotImplementedError


def test_what_cannot_be_compared_is_passed_over_and_counted() -> None:
    backend = ScriptedBackend(
        call(8), call(6, surface="replay"), call(4, prompt=None), call(2, finish_reason=None),
        call(0, surface="import"),
        call(12, finish_reason="cancelled"), call(10, finish_reason="cancelled", usage={"completion_tokens": 3}),
    )  # fmt: skip
    assert comparable(backend) == ([(8, 9), (10, 11)], 4)


def test_all_are_replayed_and_only_what_differs_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    backend = ScriptedBackend(call(4), call(2), call(0), _2=MISMATCH)
    assert audit(backend, None, None, json=False) == {"MATCH": 2, "MISMATCH": 1}
    assert capsys.readouterr().out.splitlines() == [
        "record 3: MISMATCH at token 1: token id 5 is on record, and the end came",
        "3 replayed: 2 MATCH, 1 MISMATCH, 0 NOT COMPARABLE",
    ]


def test_a_sample_is_drawn_by_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    calls = [call(index) for index in range(100)]
    first, second, more = (ScriptedBackend(*calls) for _ in range(3))
    for backend in (first, second):
        audit(backend, 5, 7, json=True)
    audit(more, 500, None, json=True)
    assert first.asked == second.asked
    assert (len(set(first.asked)), len(more.asked)) == (5, 100)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == {"index": first.asked[0], **MATCH}


def test_a_model_that_does_not_run_here_is_not_comparable() -> None:
    backend = ScriptedBackend(call(0), _0=CliError("no such model", code="model_not_found"))
    assert replay_one(backend, 0)["verdict"] == "NOT COMPARABLE"


def test_a_rate_limit_is_waited_out() -> None:
    pauses: list[float] = []
    backend = ScriptedBackend(call(0), _0=[CliError("too many", code="rate_limit_exceeded"), MATCH])
    assert (replay_one(backend, 0, pauses.append), len(pauses)) == (MATCH, 1)


def test_any_other_refusal_ends_it() -> None:
    backend = ScriptedBackend(call(0), _0=CliError("the vault cannot be written", code="ledger_unavailable"))
    with pytest.raises(CliError, match="written"):
        audit(backend, None, None, json=False)


def told(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    """The verdict on a call that is replayed here, which is not MATCH."""
    with pytest.raises(typer.Exit) as left:
        replay(json=True, local=True, **options)
    assert left.value.exit_code == 1
    verdict: dict[str, Any] = json.loads(capsys.readouterr().out)
    return verdict


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        ({"surface": "import"}, "it was imported: how it was answered is not on record"),
        ({"store": False}, "its content was never stored"),
        ({}, NO_MODEL),
    ],
)
def test_a_model_that_is_not_here_is_no_failure_of_a_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recorded: dict[str, Any], reason: str
) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1, pin=replace(PIN, model="removed"), **recorded)
    ledger.close()
    verdict = told(capsys, id="0", data_dir=tmp_path)
    assert (verdict["verdict"], verdict["reason"]) == ("NOT COMPARABLE", reason)


def test_what_was_altered_is_a_mismatch_without_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1, pin=replace(PIN, model="removed"))
    ledger.close()
    with closing(apsw.Connection(str(tmp_path / "vault.db"))) as db:
        db.execute("UPDATE contents SET data = x'41' WHERE leaf_index = 1 AND kind = 'response_text'")
    assert told(capsys, id="0", data_dir=tmp_path)["verdict"] == "MISMATCH"
