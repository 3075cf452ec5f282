"""From a request to prompt tokens: with the model's template, with the default one, or bare."""

from __future__ import annotations

import pytest

from minivault.errors import InvalidRequest
from minivault.generation import GenerationRequest, Message, ToolCall
from minivault.models.chat_template import ChatTemplate, default_template
from minivault.models.prompt import Prompt, read_prompt
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
