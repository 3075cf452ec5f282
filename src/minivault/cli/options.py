"""Options that several commands share, written once: name, short form, help.

Knows nothing of what the commands do with them; bounds are checked where a value is used, not here.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from minivault.settings import Settings

SERVER = "Server and vault"
SAMPLING = "Sampling"

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where the vault, logs, models and config.toml live. (default: ~/.minivault)",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
ServerOf = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Ask the server that runs on this data directory. (default: ~/.minivault)",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        metavar="URL",
        help="The server to ask; also MINIVAULT_URL. (default: the one that runs on --data-dir and keeps its address "
        "in server.url there; where no folder is named, else http://127.0.0.1:8000)",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
ReadUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        metavar="URL",
        help="Ask this server; also MINIVAULT_URL. (default: read the data directory)",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="The API key to show. Better in MINIVAULT_API_KEY: others on this machine can see a command line.",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
Local = Annotated[
    bool,
    typer.Option(
        "--local", help="Run the model in this process, without a server. Recorded too.", rich_help_panel=SERVER
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over a file that is there.")]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="The model. (default: the server's)")]
System = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="A system message before the prompt.")
]

MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", "-n", help="Most tokens to generate.", rich_help_panel=SAMPLING)
]
MinTokens = Annotated[int | None, typer.Option(help="No end before so many tokens.", rich_help_panel=SAMPLING)]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", "-t", help="0 always takes the likeliest token.", rich_help_panel=SAMPLING),
]
TopK = Annotated[int | None, typer.Option(help="Only the k likeliest tokens; 0 is off.", rich_help_panel=SAMPLING)]
TopP = Annotated[float | None, typer.Option(help="Only the likeliest tokens that make up p.", rich_help_panel=SAMPLING)]
MinP = Annotated[
    float | None, typer.Option(help="Only tokens at least p times as likely as the best.", rich_help_panel=SAMPLING)
]
TypicalP = Annotated[float | None, typer.Option(help="Locally typical sampling; 1 is off.", rich_help_panel=SAMPLING)]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Against repeating prompt and answer; 1 is off.", rich_help_panel=SAMPLING)
]
PresencePenalty = Annotated[
    float | None, typer.Option(help="Against tokens the answer already has.", rich_help_panel=SAMPLING)
]
FrequencyPenalty = Annotated[
    float | None, typer.Option(help="The same, growing with each use.", rich_help_panel=SAMPLING)
]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End before this text; may be given again.", rich_help_panel=SAMPLING),
]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Go on after the model ends.", rich_help_panel=SAMPLING)]
Seed = Annotated[
    int | None,
    typer.Option(help="The same request with the same seed gives the same bytes.", rich_help_panel=SAMPLING),
]


def same_folder(settings: Settings) -> str:
    """What a command that is taught needs behind it to be about the same data directory, with a space before it."""
    return f" --data-dir {shlex.quote(str(settings.data_dir))}" if "data_dir" in settings.model_fields_set else ""


def settings(**flags: Any) -> Settings:
    """The settings with these flags on top; ``None`` counts as not given. Imported late: pydantic is slow to start."""
    from minivault.settings import load_settings

    return load_settings(**flags)
