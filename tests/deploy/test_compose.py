"""The compose file, as far as it can be looked at without an engine: its schema, and that its parts fit each other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from minivault.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
JUDGE = Path(sys.prefix) / "deploy" / "bin" / "check-jsonschema"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def prometheus() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    return read


@pytest.mark.skipif(not JUDGE.exists(), reason="check-jsonschema is not installed: run `make deploy-tools`")
def test_it_is_what_the_compose_specification_allows() -> None:
    judged = subprocess.run([JUDGE, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout


def test_each_variable_that_is_given_is_a_setting(compose: dict[str, Any]) -> None:
    given = set(compose["services"]["minivault"]["environment"])
    given |= set(re.findall(r"\b(MINIVAULT_\w+)=", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")))
    assert {f"MINIVAULT_{name.upper()}" for name in Settings.model_fields} >= given > {"MINIVAULT_DATA_DIR"}


def test_what_is_mounted_is_here_or_a_volume(compose: dict[str, Any]) -> None:
    sources = [text.split(":")[0] for service in compose["services"].values() for text in service["volumes"]]
    assert [name for name in sources if not name.startswith(".") and name not in compose["volumes"]] == []
    assert [name for name in sources if name.startswith(".") and not (DEPLOY / name).exists()] == []


def test_prometheus_asks_a_host_that_is_answered_to(compose: dict[str, Any], prometheus: dict[str, Any]) -> None:
    [host, port] = prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0].split(":")
    assert host in compose["services"]["minivault"]["environment"]["MINIVAULT_ALLOWED_HOSTS"].split(",")
    assert f"EXPOSE {port}" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_prometheus_shows_the_key_that_it_is_given(compose: dict[str, Any], prometheus: dict[str, Any]) -> None:
    [secret] = compose["services"]["prometheus"]["secrets"]
    assert prometheus["scrape_configs"][0]["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert secret in compose["secrets"]


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service["ports"]]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
