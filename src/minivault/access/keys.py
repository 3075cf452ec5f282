"""API keys: made, looked up, rotated, revoked. Of a key's secret only the SHA-256 is kept; it has 256 random bits, so
nothing slower is needed against guessing.

The keys lie in one small file that is replaced as a whole under a lock, and is read again when it has changed: so
``minivault keys`` works while a server runs. A file that cannot be read or trusted lets nobody in. Knows nothing of
HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minivault.access.key_file import ApiKey, KeyTerms, parse_keys, render_keys
from minivault.errors import InvalidRequest, KeysUnavailable, Unauthorized, UnknownKey
from minivault.file_lock import lock
from minivault.files import HAS_MODES, NO_WAIT, is_own, open_itself, replacing
from minivault.outage import Outage

FILE_NAME = "keys.json"
PREFIX = "mv_"
_SHOWN = re.compile(r"mv_([a-z0-9]{12})_([0-9a-f]{64})")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH = 12
_NO_DIGEST = "0" * 64
"""Compared with where there is no key, so that an unknown id takes the time of a known one."""

MAX_GRACE = 30 * 86_400.0
"""Seconds that a rotated secret may go on to be taken."""

logger = logging.getLogger("minivault.access")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made or rotated, and the only copy of what opens the door."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"NewKey({self.key.id})"


class KeyStore:
    """The keys of a data directory. Any number of processes may have one; writes take turns by a lock."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, outage: Outage | None = None) -> None:
        """``outage``: is told of each look at the file, whether it could be believed."""
        self.path = path
        self._clock = clock
        self._outage = outage
        # Replaced whole, for several threads read: what the file was like, and the keys that it held then.
        self._held: tuple[tuple[int, ...], Mapping[str, ApiKey]] | None = None

    @classmethod
    def in_folder(cls, data_dir: Path) -> KeyStore:
        """The keys of a data directory. There need be none."""
        return cls(data_dir / FILE_NAME)

    @classmethod
    def of_server(cls, data_dir: Path) -> KeyStore:
        """As :meth:`in_folder`; the log is told when nobody can be let in, and when that is over."""
        outage = Outage(logger, "the keys cannot be believed, so nobody is let in", "the keys are believed again")
        return cls(data_dir / FILE_NAME, outage=outage)

    def exist(self) -> bool:
        """Whether there is any key. One that was revoked or has expired counts: the door does not open again.

        Raises:
            KeysUnavailable: the file cannot be trusted, or has gone since it was read.
        """
        return bool(self._read())

    def list(self) -> list[ApiKey]:
        """All keys, oldest first; those that were revoked too, since records name them."""
        return sorted(self._read().values(), key=lambda key: (key.created_at, key.id))

    def get(self, id_or_name: str) -> ApiKey:
        """
        Raises:
            UnknownKey: there is none.
        """
        return _found(self._read(), id_or_name)

    def authenticate(self, shown: str) -> ApiKey:
        """The key that ``shown`` is.

        Raises:
            Unauthorized: it is none, or one that was revoked or has expired.
        """
        match = _SHOWN.fullmatch(shown)
        key_id, secret = match.groups() if match else ("", "")
        key = self._read().get(key_id)
        digest = _digest(secret)
        now = self._clock()
        current = hmac.compare_digest(digest, key.sha256 if key else _NO_DIGEST)
        former = hmac.compare_digest(digest, (key and key.previous_sha256) or _NO_DIGEST)
        if key is None or not (current or (former and now < (key.previous_until or 0))):
            raise Unauthorized("This API key is not known here.")
        self.require_active(key)
        return key

    def require_active(self, key: ApiKey) -> None:
        """
        Raises:
            Unauthorized: it was revoked or has expired.
        """
        if key.revoked_at is not None:
            raise Unauthorized("This API key was revoked.")
        if key.terms.expires_at is not None and self._clock() >= key.terms.expires_at:
            raise Unauthorized("This API key has expired.")

    def is_active(self, key: ApiKey) -> bool:
        return key.revoked_at is None and (key.terms.expires_at is None or self._clock() < key.terms.expires_at)

    def create(self, name: str, terms: KeyTerms) -> NewKey:
        """
        Raises:
            InvalidRequest: an active key has that name.
            KeysUnavailable: the file cannot be trusted or written.
        """
        with self._changing() as keys:
            self._require_free_name(keys, name)
            secret = secrets.token_hex(32)
            key = ApiKey(_fresh_id(keys), name, _digest(secret), self._clock(), terms)
            keys[key.id] = key
        return NewKey(key, f"{PREFIX}{key.id}_{secret}")

    def change(self, id_or_name: str, changed: Callable[[KeyTerms], KeyTerms], name: str | None = None) -> ApiKey:
        """Give a key other terms, or another name.

        Raises:
            UnknownKey: there is none.
            InvalidRequest: it was revoked, or an active key has that name.
        """
        with self._changing() as keys:
            key = _unrevoked(keys, id_or_name)
            if name is not None and name != key.name:
                self._require_free_name(keys, name)
            key = replace(key, terms=changed(key.terms), name=key.name if name is None else name)
            keys[key.id] = key
        return key

    def rotate(self, id_or_name: str, grace: float = 0.0) -> NewKey:
        """A new secret for a key, under the same id. The former one is taken for ``grace`` seconds more.

        Raises:
            UnknownKey: there is none.
            InvalidRequest: it was revoked, or ``grace`` is out of bounds.
        """
        if not 0 <= grace <= MAX_GRACE:
            raise InvalidRequest(f"grace must lie in 0 .. {MAX_GRACE:.0f} seconds", param="grace")
        with self._changing() as keys:
            key = _unrevoked(keys, id_or_name)
            secret = secrets.token_hex(32)
            now = self._clock()
            former = (key.sha256, now + grace) if grace else (None, None)
            key = replace(
                key, sha256=_digest(secret), rotated_at=now, previous_sha256=former[0], previous_until=former[1]
            )
            keys[key.id] = key
        return NewKey(key, f"{PREFIX}{key.id}_{secret}")

    def revoke(self, id_or_name: str) -> ApiKey:
        """Take a key out of use, for good. It stays on the list. Does nothing to one that was revoked before.

        Raises:
            UnknownKey: there is none.
        """
        with self._changing() as keys:
            key = _found(keys, id_or_name)
            if key.revoked_at is None:
                key = replace(key, revoked_at=self._clock(), previous_sha256=None, previous_until=None)
            keys[key.id] = key
        return key

    def _require_free_name(self, keys: Mapping[str, ApiKey], name: str) -> None:
        if any(key.name == name and key.revoked_at is None for key in keys.values()) or name in keys:
            raise InvalidRequest("name: a key of this name exists already", param="name")

    def _read(self) -> Mapping[str, ApiKey]:
        """The keys as they are now."""
        try:
            keys = self._current()
        except KeysUnavailable as error:
            if self._outage is not None:
                self._outage.fails(error.message)
            raise
        if self._outage is not None:
            self._outage.works()
        return keys

    def _current(self) -> Mapping[str, ApiKey]:
        """The keys, read again if the file has changed: it is only ever replaced as a whole."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._held is None:
                return {}
            # Without this, whoever can delete the file could open the door.
            raise KeysUnavailable(
                "keys.json has gone. Restore it, or restart the server to go on without keys."
            ) from None
        except OSError as error:
            raise KeysUnavailable(f"keys.json cannot be read ({error.strerror}).") from None
        # Who may write it counts as what is in it does, and a change of that moves only st_mode, st_uid and st_ctime.
        signature = (found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns, found.st_mode, found.st_uid)
        held = self._held
        if held is None or signature != held[0]:
            self._held = held = (signature, _load(self.path))
        return held[1]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """The keys, to be changed; written when the block ends without an error."""
        with _locked(self.path.with_suffix(".lock")):
            keys = dict(self._read())
            yield keys
            _replace(self.path, render_keys(keys.values()))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _fresh_id(keys: Mapping[str, Any]) -> str:
    while (drawn := "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))) in keys:
        pass
    return drawn


def _found(keys: Mapping[str, ApiKey], id_or_name: str) -> ApiKey:
    """By id, or by the name of a key that was not revoked: several that were may have had one name.

    Raises:
        UnknownKey: there is none.
    """
    named = [key for key in keys.values() if key.name == id_or_name]
    key = keys.get(id_or_name) or next((one for one in named if one.revoked_at is None), None)
    if key is None:
        if named:
            raise UnknownKey("The key of this name was revoked; minivault keys list --all shows it, with its id.")
        raise UnknownKey("There is no key of this id or name; minivault keys list shows them.")
    return key


def _unrevoked(keys: Mapping[str, ApiKey], id_or_name: str) -> ApiKey:
    key = _found(keys, id_or_name)
    if key.revoked_at is not None:
        raise InvalidRequest("This key was revoked; make a new one.", param="id")
    return key


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        descriptor = open_itself(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise KeysUnavailable(f"The keys cannot be changed: {path.name} cannot be opened ({error.strerror}).") from None
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _load(path: Path) -> Mapping[str, ApiKey]:
    try:
        descriptor = open_itself(path, os.O_RDONLY | NO_WAIT)
        try:
            return parse_keys(_content(descriptor, path))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeysUnavailable(f"keys.json cannot be read ({error.strerror}).") from None


def _content(descriptor: int, path: Path) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise KeysUnavailable("keys.json is not a file.")
    # Who owns the folder could put another file in its place anyhow.
    if not is_own(status) and status.st_uid != path.parent.stat().st_uid:
        raise KeysUnavailable("keys.json belongs to another user: chown it, and check its keys.")
    if HAS_MODES and status.st_mode & 0o022:
        raise KeysUnavailable("keys.json can be written by others than its owner: chmod 600 it, and check its keys.")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read()


def _replace(path: Path, data: bytes) -> None:
    """Durable before it returns, and whole at any moment."""
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise KeysUnavailable(f"The keys cannot be written ({error.strerror}).") from None
