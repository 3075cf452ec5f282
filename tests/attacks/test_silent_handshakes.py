"""An outsider without a key opens connections to a server that speaks TLS, and says nothing on them."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.process import serving
from tests.cli.test_tls import make_pair

SILENT = 600
ROOM = 420
"""Descriptors: 8 connections, 256 handshakes, and what a server with an embedded model has open, far below its 512."""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the descriptors in /proc")
def test_silent_handshakes_take_neither_the_descriptors_nor_the_place_of_others(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--max-connections", "8"]
    with serving(tmp_path / "data", *options) as server, ExitStack() as held:
        port = int(server.url.rpartition(":")[2])
        for _ in range(SILENT):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        for path in ("/livez", "/models", "/vault/stats", "/v1/files"):
            with urllib.request.urlopen(server.url + path, context=context, timeout=10) as answer:  # noqa: S310 - ours
                found = json.load(answer)
            assert answer.status == 200
            assert not found.get("damaged")
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < ROOM
