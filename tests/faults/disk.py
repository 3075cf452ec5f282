"""A disk that knows what has been synced, can fail at a chosen write or sync, and can lose power.

A VFS for SQLite. Every write goes to the real file, as into a page cache, and waits in a list of what is not yet
synced; a sync moves the list to the *durable* image of the file. After a failed sync the list is dropped without a
trace, as Linux does: the pages read as written, but they will never reach the disk.
"""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path

import apsw

_names = count()


class Image:
    """One file: what would be left of it after a power loss, and what waits to be synced."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self._waiting: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes) -> None:
        self._waiting.append((offset, data))

    def truncate(self, size: int) -> None:
        self._waiting.append((size, None))

    def sync(self) -> None:
        for offset, data in self._waiting:
            if data is None:
                del self.durable[offset:]
            else:
                self.durable.extend(bytes(max(0, offset - len(self.durable))))
                self.durable[offset : offset + len(data)] = data
        self._waiting = []

    def forget(self) -> None:
        self._waiting = []


class Disk(apsw.VFS):
    """``fail_at``: the number of the write or sync (counted together, from 0) that fails, ``None`` for none.
    ``kill_at``: the one at which this process dies; with ``torn``, after half of a write.
    """

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        full: bool = False,
        sticky: bool = False,
        kill_at: int | None = None,
        torn: bool = False,
    ) -> None:
        self.name = f"disk-{next(_names)}"
        self.images: dict[str, Image] = {}
        self.operations = 0
        self.failures = 0
        self._fail_at = fail_at
        self._full = full
        self._sticky = sticky
        self._kill_at = kill_at
        self.torn = torn
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return File(self, self.images.setdefault(Path(path).name, Image()), name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's
        self.images.pop(Path(filename).name, None)
        super().xDelete(filename, syncdir)

    def heal(self) -> None:
        """No failure from now on."""
        self._fail_at = None

    def due_to_fail(self) -> bool:
        number = self.operations
        self.operations += 1
        if self._fail_at is None:
            return False
        fails = number >= self._fail_at if self._sticky else number == self._fail_at
        self.failures += fails
        return fails

    @property
    def dies_now(self) -> bool:
        return self.operations == self._kill_at

    def error(self) -> apsw.Error:
        return apsw.FullError("no room, by plan") if self._full else apsw.IOError("I/O error, by plan")

    def after_power_loss(self, folder: Path) -> Path:
        """Lay the durable images down in ``folder``; gives the vault's path there."""
        folder.mkdir()
        for name, image in self.images.items():
            if not name.endswith("-shm"):
                (folder / name).write_bytes(image.durable)
        return folder / "vault.db"


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, image: Image, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._image = image

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's
        if self._disk.dies_now:
            if self._disk.torn:
                super().xWrite(data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        if self._disk.due_to_fail():
            raise self._disk.error()
        super().xWrite(data, offset)
        self._image.write(offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's
        super().xTruncate(newsize)
        self._image.truncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's
        if self._disk.dies_now:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._disk.due_to_fail():
            self._image.forget()
            raise self._disk.error()
        # The image is the disk here; asking the real one to sync would only cost time.
        self._image.sync()

    def excepthook(self, *_: object) -> bool:
        """Quiet: SQLite's own error code tells the rest."""
        return True
