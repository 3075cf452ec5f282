"""Reads the documents: their blocks of code, spans, tables, links and headings. Runs nothing, and knows no server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PAGES = tuple(sorted((ROOT / "docs").glob("*.md")))
DOCUMENTS = (README, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *PAGES)

_FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    document: Path
    line: int
    """Where it begins, from 1."""
    language: str
    """Its label; empty if it has none."""
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def blocks(document: Path) -> list[Block]:
    """The fenced blocks, from the first to the last."""
    text = text_of(document)
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in _FENCED.finditer(text)
    ]


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return _FENCED.sub("", text_of(document))


def indented_code(document: Path) -> list[str]:
    """Lines of code that no fence encloses, and that therefore have no label: four spaces after an empty line."""
    return re.findall(r"(?<=\n\n)    (\S.*)", re.sub(r"^([-*]|\d+\.) .*(\n+ .*)*", "", prose(document), flags=re.M))


def spans(document: Path) -> list[str]:
    """What stands between backticks in the prose, on one line each."""
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose(document))]


def links(document: Path) -> list[str]:
    """Where its links and pictures lead, other sites left out."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)) if "://" not in link]


def anchors(document: Path) -> set[str]:
    """The names by which its headings are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fields_in_api_document() -> list[str]:
    """The fields that docs/api.md tabulates for POST /generate; a row may hold several."""
    table = text_of(ROOT / "docs" / "api.md").partition("| field |")[2].partition("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def lines_of(block: Block) -> Iterator[str]:
    """Its lines, those that end in a backslash joined with the next."""
    yield from re.sub(r"\\\n\s*", "", block.text).splitlines()
