"""What a verification found, and how far it reached: plain values. Knows nothing of how anything was checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Fault(StrEnum):
    """What happened to a record."""

    ALTERED = "altered"
    MISSING = "missing"
    MOVED = "moved"
    UNEXPECTED = "unexpected"
    CONTENT_ALTERED = "content altered"
    CONTENT_MISSING = "content missing"
    CONTENT_UNEXPECTED = "content unexpected"
    ERASURE = "erasure not as recorded"
    DERIVED_ALTERED = "derived row altered"
    PAIRING = "pairing broken"
    TREE = "tree altered"
    HEAD = "head altered"
    SCHEMA = "schema altered"
    SEARCH = "search index altered"
    FILE = "file damaged"


_INCOMPLETE = {Fault.MISSING, Fault.MOVED, Fault.UNEXPECTED, Fault.PAIRING}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    index: int | None
    """The record, where it can be named."""
    message: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found."""

    records: int
    calls: int
    open_calls: int
    digest_only: int
    """Records whose content was never stored, by policy."""
    erased: int
    """Calls whose content was erased, each by a record that says so."""
    root: str
    """Of the stored head, 64 hex digits."""
    findings: tuple[Finding, ...]
    contents_checked: bool
    signed_size: int | None = None
    """Records that the newest signed head covers."""
    attested_size: int | None = None
    """Records that the head from outside covers."""
    read_to_end: bool = True
    """Otherwise nobody can tell whether the records that were not reached are there."""
    since: int = 0
    """Records before this one were verified by an earlier run and not looked at again, but for the tree over them."""

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def integrity(self) -> str:
        """``intact`` or ``broken``."""
        return "broken" if any(finding.fault not in _INCOMPLETE for finding in self.findings) else "intact"

    @property
    def completeness(self) -> str:
        """``attested`` (as far as the head from outside reaches), ``self-attested`` or ``broken``."""
        incomplete = any(finding.fault in _INCOMPLETE or finding.fault is Fault.HEAD for finding in self.findings)
        if incomplete or not self.read_to_end:
            return "broken"
        return "self-attested" if self.attested_size is None else "attested"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "ok": self.ok,
            "integrity": self.integrity,
            "completeness": self.completeness,
            "records": self.records,
            "calls": self.calls,
            "open_calls": self.open_calls,
            "digest_only": self.digest_only,
            "erased": self.erased,
            "contents_checked": self.contents_checked,
            "root": self.root,
            "signed_size": self.signed_size,
            "attested_size": self.attested_size,
            "since": self.since,
            "findings": [
                {"fault": finding.fault.value, "index": finding.index, "message": finding.message}
                for finding in self.findings
            ],
        }


@dataclass(frozen=True, slots=True)
class Verified:
    """What an earlier run found whole: so many records, with this root."""

    size: int
    root: bytes

    @staticmethod
    def path(vault: Path) -> Path:
        """Where it is kept: beside the vault's file. Worth no more than the vault's own heads."""
        return vault.with_suffix(".verified")

    @classmethod
    def load(cls, vault: Path) -> Verified | None:
        """``None``: there was no run yet, or its note cannot be read; all is to be verified."""
        try:
            size, root = cls.path(vault).read_text("ascii").split()
            return cls(int(size), bytes.fromhex(root)) if int(size) >= 0 and len(root) == 64 else None
        except (OSError, ValueError):
            return None

    def text(self) -> str:
        return f"{self.size} {self.root.hex()}\n"
