"""What the HTTP path costs: CPU time per token of the server's process, at 32 streams, on each surface.

The engine is a script that hands out a token a stream in each step, as the native one does, and computes nothing; the
vault is real. The client is another process. Run: .venv/bin/python bench/http_path.py [--streams 32] [--tokens 256]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / "src"), str(Path(__file__).parent.parent)]

TURNS = [{"role": "user", "content": "hi"}]
SURFACES: dict[str, tuple[str, dict[str, Any]]] = {
    "native, SSE": ("/generate", {"prompt": "hi", "stream": True}),
    "native, JSON lines": ("/generate/stream", {"prompt": "hi"}),
    "native, plain text": ("/generate-stream", {"prompt": "hi"}),
    "OpenAI chat": ("/v1/chat/completions", {"model": "fake", "messages": TURNS, "stream": True}),
    "OpenAI completions": ("/v1/completions", {"model": "fake", "prompt": "hi", "stream": True}),
    "OpenAI responses": ("/v1/responses", {"model": "fake", "input": "hi", "stream": True}),
    "Ollama chat": ("/api/chat", {"model": "fake", "messages": TURNS}),
    "Anthropic messages": ("/v1/messages", {"model": "fake", "messages": TURNS, "stream": True}),
}
LIMITS = {"/api/chat": lambda tokens: {"options": {"num_predict": tokens}}}


class SteppedStream:
    """A stream that is fed by the engine's steps."""

    def __init__(self, engine: SteppedEngine, tokens: int) -> None:
        self._engine = engine
        self.left = tokens
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def cancel(self) -> None:
        self._engine.running.pop(self, None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            step = await self.queue.get()
            yield step
            if step.finish_reason is not None:
                return


class SteppedEngine:
    """One step hands every stream a token, as one message to the loop. Steps follow as soon as all were taken."""

    def __init__(self) -> None:
        from minivault.engine.engine import EngineInfo

        self.info = EngineInfo(
            name="stepped", build="1", arithmetic="none", exact=True, context_length=1 << 20, vocab_size=257
        )
        self.running: dict[SteppedStream, None] = {}
        self.failure: BaseException | None = None
        self._stepping: asyncio.Task[None] | None = None

    def submit(self, request: Any) -> SteppedStream:
        stream = SteppedStream(self, request.sampling.max_tokens)
        self.running[stream] = None
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.get_running_loop().create_task(self._steps())
        return stream

    async def _steps(self) -> None:
        from minivault.engine.engine import TokenStep
        from minivault.generation import FinishReason

        token, last = TokenStep((97,)), TokenStep((97,), finish_reason=FinishReason.LENGTH)
        while self.running:
            for stream in list(self.running):
                stream.left -= 1
                stream.queue.put_nowait(token if stream.left else last)
                if not stream.left:
                    self.running.pop(stream, None)
            await asyncio.sleep(0)
            while any(not stream.queue.empty() for stream in self.running):  # noqa: ASYNC110
                await asyncio.sleep(0)

    def stats(self) -> Any:
        from minivault.engine.engine import EngineStats

        return EngineStats(running=len(self.running), waiting=0, kv_cache_usage=0.0)

    async def close(self) -> None:
        self.running.clear()


def serve(pipe: Connection, folder: str) -> None:
    """The server's process: says where it listens, then for each word its CPU seconds."""
    import uvicorn
    from tests.fakes import FakeModel, FakeModels, TurnTemplate

    from minivault.api.app import create_app
    from minivault.service import Service
    from minivault.settings import Settings
    from minivault.telemetry.logging import configure_logging
    from minivault.vault.ledger import Ledger
    from minivault.vault.reader import Reader

    configure_logging("warning", "json")
    path = Path(folder) / "vault.db"
    ledger = Ledger.open(path, mirror_dir=None)
    service = Service(FakeModels(FakeModel(SteppedEngine(), chat_template=TurnTemplate())), ledger, Reader.open(path))
    app = create_app(Settings(rate_limit="", data_dir=Path(folder)), service=service)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, loop="uvloop", http="httptools", ws="none")
    )

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def answer() -> None:
            if pipe.recv() == "end":
                server.should_exit = True
                return
            used = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send((used.ru_utime, used.ru_stime))

        loop.add_reader(pipe.fileno(), answer)
        pipe.send(listener.getsockname()[1])
        await server.serve(sockets=[listener])

    import uvloop

    uvloop.run(run())
    os._exit(0)


async def ask(port: int, path: str, body: dict[str, Any], streams: int) -> int:
    """Read all streams to their ends; the bytes that came."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        count = 0
        while part := await reader.read(1 << 16):
            if not count and not part.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{path}: {part[:400]!r}")
            count += len(part)
        writer.close()
        return count

    return sum(await asyncio.gather(*(one() for _ in range(streams))))


def _round(server: Connection, port: int, path: str, body: dict[str, Any], streams: int) -> tuple[float, float, float]:
    """CPU seconds of the server's process, those in user mode, and seconds of the clock."""
    server.send("cpu")
    before, began = server.recv(), time.perf_counter()
    asyncio.run(ask(port, path, body, streams))
    server.send("cpu")
    after, took = server.recv(), time.perf_counter() - began
    user, system = after[0] - before[0], after[1] - before[1]
    return user + system, user, took


def measure(streams: int, tokens: int, rounds: int) -> list[dict[str, Any]]:
    """CPU microseconds a token of each surface: the least of the rounds, since other work can only add to it."""
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, folder), daemon=True)
        process.start()
        port = ours.recv()
        found = []
        for name, (path, asked) in SURFACES.items():
            limit = LIMITS.get(path, lambda tokens: {"max_tokens": tokens})(tokens)
            if path == "/v1/responses":
                limit = {"max_output_tokens": tokens}
            best = min(_round(ours, port, path, asked | limit, streams) for _ in range(rounds + 1))
            count = streams * tokens
            found.append(
                {
                    "surface": name,
                    "us_per_token": round(best[0] / count * 1e6, 1),
                    "user_us": round(best[1] / count * 1e6, 1),
                    "tokens_per_second": round(count / best[2]),
                }
            )
        ours.send("end")
        process.join(10)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    rows = measure(chosen.streams, chosen.tokens, chosen.rounds)
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'surface':<22}{'us a token':>12}{'of it user':>12}{'tokens/s':>12}")
    for row in rows:
        print(f"{row['surface']:<22}{row['us_per_token']:>12}{row['user_us']:>12}{row['tokens_per_second']:>12}")


if __name__ == "__main__":
    main()
