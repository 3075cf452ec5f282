"""The command ``minivault``: puts the command groups together and turns failures into exit codes.

0 success, 1 failure, 2 usage, 130 interrupted. Knows nothing of what the commands do. Heavy modules are imported by the
commands that need them, so that help and version answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys

import typer

from minivault.cli import (
    batch,
    benchmark,
    chat,
    config,
    console,
    doctor,
    embed,
    generate,
    health,
    keys,
    log,
    models,
    replay,
    serve,
    vault_backup,
    vault_encrypt,
    vault_erase,
    vault_export,
    vault_import,
    version,
)
from minivault.cli.usage import Commands
from minivault.cli.vault import app as vault_app
from minivault.errors import ConfigError, InvalidRequest, MiniVaultError

EXAMPLES = """\
Examples:

  minivault serve                            start the server
  minivault generate "What model are you?"   ask it, get the whole answer
  minivault stream "Tell me a short story."  see the answer being made
  minivault chat --local                     a conversation, no server
  minivault log -n 5                         the last five calls on record
"""

app = typer.Typer(
    name="minivault",
    cls=Commands,
    help="MiniVault: a private LLM server for one machine, with every call on the record.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serve.register(app)
generate.register(app)
chat.register(app)
embed.register(app)
batch.register(app)
benchmark.register(app)
health.register(app)
doctor.register(app)
log.register(app)
version.register(app)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")
vault_export.register(vault_app)
replay.register(vault_app)
vault_erase.register(vault_app)
vault_backup.register(vault_app)
vault_encrypt.register(vault_app)
vault_import.register(vault_app)
app.add_typer(vault_app, name="vault")


def main() -> None:
    """Run the command line and leave the process with an honest exit code."""
    try:
        _run()
    except SystemExit as end:
        _leave_at_once_if_loading(end.code)
        raise


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape rather than a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except console.CliError as error:
        _leave(str(error), error.exit_code)
    except MiniVaultError as error:
        _leave(console.taught(error.message), 2 if isinstance(error, (ConfigError, InvalidRequest)) else 1)
    except BrokenPipeError:
        # The reader has gone (`| head`).
        _print_no_more()
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _print_no_more()
        _leave("The disk is full: the output, or a file, could not be written.", 1)


def _print_no_more() -> None:
    """Flushing at exit what was not printed would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_at_once_if_loading(code: object) -> None:
    """Do not take the interpreter apart under a thread that still loads a model; all else is closed by now."""
    loading = sys.modules.get("minivault.models.loading_thread")
    if loading is None or not loading.load_under_way():
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _leave(message: str, exit_code: int) -> None:
    console.error(message)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
