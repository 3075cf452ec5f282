"""``minivault config``: what is set, where it was set, and a file to set it in. Parses and prints."""

from __future__ import annotations

import json as json_text
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from minivault.byte_size import written
from minivault.cli import options
from minivault.cli.address import NAME, running_at, serverless
from minivault.cli.console import CliError, line, note, table, write_json
from minivault.cli.files import prepare_data_dir
from minivault.cli.usage import Group

if TYPE_CHECKING:
    from minivault.settings import Settings

SHOW_EXAMPLES = """\
Examples:

  minivault config show                     every setting, its value and where it comes from
  minivault config show --json
  MINIVAULT_PORT=9000 minivault config show
"""
PATH_EXAMPLES = """\
Examples:

  minivault config path
  $EDITOR "$(minivault config path)"
"""
INIT_EXAMPLES = """\
Examples:

  minivault config init                     write config.toml with every setting, commented out
  minivault config init --data-dir ./mv
"""

_CREDENTIAL = re.compile(r"(?<=://)(?P<user>[^/?#@:]*:)?.*@")
"""Of a URL, up to the last ``@``: a password may hold any other sign, unescaped."""
_SECRET_PARAMETER = re.compile(r"(?P<name>[?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&#]*", re.IGNORECASE)

app = typer.Typer(cls=Group, help="What is set, and where.", no_args_is_help=True)


@app.command("show", epilog=SHOW_EXAMPLES)
def show(data_dir: options.DataDir = None, json: options.Json = False) -> None:
    """Show every setting, its value, and where the value comes from."""
    from minivault.settings import origins, unknown_variables

    settings = options.settings(data_dir=data_dir)
    found = origins(settings.data_dir, folder_named=data_dir is not None)
    if data_dir is not None:
        found["data_dir"] = "--data-dir"
    if found["url"] == "default":
        settings, found["url"] = _asked(settings)
    rows = {name: {"value": plain(settings, name), "from": origin} for name, origin in found.items()}
    if json:
        write_json(rows)
    else:
        table(
            ["setting", "value", "from"],
            [[name, _shown(name, row["value"]), row["from"]] for name, row in rows.items()],
        )
    for name, meant in unknown_variables().items():
        question = f". Did you mean {meant}?" if meant else ""
        note(f"{name} is set in the environment, and is no setting of this version{question}")


def _asked(settings: Settings) -> tuple[Settings, str]:
    """The settings with the address that client commands would ask, where none is set; and where it comes from."""
    if (running := running_at(settings.data_dir)) is not None:
        return settings.model_copy(update={"url": running}), f"{NAME} of the server that runs here"
    if serverless(settings):
        return settings.model_copy(update={"url": None}), "no server runs here"
    is_default = settings.url == type(settings).model_fields["url"].default
    return settings, "default" if is_default else "host and port"


@app.command("path", epilog=PATH_EXAMPLES)
def path(data_dir: options.DataDir = None) -> None:
    """Print where config.toml is, or would be."""
    line(str(options.settings(data_dir=data_dir).config_path))


@app.command("init", epilog=INIT_EXAMPLES)
def init(data_dir: options.DataDir = None) -> None:
    """Write a config.toml that names every setting with its default, commented out."""
    settings = options.settings(data_dir=data_dir)
    prepare_data_dir(settings.data_dir)
    try:
        with settings.config_path.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise CliError(f"{settings.config_path} exists already; it is left as it is.") from None
    except OSError as error:
        raise CliError(f"{settings.config_path} cannot be written ({error.strerror}).") from None
    line(str(settings.config_path))


def template() -> str:
    """A config.toml in which every setting is commented out, with what it is and its default."""
    from minivault.settings import Settings, is_bytes

    parts = [
        "# Settings of MiniVault. A flag of `minivault serve` beats a variable (MINIVAULT_PORT), a variable this file."
    ]
    for name, field in Settings.model_fields.items():
        if name == "data_dir":  # this file lies in it, and cannot move it
            continue
        default = field.get_default(call_default_factory=True)
        default = written(default) if is_bytes(field) and default else default
        value = "" if default is None else json_text.dumps(default, default=str)
        parts.append(f"# {field.description}\n# {name} = {value}".rstrip())
    return "\n\n".join(parts) + "\n"


def plain(settings: Settings, name: str) -> Any:
    """A setting as JSON has it. A secret is only said to be there."""
    value = getattr(settings, name)
    if value is not None and hasattr(value, "get_secret_value"):
        return "(set)"
    if isinstance(value, list):
        return [_without_secret(one) for one in value]
    return _without_secret(str(value)) if isinstance(value, str | Path) else value


def _without_secret(text: str) -> str:
    """A URL with stars for its password, or for what stands alone before the ``@``, where services have tokens."""
    if "://" not in text:
        return text
    return _SECRET_PARAMETER.sub(r"\g<name>***", _CREDENTIAL.sub(lambda found: f"{found['user'] or ''}***@", text))


def _shown(name: str, value: Any) -> str:
    from minivault.settings import Settings, is_bytes

    return written(value) if is_bytes(Settings.model_fields[name]) else _word(value)


def _word(value: Any) -> str:
    if value is None or value == [] or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
