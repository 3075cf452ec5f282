"""Looks at the machine, the settings, the vault, the models and the server: what is found, and what to do about it.

Changes nothing but a small file in the data directory that it removes again. Knows nothing of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minivault.cli.examine_config import examine_config
from minivault.cli.examine_findings import Finding
from minivault.cli.examine_machine import examine_machine
from minivault.cli.examine_models import examine_models
from minivault.cli.examine_server import examine_server
from minivault.cli.examine_vault import examine_vault

if TYPE_CHECKING:
    from minivault.settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, as they are made; takes a few seconds."""
    for look in (examine_machine, examine_config, examine_vault, examine_models, examine_server):
        yield from look(settings)
