"""Measures MiniVault through HTTP: a real ``minivault serve`` with its vault on, asked for Server-Sent Events.

The client is a few lines around a socket, for it runs on the same cores as the server and must not cost much. Each
event is one token: the tokens of :mod:`bench.shapes` are whole characters but for the 128 bytes above ASCII, whose text
comes with a later token; such a token counts when the stream ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.workload import Arrivals, Task, main, peak_memory, prompt_text

_LISTENS = re.compile(r"listens on http://([\d.]+):(\d+)")
READY_SECONDS = 120


class OursOverHttp:
    def __init__(self, process: subprocess.Popen[bytes], host: str, port: int) -> None:
        self._process = process
        self._host = host
        self._port = port
        self._loop = asyncio.new_event_loop()

    @classmethod
    def load(cls, task: Task) -> OursOverHttp:
        """``checkpoint`` is a data directory that :func:`import_model` made; its vault is made anew.

        What remains is the model, and its packed weights from the second start on.
        """
        data_dir = Path(task.checkpoint)
        for path in data_dir.iterdir():
            if path.is_file():
                path.unlink()
        shutil.rmtree(data_dir / "logs", ignore_errors=True)
        log = data_dir.parent / f"{data_dir.name}.log"
        flags = {"--port": "0", "--data-dir": str(data_dir), "--model": "bench", "--rate-limit": ""}
        flags |= {"--threads": str(task.threads), "--kv-cache-memory": str(1 << 30), "--log-level": "info"}
        flags |= {"--precision": task.option("precision", "int8")}
        speculation = "--speculation" if task.option("speculation") == "yes" else "--no-speculation"
        given = [part for flag in flags.items() for part in flag]
        command = [sys.executable, "-m", "minivault.cli.main", "serve", speculation, *given]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
        try:
            found = _wait_for_address(process, log)
            backend = cls(process, found[1], int(found[2]))
            backend.wait_until_ready()
        except BaseException:
            process.kill()
            process.wait()
            raise
        return backend

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while b" 200 " not in self._loop.run_until_complete(self._ask(b"GET /readyz HTTP/1.1", b""))[:16]:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("the server did not get ready")
            time.sleep(0.02)

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        return self._loop.run_until_complete(self._all(prompts, new_tokens))

    async def _all(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        return await asyncio.gather(*(self._one(prompt, new_tokens) for prompt in prompts))

    async def _one(self, prompt: Sequence[int], new_tokens: int) -> list[float]:
        request = {"prompt": prompt_text(prompt), "raw": True, "max_tokens": new_tokens, "temperature": 0.0}
        body = json.dumps(request | {"ignore_eos": True, "stream": True, "seed": 0}).encode()
        times: list[float] = []
        answer = await self._ask(b"POST /generate HTTP/1.1\r\nContent-Type: application/json", body, times)
        usage = re.search(rb'"prompt_tokens": ?(\d+), ?"completion_tokens": ?(\d+)', answer)
        if usage is None or (int(usage[1]), int(usage[2])) != (len(prompt), new_tokens):
            raise RuntimeError(f"the server answered {answer[:400]!r}")
        return (times + times[-1:] * new_tokens)[:new_tokens]

    async def _ask(self, head: bytes, body: bytes, times: list[float] | None = None) -> bytes:
        """The whole answer; ``times`` gets one entry for each event that carries a token."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        rest = b"Host: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        writer.write(head + b"\r\n" + rest)
        answer = bytearray()
        while piece := await reader.read(1 << 16):
            answer += piece
            if times is not None:
                tokens = answer.count(b'data: {"token": "') - answer.count(b'data: {"token": ""')
                times += [time.perf_counter()] * (tokens - len(times))
        writer.close()
        await writer.wait_closed()
        return bytes(answer)

    def facts(self) -> dict[str, Any]:
        return {"peak_bytes": peak_memory(str(self._process.pid))}

    def close(self) -> None:
        self._loop.close()
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(60) != 0:
            raise RuntimeError("the server did not stop cleanly")


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> re.Match[str]:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        found = _LISTENS.search(log.read_text(encoding="utf-8"))
        if found:
            return found
        time.sleep(0.02)
    raise RuntimeError(f"no server: {log.read_text(encoding='utf-8')[-2000:]}")


def import_model(folder: Path, data_dir: Path) -> None:
    """Make a data directory with the checkpoint of ``folder`` as its model ``bench``."""
    command = [sys.executable, "-m", "minivault.cli.main", "models", "import", str(folder), "--name", "bench"]
    environment = os.environ | {"MINIVAULT_DATA_DIR": str(data_dir)}
    subprocess.run(command, check=True, env=environment, capture_output=True, text=True)  # noqa: S603


if __name__ == "__main__":
    main(OursOverHttp.load)
