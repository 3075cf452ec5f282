"""Adapters in the catalog: added, shown, verified, removed; and everything that is not one refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minivault.errors import (
    CheckpointCorrupt,
    CheckpointError,
    InvalidRequest,
    ModelInUse,
    UnknownModel,
    UnsupportedCheckpoint,
)
from minivault.models.adapter_entry import add_adapter
from minivault.models.catalog import Catalog
from minivault.models.details import details
from minivault.service.loading import Loaders
from minivault.settings import Settings
from tests.models.folders import edit_tensors
from tests.oracle.adapters import ADAPTER_DATA
from tests.oracle.golden import folder_of

ALL = ADAPTER_DATA / "llama-all"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = Catalog(tmp_path / "models")
    found.import_folder(folder_of("llama-gqa"), "base")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ALL, tmp_path / "adapter"))


def test_it_is_in_the_catalog_until_it_is_removed(catalog: Catalog) -> None:
    entry = add_adapter(catalog, "base", ALL, "one")
    assert [one.name for one in catalog.list()] == ["guide", "base", "base:one"]
    assert (entry.family, entry.engine, entry.kind) == ("llama", "native", "generation")
    assert entry.parameters == 14848
    assert [check.fault for check in catalog.verify("base:one")] == [None, None]
    assert details(catalog, "base:one")["context_length"] == 256
    catalog.remove("base:one")
    assert [one.name for one in catalog.list()] == ["guide", "base"]


def test_its_name_is_its_folders_by_default(catalog: Catalog) -> None:
    assert add_adapter(catalog, "base", ALL).name == "base:llama-all"


def test_its_digest_covers_the_adapter_and_the_base(catalog: Catalog, tmp_path: Path) -> None:
    one = add_adapter(catalog, "base", ALL, "one").digest
    other = add_adapter(catalog, "base", ADAPTER_DATA / "llama-qv", "other").digest
    assert len({catalog.get("base").digest, one, other}) == 3
    second = Catalog(tmp_path / "second")
    base = shutil.copytree(folder_of("llama-gqa"), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config))  # the same model in other bytes
    second.import_folder(base, "base")
    assert add_adapter(second, "base", ALL, "one").digest != one


def test_what_it_takes_is_known_before_it_is_loaded(catalog: Catalog, tmp_path: Path) -> None:
    entry = add_adapter(catalog, "base", ALL, "one")
    loaders = Loaders(Settings(data_dir=tmp_path), 1 << 30)
    assert 4 * entry.parameters <= loaders.adapter_need(entry) <= 24 * entry.parameters


def test_a_base_that_has_adapters_is_not_removed(catalog: Catalog) -> None:
    add_adapter(catalog, "base", ALL, "one")
    with pytest.raises(ModelInUse, match="base:one"):
        catalog.remove("base")


def test_an_unknown_adapter_names_those_that_there_are(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel, match="and base has none"):
        catalog.get("base:two")
    add_adapter(catalog, "base", ALL, "one")
    with pytest.raises(UnknownModel, match="and base has only base:one"):
        catalog.get("base:two")
    with pytest.raises(UnknownModel, match="no model of this name"):
        catalog.get("nothing:two")


@pytest.mark.parametrize("name", ["one", "latest", "No Name", "../up", "a:b", ""])
def test_a_name_that_is_taken_or_none_is_refused(catalog: Catalog, name: str) -> None:
    add_adapter(catalog, "base", ALL, "one")
    with pytest.raises(InvalidRequest):
        add_adapter(catalog, "base", ALL, name)


def test_an_adapter_has_no_adapters(catalog: Catalog) -> None:
    add_adapter(catalog, "base", ALL, "one")
    with pytest.raises(InvalidRequest, match="not to another adapter"):
        add_adapter(catalog, "base:one", ALL, "two")


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("peft_type", "IA3", "peft_type"),
        ("task_type", "SEQ_CLS", "task_type"),
        ("bias", "all", "bias"),
        ("use_dora", True, "use_dora"),
        ("modules_to_save", ["lm_head"], "modules_to_save"),
        ("alpha_pattern", {"q_proj": 3}, "alpha_pattern"),
        ("init_lora_weights", "pissa", "init_lora_weights"),
        ("lora_bias", True, "lora_bias"),
        ("alora_invocation_tokens", [5], "alora_invocation_tokens"),
        ("a_setting_of_next_year", 1, "a_setting_of_next_year"),
        ("lora_alpha", "16", "lora_alpha"),
        ("lora_alpha", float("nan"), "lora_alpha"),
        ("lora_alpha", 10**400, "lora_alpha"),
        ("r", 0, "r must be"),
        ("r", 9, "rank of lora_A"),
    ],
)
def test_a_setting_that_is_not_supported_or_not_sound_is_named(
    catalog: Catalog, folder: Path, setting: str, value: Any, named: str
) -> None:
    config = json.loads((folder / "adapter_config.json").read_text()) | {setting: value}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=named):
        add_adapter(catalog, "base", folder)
    assert [one.name for one in catalog.list()] == ["guide", "base"]


PREFIX = "base_model.model.model."
Q = PREFIX + "layers.0.self_attn.q_proj.lora_A.weight"


def renamed(new: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[new] = tensors.pop(Q)

    return change


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (renamed(PREFIX + "embed_tokens.lora_embedding_A"), UnsupportedCheckpoint, "embed_tokens"),
        (renamed("base_model.model.lm_head.lora_A.weight"), UnsupportedCheckpoint, "lm_head"),
        (renamed(PREFIX + "layers.0.self_attn.q_proj.lora_magnitude_vector"), UnsupportedCheckpoint, "magnitude"),
        (renamed(PREFIX + "layers.0.self_attn.other.lora_A.weight"), UnsupportedCheckpoint, "other"),
        (renamed(PREFIX + "layers.9.self_attn.q_proj.lora_A.weight"), UnsupportedCheckpoint, "layers.9"),
        (lambda tensors: tensors.pop(Q), CheckpointCorrupt, "one lora_A and one lora_B"),
        (lambda tensors: tensors.clear(), CheckpointCorrupt, "no tensor"),
    ],
)
def test_a_tensor_that_has_no_place_is_named(
    catalog: Catalog,
    folder: Path,
    change: Callable[[dict[str, Any]], None],
    error: type[CheckpointError],
    named: str,
) -> None:
    edit_tensors(folder, change, "adapter_model.safetensors")
    with pytest.raises(error, match=named):
        add_adapter(catalog, "base", folder)


def test_an_adapter_of_another_shape_is_refused(catalog: Catalog) -> None:
    catalog.import_folder(folder_of("llama-tied-bias"), "wider")
    with pytest.raises(CheckpointCorrupt, match="for this base"):
        add_adapter(catalog, "wider", ALL)


def test_pickle_is_refused_and_so_is_a_file_cut_short(catalog: Catalog, folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointCorrupt, match="truncated"):
        add_adapter(catalog, "base", folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(UnsupportedCheckpoint, match="pickle"):
        add_adapter(catalog, "base", folder)
