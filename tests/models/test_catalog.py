"""What can be asked for is what was imported whole, and it stays what it was."""

from __future__ import annotations

import datetime
import json
import os
import threading
from pathlib import Path

import pytest

from minivault.errors import (
    CheckpointCorrupt,
    CheckpointError,
    InvalidRequest,
    ModelInUse,
    ServerError,
    UnknownModel,
)
from minivault.models import folder as folder_module
from minivault.models.catalog import Catalog
from minivault.models.checkpoint import Checkpoint
from minivault.models.folder import hold_folder
from minivault.models.naming import check_name, default_name
from tests.models.folders import copy_of
from tests.oracle.golden import DATA

NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "models", embedded_dir=DATA / "llama-gqa", now=lambda: NOON)


def leftovers(catalog: Catalog) -> list[str]:
    return [path.name for path in catalog.models_dir.iterdir()]


def test_the_embedded_model_is_always_there(catalog: Catalog) -> None:
    entry = catalog.get("guide")
    assert (entry.embedded, entry.family, entry.imported_at) == (True, "llama", None)
    assert catalog.list() == [entry]


def test_an_import_is_listed_with_what_it_is(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "mistral-window", "my-mistral")
    with Checkpoint.open(DATA / "mistral-window") as source:
        digest = source.digest()
    assert (entry.name, entry.family, entry.digest, entry.embedded) == ("my-mistral", "mistral", digest, False)
    assert entry.imported_at == "2026-01-02T12:00:00Z"
    assert entry.size_bytes == (DATA / "mistral-window" / "model.safetensors").stat().st_size
    assert [found.name for found in catalog.list()] == ["guide", "my-mistral"]


@pytest.mark.parametrize("case", ["llama-sharded", "gpt2-old-names", "llama-tied-bias"])
def test_an_import_copies_all_that_the_model_needs(catalog: Catalog, case: str) -> None:
    entry = catalog.import_folder(DATA / case)
    copied = {path.name: path.read_bytes() for path in entry.path.iterdir() if path.name != "minivault.json"}
    assert copied == {path.name: path.read_bytes() for path in (DATA / case).iterdir()}


def test_files_that_are_no_part_of_a_model_stay_behind(catalog: Catalog, tmp_path: Path) -> None:
    source = copy_of("llama-gqa", tmp_path / "source")
    for name in ("pytorch_model.bin", "run.py", "notes.json", ".hidden", "README.md"):
        (source / name).write_text("x")
    (source / "sub").mkdir()
    entry = catalog.import_folder(source)
    expected = {path.name for path in (DATA / "llama-gqa").iterdir()} | {"minivault.json"}
    assert {path.name for path in entry.path.iterdir()} == expected


def test_progress_grows_to_the_whole(catalog: Catalog) -> None:
    seen: list[tuple[int, int]] = []
    catalog.import_folder(DATA / "llama-sharded", progress=lambda done, total: seen.append((done, total)))
    total = sum(path.stat().st_size for path in (DATA / "llama-sharded").iterdir())
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


def test_an_unknown_name_is_told_the_closest_and_is_not_repeated(catalog: Catalog) -> None:
    catalog.import_folder(DATA / "gpt2", "distilgpt2")
    with pytest.raises(UnknownModel, match="distilgpt2") as unknown:
        catalog.get("distil-gpt-2")
    assert "distil-gpt-2" not in unknown.value.message
    assert "models import" in unknown.value.message


@pytest.mark.parametrize(("name", "command"), [("tinyllama", "pull tinyllama"), ("zzz", "pull ORG/NAME")])
def test_an_unknown_name_is_told_how_to_get_it(catalog: Catalog, name: str, command: str) -> None:
    with pytest.raises(UnknownModel, match=f"minivault models {command},"):
        catalog.get(name)


@pytest.mark.parametrize("name", ["../models/guide", "", "GUIDE", "guide/", "/etc", "x" * 500, "."])
def test_no_name_becomes_a_path(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModel):
        catalog.get(name)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "-a", "A", "é", "a b", "x" * 101, "a\n"])
def test_a_name_that_no_model_can_have_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name must be"):
        catalog.import_folder(DATA / "gpt2", name)


@pytest.mark.parametrize("name", ["a", "0", "llama-3.2_1b", "x" * 100])
def test_ordinary_names_are_fine(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("TinyLlama-1.1B-Chat v1.0", "tinyllama-1.1b-chat-v1.0"),
        ("models--org--My-Model/snapshots/abc123", "my-model"),
        ("...", "model"),
        ("org--x", "x"),
    ],
)
def test_a_model_is_named_after_its_folder(tmp_path: Path, path: str, name: str) -> None:
    assert default_name(tmp_path / path) == name


def test_a_name_is_taken_once(catalog: Catalog) -> None:
    catalog.import_folder(DATA / "gpt2", "mine")
    for name in ("mine", "guide"):
        with pytest.raises(InvalidRequest, match="exists already"):
            catalog.import_folder(DATA / "llama-gqa", name)
    assert catalog.get("mine").family == "gpt2"


