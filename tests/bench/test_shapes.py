"""Random checkpoints for measuring are in the true format, of the true size, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.report import BARS
from bench.shapes import SHAPES, Shape, write_random_checkpoint

from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.inspection import inspect_folder
from minivault.models.tokenizer import Tokenizer
from minivault.models.weights import weight_map

SMALL = {
    "llama": Shape("llama", 300, 64, 2, 4, 2, 96, 128, tied=False),
    "gpt2": Shape("gpt2", 300, 64, 2, 4, 4, 256, 128, tied=True),
    "circle": Shape("llama", 300, 64, 2, 4, 2, 96, 128, tied=False, repeating=5),
}


@pytest.fixture
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.shapes.SHAPES", SMALL)


@pytest.mark.usefixtures("small_shapes")
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_a_random_checkpoint_is_sound_and_follows_its_seed(tmp_path: Path, name: str, dtype: str) -> None:
    folders = [
        write_random_checkpoint(tmp_path / str(index), name, seed, dtype)  # type: ignore[arg-type]
        for index, seed in enumerate((1, 1, 2))
    ]
    assert inspect_folder(folders[0]).vocab_size == 300
    first, same, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == same != other


@pytest.mark.usefixtures("small_shapes")
def test_one_byte_is_one_token(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_random_checkpoint(tmp_path, "llama", 1))
    text = "Hi, né 🐕"
    ids = tokenizer.encode(text, add_special_tokens=True)
    assert (len(ids), tokenizer.decode(ids), tokenizer.vocab_size) == (len(text.encode()), text, 300)


def test_the_shapes_are_those_that_the_bars_speak_of() -> None:
    assert {bar.shape for bar in BARS} <= set(SHAPES)


@pytest.mark.usefixtures("small_shapes")
def test_answers_of_a_repeating_shape_go_round_in_a_circle(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path, "circle", 1)
    arch = read_architecture(json.loads((folder / "config.json").read_text()))
    with Checkpoint.open(folder) as checkpoint:
        runner = NativeRunner.load(arch, weight_map(arch, checkpoint), RunnerOptions(kv_cache_memory=1 << 22))
    logits = runner.logits([200, 203, 204, 17])
    runner.close()
    assert logits.argmax(axis=-1).tolist() == [201, 204, 200, 18]
