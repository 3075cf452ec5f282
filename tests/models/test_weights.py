"""Every tensor of a checkpoint is used, known to be unused, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.json_file import read_json_object
from minivault.models.weights import LinearSource, WeightSet, sources, weight_map
from tests.models.folders import copy_of, edit_tensors
from tests.models.reference import array
from tests.oracle.golden import DATA, folder_of

Tensors = dict[str, tuple[str, list[int], bytes]]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    arch = read_architecture(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        weights = weight_map(arch, checkpoint)
        return {name: logical_shape(sources(weights, name)) for name in weights}


def logical_shape(parts: tuple[LinearSource, ...]) -> tuple[int, ...]:
    return (sum(part.rows for part in parts), *parts[0].shape[1:])


def test_llama_has_its_canonical_names_and_logical_shapes() -> None:
    found = shapes(DATA / "llama-gqa")
    layer = {name.removeprefix("layers.1."): shape for name, shape in found.items() if name.startswith("layers.1.")}
    assert layer == {
        "attn_norm.weight": (64,), "mlp_norm.weight": (64,), "q.weight": (64, 64), "k.weight": (32, 64),
        "v.weight": (32, 64), "o.weight": (64, 64), "gate.weight": (96, 64), "up.weight": (96, 64),
        "down.weight": (64, 96),
    }  # fmt: skip
    others = {name: shape for name, shape in found.items() if not name.startswith("layers.")}
    assert others == {"embed": (320, 64), "final_norm.weight": (64,), "lm_head": (320, 64)}


def test_gpt2_has_the_logical_shapes_of_its_transposed_and_fused_weights() -> None:
    found = shapes(DATA / "gpt2-old-names")
    layer = {name.removeprefix("layers.2."): shape for name, shape in found.items() if name.startswith("layers.2.")}
    linears = {"q": (60, 60), "k": (60, 60), "v": (60, 60), "o": (60, 60), "fc_in": (132, 60), "fc_out": (60, 132)}
    assert {name: layer[f"{name}.weight"] for name in linears} == linears
    assert {layer[f"{name}.bias"] for name in linears} == {(60,), (132,)}
    assert found["pos_embed"] == (200, 60)
    assert "lm_head" not in found


def test_q_k_and_v_are_the_thirds_of_a_fused_weight() -> None:
    arch = read_architecture(read_json_object(DATA / "gpt2" / "config.json"))
    with Checkpoint.open(DATA / "gpt2") as checkpoint:
        weights: WeightSet = weight_map(arch, checkpoint)
        parts = [array(weights[f"layers.0.{name}.weight"]) for name in "qkv"]
        fused = np.frombuffer(checkpoint.tensors["transformer.h.0.attn.c_attn.weight"].data, "<f4").reshape(64, 192)
        assert np.array_equal(np.concatenate(parts), fused.T)


def test_interleaved_q_k_and_v_are_gathered_by_key_head() -> None:
    folder = folder_of("falcon-new-decoder")
    arch = read_architecture(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        weights = weight_map(arch, checkpoint)
        found = [array(weights[f"layers.1.{name}.weight"]) for name in "qkv"]
        stored = checkpoint.tensors["transformer.h.1.self_attention.query_key_value.weight"]
        fused = np.frombuffer(stored.data, "<f2").reshape(2, 6, 8, 64)  # why 6: four queries, a key and a value
        assert np.array_equal(found[0], fused[:, :4].reshape(64, 64))
        assert np.array_equal(found[1], fused[:, 4].reshape(16, 64))
        assert np.array_equal(found[2], fused[:, 5].reshape(16, 64))
        assert [len(sources(weights, f"layers.1.{name}.bias")) for name in "qkv"] == [2, 2, 2]


def test_one_key_head_needs_no_gathering() -> None:
    folder = folder_of("falcon-7b")
    arch = read_architecture(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        assert all(isinstance(source, LinearSource) for source in weight_map(arch, checkpoint).values())


def test_gate_and_up_are_the_halves_of_a_fused_weight() -> None:
    folder = folder_of("phi3")
    arch = read_architecture(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        weights = weight_map(arch, checkpoint)
        assert [sources(weights, f"layers.0.{name}.weight")[0].row_start for name in ("gate", "up")] == [0, 80]
        assert [sources(weights, f"layers.0.{name}.weight")[0].row_start for name in "qkv"] == [0, 64, 96]


def test_gemma_has_four_norms_in_a_layer_and_gemma_3_two_more_for_heads() -> None:
    found = shapes(folder_of("gemma3"))
    norms = {name.removeprefix("layers.2."): shape for name, shape in found.items() if name.startswith("layers.2.")}
    norms = {name: shape for name, shape in norms.items() if "norm" in name}
    assert norms == {
        "attn_norm.weight": (48,), "post_attn_norm.weight": (48,), "mlp_norm.weight": (48,),
        "post_mlp_norm.weight": (48,), "q_norm.weight": (16,), "k_norm.weight": (16,),
    }  # fmt: skip


def test_vision_tensors_are_passed_over_and_no_others(tmp_path: Path) -> None:
    folder = copy_of("gemma3-vision", tmp_path / "model")
    assert shapes(folder)["embed"] == (323, 48)

    def add_unknown(tensors: Tensors) -> None:
        tensors["audio_tower.weight"] = ("F32", [1], bytes(4))

    edit_tensors(folder, add_unknown)
    with pytest.raises(CheckpointCorrupt, match="audio_tower"):
        shapes(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [("language_model.model.", "model.language_model."), ("language_model.model.", "model.")],
)
def test_the_text_of_gemma_3_is_found_under_each_name_it_is_stored_by(tmp_path: Path, old: str, new: str) -> None:
    folder = copy_of("gemma3-vision", tmp_path / "model")

    def rename(tensors: Tensors) -> None:
        renamed = {name.replace(old, new): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    edit_tensors(folder, rename)
    assert shapes(folder) == shapes(folder_of("gemma3-vision"))


def test_masks_that_old_gpt_neo_files_store_are_ignored(tmp_path: Path) -> None:
    folder = copy_of("gpt-neo", tmp_path / "model")

    def add_masks(tensors: Tensors) -> None:
        tensors["transformer.h.0.attn.attention.bias"] = ("BOOL", [1, 1, 2, 2], bytes(4))
        tensors["transformer.h.0.attn.attention.masked_bias"] = ("F32", [], bytes(4))

    edit_tensors(folder, add_masks)
    assert shapes(folder) == shapes(folder_of("gpt-neo"))


def test_a_tied_head_that_is_stored_too_must_be_equal(tmp_path: Path) -> None:
    folder = copy_of("llama-tied-bias", tmp_path / "model")

    def add_copy(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    def change_copy(tensors: Tensors) -> None:
        dtype, shape, data = tensors["lm_head.weight"]
        tensors["lm_head.weight"] = (dtype, shape, data[:-1] + bytes([data[-1] ^ 1]))

    edit_tensors(folder, add_copy)
    assert "lm_head" not in shapes(folder)
    edit_tensors(folder, change_copy)
    with pytest.raises(CheckpointCorrupt, match="lm_head"):
        shapes(folder)


def test_the_config_decides_that_a_stored_head_is_its_own(tmp_path: Path) -> None:
    folder = copy_of("llama-tied-bias", tmp_path / "model", {"tie_word_embeddings": False})
    with pytest.raises(CheckpointCorrupt, match=r"lacks the tensor lm_head\.weight"):
        shapes(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 321}, r"embed_tokens\.weight must have shape \[321, 64\]"),
        ({"num_hidden_layers": 3}, r"lacks the tensor model\.layers\.2"),
        ({"num_hidden_layers": 1}, "9 tensors that config"),
        ({"num_key_value_heads": 4}, "k_proj"),
        ({"attention_bias": True}, r"q_proj\.bias"),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_corrupt(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointCorrupt, match=message):
        shapes(copy_of("llama-gqa", tmp_path / "model", config))


def test_buffers_of_old_files_are_ignored(tmp_path: Path) -> None:
    folder = copy_of("llama-gqa", tmp_path / "model")

    def add_buffer(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [8], bytes(32))

    edit_tensors(folder, add_buffer)
    assert shapes(folder) == shapes(DATA / "llama-gqa")


@pytest.mark.parametrize("suffix", ["qweight", "qzeros", "scales", "SCB"])
def test_quantised_weights_are_unsupported(tmp_path: Path, suffix: str) -> None:
    folder = copy_of("llama-gqa", tmp_path / "model")

    def quantise(tensors: Tensors) -> None:
        del tensors["model.layers.0.self_attn.q_proj.weight"]
        tensors[f"model.layers.0.self_attn.q_proj.{suffix}"] = ("I32", [1], bytes(4))

    edit_tensors(folder, quantise)
    with pytest.raises(UnsupportedCheckpoint, match=r"quantised.*transformers"):
        shapes(folder)


def test_a_dtype_that_is_no_weight_is_unsupported(tmp_path: Path) -> None:
    folder = copy_of("llama-gqa", tmp_path / "model")

    def to_integers(tensors: Tensors) -> None:
        _, shape, data = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = ("I32", shape, data)

    edit_tensors(folder, to_integers)
    with pytest.raises(UnsupportedCheckpoint, match=r"model\.norm\.weight has dtype I32; supported: F32, F16, BF16"):
        shapes(folder)
