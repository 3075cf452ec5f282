"""Where the command ``minivault`` begins: a Ctrl-C while its modules are still read is an end like any other.

Knows nothing of commands.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; returns or exits as it does."""
    try:
        from minivault.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
