"""A GGUF file becomes the checkpoint that it was made from, within what its quantisation kept."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.errors import CheckpointCorrupt, CheckpointError, InvalidRequest, MiniVaultError, UnsupportedCheckpoint
from minivault.models import gguf_file, gguf_tensors
from minivault.models.architecture import read_architecture
from minivault.models.catalog import Catalog
from minivault.models.checkpoint import Checkpoint
from minivault.models.gguf_config import Metadata, config_of
from minivault.models.gguf_file import BLOCKS, GgufFile
from minivault.models.gguf_import import import_gguf
from minivault.models.gguf_names import conversions
from minivault.models.gguf_tokenizer import tokenizer_of
from minivault.models.tokenizer import Tokenizer
from minivault.models.weights import weight_map
from tests.models.folders import copy_of, safetensors_bytes
from tests.models.gguf_writer import Array, Kind, gguf_name, random_blocks, read_tensors, write_gguf

FAMILIES = [
    "llama-gqa", "llama-tied-bias", "llama-sharded", "llama3-rope", "llama-linear-rope", "llama-yarn", "gpt2",
    "qwen2-old-config", "qwen3", "phi3", "phi3-old-config", "gemma2", "gemma3", "falcon-7b", "falcon-new-decoder",
    "falcon-one-norm",
]  # fmt: skip
QUANTISED = [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]
K_QUANTS = [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]
TEXTS = [
    "Hello, the server of the vault!",
    "  two  spaces\n\nand 1234 lines\t",
    "née Grüße 日本語 🐕‍🦺",
    "<|begin|>",
    "",
]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "models")


def source_of(case: str, tmp_path: Path) -> Path:
    """A copy whose config says nothing that GGUF cannot."""
    changes = {"gemma2": {"query_pre_attn_scalar": 16}, "gemma3": {"query_pre_attn_scalar": 16}}
    return copy_of(case, tmp_path / "source", changes.get(case))


def greedy(folder: Path, prompt: list[int], count: int = 24) -> list[int]:
    arch = read_architecture(json.loads((folder / "config.json").read_text()))
    with Checkpoint.open(folder) as checkpoint:
        options = RunnerOptions(precision="f32", threads=2, kv_cache_memory=1 << 24)
        run = NativeRunner.load(arch, weight_map(arch, checkpoint), options)
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(run.logits(tokens)[-1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("case", FAMILIES)
def test_a_checkpoint_comes_back_as_it_was(catalog: Catalog, tmp_path: Path, case: str) -> None:
    source = source_of(case, tmp_path)
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf"), "mine")
    configs = [json.loads((folder / "config.json").read_text()) for folder in (source, entry.path)]
    assert read_architecture(configs[1]) == read_architecture(configs[0])
    expected, found = read_tensors(source), read_tensors(entry.path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("case", ["llama-tied-bias", "gemma2", "gpt2", "falcon-new-decoder"])
def test_greedy_tokens_are_those_of_the_source(catalog: Catalog, tmp_path: Path, case: str) -> None:
    source = source_of(case, tmp_path)
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf"))
    prompt = [5, 90, 17, 200, 42]
    assert greedy(entry.path, prompt) == greedy(source, prompt)


@pytest.mark.parametrize(("kind", "dtype"), [(Kind.F16, "F16"), (Kind.BF16, "BF16"), (Kind.F32, "F32")])
def test_floats_stay_what_they_are(catalog: Catalog, tmp_path: Path, kind: Kind, dtype: str) -> None:
    path = write_gguf(source_of("llama-gqa", tmp_path), tmp_path / "tiny.gguf", kind)
    with Checkpoint.open(import_gguf(catalog, path).path) as checkpoint:
        assert {v.dtype for name, v in checkpoint.tensors.items() if "norm" not in name} == {dtype}
        assert {v.dtype for name, v in checkpoint.tensors.items() if "norm" in name} == {"F32"}


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
def test_quantised_values_are_the_packages_within_f16(catalog: Catalog, tmp_path: Path, kind: Kind) -> None:
    source = source_of("llama-gqa", tmp_path)
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf", kind))
    found = read_tensors(entry.path)
    for name, values in read_tensors(source).items():
        if values.ndim == 2:
            kept = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            np.testing.assert_allclose(found[name], kept, rtol=2**-11, atol=2**-24)
    assert source_says(catalog, entry.name)["quantisation"] == kind.name


def with_k_quants(tmp_path: Path, kind: Kind) -> tuple[Path, Path]:
    """A llama whose matrices are random blocks of ``kind``: its GGUF file, and a folder with their values in F32."""
    source = copy_of("llama-gqa", tmp_path / "source", {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64})
    shapes = {"q": 256, "k": 128, "v": 128, "o": 256, "gate": 512, "up": 512, "down": 256}
    rng = np.random.default_rng(7)
    values: dict[str, Array] = {}
    blocks: dict[str, Array] = {}
    for seed, name in enumerate(sorted(read_tensors(source))):
        if "norm" in name:
            values[name] = rng.uniform(0.9, 1.1, 256).astype(np.float32)
            continue
        part = name.split(".")[-2].removesuffix("_proj")
        shape = (shapes.get(part, 320), 512 if part == "down" else 256)
        raw = random_blocks(kind, shape, seed)
        values[name] = gguf.quants.dequantize(raw, kind)
        blocks[gguf_name(name, "llama")] = permuted(raw, part)
    write_f32(source, values)
    return write_gguf(source, tmp_path / "tiny.gguf", kind, blocks=blocks), source


def permuted(raw: Array, part: str) -> Array:
    """Whole rows move, so blocks can be laid out as the converter lays out values."""
    heads = {"q": 4, "k": 2}.get(part)
    if heads is None:
        return raw
    rows = raw.shape[0] // heads // 2
    return np.ascontiguousarray(raw.reshape(heads, 2, rows, -1).swapaxes(1, 2).reshape(raw.shape))


def write_f32(folder: Path, values: dict[str, Array]) -> None:
    header, place = {}, 0
    for name, array in values.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in values.values())
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header, data))


@pytest.mark.parametrize("kind", K_QUANTS, ids=lambda kind: kind.name)
def test_k_quants_give_the_text_of_their_values(catalog: Catalog, tmp_path: Path, kind: Kind) -> None:
    path, source = with_k_quants(tmp_path, kind)
    entry = import_gguf(catalog, path)
    found = read_tensors(entry.path)
    for name, values in read_tensors(source).items():
        np.testing.assert_allclose(found[name], values, rtol=2**-11, atol=2**-24, err_msg=name)
    prompt = [5, 90, 17, 200, 42]
    assert greedy(entry.path, prompt, 12) == greedy(source, prompt, 12)


def test_what_f16_cannot_hold_becomes_f32(catalog: Catalog, tmp_path: Path) -> None:
    source = source_of("llama-gqa", tmp_path)
    tensors = read_tensors(source)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name] * np.float32(1e6)
    write_f32(source, tensors)
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf", Kind.Q8_0))
    with Checkpoint.open(entry.path) as checkpoint:
        assert checkpoint.tensors[name].dtype == "F32"
        assert checkpoint.tensors["model.layers.0.mlp.down_proj.weight"].dtype == "F16"
    kept = gguf.quants.dequantize(gguf.quants.quantize(tensors[name], Kind.Q8_0), Kind.Q8_0)
    np.testing.assert_array_equal(read_tensors(entry.path)[name], kept)


def test_pieces_of_any_size_give_the_same_file(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(source_of("llama-tied-bias", tmp_path), tmp_path / "tiny.gguf", Kind.F16)
    whole = import_gguf(catalog, path, "whole")
    monkeypatch.setattr(gguf_tensors, "PIECE_ELEMENTS", 100)
    assert import_gguf(catalog, path, "pieces").digest == whole.digest


@pytest.mark.parametrize("case", ["llama-gqa", "llama-tied-bias", "falcon-7b"])
def test_texts_have_the_ids_of_the_source(catalog: Catalog, tmp_path: Path, case: str) -> None:
    source = source_of(case, tmp_path)
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf"))
    ours, theirs = Tokenizer.load(entry.path), Tokenizer.load(source)
    for text in TEXTS:
        for special in (True, False):
            ids = theirs.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids
            assert ours.decode(ids) == theirs.decode(ids)
    assert set(theirs.eos_token_ids) <= set(ours.eos_token_ids)
    assert ours.special_tokens.items() >= theirs.special_tokens.items()


def test_tokens_that_can_be_put_together_in_too_many_ways_are_refused() -> None:
    text = "".join(chr(0x4E00 + place) for place in range(120))
    tokens = tuple(text[start:end] for start in range(120) for end in range(start + 1, 121))
    found = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": (0.0,) * len(tokens),
    }
    with pytest.raises(CheckpointCorrupt, match="put together in more than 158080 ways"):
        tokenizer_of(Metadata(found, {}))


def test_a_file_may_have_no_token_to_begin_with(catalog: Catalog, tmp_path: Path) -> None:
    source = source_of("llama-gqa", tmp_path)
    (source / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf"))
    tokenizer = Tokenizer.load(entry.path)
    assert tokenizer.encode("Hello", add_special_tokens=True) == Tokenizer.load(source).encode("Hello", False)
    assert "bos_token" not in tokenizer.special_tokens


def test_the_template_comes_from_the_file(catalog: Catalog, tmp_path: Path) -> None:
    source = source_of("llama-gqa", tmp_path)
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}\n")
    entry = import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf"))
    assert (entry.path / "chat_template.jinja").read_text() == "{{ messages[0].content }}\n"


def source_says(catalog: Catalog, name: str) -> dict[str, object]:
    manifest = catalog.manifest(name)
    assert manifest is not None
    return dict(manifest.source)


def test_where_it_came_from_is_kept_and_progress_grows(catalog: Catalog, tmp_path: Path) -> None:
    path = write_gguf(source_of("gpt2", tmp_path), tmp_path / "My Tiny.Q8_0.gguf", metadata={"general.license": "mit"})
    seen: list[tuple[int, int]] = []
    entry = import_gguf(catalog, path, progress=lambda done, total: seen.append((done, total)))
    assert entry.name == "my-tiny.q8_0"
    said = source_says(catalog, entry.name)
    assert (said["kind"], said["file"], said["licence"]) == ("gguf", "My Tiny.Q8_0.gguf", "mit")
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert {check.fault for check in catalog.verify(entry.name)} == {None}


def test_the_table_of_types_is_the_packages() -> None:
    theirs = {kind.value: (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: theirs[number] for number in BLOCKS} == dict(BLOCKS)


def test_a_name_that_is_taken_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    path = write_gguf(source_of("gpt2", tmp_path), tmp_path / "tiny.gguf")
    import_gguf(catalog, path)
    with pytest.raises(InvalidRequest, match="exists already"):
        import_gguf(catalog, path)


# -- hostile files -----------------------------------------------------------------------------------------------------


def tiny_gguf(tmp_path: Path) -> Path:
    return write_gguf(source_of("llama-gqa", tmp_path), tmp_path / "tiny.gguf", Kind.Q8_0)


def left_in(catalog: Catalog) -> list[str]:
    return [path.name for path in catalog.models_dir.iterdir()] if catalog.models_dir.exists() else []


@pytest.mark.parametrize("kept", [0, 3, 8, 23, 24, 100, 5000, -1])
def test_a_truncated_file_is_refused(catalog: Catalog, tmp_path: Path, kept: int) -> None:
    path = tiny_gguf(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError):
        import_gguf(catalog, path)
    assert left_in(catalog) == []


HUGE = struct.pack("<Q", (1 << 63) - 1)


@pytest.mark.parametrize(
    ("place", "value"),
    [(8, HUGE), (16, HUGE), (24, HUGE), (8, struct.pack("<Q", 65_000)), (16, struct.pack("<Q", 65_000))],
    ids=["tensors", "keys", "first key's length", "more tensors than there are", "more keys than there are"],
)
def test_a_count_that_lies_is_refused_before_anything_of_its_size_is_made(
    catalog: Catalog, tmp_path: Path, place: int, value: bytes
) -> None:
    path = tiny_gguf(tmp_path)
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(CheckpointCorrupt):
        GgufFile.open(path)


def test_an_array_of_untold_length_is_refused(tmp_path: Path) -> None:
    for element, count in ((8, 1 << 60), (0, 1 << 60), (12, gguf_file.MAX_VALUES + 1), (9, 1)):
        key = struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, element, count)
        (tmp_path / "x.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + key)
        with pytest.raises(CheckpointCorrupt):
            GgufFile.open(tmp_path / "x.gguf")


def header_with(*tensors: tuple[str, tuple[int, ...], int, int], data: int) -> bytes:
    """A file of these tensors (name, dimensions as the file has them, type, offset) and ``data`` bytes."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), 0)
    for name, dimensions, kind, offset in tensors:
        head += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(dimensions))
        head += struct.pack(f"<{len(dimensions)}Q", *dimensions) + struct.pack("<IQ", kind, offset)
    return head + bytes(-len(head) % 32 + data)


