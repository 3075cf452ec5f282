"""What loading costs in memory: the packed weights, a fifth more, and one shard; not the checkpoint beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minivault.engine.native.packing import Precision

HIDDEN, INNER, LAYERS, VOCAB = 1024, 4096, 10, 512
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
LOAD = """
import json, sys
from pathlib import Path
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.weights import weight_map

def peak():
    words = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return next(int(word[1]) for word in words if word[0] == "VmHWM:") * 1024

folder = Path(sys.argv[1])
before = peak()
arch = read_architecture(json.loads((folder / "config.json").read_text()))
with Checkpoint.open(folder) as checkpoint:
    runner = NativeRunner.load(
        arch, weight_map(arch, checkpoint), RunnerOptions(precision=sys.argv[2], threads=2, kv_cache_memory=1 << 22)
    )
print(peak() - before, runner.weight_bytes)
"""


def write_shards(folder: Path) -> int:
    """A checkpoint in BF16, a file for each layer; the bytes of the largest file."""
    tensors = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    shards = [tensors]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shards.append(
            {f"{prefix}self_attn.{name}_proj.weight": (256 if name in "kv" else HIDDEN, HIDDEN) for name in "qkvo"}
            | {f"{prefix}mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
            | {f"{prefix}mlp.down_proj.weight": (HIDDEN, INNER)}
            | {f"{prefix}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
        )
    index: dict[str, str] = {}
    for number, shapes in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        index |= dict.fromkeys(shapes, file)
        _write(folder / file, shapes)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


def _write(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write((b"\x1d\x3d\x80\xbc" * (1 << 16))[: 1 << 18] * (at >> 18))  # 0.0383 and -0.0156, in turn
        file.write(b"\x00" * (at & ((1 << 18) - 1)))
        os.fsync(file.fileno())  # pages that wait to be written cannot be let go


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_loading_takes_little_more_than_the_packed_weights_and_a_shard(tmp_path: Path, precision: Precision) -> None:
    shard = write_shards(tmp_path)
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path), precision], capture_output=True, text=True, check=True
    )
    grown, packed = map(int, loaded.stdout.split())
    assert grown <= 1.2 * packed + shard + (4 << 20)  # the last: a little KV cache, and what the loader itself is
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) > 1.5 * packed
