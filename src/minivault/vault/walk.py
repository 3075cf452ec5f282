"""The state of one verification as it goes through the records. Knows nothing of how they are read or judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from minivault.vault.findings import Fault, Finding
from minivault.vault.merkle import Tree

MAX_FINDINGS = 1000


class Enough(Exception):
    """So much is wrong that more need not be listed."""


@dataclass(slots=True)
class Walk:
    """The state of one verification."""

    size: int
    contents: bool
    first: int = 0
    """The first record to look at."""
    findings: list[Finding] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    bad_nodes: set[tuple[int, int]] = field(default_factory=set)
    policies: dict[int, str] = field(default_factory=dict)
    """Of calls whose outcome has not been met."""
    ended: bytearray = field(default_factory=bytearray)
    """From ``first`` on, as far as the walk has come: 1 for an intent whose outcome was met."""
    calls: int = 0
    digest_only: int = 0
    erased: int = 0
    claims: dict[int, set[int]] = field(default_factory=dict)
    """Calls that the list names as erased, by the record that is to say so; until that record is met."""
    unsound: set[int] = field(default_factory=set)
    """Records that were found missing, altered or moved: what hangs on them is not reported again."""
    remade: set[str] = field(default_factory=set)
    """Tables and views that are not those that the vault was made with."""
    roots: dict[int, bytes] = field(default_factory=dict)
    """Recomputed roots at the sizes of the heads to compare with; filled on the way."""
    whole: bool = True
    """No record is missing, so the root can be computed."""

    def missing(self, index: int, why: str = "") -> None:
        self.whole = False
        self.unsound.add(index)
        self.found(Fault.MISSING, index, f"record {index} is missing{why}")

    def found(self, fault: Fault, index: int | None, message: str) -> None:
        self.findings.append(Finding(fault, index, message))
        if len(self.findings) >= MAX_FINDINGS:
            raise Enough
