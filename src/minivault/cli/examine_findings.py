"""What ``minivault doctor`` finds: a plain value. Knows nothing of how anything was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``advice`` is empty where there is nothing to do."""

    area: str
    what: str
    verdict: Verdict
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)
