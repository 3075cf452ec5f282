"""``minivault generate`` and ``minivault stream``: one prompt, one answer, whole or piece by piece.

Parses and prints; the bounds of every field are the server's to check, or those of the same code with ``--local``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.backend import Answers, open_backend
from minivault.cli.console import CliError, line, note, write, write_json
from minivault.cli.units import counted

FIELDS = (
    "model",
    "system",
    "raw",
    "echo",
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "ignore_eos",
    "seed",
)
"""The options that go into the request body under their own names."""

PromptArgument = Annotated[
    str | None, typer.Argument(metavar="PROMPT", help="What to ask; - reads standard input.", show_default=False)
]
PromptOption = Annotated[
    str | None, typer.Option("--prompt", "-p", metavar="PROMPT", help="The prompt, as an option.", show_default=False)
]
Raw = Annotated[bool, typer.Option("--raw", help="The bare prompt, without the model's chat template.")]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep commitments alone on record, not what is said.")]
Echo = Annotated[bool, typer.Option("--echo", help="Put the prompt before the response.")]


def register(app: typer.Typer) -> None:
    app.command("generate", help="Ask once and print the whole answer.", epilog=_examples("generate"))(ask)
    app.command("stream", help="Ask once and print the answer while it is made.", epilog=_examples("stream"))(ask)


def _examples(command: str) -> str:
    return (
        "Examples:\n\n"
        f'  minivault {command} "What model are you?"\n'
        f'  minivault {command} "Tell me a story" --seed 7 --max-tokens 60\n'
        f"  echo What is 12 plus 30? | minivault {command} -\n"
        f'  minivault {command} "How do I change the port?" --local --json\n'
    )


def ask(
    ctx: typer.Context,
    prompt: PromptArgument = None,
    prompt_option: PromptOption = None,
    model: options.Model = None,
    system: options.System = None,
    raw: Raw = False,
    echo: Echo = False,
    no_store: NoStore = False,
    json: options.Json = False,
    max_tokens: options.MaxTokens = None,
    min_tokens: options.MinTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    typical_p: options.TypicalP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    stop: options.Stop = None,
    ignore_eos: options.IgnoreEos = False,
    seed: options.Seed = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    local: options.Local = False,
    data_dir: options.DataDir = None,
) -> None:
    body: dict[str, Any] = {"prompt": read_prompt(prompt, prompt_option)}
    body |= {name: ctx.params[name] for name in FIELDS if _given(ctx.params[name])}
    if no_store:
        body["store"] = False
    with open_backend(url=url, api_key=api_key, local=local, data_dir=data_dir, model=model) as backend:
        if ctx.command.name == "stream":
            stream_answer(backend, body, as_json=json)
        else:
            whole_answer(backend, body, as_json=json)


def _given(value: object) -> bool:
    """Whether an option was given. By identity: 0 equals ``False``, and is given."""
    return value is not None and value is not False and value != [] and value != ()


def read_prompt(argument: str | None, option: str | None) -> str:
    """The prompt from the argument, the option or standard input; exactly one of them.

    Raises:
        CliError: none or two were given, or standard input is not UTF-8.
    """
    given = [text for text in (argument, option) if text is not None]
    if len(given) != 1:
        raise CliError(
            'Give one prompt, such as "What model are you?", or - to read it from standard input.', exit_code=2
        )
    if given[0] != "-":
        return given[0]
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"Standard input is not UTF-8 (at byte {error.start}).", exit_code=2) from None


def whole_answer(backend: Answers, body: Mapping[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Print an answer once it is there, and return it."""
    answer = backend.generate(body)
    if as_json:
        write_json(answer)
    else:
        write(answer["response"])
        _end(answer)
    return answer


def stream_answer(backend: Answers, body: Mapping[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Print the pieces as they come and return the whole answer."""
    pieces: list[str] = []
    answer: dict[str, Any] = {}
    with closing(backend.stream(body)) as stream:
        for piece in stream:
            pieces.append(piece["response"])
            if as_json:
                write_json(piece)
            else:
                write(piece["response"])
            if piece.get("done"):
                answer = {**piece, "response": "".join(pieces)}
    if not as_json:
        _end(answer)
    return answer


def _end(answer: Mapping[str, Any]) -> None:
    """A last newline where the answer has none, and how it ended, when somebody is watching."""
    if not answer["response"].endswith("\n"):
        line()
    if sys.stderr.isatty():
        tokens, record = answer["usage"]["completion_tokens"], answer["record"]["index"]
        note(f"[{counted(tokens, 'token')}, {answer['finish_reason']}, seed {answer['seed']}, record {record}]")
