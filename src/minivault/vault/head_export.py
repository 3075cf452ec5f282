"""Copies of the signed heads in a file elsewhere: appended from a thread of its own, again and again until it is done.

That file may lie on a disk that is not there just now, or hangs: no record waits for it. While it cannot be written the
newest head alone is kept for it, which covers all before it. Knows nothing of what a head says.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from minivault.files import NO_WAIT, PLAIN, sync_folder
from minivault.vault.database import describe

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
CLOSE_SECONDS: Final = 5.0

logger = logging.getLogger("minivault.vault")


class HeadExport:
    """Appends notes to a file. Thread-safe; nothing here waits for that file but :meth:`close`, for a while."""

    def __init__(
        self, path: Path, *, pause: float | None = None, append: Callable[[Path, bytes], None] | None = None
    ) -> None:
        """``pause``: seconds after the first failure; twice as many after each, up to a minute."""
        self._path = path
        self._pause = FIRST_PAUSE if pause is None else pause
        self._append = append or append_note
        # All under the condition.
        self._wake = threading.Condition()
        self._note: str | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self.error: str | None = None
        """Why the last attempt failed; ``None`` once the file is level again."""

    @property
    def behind(self) -> bool:
        """Whether the newest note is not there yet."""
        return self._note is not None

    def offer(self, note: str) -> None:
        """Have the note appended, now or when it can be, in the place of one that still waits."""
        with self._wake:
            if self._closing:
                return
            self._note = note
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._wake.notify()

    def _start(self) -> None:
        # No process waits at its end for a disk that hangs.
        thread = threading.Thread(target=self._run, name="minivault-head-export", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no thread for it now: the next note asks again.
            self._failed(error)
        else:
            self._thread = thread

    def close(self) -> None:
        """Try once more with what waits, for five seconds at most. The next start appends what is missing."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        failures = 0
        while True:
            with self._wake:
                while self._note is None and not self._closing:
                    self._wake.wait()
                note, last = self._note, self._closing
            if note is None:
                return
            try:
                self._append(self._path, note.encode("utf-8") + b"\n")
            except Exception as error:  # Whatever it is, the next attempt may do better: nobody else would make one.
                failures += 1
                self._failed(error)
                if last:
                    return
                with self._wake:
                    if self._note is note and not self._closing:
                        self._wake.wait(pause_after(failures, self._pause))
            else:
                failures = 0
                self._landed(note)

    def _failed(self, error: Exception) -> None:
        if self.error is None:
            logger.warning("the signed head cannot be exported; it is tried again: %s", _reason(error))
        self.error = f"the head is signed, but cannot be exported: {_reason(error)}"

    def _landed(self, note: str) -> None:
        with self._wake:
            if self._note is note:
                self._note = None
        if self.error is not None:
            logger.warning("the signed head is exported again")
        self.error = None


def pause_after(failures: int, first: float) -> float:
    """Seconds until the next attempt after so many failures in a row: twice as long each time, bounded."""
    return min(LONGEST_PAUSE, first * 2.0 ** min(failures - 1, 32))


def append_note(path: Path, note: bytes) -> None:
    """Have the file end with a note that ends in an empty line, on the disk. What a failure tore stays, and an empty
    line after it: nothing that is there is ever cut.

    Raises:
        OSError: it could not be done.
    """
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - len(note)))
        tail = file.read()
        if not end:
            _sync_name(path)
        if tail != note:
            file.write(note if not end or tail.endswith(b"\n\n") else b"\n\n" + note)
            file.flush()
        # Also of one that is there: the attempt that wrote it may have failed at this.
        os.fsync(file.fileno())


def why_not(path: Path) -> str | None:
    """Why a note could not be appended to this file, as far as that is told without writing; ``None``: nothing is known
    against it."""
    try:
        _look(path)
    except OSError as error:
        return _reason(error)
    return None


def _look(path: Path) -> None:
    """
    Raises:
        OSError: as :func:`append_note`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | PLAIN | NO_WAIT)
    except FileNotFoundError:
        folder = path.resolve().parent
        if not folder.is_dir():
            raise
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _sync_name(path: Path) -> None:
    """Of a file that is empty, for it may be new.

    Some file systems sync no folders, and some folders take files but may not be read: a name may go there in a crash,
    and the next start writes the newest head anew.
    """
    try:
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM):
            raise


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "its folder is not there"
    if isinstance(error, PermissionError):
        return "the file may not be written"
    return describe(error) if isinstance(error, OSError) else f"it failed ({type(error).__name__})"
