"""Asks the server that runs on the data directory how it is; where none runs, nothing.

Knows nothing of the terminal, and of the server nothing but what ``/health`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minivault.cli.address import running_at
from minivault.cli.console import CliError
from minivault.cli.examine_findings import Finding

if TYPE_CHECKING:
    from minivault.settings import Settings

REFUSALS = ("missing_api_key", "invalid_api_key", "forbidden")
"""What a server says to who shows no key, or not one that may look; it is well enough to say so."""
HEAD_ADVICE = (
    "The records are safe. Heads are signed, and exported, again once that is mended; see head_export where it says "
    "that one cannot be exported."
)
MIRROR_ADVICE = (
    "The records are safe. Make logs/log.jsonl writable, and room for it; the server then goes on by itself."
)


def examine_server(settings: Settings) -> Iterator[Finding]:
    url = running_at(settings.data_dir)
    if url is None:
        return
    try:
        health = _asked(settings, url)
    except CliError as error:
        refused = error.code in REFUSALS
        found = f"runs at {url}, and did not say how it is"
        yield Finding("server", "health", "ok" if refused else "warn", found, str(error).partition("\n")[0])
        return
    yield from told(url, health)


def told(url: str, health: dict[str, Any]) -> Iterator[Finding]:
    """What ``/health`` says of a server, as findings."""
    reason = health.get("reason")
    if reason:
        advice = "Requests get 503 meanwhile; what the server lacks is in its log, and goes on by itself if it can."
        yield Finding("server", "health", "warn", f"runs at {url}, and is not ready: {reason}", advice)
    else:
        yield Finding("server", "health", "ok", f"runs at {url}, and is well")
    vault = health.get("vault")
    for name, advice in (("head_error", HEAD_ADVICE), ("mirror_error", MIRROR_ADVICE)):
        wrong = vault.get(name) if isinstance(vault, dict) else None
        if wrong:
            yield Finding("server", name, "fail", str(wrong), advice)


def _asked(settings: Settings, url: str) -> dict[str, Any]:
    from minivault.cli.client import Client

    key = settings.api_key
    with Client(url, api_key=None if key is None else key.get_secret_value(), ca_file=settings.ca_file) as client:
        return client.health()
