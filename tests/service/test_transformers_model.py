"""A family that the native engine lacks, from its folder to the record: imported, loaded, asked, replayed, closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.errors import ConfigError, UnsupportedCheckpoint
from minivault.generation import GenerationRequest, SamplingParams
from minivault.models import foreign
from minivault.models.catalog import Catalog, ModelEntry
from minivault.service import ReplayVerdict
from minivault.service.loading import Loaders, engine_of
from minivault.service.loading_transformers import TransformersLoader
from minivault.service.opening import open_service
from minivault.settings import Settings
from tests.models.folders import copy_of
from tests.oracle.golden import folder_of

CALLER = Caller("10.0.0.1")
BUDGET = 1 << 30


def entry_of(path: Path, engine: str = "transformers", kind: str = "generation") -> ModelEntry:
    return ModelEntry("mine", path, "opt", 1000, 4000, "sha256:00", False, None, engine, kind)


def opt_folder(folder: Path) -> Path:
    """A tiny OPT with the tokenizer of an oracle checkpoint, as Transformers stores it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: make oracle")
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed: make oracle")
    source = folder_of("gpt2")
    vocab_size = json.loads((source / "config.json").read_text())["vocab_size"]
    torch.manual_seed(3)
    config = transformers.OPTConfig(
        vocab_size=vocab_size, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "vocab", "merges", "special")):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # why: theirs to fix, and they differ by version
async def test_it_is_imported_asked_and_recorded_as_what_it_is(tmp_path: Path) -> None:
    source = opt_folder(tmp_path / "tiny-opt")
    settings = Settings(data_dir=tmp_path / "data", model="tiny-opt", kv_cache_memory=1 << 22, threads=1)
    entry = Catalog(settings.models_dir).import_folder(source)
    assert (entry.engine, entry.family) == ("transformers", "opt")
    sampling = SamplingParams(max_tokens=12, temperature=1.0, seed=5, stop=("zzz",), logprobs=1)
    asked = GenerationRequest(prompt="Once upon", sampling=sampling, request_id="one")
    held = {"type": "regex", "regex": "[a-z]{4}"}
    async with open_service(settings) as service:
        first = await service.generate(asked, CALLER)
        again = await service.generate(GenerationRequest(prompt="Once upon", sampling=sampling), CALLER)
        formed = await service.generate(GenerationRequest(prompt="x", response_format=held), CALLER)
        recorded = await service.records.get("one")
        replay = await service.replay("one", CALLER)
        [listed] = [one for one in await service.list_models() if one["name"] == "tiny-opt"]
    assert first.usage.completion_tokens > 0
    assert first.token_ids == again.token_ids
    assert len(first.logprobs) == len(first.token_ids)
    assert (len(formed.response), formed.response.islower()) == (4, True)
    assert (recorded["pin"]["engine"], recorded["pin"]["exact"]) == ("transformers", False)
    assert replay.verdict is ReplayVerdict.NOT_COMPARABLE
    assert (listed["engine"], listed["loaded"]) == ("transformers", True)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # why: theirs to fix, and they differ by version
async def test_a_native_family_runs_here_where_the_setting_says_so(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make oracle")
    settings = Settings(data_dir=tmp_path / "data", model="small", engine="transformers", kv_cache_memory=1 << 22)
    Catalog(settings.models_dir).import_folder(folder_of("llama-gqa"), "small")
    async with open_service(settings) as service:
        await service.generate(GenerationRequest(prompt="a", request_id="one"), CALLER)
        recorded = await service.records.get("one")
    assert recorded["pin"]["engine"] == "transformers"


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "is_transformers_installed", lambda: False)
    loader = Loaders(Settings(data_dir=tmp_path), BUDGET)
    with pytest.raises(ConfigError, match=r"pip install 'minivault\[transformers\]'"):
        loader.load(entry_of(copy_of("gpt2", tmp_path / "gpt2")), lambda *_: None)


@pytest.mark.parametrize(
    ("engine", "kind", "wanted", "chosen"),
    [
        ("native", "generation", "auto", "native"),
        ("native", "generation", "transformers", "transformers"),
        ("native", "embedding", "transformers", "native"),
        ("transformers", "generation", "auto", "transformers"),
        ("remote", "generation", "transformers", "remote"),
        ("remote", "generation", "native", "remote"),
    ],
)
def test_what_runs_a_model(engine: str, kind: str, wanted: str, chosen: str, tmp_path: Path) -> None:
    assert engine_of(entry_of(tmp_path, engine, kind), wanted) == chosen


def test_the_native_engine_alone_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="engine is native"):
        engine_of(entry_of(tmp_path), "native")


@pytest.mark.parametrize(
    ("config", "settings", "need"),
    [
        ({"dtype": "float32"}, {"kv_cache_memory": 100}, 4000 + 100),
        ({"torch_dtype": "float16"}, {"kv_cache_memory": 100}, 8000 + 100),
        ({"torch_dtype": "bfloat16"}, {"kv_cache_memory": 100, "dtype": "float32"}, 8000 + 100),
        ({"torch_dtype": "bfloat16"}, {"kv_cache_memory": 100}, 4000 + 100),
        ({}, {}, 4000 + BUDGET // 4),
        ({"n_embd": 1024, "n_layer": 2, "n_positions": 64}, {"max_running": 2}, 4000 + 2 * 2 * 1024 * 4 * 64 * 2),
    ],
)
def test_what_it_will_take_is_known_before_it_is_loaded(
    config: dict[str, Any], settings: dict[str, Any], need: int, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = TransformersLoader(Settings(data_dir=tmp_path, **settings), BUDGET).need(entry_of(tmp_path))
    assert found == max(need, 4000 + (16 << 20) if "kv_cache_memory" not in settings else 0)
