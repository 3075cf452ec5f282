"""A certificate that clients refuse, or soon will, is told at a start and by ``minivault doctor``."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest

from minivault.cli.certificate import Validity, validity, warning_of
from minivault.cli.examine_config import examine_config
from minivault.settings import load_settings
from tests.cli.process import MINIVAULT, environment
from tests.cli.test_tls import make_pair

BEGIN = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
DAY = 86_400.0
NOON = BEGIN.timestamp()


def found(path: Path, days: float) -> Validity:
    told = validity(path, NOON + days * DAY)
    assert told is not None
    return told


def test_a_certificate_is_judged_by_the_time(tmp_path: Path) -> None:
    cert, _ = make_pair(tmp_path, begin=BEGIN, days=90)
    assert [(found(cert, day).is_refused, found(cert, day).is_short) for day in (-1, 0, 75, 77, 91)] == [
        (True, False),
        (False, False),
        (False, False),
        (False, True),
        (True, True),
    ]


def test_a_start_warns_of_one_that_has_expired_or_soon_will(tmp_path: Path) -> None:
    cert, _ = make_pair(tmp_path, begin=BEGIN, days=90)
    assert warning_of(None, NOON) is None
    assert warning_of(cert, NOON) is None
    soon, late, early = (warning_of(cert, NOON + day * DAY) for day in (80, 91, -1))
    assert soon is not None
    assert soon.startswith("tls_cert: the certificate holds until 2026-04-01 12:00 UTC. Put a new certificate")
    assert late is not None
    assert late.startswith("tls_cert: the certificate expired at 2026-04-01 12:00 UTC: clients refuse it. Put a new")
    assert early is not None
    assert "holds only from 2026-01-01 12:00 UTC on" in early


def test_of_a_chain_the_servers_own_certificate_counts(tmp_path: Path) -> None:
    own, _ = make_pair(tmp_path, "own", begin=BEGIN, days=90)
    above, _ = make_pair(tmp_path, "above", begin=BEGIN, days=1)
    own.write_bytes(own.read_bytes() + above.read_bytes())
    assert not found(own, 10).is_refused


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"]
)
def test_of_what_is_no_certificate_nothing_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.crt").write_bytes(content)
    assert warning_of(tmp_path / "a.crt", NOON) is None
    assert warning_of(tmp_path / "none.crt", NOON) is None


@pytest.mark.parametrize(("days", "verdict"), [(-1.0, "fail"), (3.0, "warn"), (60.0, "ok")])
def test_doctor_tells_how_long_it_holds(tmp_path: Path, days: float, verdict: str) -> None:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    cert, key = make_pair(tmp_path, begin=begin, days=30 + days)
    settings = load_settings(data_dir=tmp_path / "data", tls_cert=cert, tls_key=key)
    told = {finding.what: finding for finding in examine_config(settings)}["certificate"]
    assert (told.verdict, told.advice.startswith("Put a new certificate")) == (verdict, verdict != "ok")


def test_a_server_logs_it_once_at_its_start(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path, days=1)
    files = ("--tls-cert", str(cert), "--tls-key", str(key))
    command = [*MINIVAULT, "serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--model", "none", *files]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.count("tls_cert: the certificate expired at 2020-01-02 00:00 UTC: clients refuse it.") == 1