def test_of_two_imports_at_once_under_one_name_one_wins_whole(catalog: Catalog) -> None:
    barrier = threading.Barrier(2, timeout=120)
    outcomes: list[str] = []

    def run(case: str) -> None:
        def together(done: int, total: int) -> None:
            if done == total:
                barrier.wait()

        try:
            outcomes.append(catalog.import_folder(DATA / case, "mine", progress=together).family)
        except InvalidRequest:
            outcomes.append("taken")

    threads = [threading.Thread(target=run, args=(case,)) for case in ("gpt2", "llama-gqa")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) in (["gpt2", "taken"], ["llama", "taken"])
    assert leftovers(catalog) == ["mine"]


def test_an_import_that_is_interrupted_leaves_nothing(catalog: Catalog) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.import_folder(DATA / "gpt2", "mine", progress=interrupt)
    assert leftovers(catalog) == []
    assert catalog.import_folder(DATA / "gpt2", "mine").name == "mine"


def test_what_a_dead_import_left_is_removed_by_the_next(catalog: Catalog) -> None:
    catalog.models_dir.mkdir()
    (catalog.models_dir / ".importing-999999999-abc-mine").mkdir()
    mine_alive = catalog.models_dir / f".importing-{os.getpid()}-abc-other"
    mine_alive.mkdir()
    catalog.import_folder(DATA / "gpt2", "mine")
    assert sorted(leftovers(catalog)) == [mine_alive.name, "mine"]


