"""Packed weights kept on disk: the same bits as packing anew, and never anything but what they claim to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import minivault.engine.native.runner as runner_module
from minivault.engine.native.packing import Precision, balance, packed_key
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from tests.engine.checkpoints import opened

PROMPT = list(range(1, 40))


@pytest.fixture(autouse=True)
def _keep_even_tiny_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "WORTH_KEEPING", 0)


def load(name: str, folder: Path, precision: Precision = "int8", digest: str = "sha256:1") -> NativeRunner:
    options = RunnerOptions(precision=precision, threads=2, kv_cache_memory=1 << 22)
    return NativeRunner.load(*opened(name), options, weights_digest=digest, packed_dir=folder)


def packed_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("precision", ["int8", "int4", "f32"])
@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "llama-tied-bias"])
def test_mapped_weights_give_the_bits_of_packed_ones(tmp_path: Path, name: str, precision: Precision) -> None:
    first = load(name, tmp_path, precision).logits(PROMPT)
    written = packed_file(tmp_path).stat().st_mtime_ns
    second = load(name, tmp_path, precision).logits(PROMPT)
    assert packed_file(tmp_path).stat().st_mtime_ns == written
    assert np.array_equal(first.view(np.uint32), second.view(np.uint32))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_packed_anew(tmp_path: Path, damage: str) -> None:
    expected = load("llama-gqa", tmp_path).logits(PROMPT)
    path = packed_file(tmp_path)
    sound = path.read_bytes()
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    path.write_bytes({"flip": bytes(flipped), "cut": sound[:-4096], "empty": b""}[damage])
    assert np.array_equal(load("llama-gqa", tmp_path).logits(PROMPT), expected)
    assert path.read_bytes() == sound


def test_the_file_of_other_weights_is_not_taken(tmp_path: Path) -> None:
    load("llama-gqa", tmp_path)
    path = packed_file(tmp_path)
    other = packed_key("sha256:2", "int8")
    path.rename(tmp_path / f"{other.hex()}.packed")
    expected = load("gpt2", tmp_path / "elsewhere", digest="sha256:2").logits(PROMPT)
    assert np.array_equal(load("gpt2", tmp_path, digest="sha256:2").logits(PROMPT), expected)


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert load("llama-gqa", blocked / "packed").logits(PROMPT).shape[0] == len(PROMPT)


def test_small_columns_are_brought_to_the_size_of_the_others_and_the_rest_left_alone() -> None:
    maxima = np.array([1.0, 1.5, 1.9, 1.2 / 64, 1.1 * 64, 0.3, 0.0], dtype=np.float32)
    assert balance(maxima).tolist() == [0, 0, 0, 6, -6, 0, 0]


def test_columns_without_any_weight_are_left_alone() -> None:
    assert not balance(np.zeros(8, dtype=np.float32)).any()