@pytest.mark.parametrize(
    "tensors",
    [
        [("a", (8,), 0, 64)],
        [("a", (8,), 0, 1 << 62)],
        [("a", (1 << 62, 1 << 62), 0, 0)],
        [("a", (8,), 0, 8)],
        [("a", (33,), 8, 0)],
        [("a", (0,), 0, 0)],
        [("a", (8,), 99, 0)],
        [("a", (), 0, 0)],
        [("a", (1, 1, 1, 1, 1), 0, 0)],
        [("a", (8,), 0, 0), ("b", (8,), 0, 0)],
        [("a", (8,), 0, 0), ("a", (8,), 0, 32)],
    ],
    ids=["beyond", "far beyond", "overflow", "unaligned", "half a block", "empty", "type", "rank 0", "rank 5",
         "overlap", "twice"],
)  # fmt: skip
def test_tensors_that_lie_are_refused(tmp_path: Path, tensors: list[tuple[str, tuple[int, ...], int, int]]) -> None:
    (tmp_path / "x.gguf").write_bytes(header_with(*tensors, data=64))
    with pytest.raises(CheckpointError):
        GgufFile.open(tmp_path / "x.gguf")


def test_tensors_that_are_sound_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(header_with(("b", (4, 2), 0, 32), ("a", (8,), 0, 0), data=64))
    with GgufFile.open(tmp_path / "x.gguf") as found:
        assert {tensor.name: tensor.shape for tensor in found.tensors.values()} == {"a": (8,), "b": (2, 4)}


