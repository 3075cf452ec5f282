"""A server over a real socket that gives scripted answers and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """``chunks`` are sent one by one; ``cut`` closes the connection without the chunk that ends a body."""

    chunks: Sequence[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> Answer:
        return cls([json.dumps(value).encode()], status, headers)

    @classmethod
    def lines(cls, *values: object) -> Answer:
        return cls([json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values])


@dataclass
class ScriptedServer:
    url: str
    asked: list[dict[str, Any]]


@contextmanager
def scripted(**answers: Answer) -> Iterator[ScriptedServer]:
    """Serve ``answers`` by path, with ``_`` for ``/`` inside: ``generate_stream`` is ``/generate/stream``."""
    by_path = {"/" + name.replace("_", "/"): answer for name, answer in answers.items()}
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give()

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._give()

        def _give(self) -> None:
            answer = by_path.get(self.path, Answer.json({"error": {"message": "no such path"}}, 404))
            self.send_response(answer.status)
            for name, value in {"Transfer-Encoding": "chunked", **answer.headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            for chunk in answer.chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if answer.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ScriptedServer(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