def test_too_little_room_is_told_before_anything_is_copied(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(ServerError, match="free"):
        catalog.import_folder(DATA / "gpt2", "mine")
    assert leftovers(catalog) == []


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_is_refused_before_it_is_copied(
    catalog: Catalog, tmp_path: Path, broken: str
) -> None:
    source = copy_of("llama-gqa", tmp_path / "source")
    (source / broken).unlink()
    with pytest.raises(CheckpointError, match=broken.split(".")[0]):
        catalog.import_folder(source)
    assert not catalog.models_dir.exists()


def test_what_is_no_folder_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="folder"):
        catalog.import_folder(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja"])
def test_a_link_is_not_followed(catalog: Catalog, tmp_path: Path, name: str) -> None:
    source = copy_of("llama-gqa", tmp_path / "source")
    target = tmp_path / "elsewhere"
    target.write_bytes((source / name).read_bytes() if (source / name).exists() else b"x")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(target)
    with pytest.raises(CheckpointCorrupt, match="symbolic link"):
        catalog.import_folder(source)


def test_a_folder_of_the_hubs_cache_is_followed_into_its_blobs(catalog: Catalog, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--Tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for index, path in enumerate(sorted((DATA / "llama-gqa").iterdir())):
        blob = repository / "blobs" / str(index)
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    entry = catalog.import_folder(snapshot)
    assert entry.name == "tiny"
    assert not any(path.is_symlink() for path in entry.path.iterdir())


def test_a_file_that_changed_is_found_and_one_that_was_only_touched_is_not(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    path = entry.path / "model.safetensors"
    os.utime(path, ns=(1, 1))
    assert catalog.get("mine") == entry
    known = json.loads((entry.path / "minivault.json").read_text())["files"]["model.safetensors"]
    assert known["mtime_ns"] == 1
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match="changed"):
        catalog.get("mine")
    found, damaged = catalog.survey()
    assert [entry.name for entry in found] == ["guide"]
    assert list(damaged) == ["mine"]
    assert "model.safetensors changed" in damaged["mine"]


@pytest.mark.parametrize("manifest", ["", "{}", '{"files": 3}', '{"files": {"x": {}}}', "[]"])
def test_a_broken_manifest_is_corrupt(catalog: Catalog, manifest: str) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    (entry.path / "minivault.json").write_text(manifest)
    with pytest.raises(CheckpointCorrupt):
        catalog.get("mine")


def rewritten(path: Path, **changes: object) -> None:
    """Change a manifest; ``None`` takes a value away."""
    manifest = json.loads((path / "minivault.json").read_text()) | changes
    (path / "minivault.json").write_text(json.dumps({key: value for key, value in manifest.items() if value}))


def test_a_manifest_says_what_runs_the_model_and_what_for(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    assert (entry.engine, entry.kind) == ("native", "generation")
    rewritten(entry.path, engine="transformers", kind="embedding")
    assert (catalog.get("mine").engine, catalog.get("mine").kind) == ("transformers", "embedding")


def test_an_older_manifest_without_engine_and_kind_is_native_generation(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    rewritten(entry.path, engine=None, kind=None)
    assert catalog.get("mine") == entry


@pytest.mark.parametrize("changes", [{"engine": "other"}, {"kind": "other"}, {"engine": 3}])
def test_an_unknown_engine_or_kind_is_not_sound(catalog: Catalog, changes: dict[str, object]) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    rewritten(entry.path, **changes)
    with pytest.raises(CheckpointCorrupt, match="not sound"):
        catalog.get("mine")


def test_a_manifest_cannot_lead_out_of_its_folder(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    path = entry.path / "minivault.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../secret"] = manifest["files"]["config.json"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointCorrupt, match="not sound"):
        catalog.get("mine")


def test_a_removed_model_is_gone_whole(catalog: Catalog) -> None:
    catalog.import_folder(DATA / "gpt2", "mine")
    catalog.remove("mine")
    assert leftovers(catalog) == []
    with pytest.raises(UnknownModel):
        catalog.get("mine")


def test_a_broken_model_can_be_removed(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    (entry.path / "model.safetensors").unlink()
    catalog.remove("mine")
    assert leftovers(catalog) == []


def test_a_folder_that_lost_its_manifest_is_told_of_and_can_be_removed(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    (entry.path / "minivault.json").unlink()
    found, damaged = catalog.survey()
    assert [model.name for model in found] == ["guide"]
    assert "has lost its minivault.json. Remove it: minivault models rm NAME" in damaged["mine"]
    with pytest.raises(CheckpointCorrupt, match="was not imported"):
        catalog.verify("mine")
    catalog.remove("mine")
    assert leftovers(catalog) == []
    assert catalog.import_folder(DATA / "gpt2", "mine").name == "mine"


@pytest.mark.parametrize("name", ["by-hand", "Llama 3 (Q8)", "a:B"])
def test_a_folder_that_was_put_there_by_hand_is_told_of_and_can_be_removed(catalog: Catalog, name: str) -> None:
    catalog.models_dir.mkdir()
    copy_of("gpt2", catalog.models_dir / name)
    assert "models import PATH" in catalog.survey().damaged[name]
    catalog.remove(name)
    assert leftovers(catalog) == []


@pytest.mark.parametrize("name", ["lost+found", ".pulling"])
def test_what_is_no_concern_of_models_is_not_told_of(catalog: Catalog, name: str) -> None:
    (catalog.models_dir / name).mkdir(parents=True)
    assert catalog.survey().damaged == {}


def test_a_folder_that_no_model_can_be_called_as_is_not_served(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    entry.path.rename(catalog.models_dir / "Mine")
    assert list(catalog.survey().damaged) == ["Mine"]
    with pytest.raises(CheckpointCorrupt, match="No model can be called"):
        catalog.get("Mine")


@pytest.mark.parametrize("name", [".importing-1-ab-mine", ".removing-1-ab-mine", ".pulling-mine", "guide", "a\nb"])
def test_folders_of_work_under_way_are_not_told_of(catalog: Catalog, name: str) -> None:
    (catalog.models_dir / name).mkdir(parents=True)
    (catalog.models_dir / "a-file").touch()
    assert catalog.survey().damaged == {}
    assert catalog.names() == ("guide",)


def test_of_a_link_among_the_models_only_the_link_is_removed(catalog: Catalog, tmp_path: Path) -> None:
    catalog.models_dir.mkdir()
    source = copy_of("gpt2", tmp_path / "source")
    (catalog.models_dir / "mine").symlink_to(source)
    catalog.remove("mine")
    assert leftovers(catalog) == []
    assert (source / "config.json").exists()


def test_the_embedded_model_stays(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="embedded"):
        catalog.remove("guide")


def test_a_model_in_use_stays_until_it_is_let_go(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    with hold_folder(entry.path), hold_folder(entry.path), pytest.raises(ModelInUse):
        catalog.remove("mine")
    assert catalog.get("mine") == entry
    catalog.remove("mine")
    assert leftovers(catalog) == []


@pytest.mark.parametrize("name", ["nothing", "..", "../models", ""])
def test_what_is_not_there_cannot_be_removed(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModel):
        catalog.remove(name)


def test_verifying_reads_every_file_again(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "llama-sharded", "mine")
    seen: list[tuple[int, int]] = []
    checks = catalog.verify("mine", lambda done, total: seen.append((done, total)))
    assert [check.name for check in checks] == sorted(path.name for path in (DATA / "llama-sharded").iterdir())
    assert all(check.fault is None for check in checks)
    assert seen[-1][0] == seen[-1][1] == sum(check.size for check in checks)
    assert entry.digest == catalog.get("mine").digest


def test_verifying_finds_a_change_that_kept_size_and_time(catalog: Catalog) -> None:
    entry = catalog.import_folder(DATA / "gpt2", "mine")
    path, status = entry.path / "model.safetensors", (entry.path / "model.safetensors").stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (entry.path / "tokenizer.json").unlink()
    faults = {check.name: check.fault for check in catalog.verify("mine") if check.fault}
    assert faults == {"model.safetensors": "another content", "tokenizer.json": "gone"}


def test_the_embedded_model_can_be_read_again(catalog: Catalog) -> None:
    assert {check.fault for check in catalog.verify("guide")} == {None}


def test_the_licence_comes_along(catalog: Catalog, tmp_path: Path) -> None:
    source = copy_of("llama-gqa", tmp_path / "source")
    (source / "LICENSE").write_text("Use it well.")
    assert (catalog.import_folder(source).path / "LICENSE").read_text() == "Use it well."
