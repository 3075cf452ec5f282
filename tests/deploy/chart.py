"""Lints and renders the Helm chart with Helm's own engine, and holds what comes out to Kubernetes' own schemas.

    .venv/deploy/bin/python tests/deploy/chart.py < values.json

Runs in the environment of `make deploy-tools`, and imports nothing of this repository. Knows of no cluster: what one
would fill in, or refuse at admission, is not seen. Of documents of other parties (ServiceMonitor) it has no schema.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "minivault"
KUBERNETES = ("1.29", "1.34")
OF_OTHERS = ("monitoring.coreos.com/v1",)


def rendered(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The documents of a release, in the order of their files.

    Raises:
        helm_python.HelmError: the values do not fit the chart.
    """
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values=values, name=name, namespace="llm")
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document is not None]


def faults_of(document: dict[str, Any]) -> list[str]:
    """What Kubernetes' schemas have against a document; unknown fields count."""
    if document["apiVersion"] in OF_OTHERS:
        return []
    faults = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{document['kind']} {version}: {error.message}")
    return faults


def main() -> None:
    asked = json.load(sys.stdin)
    lint = helm_python.lint(CHART, strict=True, with_subcharts=False)
    told: dict[str, Any] = {"lint": [found["error"] for found in lint["messages"] if found["severity"] > 1]}
    try:
        documents = rendered(asked["values"], asked["name"])
    except helm_python.HelmError as error:
        told["refused"] = str(error)
    else:
        told["documents"] = documents
        told["faults"] = [fault for document in documents for fault in faults_of(document)]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
