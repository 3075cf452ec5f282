"""Opening files and making them durable, where POSIX and Windows differ. Knows nothing of what the files hold."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags of every descriptor: no child inherits it, and no line end is changed (Windows would)."""
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Does not wait for the other end of a pipe that lies where a file should."""
HAS_MODES = os.name == "posix"
"""Whether a file's mode says who may read and write it. On Windows its folder's access list does."""
OPEN_FILES_STAY = os.name == "nt"
"""Whether a file that is open can be neither renamed nor removed."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = getattr(os, "O_DIRECTORY", None)
_PATIENCE, _PAUSE = 100, 0.01


def open_itself(path: Path, flags: int, mode: int = 0o600) -> int:
    """As ``os.open``, but never what a symbolic link points to.

    Windows can only look before it opens; there, to make such a link takes a privilege.

    Raises:
        OSError: it is a link, or cannot be opened.
    """
    if not _NO_LINK and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.open(path, flags | PLAIN | _NO_LINK, mode)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in ``folder`` stays so after a crash.

    Windows syncs no folders: NTFS logs its names itself, in the order in which they were changed.

    Raises:
        OSError: that cannot be promised.
    """
    if _FOLDER is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished file its name, in the place of whatever bears it: whole at any moment.

    Windows replaces no file that is open: there, who reads the former one is waited for, but not for long.

    Raises:
        OSError: it could not be done; both files are as they were.
    """
    for _ in range(_PATIENCE if OPEN_FILES_STAY else 0):
        try:
            part.replace(path)
        except PermissionError:
            time.sleep(_PAUSE)
        else:
            return
    part.replace(path)


def is_own(status: os.stat_result) -> bool:
    """Whether a file belongs to this user or to the system's; Windows does not say so here, and the folder decides."""
    return not HAS_MODES or status.st_uid in (0, os.getuid())
