"""A pull takes what is safe, goes on where it broke off, and leaves a model that is what the hub said, or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from minivault.errors import CheckpointError, Forbidden, HubRefused, HubUnavailable, InvalidRequest, ServerError
from minivault.models import folder as folder_module
from minivault.models.catalog import Catalog
from minivault.models.hub import ATTEMPTS, Hub
from minivault.models.pulling import PullProgress, forget_unfinished, pull, unfinished
from minivault.models.short_names import SHORT_NAMES, Reference, parse_reference
from tests.models.fake_hub import COMMIT, FakeHub, FakeRepository, fake_hub
from tests.oracle.golden import DATA

TINY = parse_reference("org/Tiny")


def files_of(case: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (DATA / case).iterdir()}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        running.repositories["org/Tiny"] = FakeRepository(files_of("llama-gqa"))
        yield running


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "models")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


def client(hub: FakeHub) -> Hub:
    return Hub(endpoint=hub.url, pause=lambda seconds: None)


def left_in(catalog: Catalog) -> list[str]:
    return sorted(path.name for path in catalog.models_dir.iterdir()) if catalog.models_dir.exists() else []


def size_of(hub: FakeHub, name: str) -> int:
    return len(hub.repositories["org/Tiny"].files[name])


@pytest.mark.parametrize("case", ["llama-gqa", "llama-sharded", "gpt2-old-names"])
def test_a_pulled_model_is_what_the_hub_has(hub: FakeHub, catalog: Catalog, case: str) -> None:
    hub.repositories["org/Tiny"] = FakeRepository(files_of(case))
    entry = pull(catalog, client(hub), TINY)
    assert entry.name == "tiny"
    assert {p.name: p.read_bytes() for p in entry.path.iterdir() if p.name != "minivault.json"} == files_of(case)
    assert left_in(catalog) == ["tiny"]
    assert {check.fault for check in catalog.verify("tiny")} == {None}


def test_where_it_came_from_is_kept(hub: FakeHub, catalog: Catalog) -> None:
    hub.repositories["org/Tiny"].revisions = ("main", "refs/pr/3")
    pull(catalog, client(hub), parse_reference("org/Tiny@refs/pr/3"), "mine")
    manifest = catalog.manifest("mine")
    assert manifest is not None
    source = dict(manifest.source)
    weights = hashlib.sha256(files_of("llama-gqa")["model.safetensors"]).hexdigest()
    assert source.pop("digests")["model.safetensors"] == f"sha256:{weights}"
    assert source == {
        "kind": "hub",
        "repository": "org/Tiny",
        "revision": "refs/pr/3",
        "commit": COMMIT,
        "licence": "apache-2.0",
    }


def test_only_what_is_safe_and_needed_is_fetched(hub: FakeHub, catalog: Catalog) -> None:
    extra = {
        "pytorch_model.bin": b"x",
        "run.py": b"x",
        "README.md": b"x",
        "other.safetensors": b"x",
        ".gitattributes": b"",
    }
    hub.repositories["org/Tiny"].files |= extra | {"LICENSE": b"Use it well."}
    entry = pull(catalog, client(hub), TINY)
    assert not {name for name, _, _ in hub.served} & extra.keys()
    assert not {path.name for path in entry.path.iterdir()} & extra.keys()
    assert (entry.path / "LICENSE").read_bytes() == b"Use it well."


def test_progress_grows_to_the_whole(hub: FakeHub, catalog: Catalog) -> None:
    seen: list[PullProgress] = []
    pull(catalog, client(hub), TINY, report=seen.append)
    whole = sum(map(len, files_of("llama-gqa").values()))
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].file) == (whole, whole, "model.safetensors")
    assert seen[-1].file_done == seen[-1].file_total == size_of(hub, "model.safetensors")


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: FakeHub, catalog: Catalog) -> None:
    hub.cut_after = [1000, 500]
    pull(catalog, client(hub), TINY)
    assert [start for name, start, _ in hub.served if name == "model.safetensors"] == [0, 1000, 1500]
    assert hub.sent("model.safetensors") == size_of(hub, "model.safetensors")


def test_a_hub_that_keeps_breaking_off_is_given_up_and_the_next_pull_goes_on(hub: FakeHub, catalog: Catalog) -> None:
    hub.cut_after = [4000, *[0] * (ATTEMPTS - 1)]
    with pytest.raises(HubUnavailable, match="Pull it again to go on"):
        pull(catalog, client(hub), TINY)
    assert left_in(catalog) == [".pulling-tiny"]
    assert unfinished(catalog.models_dir)[0][0] == "tiny"
    hub.served.clear()
    pull(catalog, client(hub), TINY)
    assert hub.served == [("model.safetensors", 4000, size_of(hub, "model.safetensors") - 4000)]
    assert left_in(catalog) == ["tiny"]


def test_a_pull_that_is_interrupted_goes_on_without_fetching_again(hub: FakeHub, catalog: Catalog) -> None:
    hub.repositories["org/Tiny"] = FakeRepository(files_of("llama-sharded"))
    shards = sorted(name for name in files_of("llama-sharded") if name.endswith(".safetensors"))

    def interrupt(step: PullProgress) -> None:
        if step.file == shards[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(catalog, client(hub), TINY, report=interrupt)
    hub.served.clear()
    assert pull(catalog, client(hub), TINY).name == "tiny"
    assert shards[0] not in {name for name, _, _ in hub.served}


def test_what_an_older_commit_left_is_not_mixed_in(hub: FakeHub, catalog: Catalog) -> None:
    hub.cut_after = [4000, *[0] * (ATTEMPTS - 1)]
    with pytest.raises(HubUnavailable):
        pull(catalog, client(hub), TINY)
    hub.repositories["org/Tiny"] = FakeRepository(files_of("qwen2"), commit="f" * 40)
    entry = pull(catalog, client(hub), TINY)
    assert entry.family == "qwen2"
    assert (entry.path / "model.safetensors").read_bytes() == files_of("qwen2")["model.safetensors"]
    assert left_in(catalog) == ["tiny"]


def test_a_hub_without_ranges_is_read_from_the_start(hub: FakeHub, catalog: Catalog) -> None:
    hub.cut_after = [1000]
    hub.ignores_ranges = True
    seen: list[PullProgress] = []
    pull(catalog, client(hub), TINY, report=seen.append)
    assert [start for name, start, _ in hub.served if name == "model.safetensors"] == [0, 0]
    assert seen[-1].done == seen[-1].total


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_is_not_what_the_digest_says_is_refused_and_removed(hub: FakeHub, catalog: Catalog, name: str) -> None:
    repository = hub.repositories["org/Tiny"]
    repository.lies = {name: bytes(len(repository.files[name]))}
    with pytest.raises(CheckpointError, match="digest"):
        pull(catalog, client(hub), TINY)
    assert "tiny" not in left_in(catalog)
    repository.lies = {}
    assert pull(catalog, client(hub), TINY).name == "tiny"


@pytest.mark.parametrize("longer", [b"x", b"x" * 5_000_000])
def test_a_file_that_does_not_end_where_it_should_is_refused(hub: FakeHub, catalog: Catalog, longer: bytes) -> None:
    repository = hub.repositories["org/Tiny"]
    repository.lies = {"model.safetensors": repository.files["model.safetensors"] + longer}
    with pytest.raises(CheckpointError, match="longer"):
        pull(catalog, client(hub), TINY)


def test_a_mirror_that_says_less_is_asked_file_by_file(hub: FakeHub, catalog: Catalog) -> None:
    hub.repositories["org/Tiny"].bare_look_up = True
    assert pull(catalog, client(hub), TINY).name == "tiny"
    assert {check.fault for check in catalog.verify("tiny")} == {None}


def test_a_model_that_no_engine_runs_is_refused_before_its_weights_come(hub: FakeHub, catalog: Catalog) -> None:
    files = hub.repositories["org/Tiny"].files
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"hidden_size": 0}).encode()
    with pytest.raises(CheckpointError, match="hidden_size"):
        pull(catalog, client(hub), TINY)
    assert hub.sent("model.safetensors") == 0
    assert left_in(catalog) == []


def test_a_repository_with_pickle_alone_is_refused_and_told_what_to_do(hub: FakeHub, catalog: Catalog) -> None:
    hub.repositories["org/Tiny"].files["pytorch_model.bin"] = hub.repositories["org/Tiny"].files.pop(
        "model.safetensors"
    )
    with pytest.raises(HubRefused, match=r"\.bin only.*safetensors.*models import"):
        pull(catalog, client(hub), TINY)
    assert hub.served == []
    assert left_in(catalog) == []


def test_a_repository_of_gguf_files_is_told_how_to_import_one(hub: FakeHub, catalog: Catalog) -> None:
    hub.repositories["org/Tiny"] = FakeRepository({"tiny.Q4_0.gguf": b"GGUF"})
    with pytest.raises(HubRefused, match=r"models import FILE\.gguf"):
        pull(catalog, client(hub), TINY)


def test_a_repository_without_a_tokenizer_that_is_read_is_refused_before_anything_comes(
    hub: FakeHub, catalog: Catalog
) -> None:
    files = hub.repositories["org/Tiny"].files
    files["tokenizer.model"] = files.pop("tokenizer.json")
    with pytest.raises(HubRefused, match=r"no tokenizer\.json"):
        pull(catalog, client(hub), TINY)
    assert hub.served == []


def test_a_gated_repository_says_how_to_get_in(hub: FakeHub, catalog: Catalog) -> None:
    hub.repositories["org/Tiny"].gated = True
    with pytest.raises(HubRefused, match=r"gated.*HF_TOKEN"):
        pull(catalog, client(hub), TINY)
    assert left_in(catalog) == []


def test_a_token_opens_a_gate_and_stays_with_the_hub(
    hub: FakeHub, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["org/Tiny"].gated = True
    hub.repositories["org/Tiny"].token = "hf_made_up"
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    pull(catalog, client(hub), TINY)
    beyond = [credentials for path, credentials in hub.authorizations if path.startswith("/cdn")]
    assert beyond == [None]


@pytest.mark.parametrize("reference", ["org/Other", "org/Tiny@other"])
def test_what_is_not_there_is_said(hub: FakeHub, catalog: Catalog, reference: str) -> None:
    with pytest.raises(HubRefused, match="no such"):
        pull(catalog, client(hub), parse_reference(reference), "mine")
    assert left_in(catalog) == []


def test_a_hub_that_is_not_there_is_said(hub: FakeHub, catalog: Catalog) -> None:
    away = Hub(endpoint="http://127.0.0.1:9", pause=lambda seconds: None)
    with pytest.raises(
        HubUnavailable, match=r"The hub \(127.0.0.1\) cannot be reached.*HF_ENDPOINT.*minivault models import PATH"
    ):
        pull(catalog, away, TINY)
    assert left_in(catalog) == []


def test_offline_nothing_is_asked() -> None:
    with pytest.raises(Forbidden, match="offline"):
        Hub(offline=True)


def test_too_little_room_is_told_before_the_weights_come(
    hub: FakeHub, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(ServerError, match="free"):
        pull(catalog, client(hub), TINY)
    assert hub.served == []
    assert left_in(catalog) == []


def test_a_name_that_is_taken_is_refused_before_anything_is_asked(hub: FakeHub, catalog: Catalog) -> None:
    catalog.import_folder(DATA / "gpt2", "tiny")
    with pytest.raises(InvalidRequest, match="exists already"):
        pull(catalog, client(hub), TINY)
    assert hub.authorizations == []


def test_one_pull_of_a_name_at_a_time(hub: FakeHub, catalog: Catalog) -> None:
    refused: list[str] = []

    def meanwhile(step: PullProgress) -> None:
        if step.file == "model.safetensors" and not refused:
            with pytest.raises(InvalidRequest) as error:
                pull(catalog, client(hub), TINY)
            with pytest.raises(InvalidRequest):
                forget_unfinished(catalog.models_dir, "tiny")
            refused.append(error.value.message)

    assert pull(catalog, client(hub), TINY, report=meanwhile).name == "tiny"
    assert "pulled already" in refused[0]


def test_an_unfinished_pull_can_be_forgotten(hub: FakeHub, catalog: Catalog) -> None:
    hub.cut_after = [4000, *[0] * (ATTEMPTS - 1)]
    with pytest.raises(HubUnavailable):
        pull(catalog, client(hub), TINY)
    assert forget_unfinished(catalog.models_dir, "tiny")
    assert left_in(catalog) == []
    assert not forget_unfinished(catalog.models_dir, "tiny")


def test_an_index_cannot_name_what_is_not_there(hub: FakeHub, catalog: Catalog) -> None:
    files = files_of("llama-sharded")
    del files[min(name for name in files if name.endswith(".safetensors"))]
    hub.repositories["org/Tiny"] = FakeRepository(files)
    with pytest.raises(CheckpointError, match="lacks"):
        pull(catalog, client(hub), TINY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt2", Reference("openai-community/gpt2", None, "gpt2")),
        ("GPT2@main", Reference("openai-community/gpt2", "main", "gpt2")),
        ("Org/My_Model@refs/pr/1", Reference("Org/My_Model", "refs/pr/1", "my_model")),
    ],
)
def test_references_are_read(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "gpt22", "a/b/c", "a/..", "../b", "a/b@", "a/b@../c", "a/b@-x", "https://x/y", "a/b\n", "a b/c", "@main"],
)
def test_what_is_no_reference_is_told_short_names(text: str) -> None:
    with pytest.raises(InvalidRequest, match="ORG/NAME"):
        parse_reference(text)


@pytest.mark.parametrize("short", SHORT_NAMES)
def test_every_short_name_is_a_name_and_a_repository(short: str) -> None:
    assert parse_reference(short).name == short
    assert parse_reference(SHORT_NAMES[short]).repository == SHORT_NAMES[short]
