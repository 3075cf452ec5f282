"""The few lines by which docs/prove-a-record.md has a text checked: they take the recorded text, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minivault.vault.record import ContentKind, commitment
from tests.docs import reading
from tests.docs.reading import ROOT

PAGE = ROOT / "docs" / "prove-a-record.md"
SALT = bytes(range(32))
TEXT = "No, I would not sign that. Yes, it is safe."


def check_of_the_page() -> str:
    """Step 4, as a program."""
    [script] = [block.text for block in reading.blocks(PAGE) if "# 4." in block.text]
    programs: list[str] = re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", script, re.DOTALL | re.MULTILINE)
    return programs[-1]


def accepts(folder: Path, text: bytes, salt: str, *options: str) -> bool:
    bound = commitment(ContentKind.RESPONSE_TEXT, SALT, TEXT.encode())
    (folder / "proven.json").write_text(json.dumps({"leaf": {"commitments": {"response_text": bound}}}))
    (folder / "answer.txt").write_bytes(text)
    (folder / "answer.salt").write_text(salt)
    run = [sys.executable, *options, "-c", check_of_the_page()]
    return subprocess.run(run, cwd=folder, capture_output=True, check=False).returncode == 0


def test_the_recorded_text_is_taken(tmp_path: Path) -> None:
    assert accepts(tmp_path, TEXT.encode(), SALT.hex())


@pytest.mark.parametrize("options", [(), ("-O",)])
@pytest.mark.parametrize("moved", [1, 27, -1, -32])
def test_a_text_whose_beginning_was_moved_into_the_salt_is_refused(
    tmp_path: Path, moved: int, options: tuple[str, ...]
) -> None:
    whole = SALT + TEXT.encode()
    assert not accepts(tmp_path, whole[32 + moved :], whole[: 32 + moved].hex(), *options)


def test_another_text_is_refused(tmp_path: Path) -> None:
    assert not accepts(tmp_path, TEXT.upper().encode(), SALT.hex(), "-O")
