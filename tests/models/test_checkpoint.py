"""Safetensors files are read exactly, and nothing they say is believed before it is checked."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.checkpoint import MAX_HEADER_BYTES, Checkpoint
from tests.models.folders import copy_of, entry, safetensors_bytes, write_checkpoint
from tests.oracle.golden import DATA

GOOD = {"a": entry(0, 8, [2]), "b": entry(8, 12, [2], "F16"), "__metadata__": {"format": "pt"}}
DATA_BYTES = bytes(range(12))


def test_tensors_are_views_of_the_bytes_in_the_file(tmp_path: Path) -> None:
    with Checkpoint.open(write_checkpoint(tmp_path, GOOD, DATA_BYTES)) as checkpoint:
        found = {name: (view.dtype, view.shape, bytes(view.data)) for name, view in checkpoint.tensors.items()}
    assert found == {"a": ("F32", (2,), DATA_BYTES[:8]), "b": ("F16", (2,), DATA_BYTES[8:])}


def test_scalars_and_empty_tensors_are_read(tmp_path: Path) -> None:
    header = {"scalar": entry(0, 4, []), "none": entry(4, 4, [0, 7])}
    with Checkpoint.open(write_checkpoint(tmp_path, header, b"1234")) as checkpoint:
        assert checkpoint.tensors["none"].shape == (0, 7)
        assert bytes(checkpoint.tensors["scalar"].data) == b"1234"


def test_shards_are_one_checkpoint() -> None:
    with Checkpoint.open(DATA / "llama-sharded") as checkpoint:
        assert len(checkpoint.tensors) == 30
        assert len(checkpoint.files) == 6


def test_views_are_dead_after_close_and_closing_twice_is_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, GOOD, DATA_BYTES))
    view = checkpoint.tensors["a"]
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(ValueError, match="released"):
        bytes(view.data)


def test_an_array_outlives_the_checkpoint_it_looks_into(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, GOOD, DATA_BYTES))
    array = np.frombuffer(checkpoint.tensors["a"].data, np.uint8)
    checkpoint.close()
    assert array.tobytes() == DATA_BYTES[:8]


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry(0, 8, [3])}, b"12345678"),
        ({"a": entry(0, 8, [2])}, b"1234"),
        ({"a": entry(0, 8, [2])}, b"123456789"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"123456789abc"),
        ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, b"123456789abc"),
        ({"a": entry(8, 0, [2])}, b"12345678"),
        ({"a": entry(0, 8, [-2])}, b"12345678"),
        ({"a": entry(0, 8, [True, 2])}, b"12345678"),
        ({"a": entry(0, 1 << 62, [1 << 30, 1 << 30])}, b"12345678"),
        ({"a": entry(0, 0, [0, 1 << 70])}, b""),
        ({"a": entry(0, 8, [1, 1, 1, 1, 1, 1, 1, 1, 2])}, b"12345678"),
        ({"a": entry(0, 8, [2], "F128")}, b"12345678"),
        ({"a": {"dtype": "F32", "shape": [2]}}, b"12345678"),
        ({"a": 1}, b""),
        ([], b""),
        (b'{"a": 1, "a": 2}', b""),
        (b"{" * 10_000, b""),
        (b"[" * 100_000, b""),
        (b"\xff\xfe", b""),
        (b"", b""),
        (b'{"a": NaN}', b""),
        (b'{"a":' + b"9" * 5000 + b"}", b""),
    ],
)
def test_a_lying_file_is_corrupt(tmp_path: Path, header: Any, data: bytes) -> None:
    with pytest.raises(CheckpointCorrupt):
        Checkpoint.open(write_checkpoint(tmp_path, header, data))


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 1 << 63, (1 << 64) - 1])
def test_a_header_length_that_is_not_so_is_corrupt(tmp_path: Path, length: int) -> None:
    with pytest.raises(CheckpointCorrupt):
        Checkpoint.open(write_checkpoint(tmp_path, GOOD, DATA_BYTES, length=length))


@pytest.mark.parametrize("kept", [0, 7, 8, 40, -1])
def test_a_truncated_file_is_corrupt(tmp_path: Path, kept: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(GOOD, DATA_BYTES)[:kept])
    with pytest.raises(CheckpointCorrupt):
        Checkpoint.open(tmp_path)


def bytes_read(content: bytes) -> int:
    """Of all its tensors; 0 if it is corrupt, as any other error is a failure."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "model.safetensors").write_bytes(content)
        try:
            with Checkpoint.open(Path(name)) as checkpoint:
                return sum(len(bytes(view.data)) for view in checkpoint.tensors.values())
        except CheckpointCorrupt:
            return 0


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4))
def test_flipped_bytes_never_do_worse_than_corrupt(flips: list[tuple[int, bytes]]) -> None:
    content = bytearray(safetensors_bytes(GOOD, DATA_BYTES))
    for place, new in flips:
        place %= len(content)
        content[place : place + len(new)] = new
    assert bytes_read(bytes(content)) <= len(DATA_BYTES)


numbers = st.integers(-2, 16) | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=3)
wild_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I8", "F4", "BOOL"]) | numbers,
        "shape": st.lists(numbers, max_size=4) | numbers,
        "data_offsets": st.lists(numbers, max_size=3),
    }
)


@given(st.dictionaries(st.text(max_size=4), wild_entries | numbers, max_size=4), st.binary(max_size=16))
def test_invented_headers_never_do_worse_than_corrupt(header: dict[str, Any], data: bytes) -> None:
    assert bytes_read(safetensors_bytes(header, data)) <= len(data)


def test_the_digest_is_what_sha256sum_says(tmp_path: Path) -> None:
    folder = copy_of("llama-sharded", tmp_path / "model")
    with Checkpoint.open(folder) as checkpoint:
        files, digest = checkpoint.files, checkpoint.digest()
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    listing = subprocess.run(["sha256sum", *files], cwd=folder, capture_output=True, check=True).stdout
    assert digest == "sha256:" + hashlib.sha256(listing).hexdigest()
    assert "config.json" in files


def test_the_digest_changes_with_a_weight_and_with_the_config(tmp_path: Path) -> None:
    digests = set()
    for name, case, config in (("a", "gpt2", None), ("b", "gpt2-old-names", None), ("c", "gpt2", {"n_ctx": 5})):
        with Checkpoint.open(copy_of(case, tmp_path / name, config)) as checkpoint:
            digests.add(checkpoint.digest())
    assert len(digests) == 3


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".x.safetensors", "x.bin", 3]
)
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, shard: Any) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointCorrupt, match="beside the index"):
        Checkpoint.open(tmp_path)


def test_a_shard_that_is_missing_or_lacks_its_tensor_is_corrupt(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "one.safetensors", "gone": "one.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointCorrupt, match=r"one\.safetensors"):
        Checkpoint.open(tmp_path)
    (tmp_path / "one.safetensors").write_bytes(safetensors_bytes(GOOD, DATA_BYTES))
    with pytest.raises(CheckpointCorrupt, match="gone"):
        Checkpoint.open(tmp_path)


def test_pickled_weights_are_named_and_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UnsupportedCheckpoint, match=r"safetensors.*\.bin"):
        Checkpoint.open(tmp_path)


def test_a_folder_without_weights_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors"):
        Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointCorrupt, match="folder"):
        Checkpoint.open(tmp_path / "none")
