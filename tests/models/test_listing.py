"""What is told of a model beside its name."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from minivault.models.catalog import Catalog
from minivault.models.listing import SIZES, described, listed
from tests.oracle.golden import DATA

INSTALLED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def test_the_embedded_model_is_as_old_as_its_files(tmp_path: Path) -> None:
    embedded = tmp_path / "guide"
    shutil.copytree(DATA / "llama-gqa", embedded)
    os.utime(embedded / "config.json", (INSTALLED.timestamp(),) * 2)
    entry = Catalog(tmp_path / "models", embedded).get("guide")
    assert listed(entry, default=True)["modified_at"] == "2026-03-04T05:06:07.000Z"


def test_any_other_is_as_old_as_its_import(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "models", now=lambda: INSTALLED)
    entry = catalog.import_folder(DATA / "llama-gqa", "mine")
    assert listed(entry, default=False)["modified_at"] == entry.imported_at == "2026-03-04T05:06:07Z"


def test_an_embedded_model_whose_files_are_gone_can_still_be_told_of(tmp_path: Path) -> None:
    embedded = tmp_path / "guide"
    shutil.copytree(DATA / "llama-gqa", embedded)
    entry = Catalog(tmp_path / "models", embedded).get("guide")
    shutil.rmtree(embedded)
    assert listed(entry, default=True)["modified_at"] == "1970-01-01T00:00:00.000Z"
    assert described(entry) == dict.fromkeys(SIZES, 0)
