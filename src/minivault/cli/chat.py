"""``minivault chat``: a conversation in the terminal.

What a line means is decided in :func:`interpret`, a function of values; the rest reads lines and prints answers. Knows
nothing of models: all turns go along with each request, and what the model's chat template makes of them is its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.backend import Answers, open_backend
from minivault.cli.console import CliError, error, line, note
from minivault.cli.generate import stream_answer, whole_answer

EXAMPLES = """\
Examples:

  minivault chat
  minivault chat --system "Answer in one sentence." --seed 7
  minivault chat --local --model my-llama
"""

HELP = """\
/stream      print answers while they are made, or whole (toggles)
/seed 7      the same conversation gives the same answers; /seed alone draws a new one each time
/reset       forget the conversation so far
/exit        leave; so does Ctrl-D. Ctrl-C stops an answer"""

MAX_TOKENS = 256
"""Of an answer. Always sent, so that a conversation too long to leave room for an answer is refused, and shortened."""
FORGETTING = "The conversation outgrows the model's context; its older half is forgotten."


@dataclass(frozen=True, slots=True)
class Turn:
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Chat:
    """What a conversation is at one moment."""

    system: str | None = None
    seed: int | None = None
    stream: bool = True
    turns: tuple[Turn, ...] = ()
    over: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a line led to: the conversation after it, something to say, or a prompt to send."""

    chat: Chat
    say: str | None = None
    prompt: str | None = None


def interpret(chat: Chat, text: str) -> Step:
    """Read one line of the person: a command, a prompt, or nothing."""
    text = text.strip()
    if not text.startswith("/"):
        return Step(chat, prompt=text or None)
    word, _, rest = text.partition(" ")
    match word:
        case "/exit" | "/quit":
            return Step(replace(chat, over=True))
        case "/reset":
            return Step(replace(chat, turns=()), say="The conversation starts anew.")
        case "/stream":
            shown = "whole" if chat.stream else "while they are made"
            return Step(replace(chat, stream=not chat.stream), say=f"Answers are printed {shown}.")
        case "/seed":
            return _seed(chat, rest.strip())
        case "/help":
            return Step(chat, say=HELP)
        case _:
            return Step(chat, say=f"There is no such command. These are:\n{HELP}")


def _seed(chat: Chat, text: str) -> Step:
    if not text:
        return Step(replace(chat, seed=None), say="Each answer draws a seed of its own.")
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        return Step(chat, say="A seed is a whole number from 0 to 9223372036854775807.")
    return Step(replace(chat, seed=int(text)), say=f"The seed is {int(text)}.")


def body(chat: Chat, prompt: str, fixed: Mapping[str, Any], *, messages: bool) -> dict[str, Any]:
    """The request for the next answer. The turns so far go as ``messages``, or else told in the system message."""
    request = dict(fixed)
    if chat.seed is not None:
        request["seed"] = chat.seed
    if messages and chat.turns:
        return {**request, "messages": _messages(chat, prompt)}
    system = "\n\n".join(part for part in (chat.system, _told(chat.turns)) if part)
    return {**request, "prompt": prompt} | ({"system": system} if system else {})


def _messages(chat: Chat, prompt: str) -> list[dict[str, str]]:
    messages = [] if chat.system is None else [{"role": "system", "content": chat.system}]
    for turn in chat.turns:
        messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": turn.response}]
    return [*messages, {"role": "user", "content": prompt}]


def _told(turns: tuple[Turn, ...]) -> str:
    lines = [f"User: {turn.prompt}\nAssistant: {turn.response}" for turn in turns]
    return "\n".join(["The conversation so far:", *lines]) if lines else ""


def shortened(chat: Chat) -> Chat:
    """Without the older half of the turns."""
    return replace(chat, turns=chat.turns[(len(chat.turns) + 1) // 2 :])


def register(app: typer.Typer) -> None:
    app.command("chat", help="Have a conversation in the terminal.", epilog=EXAMPLES)(chat)


def chat(
    model: options.Model = None,
    system: options.System = None,
    seed: options.Seed = None,
    stream: Annotated[bool, typer.Option(help="Print answers while they are made; /stream toggles.")] = True,
    max_tokens: options.MaxTokens = MAX_TOKENS,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    local: options.Local = False,
    data_dir: options.DataDir = None,
) -> None:
    given = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    fixed = {name: value for name, value in given.items() if value is not None}
    with open_backend(url=url, api_key=api_key, local=local, data_dir=data_dir, model=model) as backend:
        converse(backend, Chat(system=system, seed=seed, stream=stream), fixed)


def converse(backend: Answers, chat: Chat, fixed: Mapping[str, Any]) -> None:
    """Read lines until the conversation is over. A failure ends it only where nobody is there to read about it."""
    watched = sys.stdin.isatty()
    messages = backend.takes("messages")
    if watched:
        note("Ask anything; /help shows the commands, Ctrl-D leaves.")
    for text in _typed_lines(watched):
        step = interpret(chat, text)
        chat = step.chat
        if step.say:
            note(step.say)
        if step.prompt:
            try:
                chat = _answer(backend, chat, step.prompt, fixed, messages=messages)
            except CliError as failure:
                if not watched:
                    raise
                error(str(failure))
            except KeyboardInterrupt:
                if not watched:
                    raise
                line()
                note("Stopped; this turn is not part of the conversation.")
        if chat.over:
            return


def _typed_lines(watched: bool) -> Iterator[str]:
    if not watched:
        yield from sys.stdin
        return
    import readline  # noqa: F401  importing it gives input() its line editing and history

    while True:
        try:
            yield input("> ")
        except EOFError:
            line()
            return


def _answer(backend: Answers, chat: Chat, prompt: str, fixed: Mapping[str, Any], *, messages: bool) -> Chat:
    """The conversation with one turn more. What no longer fits the model's context is forgotten, oldest first."""
    show = stream_answer if chat.stream else whole_answer
    try:
        answer = show(backend, body(chat, prompt, fixed, messages=messages), as_json=False)
    except CliError as failure:
        if failure.code != "context_length_exceeded" or not chat.turns:
            raise
        note(FORGETTING)
        return _answer(backend, shortened(chat), prompt, fixed, messages=messages)
    return replace(chat, turns=(*chat.turns, Turn(prompt, answer["response"])))
