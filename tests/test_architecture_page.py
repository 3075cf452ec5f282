"""Every file and folder that docs/ARCHITECTURE.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
PATH = re.compile(r"`([a-z_./]+(?:\.(?:py|cpp|toml|txt)|/))`")
PLACES = (ROOT, ROOT / "src" / "minivault", *(path for path in (ROOT / "src" / "minivault").iterdir() if path.is_dir()))


@pytest.mark.parametrize("named", sorted(set(PATH.findall(PAGE))))
def test_what_the_page_names_is_there(named: str) -> None:
    assert any((place / named).exists() for place in PLACES)


def test_the_page_names_the_files_of_the_walk() -> None:
    found = set(PATH.findall(PAGE))
    assert {"api/native.py", "src/minivault/api/unheard.py", "engine/native/engine.py", "models/threads.py"} <= found


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([a-z-]+\.md)\)", PAGE))))
def test_its_links_lead_to_pages(target: str) -> None:
    assert (ROOT / "docs" / target).is_file()
