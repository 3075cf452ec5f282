"""``minivault serve``: every setting as a flag, the checks before a start, and what is said about it.

Parses and prints, and owns the listening socket for the server's time. Knows nothing of routes, models or records.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.address import published, running_at
from minivault.cli.console import CliError, note, program
from minivault.cli.files import prepare_data_dir
from minivault.cli.keys_missing import warn_of_missing_keys
from minivault.cli.listener import bound_url_of, is_this_machine_alone, listen, url_of

if TYPE_CHECKING:
    from minivault.settings import Settings

EXAMPLES = """\
Examples:

  minivault serve                              the embedded model
  minivault serve --port 9000 --data-dir ./mv  another port, another vault
  minivault serve --model my-llama             a model that you imported
  minivault serve --preload my-llama,phi       more models in memory from the start

Each option is also a variable (MINIVAULT_PORT=9000) and a line of config.toml
(port = 9000); an option beats a variable, and a variable the file. A SIZE
is in bytes, or has a unit: 512MiB, 8GiB, 2G (as 2GiB); 8GB is 8000000000.
"""

WHERE = "Where"
MODEL = "Model and engine"
LIMITS = "Limits"
RECORDS = "Records and logs"


def register(app: typer.Typer) -> None:
    app.command("serve", help="Start the server.", epilog=EXAMPLES)(serve)


def _flag(help: str, panel: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, metavar=metavar)


def serve(
    ctx: typer.Context,
    data_dir: Annotated[
        Path | None,
        _flag("Where the vault, logs, models and config.toml live. (default: ~/.minivault)", WHERE, metavar="DIR"),
    ] = None,
    host: Annotated[str | None, _flag("Address to listen on. (default: 127.0.0.1)", WHERE)] = None,
    port: Annotated[int | None, _flag("Port to listen on; 0 lets the system choose. (default: 8000)", WHERE)] = None,
    unsafe_bind: Annotated[
        bool | None,
        _flag("Allow listening beyond this machine without any API key. (default: no)", WHERE),
    ] = None,
    tls_cert: Annotated[
        Path | None, _flag("PEM file of the server's certificate. (default: none; plain HTTP)", WHERE, metavar="FILE")
    ] = None,
    tls_key: Annotated[
        Path | None, _flag("PEM file of that certificate's private key. (default: none)", WHERE, metavar="FILE")
    ] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        _flag("One more Host name to answer to (DNS rebinding); may be given again.", WHERE, "--allowed-host"),
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        _flag("An origin whose pages may use this server; may be given again.", WHERE, "--cors-origin", metavar="URL"),
    ] = None,
    require_keys: Annotated[
        bool | None, _flag("Ask for an API key even before the first one is made. (default: no)", WHERE)
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        _flag("A proxy whose X-Forwarded-For is believed; may be given again.", WHERE, "--trusted-proxy"),
    ] = None,
    model: Annotated[str | None, _flag("The default model. (default: guide)", MODEL, "--model", "-m")] = None,
    preload: Annotated[
        list[str] | None,
        _flag("Models to load at the start too, with commas; all others load on first use. (default: none)", MODEL),
    ] = None,
    memory_budget: Annotated[
        str | None,
        _flag(
            "Bytes that loaded models take together; 0: three quarters of what is free. (default: 0)",
            MODEL,
            metavar="SIZE",
        ),
    ] = None,
    keep_alive: Annotated[
        str | None,
        _flag(
            "Time that an idle model stays in memory unless it was loaded at the start: seconds, or such as 5m or 1h; "
            "-1: for ever. (default: 1800)",
            MODEL,
            metavar="TIME",
        ),
    ] = None,
    load_timeout: Annotated[
        float | None, _flag("Seconds a request waits for its model. (default: 300)", LIMITS)
    ] = None,
    sse_keep_alive: Annotated[
        float | None,
        _flag("Seconds between comments on a stream whose model loads; 0: none. (default: 15)", LIMITS),
    ] = None,
    offline: Annotated[bool | None, _flag("Download nothing, whoever asks. (default: no)", MODEL)] = None,
    import_dir: Annotated[
        Path | None,
        _flag(
            "The only folder that models may be imported from over HTTP. (default: none; not at all)",
            MODEL,
            metavar="DIR",
        ),
    ] = None,
    engine: Annotated[
        str | None, _flag("auto, native or transformers. (default: auto)", MODEL, metavar="ENGINE")
    ] = None,
    device: Annotated[
        str | None,
        _flag("Of the transformers engine: auto, cpu, cuda or mps. (default: auto)", MODEL, metavar="DEVICE"),
    ] = None,
    dtype: Annotated[
        str | None,
        _flag("Of the transformers engine: auto, float32, bfloat16 or float16. (default: auto)", MODEL, metavar="TYPE"),
    ] = None,
    precision: Annotated[
        str | None, _flag("Arithmetic: int8, int4 or f32. (default: int8)", MODEL, metavar="LANE")
    ] = None,
    model_precision: Annotated[
        list[str] | None,
        _flag("A model with a lane of its own; may be given again. (default: none)", MODEL, metavar="NAME=LANE"),
    ] = None,
    threads: Annotated[int | None, _flag("Compute threads; 0 takes one per core. (default: 0)", MODEL)] = None,
    kernels: Annotated[
        str | None,
        _flag(
            "auto, scalar, avx2, avxvnni, avx512, neon, neondot or neoni8mm; never changes a byte. (default: auto)",
            MODEL,
            metavar="SET",
        ),
    ] = None,
    kv_cache_memory: Annotated[
        str | None,
        _flag(
            "Bytes for a model's KV cache; 0 takes at most a quarter of memory_budget. (default: 0)",
            MODEL,
            metavar="SIZE",
        ),
    ] = None,
    max_batch_tokens: Annotated[int | None, _flag("Token budget of one engine step. (default: 512)", LIMITS)] = None,
    max_running: Annotated[int | None, _flag("Sequences that run together. (default: 64)", LIMITS)] = None,
    max_waiting: Annotated[int | None, _flag("Sequences that may queue; then 503. (default: 256)", LIMITS)] = None,
    max_waiting_tokens: Annotated[
        int | None, _flag("Prompt tokens that may queue; then 503. (default: 500000)", LIMITS)
    ] = None,
    request_timeout: Annotated[
        float | None, _flag("Most seconds that a request may take, waiting included; 0: no end. (default: 0)", LIMITS)
    ] = None,
    speculation: Annotated[
        bool | None, _flag("Guess ahead where a text repeats itself; never changes a byte. (default: yes)", MODEL)
    ] = None,
    max_tokens: Annotated[int | None, _flag("Default of max_tokens. (default: 256)", LIMITS)] = None,
    max_body_bytes: Annotated[
        str | None, _flag("Largest request body. (default: 1MiB)", LIMITS, metavar="SIZE")
    ] = None,
    max_head_bytes: Annotated[
        str | None, _flag("Largest head of a request, all headers together. (default: 32KiB)", LIMITS, metavar="SIZE")
    ] = None,
    head_timeout: Annotated[
        float | None, _flag("Seconds for the head of a request to come. (default: 10)", LIMITS)
    ] = None,
    body_timeout: Annotated[
        float | None, _flag("Seconds for the body to come, and one more for each MiB. (default: 30)", LIMITS)
    ] = None,
    write_timeout: Annotated[
        float | None, _flag("Seconds that a client may leave its answer unread. (default: 30)", LIMITS)
    ] = None,
    max_connections: Annotated[int | None, _flag("Connections at a time; then 503. (default: 1000)", LIMITS)] = None,
    batch_concurrency: Annotated[int | None, _flag("Lines of batches that run together. (default: 8)", LIMITS)] = None,
    max_file_bytes: Annotated[
        str | None, _flag("Largest file of /v1/files. (default: 100MiB)", LIMITS, metavar="SIZE")
    ] = None,
    max_stored_bytes: Annotated[
        str | None, _flag("Bytes of files that are kept; then 413. (default: 1GiB)", LIMITS, metavar="SIZE")
    ] = None,
    rate_limit: Annotated[
        str | None, _flag('Requests per client, such as 5/minute; "" for none. (default: 600/minute)', LIMITS)
    ] = None,
    limits_storage: Annotated[
        str | None,
        _flag("Where limits are counted: memory, or redis://HOST:PORT. (default: memory)", LIMITS, metavar="WHERE"),
    ] = None,
    share_prefix_cache: Annotated[
        bool | None,
        _flag("Share computed prefixes between API keys; times then tell what others asked. (default: no)", LIMITS),
    ] = None,
    shutdown_timeout: Annotated[
        float | None, _flag("Seconds running work may take to end. (default: 30)", LIMITS)
    ] = None,
    receipt_deadline: Annotated[
        float | None, _flag("Seconds a record may take to become durable; then 503. (default: 10)", RECORDS)
    ] = None,
    vault_key_file: Annotated[
        Path | None, _flag("A file with the key of an encrypted vault. (default: none)", RECORDS, metavar="FILE")
    ] = None,
    mirror: Annotated[
        bool | None, _flag("Write logs/log.jsonl; never beside an encrypted vault. (default: yes)", RECORDS)
    ] = None,
    mirror_max_bytes: Annotated[
        str | None, _flag("Size at which logs/log.jsonl is rotated. (default: 100MiB)", RECORDS, metavar="SIZE")
    ] = None,
    head_interval: Annotated[
        float | None, _flag("Seconds between signed heads while records come in. (default: 60)", RECORDS)
    ] = None,
    head_export: Annotated[
        Path | None, _flag("A file to which each signed head is appended. (default: none)", RECORDS, metavar="FILE")
    ] = None,
    retention: Annotated[
        float | None, _flag("Days after which content is erased; 0 keeps it for ever. (default: 0)", RECORDS)
    ] = None,
    answer_from_record: Annotated[
        bool | None,
        _flag("Give a request that repeats a recorded one the recorded answer. (default: no)", RECORDS),
    ] = None,
    otel_endpoint: Annotated[
        str | None,
        _flag("OTLP/HTTP collector for traces, such as http://localhost:4318. (default: none)", RECORDS, metavar="URL"),
    ] = None,
    otel_content: Annotated[
        bool | None, _flag("Put prompts and answers into traces too. (default: no)", RECORDS)
    ] = None,
    log_level: Annotated[
        str | None,
        _flag(
            "debug, info, warning or error; requests are shown on a terminal only where it is set. (default: info)",
            RECORDS,
            metavar="LEVEL",
        ),
    ] = None,
    log_format: Annotated[
        str | None, _flag("auto, console or json. (default: auto)", RECORDS, metavar="FORMAT")
    ] = None,
) -> None:
    # Only what was given: an option that may be given again stands here as an empty one, and would beat the file.
    given = [name for name in ctx.params if (source := ctx.get_parameter_source(name)) and source.name != "DEFAULT"]
    run(options.settings(**{name: ctx.params[name] for name in given}))


def run(settings: Settings) -> None:
    """Serve until told to stop; returns after a clean end.

    Raises:
        CliError: the address may not or cannot be listened on, or the data directory cannot be written.
        MiniVaultError: the server could not start.
    """
    warn_of_unknown_variables()
    refuse_open_door(settings)
    prepare_data_dir(settings.data_dir)
    if (running := running_at(settings.data_dir)) is not None:
        raise CliError(
            f"A server runs on {settings.data_dir} already, at {running}: commands with this --data-dir ask it.\n"
            "Stop it first, or choose another folder with --data-dir."
        )
    # Bound before anything is loaded: a port that is taken is known at once.
    with listen(settings.host, settings.port) as listener, ExitStack() as listening:
        from minivault.cli.server import serve_on, tls_of

        tls_of(settings)  # files that are wrong are known at once too
        scheme = "http" if settings.tls_cert is None else "https"
        url, bound = url_of(listener, scheme), bound_url_of(listener, scheme)

        requests = shows_requests(settings, sys.stderr.isatty())

        def ready() -> None:
            listening.enter_context(published(settings.data_dir, url))
            announce(settings, url, bound)
            if not requests:
                note("  log    --log-level info shows each request here")

        serve_on(listener, settings, ready, listening.close, log_requests=requests)


def warn_of_unknown_variables() -> None:
    """Say which variables look like settings and are none: what is misspelt would be passed over."""
    from minivault.settings import unknown_variables

    for variable, meant in unknown_variables().items():
        question = f" Did you mean {meant}?" if meant else ""
        note(f"Warning: {variable} is set in the environment, and is no setting of this version.{question}")


def shows_requests(settings: Settings, terminal: bool) -> bool:
    """Whether requests are logged, a line each. Not on a terminal, where they would drown what is said at the start,
    unless a level was chosen."""
    return not terminal or "log_level" in settings.model_fields_set


def refuse_open_door(settings: Settings) -> None:
    """Refuse to listen beyond this machine without an API key, unless told to: whoever reaches the port could read and
    write the vault."""
    if settings.unsafe_bind or is_this_machine_alone(settings.host) or _asks_for_keys(settings):
        return
    raise CliError(
        "--host is an address beyond this machine, and there is no API key yet: all who reach it could ask.\n"
        f"Make one first with: {program()} keys create NAME --role admin{options.same_folder(settings)}\n"
        "Or use --host 127.0.0.1, or insist with --unsafe-bind.",
        exit_code=2,
    )


def _asks_for_keys(settings: Settings) -> bool:
    from minivault.access.keys import KeyStore

    return KeyStore.in_folder(settings.data_dir).exist()


def announce(settings: Settings, url: str, bound: str) -> None:
    """Say where the server listens, what it runs, where it keeps things, and how to ask.

    ``url`` is where this machine reaches it; ``bound`` is another where it listens on every address.
    """
    ask = f"curl -X POST {url}/generate -H 'Content-Type: application/json'"
    # Without an address the command would ask the server of another folder, if one runs there.
    usual = url == "http://127.0.0.1:8000" and "data_dir" not in settings.model_fields_set
    chat = f"{program()} chat" if usual else f"{program()} chat --url {url}"
    note(f"MiniVault listens on {bound}    (Ctrl-C stops it)", strong=True)
    if bound != url:
        note(f"  reach  every address of this machine; from here {url}")
    note(f"  model  {settings.model}")
    note(f"  data   {settings.data_dir}")
    note(f'  ask    {ask} -d \'{{"prompt": "What model are you?"}}\'')
    note(f"         {chat}")
    note(f"  docs   {url}/docs")
    if _asks_for_keys(settings) or settings.require_keys:
        note(f"  keys   asked for: send one as Authorization: Bearer, or set MINIVAULT_API_KEY ({program()} keys)")
    elif not is_this_machine_alone(settings.host):
        note("  OPEN   whoever reaches this machine can ask, and needs no key (--unsafe-bind)")
    warn_of_missing_keys(settings)
