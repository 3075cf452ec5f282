"""Signed heads: the tree's size and root as a signed note (C2SP's form for logs, Ed25519), and the file that keeps the
newest one.

A head is a promise: every later tree has this one as its prefix. So a head is signed only if the newest one signed
before is proven a prefix of it, and it replaces that one in ``vault.head`` by compare-and-swap. Whoever keeps a copy
elsewhere can tell for ever whether the vault was set back or rewritten.

Knows nothing of records or of SQLite. Signing and verifying come from ``cryptography``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from minivault.errors import InvalidRequest, VaultCorrupt
from minivault.files import replacing
from minivault.vault.head_export import HeadExport
from minivault.vault.merkle import HASH_BYTES, NodeSource, Tree, root_of

MAX_NOTE_BYTES: Final = 1 << 16
PUBLIC: Final = 0o644
"""The verifier key is for everybody to read."""
PROOF: Final = "c2sp.org/tlog-proof@"
"""How a proof of a record begins, which is easily taken for a head."""
_BRING_BACK: Final = "bring it back, from a backup or from whoever checks your heads"
_ED25519: Final = b"\x01"
_SIGNATURE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_KEY_ID_BYTES: Final = 4
MAX_SIGNATURES: Final = 100


@dataclass(frozen=True, slots=True)
class Head:
    """The tree at one moment."""

    origin: str
    """Which log it is."""
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text, as it is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a log's key, with the log's name."""

    name: str
    public: bytes
    """32 bytes."""

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signatures name the key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        """``name+id+key``, the form in which such keys are handed around."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read ``name+id+key``.

        Raises:
            InvalidRequest: it is none, or its id is not its own.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        data = from_base64(encoded)
        if data is None or len(data) != 33 or data[:1] != _ED25519 or not re.fullmatch(r"\S+", name):
            raise InvalidRequest("key must be an Ed25519 verifier key: name+id+base64", param="key")
        key = cls(name, data[1:])
        if key.key_id.hex() != key_id:
            raise InvalidRequest("key has an id that is not its own", param="key")
        return key


class Signer:
    """The log's private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = VerifierKey(f"minivault.local/{hashlib.sha256(public).hexdigest()[:16]}", public)

    def sign(self, size: int, root: bytes) -> str:
        """The text that is signed for a tree of ``size`` leaves."""
        text = Head(self.key.name, size, root).text()
        signature = base64.b64encode(self.key.key_id + self._private.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.key.name} {signature}\n"


def open_note(note: str, key: VerifierKey) -> Head:
    """Check a signed head's signature and read it, by the rules of C2SP's signed-note. Signatures of other keys
    (witnesses) are passed over where they are well-formed; anything else among the signatures refuses the note, so that
    nobody takes what was added there for part of what was signed.

    Raises:
        InvalidRequest: not a signed head, or not signed by ``key``.
    """
    if note.startswith(PROOF):
        raise InvalidRequest("this is the proof of a record, and no head", param="head")
    text, blank, block = note.rpartition("\n\n")
    if not blank or len(note) > MAX_NOTE_BYTES or not note.endswith("\n"):
        raise InvalidRequest("the head is not a signed note", param="head")
    text += "\n"
    lines = block.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise InvalidRequest(f"the head has more than {MAX_SIGNATURES} signatures", param="head")
    # Each is read and checked: a wrong one of this key refuses the note, wherever it stands.
    signed = [_signed_by(*_signature(line), text, key) for line in lines]
    if not any(signed):
        raise InvalidRequest("the head is not signed by this key", param="head")
    return _parse(text)


def _signature(line: str) -> tuple[str, bytes]:
    """The name of the key, and its id with the signature."""
    match = _SIGNATURE.fullmatch(line)
    data = from_base64(match[2]) if match else None
    if match is None or data is None or len(data) <= _KEY_ID_BYTES or not match[1].isprintable():
        raise InvalidRequest("the head holds a line that is no signature", param="head")
    return match[1], data


def _signed_by(name: str, data: bytes, text: str, key: VerifierKey) -> bool:
    if name != key.name or data[:_KEY_ID_BYTES] != key.key_id:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(data[_KEY_ID_BYTES:], text.encode())
    except InvalidSignature:
        raise InvalidRequest("the head's signature is wrong", param="head") from None
    return True


def _parse(text: str) -> Head:
    lines = text.split("\n")
    root = from_base64(lines[2]) if len(lines) == 4 else None
    if root is None or len(root) != HASH_BYTES or not lines[0] or not re.fullmatch(r"0|[1-9][0-9]{0,17}", lines[1]):
        raise InvalidRequest("the head must be a signed note of origin, size and root", param="head")
    return Head(lines[0], int(lines[1]), root)


