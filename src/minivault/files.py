"""Opening files and making them durable, where POSIX and Windows differ. Knows nothing of what the files hold."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    """Give a finished file its name, in the place of whatever bears it: whole at any moment, and durably.

    Windows replaces no file that is open: there, who reads the former one is waited for, but not for long.

    Raises:
        OSError: it could not be done, and both files are as they were; or the rename could not be synced.
    """
    for _ in range(_PATIENCE if OPEN_FILES_STAY else 0):
        with contextlib.suppress(PermissionError):
            part.replace(path)
            break
        time.sleep(_PAUSE)
    else:
        part.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A new file in the place of ``path``, whole or not at all, and on the disk when the block has ended.

    What the block writes lies beside it until then; when the block raises, nothing is left of it. ``mode``: less what
    the umask takes.

    Raises:
        OSError: it could not be done; the former file is as it was, unless the rename alone could not be synced.
    """
    part = path.with_name(path.name + ".part")
    # One that a killed process left would keep its mode, and a link would be followed.
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def is_own(status: os.stat_result) -> bool:
    """Whether a file belongs to this user or to the system's; Windows does not say so here, and the folder decides."""
    return not HAS_MODES or status.st_uid in (0, os.getuid())
