"""From a request to prompt tokens: with the model's template, with the default one, or bare."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from minivault.errors import InvalidRequest, Overloaded, UnsupportedFeature
from minivault.generation import GenerationRequest, Message, ToolCall
from minivault.models import prompt as module
from minivault.models.chat_template import ChatTemplate, default_template
from minivault.models.prompt import LONG_TEXT, Prompt, read_prompt
from minivault.models.sandbox import Budget
from minivault.models.threads import Threads
from minivault.models.words import read_words
from tests.fakes import SPECIAL, ByteTokenizer, TurnTemplate

TURNS = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Why?"))


async def prompt_of(request: GenerationRequest, template: TurnTemplate | None = None) -> Prompt:
    return await read_prompt(request, ByteTokenizer(), template, 257)


def text_of(prompt: Prompt) -> str:
    return bytes(token for token in prompt.token_ids if token != SPECIAL).decode()


async def test_a_conversation_takes_the_models_template() -> None:
    prompt = await prompt_of(GenerationRequest(messages=TURNS), TurnTemplate())
    assert text_of(prompt) == "<system>Be brief.<user>Hi<assistant>Hello.<user>Why?<assistant>"
    assert prompt.stop == ()


async def test_a_conversation_with_a_model_without_template_takes_the_default_one_and_its_stop() -> None:
    prompt = await prompt_of(GenerationRequest(messages=TURNS))
    assert text_of(prompt) == "Be brief.\n\nUser: Hi\nAssistant: Hello.\nUser: Why?\nAssistant:"
    assert prompt.token_ids[0] == SPECIAL
    assert prompt.stop == ("\nUser:",)


async def test_the_record_has_the_words_of_a_single_turn_and_the_roles_of_several() -> None:
    assert (await prompt_of(GenerationRequest(messages=TURNS[1:2]))).text == "Hi"
    assert (await prompt_of(GenerationRequest(messages=TURNS[1:3]))).text == "user: Hi\nassistant: Hello."


@pytest.mark.parametrize("said", ["Very", "e", "", " two \n", "|>", "7"])
async def test_an_answer_that_is_begun_goes_on_at_its_last_character(said: str) -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>\n{% endfor %}"
    request = GenerationRequest(messages=(Message("user", "Hi"), Message("assistant", said)), begun=True)
    prompt = await read_prompt(request, ByteTokenizer(), ChatTemplate.compile(source, {}), 257)
    assert text_of(prompt) == f"<|user|>Hi<|end|>\n<|assistant|>{said.lstrip()}"


async def test_an_answer_that_is_begun_in_the_default_form_has_its_name_before_it() -> None:
    request = GenerationRequest(messages=(Message("user", "Hi"), Message("assistant", "Hello")), begun=True)
    assert text_of(await prompt_of(request)) == "User: Hi\nAssistant: Hello"


async def test_a_template_that_leaves_the_last_answer_out_lets_none_be_begun() -> None:
    source = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    request = GenerationRequest(messages=(Message("user", "Hi"), Message("assistant", "Hello")), begun=True)
    with pytest.raises(InvalidRequest, match="lets no answer be begun"):
        await read_prompt(request, ByteTokenizer(), ChatTemplate.compile(source, {}), 257)


def test_a_model_on_another_server_has_no_answer_begun() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello"))
    with pytest.raises(UnsupportedFeature, match="on another server no answer can be begun"):
        read_words(GenerationRequest(messages=turns, begun=True))


async def test_token_ids_are_taken_as_they_are_and_recorded_as_text() -> None:
    prompt = await prompt_of(GenerationRequest(prompt_token_ids=tuple("grüße".encode())), TurnTemplate())
    assert (prompt.text, prompt.token_ids) == ("grüße", tuple("grüße".encode()))


@pytest.mark.parametrize("token_id", [-1, 257])
async def test_a_token_id_that_the_model_does_not_have_is_refused(token_id: int) -> None:
    with pytest.raises(InvalidRequest, match="0 to 256"):
        await prompt_of(GenerationRequest(prompt_token_ids=(1, token_id)))


def test_templates_get_tool_calls_with_arguments_as_values() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}={{ c.function.arguments.x }}"
    )
    template = ChatTemplate.compile(source + "{% endfor %}{{ m.tool_call_id }}{% endfor %}", {})
    calls = (ToolCall("c1", "add", '{"x": 5}'),)
    turns = (Message("assistant", "", tool_calls=calls), Message("tool", "6", tool_call_id="c1"))
    assert template.render(turns) == "add=5c1"


async def test_a_template_that_knows_tools_gets_them_and_any_other_gets_words() -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    source = "<tool_call>{{ tools | map(attribute='function') | map(attribute='name') | join }}{{ messages | length }}"
    request = GenerationRequest(messages=TURNS[1:2], tools=(tool,))
    knows = await read_prompt(request, ByteTokenizer(), ChatTemplate.compile(source, {}), 257)
    assert text_of(knows) == "<tool_call>add1"
    words = text_of(await prompt_of(request, TurnTemplate()))
    assert words.startswith('<system>You can call these tools, each described by a line of JSON:\n{"name": "add"}\n')
    assert words.endswith("<user>Hi<assistant>")
    assert default_template().dialect is None


async def test_tool_choice_none_tells_the_model_of_no_tools() -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    prompt = await prompt_of(GenerationRequest(messages=TURNS[1:2], tools=(tool,), tool_choice="none"), TurnTemplate())
    assert (text_of(prompt), prompt.calling) == ("<user>Hi<assistant>", None)


class WatchedTokenizer(ByteTokenizer):
    """Tells in which threads it works; with ``go``, it works only then."""

    def __init__(self, go: threading.Event | None = None) -> None:
        self.threads: set[str] = set()
        self._go = go

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        self._work()
        return super().encode(text, add_special_tokens)

    def decoder(self) -> Any:
        self._work()
        return super().decoder()

    def _work(self) -> None:
        self.threads.add(threading.current_thread().name)
        assert self._go is None or self._go.wait(60)


def calls_of(arguments: str) -> tuple[Message, ...]:
    return (Message("assistant", "", tool_calls=(ToolCall("c", "f", arguments),)), Message("user", "Why?"))


LONG = "x" * LONG_TEXT
REQUESTS = {
    "a prompt": GenerationRequest(prompt=LONG),
    "a system prompt": GenerationRequest(prompt="Hi", system=LONG),
    "a turn": GenerationRequest(messages=(Message("user", LONG),)),
    "reasoning": GenerationRequest(messages=(Message("assistant", "", thinking=LONG), TURNS[3])),
    "arguments": GenerationRequest(messages=calls_of(f'{{"x": "{LONG}"}}')),
    "ids of calls": GenerationRequest(messages=(Message("tool", "", tool_call_id=LONG), TURNS[3])),
    "many calls": GenerationRequest(messages=(Message("assistant", "", tool_calls=(ToolCall("", "", ""),) * 999),)),
    "many empty turns": GenerationRequest(messages=(Message("user", ""),) * 999),
    "many tokens": GenerationRequest(prompt_token_ids=(65,) * LONG_TEXT),
    "a long context": GenerationRequest(prompt="Hi", context=(65,) * LONG_TEXT),
    "tools": GenerationRequest(messages=TURNS, tools=({"type": "function", "function": {"name": "add"}},)),
}
SHORT = {
    "a prompt": GenerationRequest(prompt="Hi"),
    "turns": GenerationRequest(messages=TURNS),
    "a call": GenerationRequest(messages=calls_of('{"x": 5}')),
    "tokens": GenerationRequest(prompt_token_ids=(65,) * 9),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
async def test_what_is_long_in_any_way_leaves_the_event_loop(request_: GenerationRequest) -> None:
    tokenizer = WatchedTokenizer()
    await read_prompt(request_, tokenizer, TurnTemplate(), 257)
    assert [name.partition("_")[0] for name in tokenizer.threads] == ["minivault-prompt"]


@pytest.mark.parametrize("request_", SHORT.values(), ids=SHORT.keys())
async def test_what_is_short_does_not(request_: GenerationRequest) -> None:
    tokenizer = WatchedTokenizer()
    await read_prompt(request_, tokenizer, TurnTemplate(), 257)
    assert tokenizer.threads == {threading.current_thread().name}


COSTLY = "{% for a in range(300) %}{% for b in range(300) %}{% endfor %}{% endfor %}Hi"
WORDY = "{{ 'a' * 5000 }}"


@pytest.mark.parametrize("source", [COSTLY, WORDY], ids=["loops", "long text"])
async def test_a_short_prompt_of_a_costly_template_leaves_the_event_loop(source: str) -> None:
    tokenizer = WatchedTokenizer()
    await read_prompt(SHORT["turns"], tokenizer, ChatTemplate.compile(source, {}), 257)
    assert [name.partition("_")[0] for name in tokenizer.threads] == ["minivault-prompt"]


@pytest.mark.parametrize("field", ["prompt", "messages"])
async def test_a_template_without_end_is_refused_under_the_field_that_was_sent(field: str) -> None:
    words: Sequence[Message] | str = "Hi" if field == "prompt" else TURNS
    request = GenerationRequest(**{field: words})  # type: ignore[arg-type]
    endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    template = ChatTemplate.compile(endless, {}, lambda: Budget(steps=5000))
    with pytest.raises(InvalidRequest, match="was stopped: more than") as refused:
        await read_prompt(request, ByteTokenizer(), template, 257)
    assert refused.value.param == field


@pytest.fixture
def go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("field", ["prompt", "messages"])
async def test_tokenising_has_a_deadline(monkeypatch: pytest.MonkeyPatch, go: threading.Event, field: str) -> None:
    monkeypatch.setattr(module, "PROMPT_SECONDS", 0.01)
    words: Sequence[Message] | str = LONG if field == "prompt" else (Message("user", LONG),)
    request = GenerationRequest(**{field: words})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=rf"{field}: did not become tokens within 0\.01 seconds") as refused:
        await read_prompt(request, WatchedTokenizer(go), TurnTemplate(), 257)
    assert refused.value.param == field


async def test_prompts_that_find_no_thread_are_an_overload(go: threading.Event) -> None:
    threads = Threads("test", count=1, patience=0.01)
    busy = threads._pool.submit(go.wait, 60)
    with pytest.raises(Overloaded):
        await read_prompt(GenerationRequest(prompt=LONG), ByteTokenizer(), None, 257, threads)
    go.set()
    assert busy.result()
    threads.close()
