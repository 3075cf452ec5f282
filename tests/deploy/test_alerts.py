"""Which alert fires on what the metrics show: judged by promtool, on series that are written here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
REFUSED = 'minivault_rejected_requests_total{{instance="one",reason="{}"}}'

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def fires(folder: Path, alert: str, series: str, values: str, after: str = "10m") -> bool:
    """Whether an alert fires so long after the start of a series of one value each 15 s, in promtool's notation."""
    expected = [{"exp_labels": {"instance": "one"}}]
    case = {
        "interval": "15s",
        "input_series": [{"series": series, "values": values}],
        "alert_rule_test": [{"eval_time": after, "alertname": alert, "exp_alerts": expected}],
    }
    written = folder / "case.yml"
    written.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [case]}), encoding="utf-8"
    )
    done = subprocess.run(["promtool", "test", "rules", str(written)], capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert "got:" in told, told  # labels and words are compared too, and are others: what is asked is whether any came
    return "got:[]" not in "".join(told.split())


@pytest.mark.parametrize(
    ("alert", "reason"), [("MiniVaultCannotCountLimits", "limits_unavailable"), ("MiniVaultOverloaded", "overloaded")]
)
def test_what_is_refused_fires_the_alert_of_its_reason_and_no_other(tmp_path: Path, alert: str, reason: str) -> None:
    others = {"limits_unavailable", "overloaded", "rate_limit_exceeded"} - {reason}
    assert fires(tmp_path, alert, REFUSED.format(reason), "0+3x60")
    assert not any(fires(tmp_path, alert, REFUSED.format(other), "0+3x60") for other in others)


def test_a_server_that_is_not_ready_for_long_fires(tmp_path: Path) -> None:
    series = 'minivault_ready{instance="one"}'
    assert fires(tmp_path, "MiniVaultNotReady", series, "0x60")
    assert not fires(tmp_path, "MiniVaultNotReady", series, "1x60")


def test_a_model_that_loads_for_a_while_fires_nothing(tmp_path: Path) -> None:
    assert not fires(tmp_path, "MiniVaultNotReady", 'minivault_ready{instance="one"}', "0x60", after="4m")


def test_a_vault_that_cannot_be_written_fires(tmp_path: Path) -> None:
    assert fires(tmp_path, "MiniVaultCannotRecord", 'minivault_vault_writable{instance="one"}', "0x60")
