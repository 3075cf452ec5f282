"""A checkpoint with a value that is infinite or not a number is refused when it is loaded, and the tensor is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from minivault.engine.native.encoder_runner import NativeEncoderRunner
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.errors import CheckpointCorrupt
from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.encoder import encoder_weights, read_encoder
from minivault.models.pooling import read_pooling
from minivault.models.weights import weight_map
from tests.models.folders import copy_of, edit_tensors
from tests.oracle.encoders import DATA

NAN = {"F32": b"\x00\x00\xc0\x7f", "BF16": b"\xc0\x7f", "F16": b"\x00\x7e"}


def spoil(folder: Path, name: str) -> None:
    """Make the last number of a tensor none."""

    def change(tensors: dict[str, Any]) -> None:
        dtype, shape, data = tensors[name]
        bad = NAN[dtype]
        tensors[name] = (dtype, shape, data[: -len(bad)] + bad)

    edit_tensors(folder, change)


@pytest.mark.parametrize("precision", ["int8", "f32"])
@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        ("model.norm.weight", "final_norm.weight"),
        ("model.embed_tokens.weight", "embed"),
        ("model.layers.0.input_layernorm.weight", r"layers\.0\.attn_norm\.weight"),
        ("model.layers.0.self_attn.o_proj.bias", r"layers\.0\.o\.bias"),
        ("model.layers.0.self_attn.o_proj.weight", r"layers\.0\.o"),
    ],
)
def test_a_model_with_a_value_that_is_no_number_is_refused(
    tmp_path: Path, tensor: str, named: str, precision: Precision
) -> None:
    folder = copy_of("llama-tied-bias", tmp_path / "bad")
    spoil(folder, tensor)
    arch = read_architecture(json.loads((folder / "config.json").read_text()))
    with (
        Checkpoint.open(folder) as checkpoint,
        pytest.raises(CheckpointCorrupt, match=f"In {named}.*infinite or not a number"),
    ):
        NativeRunner.load(
            arch, weight_map(arch, checkpoint), RunnerOptions(precision, threads=2, kv_cache_memory=1 << 22)
        )


@pytest.mark.parametrize("precision", ["int8", "f32"])
@pytest.mark.parametrize("part", ["embeddings.LayerNorm.bias", "output.dense.bias", "word_embeddings.weight"])
def test_an_encoder_with_a_value_that_is_no_number_is_refused(tmp_path: Path, part: str, precision: Precision) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(DATA / "mean", folder)
    with Checkpoint.open(folder) as sound:
        name = next(name for name in sound.tensors if name.endswith(part))
    spoil(folder, name)
    arch = read_encoder(json.loads((folder / "config.json").read_text()))
    with Checkpoint.open(folder) as checkpoint:
        weights = encoder_weights(arch, checkpoint)
        with pytest.raises(CheckpointCorrupt, match="infinite or not a number"):
            NativeEncoderRunner.load(arch, weights, read_pooling(folder), RunnerOptions(precision, threads=2))
