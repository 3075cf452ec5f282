"""Models of other servers in the catalog: added, listed, read back, removed; no credential is kept, and none leaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from minivault.errors import CheckpointCorrupt, ConfigError, InvalidRequest, ModelInUse, UnknownModel
from minivault.models.catalog import Catalog
from minivault.models.pool import ModelPool, PoolLimits
from minivault.models.remote_config import RemoteConfig, is_up_to_v1
from minivault.models.remote_entry import add_remote, remote_config
from minivault.service.loading_remote import RemoteLoader, api_key_of
from minivault.settings import Settings
from tests.fakes import until
from tests.models.pool_bench import Loader

CONFIG = RemoteConfig(("http://a:1/v1", "http://b:2/v1"), "theirs", api_key_env="SOME_KEY", max_in_flight=3)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "models")


def test_it_is_in_the_catalog_until_it_is_removed(catalog: Catalog) -> None:
    entry = add_remote(catalog, "far", CONFIG)
    assert (entry.engine, entry.kind, entry.size_bytes, entry.parameters) == ("remote", "generation", 0, 0)
    assert [one.name for one in catalog.list()] == ["guide", "far"]
    assert remote_config(catalog.get("far")) == CONFIG
    assert catalog.verify("far") == ()
    catalog.remove("far")
    assert [one.name for one in catalog.list()] == ["guide"]


async def test_one_that_was_asked_can_be_removed_and_the_next_who_asks_is_told(catalog: Catalog) -> None:
    add_remote(catalog, "far", CONFIG)
    loader = Loader()
    pool = ModelPool(catalog, "guide", loader, PoolLimits(20))
    (await pool.acquire("far")).release()
    catalog.remove("far")
    with pytest.raises(UnknownModel):
        await pool.acquire("far")
    add_remote(catalog, "far", replace(CONFIG, upstream_model="another"))
    (await pool.acquire("far")).release()
    assert (loader.loads, [model.closed for model in loader.made]) == (["far", "far"], [True, False])
    await pool.close()


async def test_one_that_still_answers_keeps_nobody_waiting_once_it_was_removed(catalog: Catalog) -> None:
    add_remote(catalog, "far", CONFIG)
    loader = Loader()
    pool = ModelPool(catalog, "guide", loader, PoolLimits(20))
    former = await pool.acquire("far")
    catalog.remove("far")
    with pytest.raises(UnknownModel):
        await pool.acquire("far")
    add_remote(catalog, "far", replace(CONFIG, upstream_model="another"))
    lease = await pool.acquire("far")
    assert [model.closed for model in loader.made] == [False, False]
    former.release()
    await until(lambda: loader.made[0].closed)
    assert not loader.made[1].closed
    lease.release()
    await pool.close()


async def test_one_that_still_answers_is_closed_with_its_pool(catalog: Catalog) -> None:
    add_remote(catalog, "far", CONFIG)
    loader = Loader()
    pool = ModelPool(catalog, "guide", loader, PoolLimits(20))
    await pool.acquire("far")
    catalog.remove("far")
    with pytest.raises(UnknownModel):
        await pool.acquire("far")
    await pool.close()
    assert loader.made[0].closed


async def test_one_that_is_the_servers_default_is_not_removed_under_it(catalog: Catalog) -> None:
    add_remote(catalog, "far", CONFIG)
    pool = ModelPool(catalog, "far", Loader(), PoolLimits(20))
    (await pool.acquire("far")).release()
    with pytest.raises(ModelInUse):
        catalog.remove("far")
    await pool.close()


def test_a_name_that_is_taken_says_what_can_be_done(catalog: Catalog) -> None:
    add_remote(catalog, "far", CONFIG)
    with pytest.raises(InvalidRequest, match=r"choose another NAME, or remove .*: minivault models rm far$"):
        add_remote(catalog, "far", CONFIG)
    with pytest.raises(InvalidRequest, match=r"choose another NAME$"):
        add_remote(catalog, "guide", CONFIG)


@pytest.mark.parametrize(
    ("url", "known"),
    [("http://a/v1", True), ("http://a/v1/", True), ("http://a/openai/v1", True), ("http://a/v1beta/openai/", True),
     ("http://a", False), ("http://v1:8", False), ("http://a/api", False)],
)  # fmt: skip
def test_an_address_that_lacks_v1_is_told_apart(url: str, known: bool) -> None:
    assert is_up_to_v1(url) is known


@pytest.mark.parametrize("name", ["far", "guide", "No Name", "../up"])
def test_a_name_that_is_taken_or_none_is_refused(catalog: Catalog, name: str) -> None:
    add_remote(catalog, "far", CONFIG)
    with pytest.raises(InvalidRequest):
        add_remote(catalog, name, CONFIG)


@pytest.mark.parametrize(
    "changes", [{"urls": ["ftp://x"]}, {"urls": 3}, {"urls": []}, {"max_in_flight": 0}, {"upstream_model": ""}]
)
def test_a_manifest_that_was_tampered_with_is_not_sound(catalog: Catalog, changes: dict[str, object]) -> None:
    entry = add_remote(catalog, "far", CONFIG)
    path = entry.path / "minivault.json"
    manifest = json.loads(path.read_text())
    manifest["source"] |= changes
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointCorrupt, match="not sound"):
        remote_config(entry)


def test_the_credential_comes_from_the_environment_and_is_not_kept(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", " sk-secret\n")
    entry = add_remote(catalog, "far", CONFIG)
    assert api_key_of(remote_config(entry)) == "sk-secret"
    assert "secret" not in (entry.path / "minivault.json").read_text()


def test_the_credential_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    config = RemoteConfig(("http://a:1/v1",), "m", api_key_file=str(tmp_path / "key"))
    assert api_key_of(config) == "sk-secret"


@pytest.mark.parametrize(
    "config",
    [
        RemoteConfig(("http://a:1/v1",), "m", api_key_env="NOT_THERE"),
        RemoteConfig(("http://a:1/v1",), "m", api_key_file="/not/there"),
    ],
    ids=["no variable", "no file"],
)
def test_a_credential_that_is_not_there_is_a_clear_error(config: RemoteConfig) -> None:
    with pytest.raises(ConfigError, match="API key of this model's servers"):
        api_key_of(config)


def test_a_credential_that_cannot_be_a_header_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret\r\nx-evil: 1")
    with pytest.raises(ConfigError) as caught:
        api_key_of(CONFIG)
    assert "secret" not in caught.value.message


async def test_loading_one_opens_no_connection_and_takes_no_memory(catalog: Catalog, tmp_path: Path) -> None:
    config = RemoteConfig(("http://127.0.0.1:9/v1",), "m")
    entry = add_remote(catalog, "far", config)
    loader = RemoteLoader(Settings(data_dir=tmp_path), 0)
    model = loader.load(entry, lambda *_: None)
    assert (loader.need(entry), model.memory_bytes, model.engine.info.exact) == (0, 0, False)
    await model.close()
