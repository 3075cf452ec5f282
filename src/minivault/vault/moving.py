"""Renames beside a vault that happen all or not at all, whatever kills the process: listed on the disk, then done.

Until the list has its name, nothing has moved. From then on whoever takes the vault's lock does what is left of it, and
nobody reads the vault before that. The last rename decides: once it is done, all are. Knows nothing of what the files
hold.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from minivault.errors import LedgerUnavailable, VaultCorrupt
from minivault.files import replacing, sync_folder

Move = tuple[Path, Path]
"""From where to where, in the vault's folder."""

RESTORED, RECODED, REPLACED = ".restored.part", ".recoded.part", ".replaced.part"
"""What the copies beside a vault are called until they are put in place, and what one of them took the place of until
it is deleted: nobody gives a file of his own such a name."""
BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite may keep beside a file."""

logger = logging.getLogger("minivault.vault")


def list_of(vault: Path) -> Path:
    """The list of the renames under way; there while they are not all done."""
    return vault.with_name(vault.name + ".moves")


def require_settled(vault: Path) -> None:
    """That no renames are under way: some file may stand in its place and another not yet.

    Raises:
        LedgerUnavailable: they are.
    """
    if list_of(vault).exists():
        raise LedgerUnavailable(
            "a restore of this vault, or a change of its key, is under way, or was interrupted: starting the server"
            " finishes it, and so does the same command once more",
            retry_after=1.0,
        )


def move_all(vault: Path, moves: Sequence[Move]) -> None:
    """Do the renames; no target but the last may be there when its turn comes. The caller holds the vault's lock; what
    is moved is on the disk.

    Raises:
        OSError: it could not be done. If it had begun, the next holder of the lock goes on with it.
    """
    with replacing(list_of(vault)) as file:
        file.write(json.dumps([[source.name, target.name] for source, target in moves]).encode("ascii"))
    # The point of no return has passed; what is to be moved has its name for good by this as well.
    _do(vault, moves)


def finish(vault: Path) -> bool:
    """Do what a killed process left of its renames; whether there was anything. The caller holds the vault's lock.

    Copies that it had not finished are deleted: an erasure would not know of what they hold.

    Raises:
        VaultCorrupt: the list is none.
        OSError: it could not be done.
    """
    try:
        moves = _read(vault)
    except FileNotFoundError:
        discard_all(vault)
        return False
    _do(vault, moves)
    discard_all(vault)
    logger.warning("a restore of the vault, or a change of its key, that was interrupted is finished")
    return True


def discard_all(vault: Path) -> None:
    """Delete every copy beside the vault that is not, or no more, to be used. No renames are under way."""
    ends = tuple(part + end for part in (RESTORED, RECODED, REPLACED) for end in ("", *BESIDE))
    for path in vault.parent.iterdir():
        if path.name.endswith(ends) and not path.is_dir():
            path.unlink(missing_ok=True)


def discard(part: Path) -> None:
    """Delete a copy that is not to be used, and what SQLite keeps beside one that is being written."""
    for end in ("", *BESIDE):
        part.with_name(part.name + end).unlink(missing_ok=True)


def _do(vault: Path, moves: Sequence[Move]) -> None:
    """Any number of times: a rename whose target is there is done."""
    if moves[-1][0].exists():
        for source, target in moves[:-1]:
            if source.exists() and not target.exists():
                source.replace(target)
        # On the disk before the last: an old write-ahead log beside a new vault would be taken for its own.
        sync_folder(vault.parent)
        moves[-1][0].replace(moves[-1][1])
        sync_folder(vault.parent)
    list_of(vault).unlink()
    sync_folder(vault.parent)


def _read(vault: Path) -> list[Move]:
    path = list_of(vault)
    try:
        names = json.loads(path.read_bytes())
        moves = [(path.with_name(source), path.with_name(target)) for source, target in names]
    except (ValueError, TypeError):
        moves = []
    if not moves:
        raise VaultCorrupt(f"{path.name}, the list of files to put in place, cannot be read; move it away to go on")
    return moves
