"""What each label of a block means, and how a block with it is tried. A label without a rule is a fault.

sh        run as it stands, by bash, in order with the others of its document; it must succeed and print something
python    run as it stands
console   `$ command` lines, each run; what stands below must be what it prints, but for figures, digests and times
json      what the block before it prints: equal, but for what the document leaves out with "..."
toml      a config.toml that the server takes
shell     not run, since it needs another machine or has no end: bash must parse it, and all that it names exist
py        not run, since it needs what is not here: Python must compile it
text      no code: a formula or a drawing
caddyfile, nginx    files of other programs, not tried
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from minivault.settings import load_settings
from tests.docs.reading import Block
from tests.docs.scene import Scene

UNTRIED = ("shell", "py", "text", "caddyfile", "nginx")
"""Nothing of these is run; ``tests/docs/test_pages.py`` looks at what they name."""


class Reader:
    """Somebody who types a document from the top, and remembers what the last block printed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.printed = ""

    def does(self, block: Block) -> None:
        RULES[block.language](self, block)

    def sh(self, block: Block) -> None:
        alone = re.search(r"^(minivault serve|make) ?", block.text, re.MULTILINE) is not None
        if alone:
            self.scene.stop()
        script = block.text if alone else self.scene.addressed(block)
        self.printed = self.scene.shell(script, make=block.text.startswith("make "))
        assert self.printed.strip() != "", f"{block} prints nothing"
        # Keys that a block made shut the door for those after it, which have none: the reader goes back to none.
        (self.scene.data_dir / "keys.json").unlink(missing_ok=True)

    def python(self, block: Block) -> None:
        self.printed = self.scene.python(self.scene.addressed(block))
        assert self.printed.strip() != "", f"{block} prints nothing"

    def console(self, block: Block) -> None:
        for command, shown in transcript(block.text):
            self.scene.server()
            printed = self.scene.shell(f"{{ {command}\n}} 2>&1")
            assert without_figures(printed) == without_figures(shown), f"{block}: {command} printed\n{printed}"

    def json(self, block: Block) -> None:
        assert_fits(json.loads(block.text), json.loads(self.printed), str(block))

    def toml(self, block: Block) -> None:
        folder = self.scene.here / f"config-{block.line}"
        folder.mkdir()
        (folder / "config.toml").write_text(block.text)
        assert load_settings(data_dir=folder).model_fields_set > {"data_dir"}


RULES: Mapping[str, Callable[[Reader, Block], None]] = {
    "sh": Reader.sh,
    "python": Reader.python,
    "console": Reader.console,
    "json": Reader.json,
    "toml": Reader.toml,
}


def transcript(text: str) -> list[tuple[str, str]]:
    """Commands with what is shown of each."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == "", "a transcript begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def without_figures(printed: str) -> str:
    """Digests, figures and the widths of columns made alike."""
    alike = re.sub(r"\b[0-9a-f]{12,}\b", "DIGEST", printed)
    alike = re.sub(r"0 (record|call|token)s?\b", r"0 \1s", re.sub(r"\d+(?:[.,]\d+)*", "0", alike))
    return "\n".join(" ".join(line.split()) for line in alike.strip().splitlines())


def assert_fits(shown: Any, given: Any, where: str) -> None:
    """``given`` is what is shown; a text that ends in three dots is one that differs each time, or its beginning."""
    if isinstance(shown, dict):
        assert isinstance(given, dict), where
        assert list(shown) == list(given), where
        for name, value in shown.items():
            assert_fits(value, given[name], f"{where}: {name}")
    elif isinstance(shown, str) and shown.endswith("..."):
        assert isinstance(given, str), where
        assert len(given) >= len(shown) - 3, where
    else:
        assert shown == given, where


def try_all(document_blocks: list[Block], scene: Scene) -> None:
    """Every block that can be run here, from the top."""
    reader = Reader(scene)
    for block in document_blocks:
        if block.language not in UNTRIED:
            reader.does(block)
