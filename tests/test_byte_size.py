"""Sizes are read as people write them, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.byte_size import byte_size, written
from minivault.errors import ConfigError
from minivault.settings import load_settings


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512MiB", 512 << 20),
        ("8GiB", 8 << 30),
        ("2G", 2 << 30),
        ("8GB", 8 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("64k", 64 << 10),
        ("10B", 10),
        (" 1 tib ", 1 << 40),
    ],
)
def test_a_size_has_a_unit_or_none(text: str, count: int) -> None:
    assert byte_size(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1", "8 GiBs", "1.5", "1e9", "0x10", "8XB", "٣", "9" * 19, "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number of bytes, such as 512MiB"):
        byte_size(text)


@given(st.integers(0, 1 << 50))
def test_what_is_written_is_read_again(count: int) -> None:
    assert byte_size(written(count)) == count


def test_flag_variable_and_file_take_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text('memory_budget = "8GiB"\nmax_file_bytes = 2048\n', encoding="utf-8")
    monkeypatch.setenv("MINIVAULT_KV_CACHE_MEMORY", "512MiB")
    loaded = load_settings(data_dir=tmp_path, max_body_bytes="2M")
    assert (loaded.memory_budget, loaded.max_file_bytes) == (8 << 30, 2048)
    assert (loaded.kv_cache_memory, loaded.max_body_bytes) == (512 << 20, 2 << 20)


@pytest.mark.parametrize("given", ["much", "1", "2GiB", 2 << 30, 1.5])
def test_a_size_out_of_bounds_names_the_setting_and_the_bounds(given: object) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(max_body_bytes=given)
    said = "max_body_bytes: must be a number of bytes from 1KiB to 1GiB, such as 512MiB, 8GiB or 2G"
    assert refused.value.message == said
