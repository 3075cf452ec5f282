"""What a model will take, and which loader takes it: known before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minivault.engine.native import sizes
from minivault.errors import MiniVaultError
from minivault.models.architecture import read_architecture
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.json_file import read_json_object
from minivault.service.loading import Loaders
from minivault.service.loading_native import NativeLoader
from minivault.settings import Settings


def guide(tmp_path: Path) -> ModelEntry:
    return Catalog(tmp_path / "models").get("guide")


def cache_of(entry: ModelEntry, budget: int, kv_cache_memory: int = 0) -> int:
    """What of its need is KV cache."""
    settings = Settings(data_dir=entry.path, kv_cache_memory=kv_cache_memory)
    arch = read_architecture(read_json_object(entry.path / "config.json"))
    working = sizes.working_bytes(arch, settings.max_batch_tokens, settings.max_running)
    return NativeLoader(settings, budget).need(entry) - sizes.weight_bytes(arch, "int8") - working


def test_a_large_budget_gives_a_cache_that_all_sequences_can_use_and_no_more(tmp_path: Path) -> None:
    entry = guide(tmp_path)
    arch = read_architecture(read_json_object(entry.path / "config.json"))
    assert cache_of(entry, 1 << 40) == sizes.full_cache_bytes(arch, "int8", 64)


def test_a_cache_gets_a_quarter_of_the_budget_at_most(tmp_path: Path) -> None:
    assert cache_of(guide(tmp_path), 256 << 20) == 64 << 20


def test_a_small_budget_leaves_the_cache_what_the_weights_leave_but_never_too_little_for_a_prompt(
    tmp_path: Path,
) -> None:
    entry = guide(tmp_path)
    arch = read_architecture(read_json_object(entry.path / "config.json"))
    one = sizes.full_cache_bytes(arch, "int8", 1)
    assert cache_of(entry, 1) == one


def test_a_cache_that_is_set_is_as_set(tmp_path: Path) -> None:
    assert cache_of(guide(tmp_path), 1 << 20, kv_cache_memory=8 << 20) == 8 << 20


def test_an_entry_that_no_loader_takes_is_refused(tmp_path: Path) -> None:
    entry = replace(guide(tmp_path), engine="abacus")
    with pytest.raises(MiniVaultError, match="abacus"):
        Loaders(Settings(data_dir=tmp_path), 1 << 30).need(entry)