def from_base64(text: str) -> bytes | None:
    """What ``text`` spells; ``None`` if it is not the one spelling of it, also for bits left over at its end."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None


@dataclass(frozen=True, slots=True)
class HeadPaths:
    """Where a vault keeps its key and its newest head: beside the vault's file."""

    vault: Path

    @property
    def private_key(self) -> Path:
        return self.vault.with_suffix(".key")

    @property
    def public_key(self) -> Path:
        return self.vault.with_suffix(".pub")

    @property
    def head(self) -> Path:
        return self.vault.with_suffix(".head")

    def load_key(self) -> VerifierKey | None:
        """The public key, ``None`` if there is none yet."""
        try:
            return VerifierKey.parse(self.public_key.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (InvalidRequest, UnicodeDecodeError):
            raise VaultCorrupt(f"{self.public_key.name} holds no verifier key: {_BRING_BACK}") from None

    def load_note(self) -> str | None:
        """The newest signed head as it stands in its file, unchecked; ``None`` if there is none yet."""
        try:
            return self.head.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def load_head(self) -> Head | None:
        """The newest signed head, its signature checked; ``None`` if none was signed yet.

        Raises:
            VaultCorrupt: it is not signed by the vault's key.
        """
        note, key = self.load_note(), self.load_key()
        if note is None:
            return None
        if key is None:
            raise VaultCorrupt(
                f"{self.head.name} is there, but {self.public_key.name} is gone: it cannot be checked; {_BRING_BACK}"
            )
        try:
            return open_note(note, key)
        except InvalidRequest as error:
            raise VaultCorrupt(f"{self.head.name} cannot be trusted: {error.message}") from None

    def load_signer(self) -> Signer | None:
        """The key that signs, held against the public one; ``None`` before the first start made it.

        Raises:
            VaultCorrupt: it is gone though a head was signed, is no such key, or is not the public one's.
            OSError: it cannot be read.
        """
        try:
            private = load_pem_private_key(self.private_key.read_bytes(), password=None)
        except FileNotFoundError:
            if self.head.exists():
                raise VaultCorrupt(
                    f"{self.private_key.name} is gone: bring it back, or begin a new series of heads by moving"
                    f" {self.head.name} and {self.public_key.name} away"
                ) from None
            return None
        except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):  # a TypeError: it has a password
            raise VaultCorrupt(f"{self.private_key.name} holds no private key") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise VaultCorrupt(f"{self.private_key.name} holds no Ed25519 key")
        signer = Signer(private)
        if self.load_key() not in (None, signer.key):
            raise VaultCorrupt(f"{self.private_key.name} and {self.public_key.name} do not belong together")
        return signer

    def require_continued(self, newest: Head | None, tree: Tree, node: NodeSource) -> None:
        """That the newest signed head is a prefix of ``tree``.

        Raises:
            VaultCorrupt: the vault was set back or rewritten since.
        """
        if newest is None:
            return
        if newest.size > tree.size:
            raise VaultCorrupt(
                f"the vault holds {tree.size} records, but a head over {newest.size} was signed: it was set back."
                f" To go on with it all the same, move {self.head.name} away"
            )
        if root_of(newest.size, node) != newest.root:
            raise VaultCorrupt(f"the first {newest.size} records are not those whose head was signed; run vault verify")

    def require_unsigned(self, newest: Head | None) -> None:
        """As :meth:`require_continued`, of a vault that is not there: no head was signed over any record of it."""
        self.require_continued(newest, Tree(), lambda level, position: b"")


class HeadKeeper:
    """Signs heads for one vault and keeps the newest. Used by the ledger alone, which holds the vault's lock."""

    def __init__(self, vault: Path, export: Path | None = None) -> None:
        """``export``: a file, best elsewhere, to which each head is appended.

        Raises:
            VaultCorrupt: key or head cannot be read or trusted.
            OSError: the key could not be made.
        """
        self.paths = HeadPaths(vault)
        self.newest = self.paths.load_head()
        """The newest head that was ever signed."""
        self._note = self.paths.load_note()
        self.signed_ns = None if self.newest is None else self.paths.head.stat().st_mtime_ns
        """When it was signed, nanoseconds since 1970."""
        self._signer = _signer_of(self.paths)
        self.export = None if export is None else HeadExport(export)
        """Takes each head that is signed."""

    def check_file(self) -> None:
        """That a vault which is not there may be made. Comes before it is: the write-ahead log of a new one would be
        taken for that of the one that somebody then puts back.

        Raises:
            VaultCorrupt: a head was signed over records that are gone.
        """
        if not self.paths.vault.exists():
            self.paths.require_unsigned(self.newest)

    def check(self, tree: Tree, node: NodeSource) -> None:
        """That the newest head is a prefix of ``tree``.

        Raises:
            VaultCorrupt: the vault was set back or rewritten since.
        """
        self.paths.require_continued(self.newest, tree, node)

    def sign(self, tree: Tree, node: NodeSource) -> None:
        """Sign the head of ``tree`` and put it in the place of the newest one.

        Raises:
            VaultCorrupt: it is inconsistent with the newest one, or that one was changed by somebody else.
            OSError: it could not be kept; it was not given out either.
        """
        self.check(tree, node)
        if self.paths.load_note() != self._note:
            raise VaultCorrupt(f"{self.paths.head.name} was changed by another program: no further head is signed")
        note = self._signer.sign(tree.size, tree.root())
        try:
            _replace(self.paths.head, note)
        finally:
            # It may stand there even if its sync failed, and then counts as signed.
            if self.paths.load_note() == note:
                self._note, self.newest = note, Head(self._signer.key.name, tree.size, tree.root())
                self.signed_ns = self.paths.head.stat().st_mtime_ns
        self.offer_newest()

    def offer_newest(self) -> None:
        """Have the newest head exported: a former process may have ended before it could."""
        if self.export is not None and self._note is not None:
            self.export.offer(self._note)


def _signer_of(paths: HeadPaths) -> Signer:
    """The vault's key, made at the first start."""
    signer = paths.load_signer()
    if signer is None:
        return _new_signer(paths)
    if paths.load_key() is None:
        _replace(paths.public_key, f"{signer.key}\n", PUBLIC)
    return signer


def _new_signer(paths: HeadPaths) -> Signer:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signer = Signer(private)
    # The public key comes last: until it is there, no head is trusted, and none was signed.
    _replace(paths.private_key, pem.decode("ascii"))
    _replace(paths.public_key, f"{signer.key}\n", PUBLIC)
    return signer


def _replace(path: Path, text: str, mode: int = 0o600) -> None:
    with replacing(path, mode) as file:
        file.write(text.encode("utf-8"))
