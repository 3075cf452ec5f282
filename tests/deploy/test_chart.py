"""The Helm chart: linted and rendered by Helm's own engine, and held to Kubernetes' schemas. No cluster is asked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minivault.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.prefix) / "deploy" / "bin" / "python"
needs_helm = pytest.mark.skipif(not PYTHON.exists(), reason="Helm's engine is not installed: run `make deploy-tools`")

EVERYTHING: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {
        "allowed_hosts": ["vault.example.org", "other.example.org"],
        "cors_origins": ["https://a.example", "https://b.example"],
        "keep_alive": 0.5,
        "memory_budget": 17179869184,
        "mirror": False,
        "vault_key_file": "/keys/vault",
    },
    "extraEnv": [{"name": "OTEL_SERVICE_NAME", "value": "vault"}],
    "extraVolumes": [{"name": "keys", "secret": {"secretName": "vault"}}],
    "extraVolumeMounts": [{"name": "keys", "mountPath": "/keys", "readOnly": True}],
    "ingress": {"enabled": True, "className": "nginx", "host": "llm.example.org", "tlsSecret": "llm-tls"},
    "persistence": {"storageClass": "fast", "size": "1Ti"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "llm", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def helm(values: dict[str, Any], name: str = "vault") -> dict[str, Any]:
    asked = json.dumps({"values": values, "name": name})
    command = [str(PYTHON), str(ROOT / "tests" / "deploy" / "chart.py")]
    done = subprocess.run(command, input=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def of_kind(told: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(document for document in told["documents"] if document["kind"] == kind)
    return found


def environment(told: dict[str, Any]) -> dict[str, str]:
    container = of_kind(told, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    names = [variable["name"] for variable in container["env"]]
    assert sorted(set(names)) == sorted(names), "a variable is given twice"
    return {variable["name"]: variable["value"] for variable in container["env"]}


@needs_helm
@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({}, ["Service", "StatefulSet"]),
        ({"persistence": {"existingClaim": "mine"}}, ["Service", "StatefulSet"]),
        ({"service": {"type": "LoadBalancer", "port": 80}}, ["Service", "StatefulSet"]),
        (EVERYTHING, ["Ingress", "Service", "ServiceMonitor", "StatefulSet"]),
    ],
    ids=["as it comes", "a claim that is there", "a load balancer", "everything"],
)
def test_helm_and_kubernetes_find_no_fault(values: dict[str, Any], kinds: list[str]) -> None:
    told = helm(values)
    assert (told["lint"], told["faults"]) == ([], [])
    assert [document["kind"] for document in told["documents"]] == kinds


@needs_helm
def test_settings_arrive_as_the_server_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in environment(helm(EVERYTHING)).items():
        monkeypatch.setenv(name, value)
    read = load_settings(data_dir=tmp_path)
    assert (read.memory_budget, read.keep_alive, read.mirror) == (17179869184, 0.5, False)
    assert read.cors_origins == ["https://a.example", "https://b.example"]
    inside = ["vault", "vault.llm", "vault.llm.svc", "vault.llm.svc.cluster.local"]
    assert read.allowed_hosts == [*inside, "llm.example.org", "vault.example.org", "other.example.org"]


@needs_helm
@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"settings": {"port": 9000}}, "port"),
        ({"settings": {"tls_cert": "/a"}}, "tls_cert"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
        ({"replicas": 2}, "replicas"),
        ({"persistence": {"sise": "1Gi"}}, "sise"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: dict[str, Any], word: str) -> None:
    assert word in helm(values)["refused"]


@needs_helm
def test_a_long_name_leaves_room_for_what_kubernetes_adds() -> None:
    told = helm({}, name="a" * 53)
    assert len(of_kind(told, "StatefulSet")["metadata"]["name"]) + len("-0123456789") <= 63


@needs_helm
def test_a_release_called_minivault_gets_no_port_from_kubernetes() -> None:
    pod = of_kind(helm({}, name="minivault"), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False


@needs_helm
def test_the_volume_is_mounted_where_the_image_keeps_its_data() -> None:
    pod = of_kind(helm({}), "StatefulSet")["spec"]["template"]["spec"]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    user = re.search(r"--uid (\d+)", dockerfile)
    assert user is not None
    assert pod["securityContext"]["runAsUser"] == int(user[1])
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert f"MINIVAULT_DATA_DIR={mounts['data']} " in dockerfile


def test_the_charts_own_settings_are_settings() -> None:
    values = (ROOT / "deploy" / "helm" / "minivault" / "values.yaml").read_text(encoding="utf-8")
    block = re.search(r"^settings:\n((?:  .*\n)+)", values, re.MULTILINE)
    assert block is not None
    assert set(re.findall(r"^  (\w+):", block[1], re.MULTILINE)) <= set(Settings.model_fields)


def test_the_chart_is_of_this_version() -> None:
    from minivault import __version__

    chart = (ROOT / "deploy" / "helm" / "minivault" / "Chart.yaml").read_text(encoding="utf-8")
    assert re.search(r'^appVersion: "(.*)"$', chart, re.MULTILINE)[1] == __version__  # type: ignore[index]