def test_values_that_are_not_finite_are_refused_and_leave_nothing(catalog: Catalog, tmp_path: Path) -> None:
    source = source_of("llama-gqa", tmp_path)
    tensors = read_tensors(source)
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    write_f32(source, tensors)
    with pytest.raises(CheckpointCorrupt, match="finite"):
        import_gguf(catalog, write_gguf(source, tmp_path / "tiny.gguf"))
    assert left_in(catalog) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama", b"rwkv6", "architecture"),
        (b"tokenizer.ggml.pre\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00gpt-2", b"other", "splitting text"),
        (b"tokenizer.ggml.model\x08\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00gpt2", b"bert", "tokenizer"),
        (b"GGUF\x03\x00\x00\x00", b"\x01\x00\x00\x00", "version"),
    ],
)
def test_what_is_not_supported_is_named(catalog: Catalog, tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    path = tiny_gguf(tmp_path)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, old[: -len(new)] + new))
    with pytest.raises(UnsupportedCheckpoint, match=said):
        import_gguf(catalog, path)


def llama3_gguf(tmp_path: Path) -> Path:
    """A file with ``rope_freqs.weight``."""
    return write_gguf(source_of("llama3-rope", tmp_path), tmp_path / "tiny.gguf", Kind.Q8_0)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_rope_factors_that_cannot_be_are_refused(catalog: Catalog, tmp_path: Path, factor: float) -> None:
    path = llama3_gguf(tmp_path)
    with GgufFile.open(path) as found:
        tensor = found.tensors["rope_freqs.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.start : tensor.start + tensor.size] = struct.pack("<f", factor) * (tensor.size // 4)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight"):
        import_gguf(catalog, path)
    assert left_in(catalog) == []


