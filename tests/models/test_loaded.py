"""A model is loaded with everything that its record will pin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minivault.engine.engine import EngineInfo, EngineRequest, EngineStats, TokenStream
from minivault.errors import CheckpointCorrupt
from minivault.models.architecture import Architecture
from minivault.models.catalog import Catalog
from minivault.models.loaded import LoadedModel, generation_defaults, load_model
from minivault.models.loaded_embedding import LoadedEmbedding
from minivault.models.loaded_foreign import ForeignModel
from minivault.models.loaded_remote import RemoteModel
from minivault.models.pooled import PooledModel
from minivault.models.weights import WeightSet, sources
from tests.models.folders import copy_of
from tests.oracle.golden import DATA


class IdleEngine:
    """An engine that was given weights and does nothing with them."""

    def __init__(self, arch: Architecture, weights: WeightSet) -> None:
        self.info = EngineInfo("idle", "1", "none", False, arch.context_length, arch.vocab_size)
        self.first_byte = sources(weights, "embed")[0].view.data[0]

    def submit(self, request: EngineRequest) -> TokenStream:
        raise NotImplementedError

    failure: BaseException | None = None

    def stats(self) -> EngineStats:
        return EngineStats(0, 0, 0.0)

    async def close(self) -> None:
        return None


class BrokenEngine:
    failure = RuntimeError("out of order")


ENGINE: Any = BrokenEngine()
NONE: Any = None


@pytest.mark.parametrize(
    "model",
    [
        LoadedModel("a", NONE, NONE, None, {}, (), "", "", "", ENGINE),
        ForeignModel("b", NONE, None, {}, (), "", "", "", ENGINE, None),
        LoadedEmbedding("c", NONE, NONE, "", "", ENGINE),
        RemoteModel("d", ENGINE),
    ],
    ids=["native", "foreign", "embedding", "remote"],
)
def test_a_model_of_any_kind_is_broken_when_its_engine_is(model: PooledModel) -> None:
    assert model.broken


@pytest.mark.parametrize("case", ["llama-gqa", "gpt2", "llama-sharded"])
def test_a_loaded_model_pins_weights_tokenizer_and_template(tmp_path: Path, case: str) -> None:
    folder = copy_of(case, tmp_path / "source")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    entry = Catalog(tmp_path / "models").import_folder(folder, "mine")
    model = load_model(entry, IdleEngine)
    assert (model.name, model.weights_digest) == ("mine", entry.digest)
    assert model.tokenizer_digest == model.tokenizer.digest
    assert model.chat_template is not None
    assert model.template_digest == model.chat_template.digest
    assert model.eos_token_ids == model.tokenizer.eos_token_ids
    assert model.engine.info.vocab_size == model.architecture.vocab_size == 320


def test_a_model_without_a_template_pins_none(tmp_path: Path) -> None:
    entry = Catalog(tmp_path / "models").import_folder(DATA / "gpt2")
    model = load_model(entry, IdleEngine)
    assert (model.chat_template, model.template_digest) == (None, "")


@pytest.mark.parametrize(
    ("config", "defaults"),
    [
        ({}, {}),
        (
            {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "max_length": 99},
            {"temperature": 0.6, "top_p": 0.9, "top_k": 20},
        ),
        ({"temperature": 0.6, "do_sample": False}, {"temperature": 0.0}),
        ({"temperature": None, "repetition_penalty": 1.1, "do_sample": True}, {"repetition_penalty": 1.1}),
    ],
)
def test_sampling_defaults_are_those_that_the_checkpoint_sets(
    tmp_path: Path, config: dict[str, Any], defaults: dict[str, Any]
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert generation_defaults(tmp_path) == defaults


@pytest.mark.parametrize(
    "config", [{"temperature": "hot"}, {"top_p": 1.5}, {"top_k": 1.5}, {"min_p": True}, {"temperature": float("nan")}]
)
def test_a_sampling_default_out_of_bounds_is_corrupt(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointCorrupt, match=next(iter(config))):
        generation_defaults(tmp_path)
