"""The dashboard and the alert rules ask for metrics that there are: a real Prometheus scrapes a real server."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.server import Server, serving

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "minivault.json"
RULES = DEPLOY / "prometheus" / "alerts.yml"
NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus is not installed (Debian: prometheus)",
)
SPECULATION_MAY_REST = (
    *("spec_decode", "preemptions", "prefix_cache", "rejected", "inter_token"),
    *("embedded_texts", "head_age"),
)
"""What a short run may have nothing of: the expressions must be answered, with or without a value."""
EXPRESSIONS = [
    (panel["title"], target["expr"])
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    for target in panel.get("targets", ())
]


class Prometheus:
    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def get(self, path: str, **params: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=params)
        answer.raise_for_status()
        return answer.json()["data"]

    def value_of(self, expression: str) -> list[Any]:
        filled = expression.replace("$__rate_interval", "30s").replace("$model", ".*")
        return list(self.get("query", query=filled)["result"])

    def wait(self, expression: str, meanwhile: Callable[[], object] = lambda: None, seconds: float = 90) -> None:
        """Until scrapes have brought it. Its clock is its own, and a rate needs a change between two scrapes."""
        deadline = time.monotonic() + seconds
        while not self.value_of(expression):
            assert time.monotonic() < deadline, f"no value for {expression}"
            meanwhile()
            time.sleep(0.2)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{RULES}]\n"
        f"scrape_configs: [{{job_name: minivault, static_configs: [{{targets: ['{target}']}}]}}]\n",
        encoding="utf-8",
    )
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"),
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(address, process)
        with httpx2.Client(base_url=f"http://{address}") as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"http://{address}/-/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("Prometheus did not start")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("vault") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def scraped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), server.url.removeprefix("http://")) as running:
        running.wait("minivault_records")
        running.wait("sum(rate(vllm:generation_tokens_total[30s])) > 0", lambda: ask(server))
        yield running


def ask(server: Server) -> None:
    asked = {"prompt": "Tell me a short story.", "max_tokens": 24}
    assert httpx2.post(f"{server.url}/generate", json=asked, timeout=60).status_code == 200


@NEEDS_PROMETHEUS
@pytest.mark.parametrize(
    ("title", "expression"), EXPRESSIONS, ids=[f"{title}-{n}" for n, (title, _) in enumerate(EXPRESSIONS)]
)
def test_every_expression_of_the_dashboard_has_a_value(scraped: Prometheus, title: str, expression: str) -> None:
    found = scraped.value_of(expression)
    assert found or any(name in expression for name in SPECULATION_MAY_REST), title


@NEEDS_PROMETHEUS
def test_the_alert_rules_are_loaded_and_none_fires_on_a_server_that_is_well(scraped: Prometheus) -> None:
    scraped.wait('up{job="minivault"} == 1')
    (group,) = scraped.get("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    assert [rule["name"] for rule in group["rules"] if rule["state"] == "firing"] == []
    assert len(group["rules"]) >= 5


@NEEDS_PROMETHEUS
def test_promtool_accepts_the_rules() -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_metric_that_is_asked_for_is_exposed(server: Server) -> None:
    exposed = set(re.findall(r"^# TYPE (\S+) ", httpx2.get(f"{server.url}/metrics").text, re.MULTILINE))
    expressions = " ".join([*(expression for _, expression in EXPRESSIONS), *_expressions_of_rules()])
    asked = set(re.findall(r"(?:vllm:|minivault_)[a-z0-9_]+", expressions))
    missing = {name for name in asked if re.sub(r"_(bucket|sum|count|total)$", "", name) not in _stems(exposed)}
    assert missing == set()


def _stems(names: set[str]) -> set[str]:
    return {name.removesuffix("_total") for name in names}


def _expressions_of_rules() -> list[str]:
    return re.findall(r"^\s+expr: (.+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
