"""Reads the documents: their blocks of code, tables and links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = ("api", "vault", "prove-a-record", "migrate", "first-five-minutes")
DOCUMENTS = (README, *(ROOT / "docs" / f"{name}.md" for name in RUN))
"""Those whose ``sh`` and ``python`` blocks are run by a test."""


def text(document: Path = README) -> str:
    return document.read_text(encoding="utf-8")


def blocks(language: str) -> dict[str, str]:
    """The code blocks of a language, by document and number."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return {
        f"{document.name}-{number}": block
        for document in DOCUMENTS
        for number, block in enumerate(pattern.findall(text(document)), 1)
    }


def fields_in_api_document() -> list[str]:
    """The fields that docs/api.md tabulates for POST /generate; a row may hold several."""
    table = text(ROOT / "docs" / "api.md").partition("| field |")[2].partition("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def links() -> list[str]:
    """Paths of this repository that the README links to."""
    return [link for link in re.findall(r"\]\(([^)#]+)\)", text()) if "://" not in link]
