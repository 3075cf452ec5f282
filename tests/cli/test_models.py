"""``minivault models`` as a process: pulls from a hub, survives being killed, imports, shows, checks and removes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.process import MINIVAULT, RunningServer, environment, minivault, on_terminal
from tests.models.fake_hub import FakeHub, FakeRepository, fake_hub
from tests.models.folders import copy_of
from tests.models.gguf_writer import Kind, write_gguf
from tests.oracle.adapters import ADAPTER_DATA
from tests.oracle.golden import DATA


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        files = {path.name: path.read_bytes() for path in (DATA / "llama-gqa").iterdir()}
        running.repositories["distilbert/distilgpt2"] = FakeRepository(files)
        yield running


def models(hub: FakeHub | None, data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    more = {} if hub is None else {"HF_ENDPOINT": hub.url}
    return minivault("models", *arguments, "--data-dir", str(data_dir), **more)


def test_a_short_name_is_pulled_shown_checked_and_removed(hub: FakeHub, tmp_path: Path) -> None:
    pulled = models(hub, tmp_path, "pull", "distilgpt2", "--json")
    assert (pulled.returncode, json.loads(pulled.stdout)["name"]) == (0, "distilgpt2")
    assert "model.safetensors" in pulled.stderr
    shown = json.loads(models(None, tmp_path, "show", "distilgpt2", "--json").stdout)
    assert shown["source"]["repository"] == "distilbert/distilgpt2"
    assert shown["context_length"] == 256
    assert shown["files"]["model.safetensors"]["sha256"] in shown["source"]["digests"]["model.safetensors"]
    assert "at main" in models(None, tmp_path, "show", "distilgpt2").stdout
    assert "all as they were" in models(None, tmp_path, "verify").stdout
    assert models(None, tmp_path, "rm", "distilgpt2", "--yes").returncode == 0
    assert "distilgpt2" not in models(None, tmp_path, "list").stdout


def test_a_pull_that_is_killed_goes_on_from_what_came(hub: FakeHub, tmp_path: Path) -> None:
    whole = len(hub.repositories["distilbert/distilgpt2"].files["model.safetensors"])
    hub.stall_after = 200_000
    command = [*MINIVAULT, "models", "pull", "distilgpt2", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, env=environment(HF_ENDPOINT=hub.url), stderr=subprocess.DEVNULL) as process:
        assert hub.stalled.wait(60)
        part = next((tmp_path / "models" / ".pulling-distilgpt2").glob("*-model.safetensors"))
        while part.stat().st_size < 100_000:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    came = part.stat().st_size
    hub.stall_after = None
    hub.served.clear()
    assert "interrupted" in models(None, tmp_path, "list").stderr
    assert models(hub, tmp_path, "pull", "distilgpt2").returncode == 0
    assert hub.served == [("model.safetensors", came, whole - came)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pull", "distilgpt2", "--offline"), "offline"),
        (("pull", "org/other"), "no such repository"),
        (("pull", "dstilgpt2"), "Did you mean distilgpt2"),
        (("show", "gide"), "Did you mean guide?"),
        (("show", "guide:7b"), "no model of this name here (a colon names an adapter of a model, and guide has none)"),
        (("show", "llama3"), "There is: guide."),
        (("rm", "guide", "--yes"), "embedded"),
        (("rm", "nothing", "--yes"), "no model of this name"),
        (("show", "nothing"), "models pull"),
        (("import", "/nowhere"), "no folder or file /nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    hub: FakeHub, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = models(hub, tmp_path, *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_named_is_asked_for_its_models(server: RunningServer) -> None:
    listed = minivault("models", "list", MINIVAULT_URL=server.url)
    shown = minivault("models", "show", "guide", "--url", server.url)
    absent = minivault("models", "show", "none", "--url", server.url)
    assert (listed.returncode, "embedded, loaded" in listed.stdout) == (0, True)
    assert (shown.returncode, "5.8 M" in shown.stdout) == (0, True)
    assert (absent.returncode, "no model of this name" in absent.stderr) == (1, True)


def test_a_gguf_file_is_imported(tmp_path: Path) -> None:
    path = write_gguf(copy_of("gpt2", tmp_path / "source"), tmp_path / "tiny-q8.gguf", Kind.Q8_0)
    assert models(None, tmp_path, "import", str(path)).returncode == 0
    assert "tiny-q8.gguf (Q8_0)" in models(None, tmp_path, "show", "tiny-q8").stdout


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    assert models(None, tmp_path, "import", str(DATA / "gpt2"), "--name", "mine").returncode == 0
    (tmp_path / "models" / "mine" / "tokenizer.json").write_text("{}")
    done = models(None, tmp_path, "verify", "mine")
    assert (done.returncode, done.stdout) == (1, "mine: tokenizer.json: another size\n")
    listed = models(None, tmp_path, "list")
    assert listed.returncode == 0
    assert "mine" not in listed.stdout
    assert "mine cannot be served: tokenizer.json changed since this model was imported" in listed.stderr


def test_a_folder_that_was_not_imported_is_told_of_and_removed(tmp_path: Path) -> None:
    copy_of("gpt2", tmp_path / "models" / "mine")
    assert "mine cannot be served: This folder was not imported" in models(None, tmp_path, "list").stderr
    done = models(None, tmp_path, "verify")
    assert (done.returncode, "mine: This folder was not imported" in done.stdout) == (1, True)
    assert "guide: " in done.stdout
    told = json.loads(models(None, tmp_path, "verify", "mine", "--json").stdout)
    assert (told["sound"], "was not imported" in told["error"]) == (False, True)
    taken = models(None, tmp_path, "import", str(DATA / "gpt2"), "--name", "mine")
    assert (taken.returncode, "exists already" in taken.stderr) == (2, True)
    assert models(None, tmp_path, "rm", "mine", "--yes").returncode == 0
    assert not (tmp_path / "models" / "mine").exists()


def test_removing_asks_first(tmp_path: Path) -> None:
    assert models(None, tmp_path, "import", str(DATA / "gpt2"), "--name", "mine").returncode == 0
    shown = on_terminal([*MINIVAULT, "models", "rm", "mine", "--data-dir", str(tmp_path)], "n\n")
    assert "Remove the model mine?" in shown
    assert "mine" in models(None, tmp_path, "list").stdout


def test_where_nobody_can_be_asked_removing_says_what_to_do(tmp_path: Path) -> None:
    assert models(None, tmp_path, "import", str(DATA / "gpt2"), "--name", "mine").returncode == 0
    refused = models(None, tmp_path, "rm", "mine")
    assert (refused.returncode, "say --yes" in refused.stderr, "Aborted" in refused.stderr) == (2, True, False)
    assert "mine" in models(None, tmp_path, "list").stdout


def test_what_cannot_be_removed_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    refused = models(None, tmp_path, "rm", "guide")
    assert (refused.returncode, "?" in refused.stderr) == (2, False)
    assert "embedded" in refused.stderr


def test_a_file_that_is_cut_is_told_with_both_lengths(tmp_path: Path) -> None:
    source = copy_of("gpt2", tmp_path / "source")
    weights = source / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    refused = models(None, tmp_path / "data", "import", str(source))
    said = f"its header tells of {len(whole)} bytes, and the file has {len(whole) - 10}"
    assert refused.returncode == 1
    assert "model.safetensors" in refused.stderr
    assert said in refused.stderr


def test_an_adapter_is_added_asked_for_and_removed_before_its_base(tmp_path: Path) -> None:
    models(None, tmp_path, "import", str(DATA / "llama-gqa"), "--name", "tiny")
    added = models(None, tmp_path, "add-adapter", "tiny", str(ADAPTER_DATA / "llama-all"), "--name", "one", "--json")
    assert json.loads(added.stdout)["name"] == "tiny:one"
    assert "adapter of tiny" in models(None, tmp_path, "show", "tiny:one").stdout
    asked = ("generate", "The", "--local", "--model", "tiny:one", "--max-tokens", "2", "--data-dir", str(tmp_path))
    assert minivault(*asked).returncode == 0
    refused = models(None, tmp_path, "rm", "tiny", "--yes")
    assert (refused.returncode, "tiny:one" in refused.stderr) == (1, True)
    assert models(None, tmp_path, "rm", "tiny:one", "--yes").returncode == 0
    assert models(None, tmp_path, "rm", "tiny", "--yes").returncode == 0
