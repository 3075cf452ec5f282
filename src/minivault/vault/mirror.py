"""``logs/log.jsonl``: the plain-text mirror of the vault, one finished call a line, in the order of the outcomes.

The file says itself how far it has come: each line bears the index of its outcome record, so after a crash the last
whole line is where it goes on, and anything torn behind that line is cut off. No line is lost, none comes twice, and
there is no second place that could disagree. A file that is not of this vault is put aside, never cut.

Used by the ledger thread alone. Knows nothing of commits: it reads what is durable. Its own failures are reported,
never raised into the ledger, and made up for later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minivault.files import PLAIN, sync_folder
from minivault.one_line import in_one_line
from minivault.vault.database import Connection, StorageError, describe
from minivault.vault.record import format_time
from minivault.vault.scrub import without_erased

FILE_NAME = "log.jsonl"
BATCH_LINES = 256
_CHUNK = 1 << 16
_MAX_TORN_LINES = 100
_LINE_START = b'{"timestamp": '

_DUE = """
SELECT c.outcome_index, c.request_id, c.time_ns, t.prompt, t.response, c.mode, c.source, c.model,
       c.prompt_tokens, c.completion_tokens, c.duration_ns, c.finish_reason
FROM calls AS c JOIN call_texts AS t USING (intent_index)
WHERE c.outcome_index > ? AND c.erased_index IS NULL ORDER BY c.outcome_index LIMIT ?
"""
_ONE = "SELECT request_id, time_ns FROM calls WHERE outcome_index = ?"


class Mirror:
    """Keeps ``log.jsonl`` in a folder level with the vault."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.max_bytes = max_bytes
        self.error: str | None = None
        """Why the last attempt failed; ``None`` once it has caught up again."""
        self.position: int | None = None
        """The outcome of the last line; -1 before the first; ``None``: to be found in the file."""
        self._fd: int | None = None
        self._size = 0
        self._scrub: Iterator[None] | None = None
        """Under way: lines of erased calls are taken out."""

    def advance(self, db: Connection, limit: int = BATCH_LINES) -> bool:
        """Write up to ``limit`` lines that are due; returns whether there may be more to do now."""
        try:
            if self.position is not None and self._was_taken():
                self.close()
            if self.position is None:
                self.position = self._find_position(db)
            rows = list(db.execute(_DUE, (self.position, limit)))
            for row in rows:
                self._write_line(row)
        except (OSError, StorageError, ValueError) as error:
            self.error = describe(error)
            self.close()
            return False
        self.error = None
        return len(rows) == limit

    @property
    def scrubbing(self) -> bool:
        """Whether the files are being gone through; what was erased since that began may be passed over."""
        return self._scrub is not None

    def begin_scrub(self) -> None:
        """What is under way begins anew."""
        self._scrub = None

    def scrub(self, db: Connection) -> bool:
        """One short step of it. Returns whether it is done; to be asked again until it is.

        Each file is written anew beside itself and then renamed, and only if it holds such a line.
        """
        try:
            if self.position is None:
                # A torn tail is cut off first.
                self.position = self._find_position(db)
            if self._scrub is None:
                self._scrub = self._scrub_all(db)
            next(self._scrub)
        except StopIteration:
            self._scrub = None
            return True
        except (OSError, StorageError, ValueError) as error:
            self.error = describe(error)
            self.close()
        return False

    def _scrub_all(self, db: Connection) -> Iterator[None]:
        for left in self.folder.glob(f"{FILE_NAME}*.part"):
            # Of a process that was killed amid this: it holds lines, and is no file that would be looked through.
            left.unlink()
        for _, path in self._rotated():
            yield from without_erased(path, db)
            if not path.stat().st_size:
                path.unlink()
        if self.path.exists():
            yield from without_erased(self.path, db, self._release)

    def close(self) -> None:
        """Close the file. The position is found again by the next :meth:`advance`."""
        self.position = None
        self._scrub = None
        self._release()

    def _was_taken(self) -> bool:
        """Whether the file was deleted, replaced or cut since its last line."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return True
        if self._fd is None:
            return False
        return there.st_size < self._size or not os.path.samestat(there, os.fstat(self._fd))

    def _release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write_line(self, row: tuple[Any, ...]) -> None:
        line = (in_one_line(_line(row)) + "\n").encode("utf-8")
        file = self._open()
        if self._size and self._size + len(line) > self.max_bytes:
            self._rotate()
            file = self._open()
        written = os.write(file, line)
        if written != len(line):
            raise OSError("short write")
        self._size += written
        self.position = row[0]

    def _open(self) -> int:
        if self._fd is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | PLAIN, 0o600)
            self._size = os.fstat(self._fd).st_size
        return self._fd

    def _rotate(self) -> None:
        """Put the full file aside under the next number: one rename, so a crash leaves either name, never none.

        On the disk before it has its number, for only the newest file's end is looked at after a crash; and the name is
        on the disk before a line goes into the next.
        """
        if self._fd is not None:
            os.fsync(self._fd)
        self._release()
        self._scrub = None
        numbers = [number for number, _ in self._rotated()]
        self.path.rename(self.folder / f"{FILE_NAME}.{max(numbers, default=0) + 1}")
        sync_folder(self.folder)
        self._size = 0

    def _rotated(self) -> list[tuple[int, Path]]:
        prefix = FILE_NAME + "."
        found = [(path.name.removeprefix(prefix), path) for path in self.folder.glob(prefix + "*")]
        return sorted((int(suffix), path) for suffix, path in found if suffix.isdecimal())

    def _find_position(self, db: Connection) -> int:
        """Cut a torn tail off, and say how far the files have come."""
        if self.path.exists() and self.path.stat().st_size:
            position = _repair(self.path, db)
            if position is None:
                # Not a mirror of this vault: kept, but out of the way.
                self._rotate()
                return -1
            if position >= 0:
                return position
        for _, path in reversed(self._rotated()):
            position = _repair(path, db) if path.stat().st_size else -1
            if position is None:
                break
            if position >= 0:
                return position
        return -1


def _line(row: tuple[Any, ...]) -> dict[str, Any]:
    index, request_id, time_ns, prompt, response, mode, source, model, prompt_tokens, tokens, duration_ns, reason = row
    return {
        "timestamp": format_time(time_ns),
        "id": request_id,
        "prompt": prompt,
        "response": response,
        "mode": mode,
        "source": source,
        "model": model,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        },
        "processing_time_ms": None if duration_ns is None else round(duration_ns / 1e6, 3),
        "finish_reason": reason,
        "index": index,
    }


def _repair(path: Path, db: Connection) -> int | None:
    """Cut off what a crash has torn, and give the outcome index of the last line.

    -1: the file held nothing but a torn line of a mirror, and is empty now. ``None``: not a mirror of this vault (which
    was replaced or set back, say).
    """
    with path.open("r+b") as file:
        end = whole = file.seek(0, os.SEEK_END)
        for _ in range(_MAX_TORN_LINES):
            whole = _line_start(file, whole)
            start = _line_start(file, whole - 1)
            file.seek(start)
            entry = _entry(file.read(whole - start))
            if entry is not None:
                if not _agrees(entry, db):
                    return None
                if whole != end:
                    file.truncate(whole)
                return int(entry["index"])
            whole = start
            if not whole:
                break
        file.seek(0)
        if whole or not file.read(len(_LINE_START)).startswith(_LINE_START):
            return None
        file.truncate(0)
        return -1


def _line_start(file: Any, end: int) -> int:
    """Where the line that ends before ``end`` starts: behind the last newline in ``[0, end)``, or at 0."""
    while end > 0:
        start = max(0, end - _CHUNK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        end = start
    return 0


def _entry(line: bytes) -> dict[str, Any] | None:
    """The line's object, or ``None`` if it is torn."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("index"), int) else None


def _agrees(entry: dict[str, Any], db: Connection) -> bool:
    row = next(db.execute(_ONE, (entry["index"],)), None)
    return row is not None and (row[0], format_time(row[1])) == (entry.get("id"), entry.get("timestamp"))
