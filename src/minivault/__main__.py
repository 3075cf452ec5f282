"""``python -m minivault``: the command ``minivault``, where its script cannot be found. Knows nothing of commands."""

from __future__ import annotations

from minivault.cli.start import main

if __name__ == "__main__":
    main()
