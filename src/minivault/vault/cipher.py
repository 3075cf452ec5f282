"""The key that encrypts a vault's file: 32 random bytes, in a file of its own that holds them as 64 hex digits.

Knows nothing of what is encrypted, or of SQLite beyond the form in which it takes a key. The key shows itself nowhere:
not in ``repr``, not in an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from minivault.errors import ConfigError
from minivault.files import PLAIN, sync_folder

KEY_BYTES: Final = 32
CIPHER: Final = "chacha20"
"""ChaCha20 with a Poly1305 tag for each page: a page that was changed does not read."""
_PLAIN: Final = b"SQLite format 3\x00"
START_BYTES: Final = len(_PLAIN)
"""Of a file that tell whether it is encrypted."""


class VaultKey:
    """A key. Compared by value; never printed."""

    __slots__ = ("_hex",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a vault's key has {KEY_BYTES} bytes")
        self._hex = key.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VaultKey) and other._hex == self._hex

    def __hash__(self) -> int:
        return hash(self._hex)

    def __repr__(self) -> str:
        return "VaultKey(...)"

    @property
    def passphrase(self) -> str:
        """As SQLite's ciphers take it: the key itself, not words that a key is derived from."""
        return f"raw:{self._hex}"

    @classmethod
    def load(cls, path: Path) -> VaultKey:
        """Read a key file.

        Raises:
            ConfigError: it cannot be read, or holds no key.
        """
        try:
            text = path.read_bytes()[:1024]
        except OSError as error:
            raise ConfigError(f"vault_key_file cannot be read: {error.strerror}") from None
        if not re.fullmatch(rb"\s*[0-9a-fA-F]{64}\s*", text):
            raise ConfigError(
                "vault_key_file must hold a key of 64 hex digits, as minivault vault encrypt makes it; "
                "vault.key, which signs heads, is another"
            )
        return cls(bytes.fromhex(text.decode("ascii").strip()))

    @classmethod
    def of(cls, path: Path | None) -> VaultKey | None:
        """As :meth:`load`; without a file there is no key."""
        return None if path is None else cls.load(path)

    @classmethod
    def create(cls, path: Path) -> VaultKey:
        """Draw a key and write it to a new file, for its owner alone, durably.

        Raises:
            ConfigError: the file is there already, or cannot be written.
        """
        key = cls(os.urandom(KEY_BYTES))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, 0o600)
            try:
                os.write(fd, f"{key._hex}\n".encode("ascii"))
                os.fsync(fd)
            finally:
                os.close(fd)
            sync_folder(path.parent)
        except OSError as error:
            raise ConfigError(f"the key file cannot be made: {error.strerror}") from None
        return key


def is_plain(path: Path) -> bool | None:
    """Whether the file begins as SQLite's do that are not encrypted; ``None`` while nothing was written to it.

    Not for a file that this process has open in SQLite: closing it here lets go of the locks that SQLite has on it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return starts_plain(file.read(START_BYTES))


def starts_plain(start: bytes) -> bool | None:
    """As :func:`is_plain`, of a file's first ``START_BYTES``."""
    return start == _PLAIN if start else None