@pytest.mark.parametrize(
    ("key", "kind", "value", "said"),
    [
        ("llama.rope.freq_base", 6, struct.pack("<f", -10_000), "freq_base"),
        ("llama.rope.freq_base", 6, struct.pack("<f", 0), "freq_base"),
        ("llama.rope.freq_base", 6, struct.pack("<f", 3e38), "freq_base"),
        ("llama.attention.key_length", 4, struct.pack("<I", (1 << 32) - 1), "values that are not as wide"),
        ("llama.embedding_length", 4, struct.pack("<I", 1 << 20), "hidden_size"),
        ("llama.embedding_length", 4, struct.pack("<I", 128), "shape"),
    ],
)
def test_metadata_that_cannot_be_is_refused(
    catalog: Catalog, tmp_path: Path, key: str, kind: int, value: bytes, said: str
) -> None:
    path = llama3_gguf(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(key.encode() + struct.pack("<I", kind)) + len(key) + 4
    data[at : at + 4] = value
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=said):
        import_gguf(catalog, path)
    assert left_in(catalog) == []


@pytest.mark.parametrize("dimension", [2, 16, 34, 1 << 39])
def test_rope_factors_must_be_as_many_as_a_head_has_pairs(dimension: int) -> None:
    values = {
        "general.architecture": "llama", "llama.embedding_length": 64, "llama.attention.head_count": 2,
        "llama.attention.key_length": dimension, "llama.attention.value_length": dimension, "llama.block_count": 2,
        "llama.feed_forward_length": 96, "llama.context_length": 256,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    meta = Metadata(values, {"token_embd.weight": (320, 64), "output.weight": (320, 64)})
    with pytest.raises(CheckpointCorrupt, match="for each two dimensions"):
        config_of(meta, [1.0] * 16)


def test_the_shape_of_a_tensor_is_checked_before_anything_of_its_size_is_made() -> None:
    shapes = {"blk.0.attn_q.bias": (1 << 40,)}
    with pytest.raises(CheckpointCorrupt, match="heads"):
        list(conversions("llama", {"num_attention_heads": 2, "num_key_value_heads": 2}, shapes))


@pytest.fixture(scope="module", params=[tiny_gguf, llama3_gguf], ids=["llama", "llama3"])
def sound_bytes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> bytes:
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp("fuzz")).read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_a_clear_error_or_a_sound_model(tmp_path: Path, sound_bytes: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sound_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 12_000) | st.integers(len(sound_bytes) - 1024, len(sound_bytes) - 1))
        damage = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8)))
        damaged[place : place + len(damage)] = damage
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    catalog = Catalog(tmp_path / "damaged-models")
    shutil.rmtree(catalog.models_dir, ignore_errors=True)
    refused = False
    try:
        import_gguf(catalog, path, "mine")
    except MiniVaultError:
        refused = True
    assert left_in(catalog) == ([] if refused else ["mine"])
