"""Where the system opens no more files, no model is called damaged: nothing is known of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minivault.errors import TooManyOpenFiles
from minivault.models.catalog import Catalog
from minivault.models.checkpoint import Checkpoint, file_sha256
from minivault.models.json_file import read_json_object
from tests.oracle.golden import DATA

resource = pytest.importorskip("resource", reason="counts no descriptors")

FOLDER = DATA / "llama-gqa"


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_json_object(FOLDER / "config.json"),
        lambda: Checkpoint.open(FOLDER),
        lambda: file_sha256(FOLDER / "config.json"),
        lambda: Catalog(FOLDER / "none", FOLDER).survey(),
    ],
)
def test_it_is_told_as_what_it_is(read: Callable[[], object]) -> None:
    with no_descriptors(), pytest.raises(TooManyOpenFiles, match="too many open files") as told:
        read()
    assert told.value.retry_after


def test_an_imported_model_is_not_called_damaged_either(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "models", FOLDER)
    catalog.import_folder(FOLDER, "mine")
    with no_descriptors(), pytest.raises(TooManyOpenFiles):
        catalog.get("mine")
