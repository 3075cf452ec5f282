"""Reads the documents: their blocks of code, and the README's table of settings.

``python -m tests.readme`` writes the table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from minivault.settings import DEFAULT_DATA_DIR, Settings

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = ("api", "vault", "prove-a-record", "migrate", "first-five-minutes")
DOCUMENTS = (README, *(ROOT / "docs" / f"{name}.md" for name in RUN))
"""Those whose ``sh`` and ``python`` blocks are run by a test."""
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->"


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


def settings_table() -> str:
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name}` | {_default(name)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _default(name: str) -> str:
    value = Settings.model_fields[name].get_default(call_default_factory=True)
    if value == DEFAULT_DATA_DIR:
        return "`~/.minivault`"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if value not in ("", [], None) else "none"


def table_in_readme() -> str:
    return text().partition(BEGIN)[2].partition(END)[0]


def fields_in_api_document() -> list[str]:
    """The fields that docs/api.md tabulates for POST /generate; a row may hold several."""
    table = text(ROOT / "docs" / "api.md").partition("| field |")[2].partition("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def links() -> list[str]:
    """Paths of this repository that the README links to."""
    return [link for link in re.findall(r"\]\(([^)#]+)\)", text()) if "://" not in link]


def rewrite() -> None:
    before, _, rest = text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(before + BEGIN + settings_table() + END + after, encoding="utf-8")


if __name__ == "__main__":
    rewrite()
