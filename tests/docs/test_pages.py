"""Every page of docs: its blocks are run or looked at, and what it names exists."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from minivault.api.app import create_app
from minivault.settings import Settings
from tests.cli.test_taught_commands import refusal
from tests.docs import reading
from tests.docs.reading import DOCUMENTS, PAGES, README, ROOT, Block
from tests.docs.rules import RULES, UNTRIED, try_all
from tests.docs.scene import POSIX, scene
from tests.test_architecture import FLOORS

BLOCKS = [block for document in DOCUMENTS for block in reading.blocks(document)]
RUN = [page for page in PAGES if any(block.language in RULES for block in reading.blocks(page))]
TAUGHT = [document for document in DOCUMENTS if document.name not in ("reference.md", "CHANGELOG.md")]
"""Those whose commands are to be typed: the reference leaves options out, the changelog names what is not there too."""
METHODS = "GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS"
HIDDEN = {"/": {"GET"}, "/docs": {"GET"}, "/openapi.json": {"GET"}, "/health": {"GET"}}
"""Routes that /openapi.json leaves out."""
OTHERS = {"MINIVAULT_FUZZ_CASES", "MINIVAULT_MUTATIONS", "MINIVAULT_DISCONNECTS", "MINIVAULT_SIGTERMS"}
"""Variables that only tests read."""


def named(block: Block) -> str:
    return str(block)


def name_of(document: Path) -> str:
    return document.name


@cache
def routes() -> dict[str, set[str]]:
    """The methods of each path; braces stand for one part of it, whatever its name."""
    paths = create_app(Settings(), service=None).openapi()["paths"]
    told = {re.sub(r"\{\w+\}", "{}", path): {method.upper() for method in of} for path, of in paths.items()}
    return told | HIDDEN


def serves(method: str, path: str) -> bool:
    """Whether the server has this route. HEAD goes where GET does, and OPTIONS anywhere."""
    asked = re.sub(r"\{\w+\}", "{}", path.partition("?")[0])
    pattern = {given: re.sub(r"\\{\\}", "[^/]+", re.escape(given)) for given in routes()}
    found = next((given for given in routes() if given == asked or re.fullmatch(pattern[given], asked)), None)
    return found is not None and (method in routes()[found] or method in ("HEAD", "OPTIONS"))


def asked_by_curl(line: str) -> list[tuple[str, str]]:
    """Methods and paths of this server that a command line asks by curl."""
    found = []
    for command in re.findall(r"curl [^|;)]*", line):
        has_body = re.search(r" (-d|-F|--data\S*|--json) ", command) is not None
        method = re.search(r"-X ?([A-Z]+)", command)
        asked = re.findall(r"(?:localhost|127\.0\.0\.1):8000(/[^\s'\"?]*)?", command)
        found += [(method[1] if method else "POST" if has_body else "GET", path or "/") for path in asked]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_block_has_a_label_with_a_rule(document: Path) -> None:
    assert [str(block) for block in reading.blocks(document) if block.language not in {*RULES, *UNTRIED}] == []
    assert reading.indented_code(document) == []


@POSIX
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_types_works(page: Path, tmp_path: Path) -> None:
    with scene(tmp_path) as machine:
        try_all(reading.blocks(page), machine)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("sh", "shell")], ids=named)
def test_a_shell_block_can_be_read_by_a_shell_and_names_what_exists(block: Block) -> None:
    read = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert read.stderr == ""
    asked = [route for line in reading.lines_of(block) for route in asked_by_curl(line)]
    assert [route for route in asked if not serves(*route)] == []
    programs = re.findall(r"\b(?:python3?|pytest(?: -\S+)*) ([\w/]+\.py)\b", block.text)
    assert [program for program in programs if not (ROOT / program).exists()] == []
    targets = re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)
    assert [target for target in targets if f"\n{target}:" not in (ROOT / "Makefile").read_text()] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("python", "py")], ids=named)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(document: Path) -> None:
    dead = []
    for link in reading.links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in reading.anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("document", TAUGHT, ids=name_of)
def test_a_command_that_the_prose_names_exists(document: Path) -> None:
    commands = [span for span in reading.spans(document) if span.startswith("minivault ")]
    # Words in capitals stand for something, a number included; "|" between them, for a choice.
    typed = {span: re.sub(r"\.\.\.|\bN\b", lambda found: "1" if found[0] == "N" else "", span) for span in commands}
    assert {span: told for span, words in typed.items() if (told := refusal(words)) is not None} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_route_that_the_prose_names_exists(document: Path) -> None:
    asked = [found for span in reading.spans(document) if (found := re.fullmatch(rf"({METHODS}) (/\S*)", span))]
    assert [found[0] for found in asked if not serves(found[1], found[2])] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_variable_that_a_document_names_is_a_setting(document: Path) -> None:
    known = {f"MINIVAULT_{name.upper()}" for name in Settings.model_fields} | OTHERS
    assert sorted(set(re.findall(r"\bMINIVAULT_[A-Z_]*[A-Z]\b", reading.text_of(document))) - known) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_file_of_this_tree_that_the_prose_names_exists(document: Path) -> None:
    first = "src|tests|docs|native|deploy|training|bench|requirements|\\.github"
    paths = [span for span in reading.spans(document) if re.fullmatch(rf"({first})/[\w./-]+", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in reading.links(README)}
    assert [page.name for page in PAGES if page not in linked] == []


def test_every_picture_is_shown_somewhere() -> None:
    shown = {(document.parent / link).resolve() for document in DOCUMENTS for link in reading.links(document)}
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if path not in shown] == []


def test_the_page_of_the_architecture_draws_every_floor() -> None:
    """Each module that the test of the architecture places stands in the drawing, on its floor."""
    drawn = reading.blocks(ROOT / "docs" / "ARCHITECTURE.md")[0].text
    floors = {int(part[0]): part for part in re.split(r"^(?=\d  )", drawn, flags=re.MULTILINE) if part}
    for floor, modules in FLOORS:
        names = [module.removeprefix("minivault.") for module in modules if module != "minivault"]
        assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", floors[floor])] == []
