"""A conversation: what a line means, what is sent, what is kept."""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping
from typing import Any

import pytest

from minivault.cli.chat import Chat, Turn, body, converse, interpret
from minivault.cli.console import CliError


class ScriptedBackend:
    """Gives one scripted answer after the other and keeps what it was asked. An answer may be an error to raise."""

    def __init__(self, *answers: str | CliError, messages: bool = True) -> None:
        self.answers = list(answers)
        self.messages = messages
        self.asked: list[dict[str, Any]] = []
        self.streamed = 0

    def takes(self, field: str) -> bool:
        return field == "messages" and self.messages

    def generate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(body))
        answer = self.answers.pop(0)
        if isinstance(answer, CliError):
            raise answer
        return {"response": answer}

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        self.streamed += 1
        yield {"response": self.generate(body)["response"]}
        yield {"response": "", "done": True}


def talk(monkeypatch: pytest.MonkeyPatch, backend: ScriptedBackend, *lines: str, chat: Chat | None = None) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    converse(backend, chat or Chat(), {})


def test_a_line_is_a_prompt() -> None:
    assert interpret(Chat(), "  Hello there \n").prompt == "Hello there"


def test_an_empty_line_is_nothing() -> None:
    step = interpret(Chat(), "  \n")
    assert (step.prompt, step.say) == (None, None)


def test_exit_ends_the_conversation() -> None:
    assert interpret(Chat(), "/exit").chat.over


def test_stream_toggles() -> None:
    off = interpret(Chat(stream=True), "/stream").chat
    assert not off.stream
    assert interpret(off, "/stream").chat.stream


def test_reset_forgets_the_turns_and_keeps_the_rest() -> None:
    chat = Chat(system="s", seed=7, turns=(Turn("a", "b"),))
    assert interpret(chat, "/reset").chat == Chat(system="s", seed=7)


def test_seed_is_set_and_taken_back() -> None:
    seeded = interpret(Chat(), "/seed 7").chat
    assert seeded.seed == 7
    assert interpret(seeded, "/seed").chat.seed is None


@pytest.mark.parametrize("text", ["-1", "seven", "1.5", str(2**63), "\uff17"])
def test_a_seed_that_is_none_changes_nothing(text: str) -> None:
    step = interpret(Chat(seed=3), f"/seed {text}")
    assert step.chat.seed == 3
    assert "whole number" in (step.say or "")


def test_an_unknown_command_is_not_sent_to_the_model() -> None:
    step = interpret(Chat(), "/frobnicate")
    assert step.prompt is None
    assert "/reset" in (step.say or "")


def test_all_turns_go_along() -> None:
    chat = Chat(system="Be brief.", seed=7, turns=(Turn("a", "b"),))
    assert body(chat, "c", {"max_tokens": 5}, messages=True) == {
        "max_tokens": 5,
        "seed": 7,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    }


def test_a_server_that_takes_no_messages_is_told_the_turns() -> None:
    chat = Chat(system="Be brief.", turns=(Turn("a", "b"),))
    assert body(chat, "c", {}, messages=False) == {
        "prompt": "c",
        "system": "Be brief.\n\nThe conversation so far:\nUser: a\nAssistant: b",
    }


@pytest.mark.parametrize("messages", [True, False])
def test_the_first_turn_is_a_plain_prompt(messages: bool) -> None:
    assert body(Chat(), "a", {}, messages=messages) == {"prompt": "a"}


def test_answers_are_remembered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    backend = ScriptedBackend("one", "two")
    talk(monkeypatch, backend, "first", "second")
    assert [turn["content"] for turn in backend.asked[1]["messages"]] == ["first", "one", "second"]
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_conversation_too_long_for_the_model_forgets_its_older_half(monkeypatch: pytest.MonkeyPatch) -> None:
    too_long = CliError("too long", code="context_length_exceeded")
    backend = ScriptedBackend("one", "two", too_long, "three")
    talk(monkeypatch, backend, "first", "second", "third")
    assert [turn["content"] for turn in backend.asked[3]["messages"]] == ["second", "two", "third"]


def test_a_prompt_too_long_by_itself_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CliError, match="too long"):
        talk(monkeypatch, ScriptedBackend(CliError("too long", code="context_length_exceeded")), "first")


def test_streaming_can_be_switched_off_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend("one", "two")
    talk(monkeypatch, backend, "first", "/stream", "second", "/exit", "never sent")
    assert (backend.streamed, len(backend.asked)) == (1, 2)


def test_a_failure_in_a_script_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CliError, match="full"):
        talk(monkeypatch, ScriptedBackend(CliError("The queue is full.")), "first")
