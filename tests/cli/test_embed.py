"""``minivault embed`` prints a vector for each text; bounds are the server's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minivault.models.catalog import Catalog
from tests.cli.process import minivault
from tests.encoder_folder import WIDTH, encoder_folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    Catalog(folder / "data" / "models").import_folder(encoder_folder(folder / "folder"), "tiny")
    return folder / "data"


def embed(data_dir: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    done = minivault("embed", *arguments, "-m", "tiny", "--local", "--data-dir", str(data_dir), stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def test_a_vector_is_printed_for_each_text_and_the_call_is_on_record(data_dir: Path) -> None:
    code, out, _ = embed(data_dir, "hello world", "-", stdin="cats")
    vectors = [json.loads(line) for line in out.splitlines()]
    assert (code, [len(vector) for vector in vectors]) == (0, [WIDTH, WIDTH])
    assert "hello world" in minivault("log", "-n", "1", "--data-dir", str(data_dir)).stdout


def test_json_has_usage_and_record_beside_the_vectors(data_dir: Path) -> None:
    _, out, _ = embed(data_dir, "a cat", "--dimensions", "4", "--json")
    answer = json.loads(out)
    assert (len(answer["embeddings"][0]), answer["usage"]["prompt_tokens"]) == (4, 4)
    assert len(answer["record"]["leaf"]) == 64


def test_a_text_that_is_too_long_names_the_bound_and_the_exit_code_is_2(data_dir: Path) -> None:
    code, _, error = embed(data_dir, "a " * 100)
    assert code == 2
    assert "at most 40" in error
    assert embed(data_dir, "a " * 100, "--truncate")[0] == 0
