"""A vault's copy elsewhere, and back: one file, verified before it is called a backup and again before it is used.

A backup holds the records and their content, not the key that signs heads. Knows nothing of who asked for it or of how
often.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from minivault.errors import ConfigError, InvalidRequest, LedgerUnavailable, VaultCorrupt
from minivault.files import put_in_place
from minivault.vault.cipher import VaultKey
from minivault.vault.copying import copy_database
from minivault.vault.database import StorageError, as_error, open_reader
from minivault.vault.findings import Verified, VerifyReport
from minivault.vault.head import Head, HeadPaths
from minivault.vault.lock import WriterLock
from minivault.vault.moving import BESIDE, RESTORED, Move, discard, list_of, move_all, require_settled
from minivault.vault.reader import Reader
from minivault.vault.verify import Progress, verify

_OWN_HEAD: Final = "newest head of the vault that is here, so it is of another vault, or this one was changed since"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    report: VerifyReport
    aside: tuple[Path, ...]
    """Where the files lie that stood in its place."""
    lost: int
    """Records that the vault had signed for and that the backup does not hold."""


def back_up(
    vault: Path, target: Path, progress: Progress | None = None, *, key: VaultKey | None = None
) -> VerifyReport:
    """Copy the vault to the file ``target``, whole or not at all, and verify the copy against the newest signed head.

    A server may be running. A former backup of this name is replaced once the new one is good. The backup of an
    encrypted vault is encrypted with its ``key``.

    Raises:
        InvalidRequest: there is no vault, or ``target`` is the vault, or something that is no vault.
        VaultCorrupt: the copy does not verify: the vault does not either.
        LedgerUnavailable: it could not be read or written.
    """
    require_settled(vault)
    if not vault.is_file():
        raise InvalidRequest("there is no vault to back up", param="vault")
    if target.exists():
        if target.samefile(vault):
            raise InvalidRequest("a backup needs a file of its own", param="file")
        _must_be_vault(target, key)
    # Before the copy: a head is signed after its records, so the copy holds all that this one covers.
    head = HeadPaths(vault).load_head()
    part = target.with_name(target.name + ".part")
    try:
        report = verified_copy(vault, part, head, key, progress)
        take_place(part, target)
    finally:
        discard(part)
    return report


def restore(
    file: Path,
    vault: Path,
    *,
    key: VaultKey | None = None,
    against: Head | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Put the backup ``file`` in the place of the vault. No server may be running.

    It is verified first: against the head ``against``, or else the vault's newest, as far as the backup reaches. With
    ``replace``, a vault that is there is put aside, never deleted; so is a newest head that covers more than this.
    ``key``: that of the backup, and of the vault from then on. Killed at any point, it leaves the former vault in
    place, or a list by which the next start, or the next restore, puts the new one there.

    Raises:
        InvalidRequest: there is a vault and ``replace`` was not said, or the file is not there.
        VaultCorrupt: the backup does not verify.
        LedgerUnavailable: another process writes the vault, or a file could not be read or written.
    """
    if not file.is_file():
        raise InvalidRequest("there is no such backup", param="file")
    if vault.exists() and not replace and not list_of(vault).exists():
        raise InvalidRequest(_THERE, param="replace")
    paths, part = HeadPaths(vault), vault.with_name(vault.name + RESTORED)
    try:
        vault.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = WriterLock(vault)
    except OSError as error:
        raise as_error(error, "the vault's folder cannot be used") from error
    try:
        if vault.exists() and not replace:
            raise InvalidRequest(f"{_FINISHED if lock.finished_restore else ''}{_THERE}", param="replace")
        newest = paths.load_head()
        size = _size_of(file, key)
        lost = 0 if newest is None else max(0, newest.size - size)
        head, whose = (newest if not lost else None, _OWN_HEAD) if against is None else (against, "head from outside")
        report = verified_copy(file, part, head, key, progress, whose)
        # What was verified before was another file.
        Verified.path(vault).unlink(missing_ok=True)
        aside = _aside(vault, paths.head if lost else None)
        try:
            move_all(vault, [*aside, (part, vault)])
        except OSError as error:
            raise as_error(error, "the backup could not be put in place") from error
        return Restored(report, tuple(target for _, target in aside), lost)
    finally:
        if not list_of(vault).exists():
            discard(part)
        lock.release()


def verified_copy(
    source: Path, part: Path, head: Head | None, key: VaultKey | None, progress: Progress | None, whose: str = _OWN_HEAD
) -> VerifyReport:
    """Copy the vault ``source`` to ``part`` and verify the copy against ``head``, which is called ``whose``.

    Raises:
        VaultCorrupt: it does not verify.
        LedgerUnavailable: it could not be read or written.
    """
    discard(part)
    try:
        copy_database(source, part, key)
    except (StorageError, OSError) as error:
        raise as_error(error, "the copy could not be made") from error
    return verified(part, head, key, progress, whose)


def verified(
    part: Path, head: Head | None, key: VaultKey | None, progress: Progress | None, whose: str = _OWN_HEAD
) -> VerifyReport:
    """Verify a copy, content and all, against ``head``, which is called ``whose``.

    Raises:
        VaultCorrupt: it does not verify.
    """
    reader = Reader.open(part, key)
    try:
        report = verify(reader, against=head, progress=progress, outside=whose)
    finally:
        reader.close()
    if not report.ok:
        raise VaultCorrupt(f"the copy does not verify: {report.findings[0].message}")
    return report


def _must_be_vault(path: Path, key: VaultKey | None) -> None:
    try:
        open_reader(path, key).close()
    except (StorageError, OSError, VaultCorrupt, ConfigError):
        raise InvalidRequest("the file is there and is no backup: it is not replaced", param="file") from None


def _size_of(file: Path, key: VaultKey | None) -> int:
    reader = Reader.open(file, key)
    try:
        with reader.connection() as db:
            if db is None:
                raise InvalidRequest("the file is empty, and no backup", param="file")
            return int(db.execute("SELECT size FROM tree_state").get or 0)
    finally:
        reader.close()


def _aside(vault: Path, head: Path | None) -> list[Move]:
    """What is to be moved out of the way, and where to: names of one number, all of which are free."""
    sources = [(path, path.name) for path in ([] if head is None else [head])]
    # Beside another file each of these would be taken for its own.
    sources += [(vault.with_name(vault.name + end), vault.name) for end in ("", *BESIDE)]
    for number in count(1):
        ends = [(path, f"{stem}.before-{number}{path.name.removeprefix(stem)}") for path, stem in sources]
        targets = [(path, path.with_name(name)) for path, name in ends]
        if not any(target.exists() for _, target in targets):
            return [(path, target) for path, target in targets if path.exists()]
    raise AssertionError("numbers do not end")


_THERE: Final = "there is a vault already; to put it aside, say --replace"
_FINISHED: Final = "a restore that was interrupted is finished now, with the backup that it was given: "


def take_place(part: Path, target: Path) -> None:
    """Give the verified copy its name, durably.

    Raises:
        LedgerUnavailable: it could not be done.
    """
    try:
        put_in_place(part, target)
    except OSError as error:
        raise LedgerUnavailable("the copy could not be put in its place") from error
