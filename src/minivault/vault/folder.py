"""Makes the names in a folder durable: a file's own sync says nothing of its name. Knows nothing of the files."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in ``folder`` stays so after a crash.

    Raises:
        OSError: that cannot be promised.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
