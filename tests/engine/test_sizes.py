"""What a model will take is known before it is loaded, and is what it takes."""

from __future__ import annotations

import pytest

from minivault.engine.native import _native, sizes
from minivault.engine.native.packing import core_spec
from minivault.engine.native.runner import RunnerOptions
from minivault.models.weights import sources
from tests.engine.checkpoints import opened, runner

FAMILIES = ("llama-gqa", "gpt2", "falcon-7b", "gemma2", "qwen3")
LANES: tuple[sizes.Precision, ...] = ("int8", "int4", "f32")


@pytest.mark.parametrize("precision", LANES)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_weights_take_what_was_foretold(name: str, precision: sizes.Precision) -> None:
    arch, weights = opened(name)
    [embed] = sources(weights, "embed")
    table_item = 4 if embed.view.dtype == "F32" else 2
    foretold = sizes.weight_bytes(arch, precision, table_item)
    taken = runner(name, RunnerOptions(precision=precision, threads=1)).weight_bytes
    assert taken <= foretold <= 1.25 * taken  # biases are counted where a family may have none


@pytest.mark.parametrize("precision", LANES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_of_kv_cache_has_the_cores_own_size(name: str, precision: sizes.Precision) -> None:
    arch, _ = opened(name)
    assert sizes.block_bytes(arch, precision) == _native.block_bytes(core_spec(arch, precision))
    assert sizes.BLOCK == _native.BLOCK_SIZE
