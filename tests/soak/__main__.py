"""The soak: a server under mixed load for MINUTES, and then what it must not have left behind.

Every surface, whole and in pieces, clients that hang up, errors, models that come and go. Now and then all stop for a
moment, and memory is looked at then: what is left without work is what stays. At the end: no slot, thread or descriptor
is left, memory has stopped growing, the log of the vault's database is bounded, ``vault verify`` is content, and the
counters of ``/metrics`` equal the vault's. Run by ``make soak``; exit code 1 and the reasons when one fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

import minivault.guide
from tests.e2e.server import Server

MINUTES = float(os.environ.get("MINUTES") or 5)
WORKERS = 8
SAMPLE_SECONDS = 5.0
WARM_UP_SHARE = 0.3
QUIET_SECONDS = min(60.0, max(15.0, MINUTES))
"""Between moments without work."""
MOST_GROWTH = 0.05
"""Of resident memory without work, from the first half of what follows the warm-up to the second."""
MOST_AN_HOUR = 0.01
"""Of a line through what was seen at those moments; judged where they span half an hour."""
KV_CACHE = "32MiB"
"""Of a model: small enough to be full, and all of its memory touched, by the end of the warm-up."""
MOST_WAL_BYTES = 64 << 20
SPARE_DESCRIPTORS = 16
"""Readers of the vault and idle connections come and go."""

TURNS = [{"role": "user", "content": "Tell me about the vault."}]
LONG = {"max_tokens": 120, "ignore_eos": True}


def asks(model: str, seed: int) -> list[tuple[str, str, dict[str, Any]]]:
    """A kind, a path and a body each."""
    chat = {"model": model, "messages": TURNS, "max_tokens": 40}
    native = {"model": model, "prompt": f"What is {seed % 50} plus 30?", "seed": seed}
    return [
        ("whole", "/generate", native),
        ("stream", "/generate", native | {"stream": True}),
        ("stream", "/generate/stream", native | {"messages": TURNS} | {"prompt": None}),
        ("stream", "/generate-stream", native | {"max_tokens": 60}),
        ("whole", "/generate", native | {"response_format": {"type": "regex", "regex": "[a-z]{4}"}}),
        ("whole", "/v1/chat/completions", chat | {"n": 2}),
        ("stream", "/v1/chat/completions", chat | {"stream": True}),
        ("whole", "/v1/completions", {"model": model, "prompt": "Once", "max_tokens": 20}),
        ("whole", "/v1/responses", {"model": model, "input": "hi", "max_output_tokens": 20}),
        ("stream", "/v1/messages", chat | {"stream": True}),
        ("stream", "/api/chat", {"model": model, "messages": TURNS, "options": {"num_predict": 30}}),
        ("whole", "/api/generate", {"model": model, "prompt": "hi", "stream": False, "options": {"num_predict": 20}}),
        ("leave", "/generate/stream", native | LONG),
        ("leave", "/v1/chat/completions", chat | {"stream": True, "max_tokens": 120}),
        ("leave", "/generate", native | LONG),
        ("late", "/generate", native | LONG | {"timeout": 0.01}),
        ("wrong", "/generate", {"prompt": 5}),
        ("wrong", "/generate", {"prompt": "hi", "model": "none"}),
        ("wrong", "/v1/chat/completions", {"model": model, "messages": []}),
        ("read", "/vault/records?limit=20&query=vault", {}),
        ("read", "/vault/stats", {}),
        ("read", "/metrics", {}),
    ]


@dataclass
class Sample:
    seconds: float
    rss: int
    descriptors: int
    threads: int
    wal: int
    quiet: bool = False


@dataclass
class Soak:
    server: Server
    data: Path
    ends: float
    done: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    may_ask: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: int = 0

    async def work(self, client: httpx2.AsyncClient, worker: int) -> None:
        chance = random.Random(worker)  # noqa: S311 - repeatable on purpose
        while time.monotonic() < self.ends:
            model = "second" if chance.random() < 0.2 else "guide"
            kind, path, body = chance.choice(asks(model, chance.randrange(1000)))
            await self.may_ask.wait()
            self.at_work += 1
            try:
                status = await self._ask(client, chance, kind, path, body)
            except httpx2.TransportError as error:
                self.faults.append(f"{path}: {type(error).__name__}")
                continue
            finally:
                self.at_work -= 1
            self.done[f"{kind} {status}"] += 1
            allowed = {"wrong": (400, 404, 422), "late": (200, 504)}.get(kind, (200,))
            if status not in allowed:
                self.faults.append(f"{kind} {path}: {status}")

    async def _ask(
        self, client: httpx2.AsyncClient, chance: random.Random, kind: str, path: str, body: dict[str, Any]
    ) -> int:
        if kind == "read":
            return (await client.get(path)).status_code
        if kind != "leave":
            return (await client.post(path, json=body)).status_code
        if path == "/generate":
            asking = asyncio.ensure_future(client.post(path, json=body))
            done, _ = await asyncio.wait([asking], timeout=chance.random() * 0.3)
            if done:
                return asking.result().status_code
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return 200
        async with client.stream("POST", path, json=body) as response:
            reading = response.aiter_raw()
            for _ in range(chance.randrange(8)):
                await anext(reading, None)
            return response.status_code

    async def switch_models(self, client: httpx2.AsyncClient) -> None:
        while time.monotonic() < self.ends:
            for deed in ("load", "unload"):
                await self.may_ask.wait()
                await self._do(client, deed)
                await asyncio.sleep(1.0)

    async def _do(self, client: httpx2.AsyncClient, deed: str) -> None:
        self.at_work += 1
        answer = await client.post(f"/models/second/{deed}", json={})
        self.at_work -= 1
        self.done[f"{deed} {answer.status_code}"] += 1
        if answer.status_code not in (200, 204, 503):
            self.faults.append(f"{deed}: {answer.status_code}")

    async def rest(self, client: httpx2.AsyncClient, begun: float) -> None:
        """Now and then a moment without work and without the second model, to see what memory is left."""
        while time.monotonic() + QUIET_SECONDS < self.ends:
            await asyncio.sleep(QUIET_SECONDS)
            self.may_ask.clear()
            while self.at_work:  # noqa: ASYNC110 - a moment, once a minute
                await asyncio.sleep(0.05)
            await self._do(client, "load")
            await self._do(client, "unload")
            await self._until_idle()
            self.samples.append(replace(self.sample(time.monotonic() - begun), quiet=True))
            self.may_ask.set()

    async def watch(self, begun: float) -> None:
        while time.monotonic() < self.ends:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.samples.append(self.sample(time.monotonic() - begun))

    def sample(self, seconds: float) -> Sample:
        process = Path(f"/proc/{self.server.process.pid}")
        status = (process / "status").read_text()
        wal = self.data / "vault.db-wal"
        return Sample(
            seconds,
            int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10,  # type: ignore[index]
            len(list((process / "fd").iterdir())),
            int(re.search(r"Threads:\s+(\d+)", status)[1]),  # type: ignore[index]
            wal.stat().st_size if wal.exists() else 0,
        )

    async def run(self) -> None:
        limits = httpx2.Limits(max_connections=WORKERS + 4)
        async with httpx2.AsyncClient(base_url=self.server.url, timeout=120, limits=limits) as client:
            begun = time.monotonic()
            workers = [self.work(client, worker) for worker in range(WORKERS)]
            self.may_ask.set()
            await asyncio.gather(*workers, self.switch_models(client), self.rest(client, begun), self.watch(begun))
        await self._until_idle()
        self.samples.append(self.sample(time.monotonic() - begun))
        self._reconcile()

    async def _until_idle(self) -> None:
        async with httpx2.AsyncClient(base_url=self.server.url, timeout=30) as client:
            for _ in range(200):
                engine = (await client.get("/health")).json()["engine"]
                if engine["running"] == engine["waiting"] == 0:
                    return
                await asyncio.sleep(0.1)
        self.faults.append(f"work is left in the engine: {engine}")

    def _reconcile(self) -> None:
        """Counters are of this process, which has had the vault from its first record on."""
        text = httpx2.get(f"{self.server.url}/metrics").text
        stats = httpx2.get(f"{self.server.url}/vault/stats").json()
        print("vault:", json.dumps({key: value for key, value in stats.items() if isinstance(value, int | float)}))
        pairs = {
            "vllm:prompt_tokens_total": "prompt_tokens",
            "vllm:generation_tokens_total": "completion_tokens",
            "vllm:request_success_total": "calls",
        }
        for counter, total in pairs.items():
            counted = sum(float(value) for value in re.findall(rf"^{counter}{{[^}}]*}} (\S+)$", text, re.MULTILINE))
            print(f"{counter} {counted:.0f}, the vault's {total} {stats[total]}")
            if counted != stats[total]:
                self.faults.append(f"{counter} is {counted:.0f}, and the vault's {total} are {stats[total]}")
        if stats["open_calls"]:
            self.faults.append(f"{stats['open_calls']} calls have no outcome")

    def judge(self) -> None:
        end = self.samples[-1].seconds
        warm = [one for one in self.samples if one.seconds >= end * WARM_UP_SHARE]
        first, last = warm[0], self.samples[-1]
        self._judge_memory([one for one in warm if one.quiet])
        print(f"resident memory at most {max(one.rss for one in warm) / 2**20:.1f} MiB")
        print(f"descriptors {first.descriptors} -> {last.descriptors}, threads {first.threads} -> {last.threads}")
        print(f"largest write-ahead log {max(one.wal for one in self.samples) / (1 << 20):.1f} MiB")
        if last.descriptors > first.descriptors + SPARE_DESCRIPTORS:
            self.faults.append("descriptors leak")
        if last.threads > max(one.threads for one in warm):
            self.faults.append("threads leak")
        if max(one.wal for one in self.samples) > MOST_WAL_BYTES:
            self.faults.append("the write-ahead log is not bounded")

    def _judge_memory(self, quiet: list[Sample]) -> None:
        half = len(quiet) // 2
        before, after = (statistics.median(one.rss for one in part) for part in (quiet[:half], quiet[half:]))
        growth = after / before - 1
        sizes = [f"{bytes_ / 2**20:.1f} MiB" for bytes_ in (before, after)]
        print(f"resident memory without work: {sizes[0]}, in the second half {sizes[1]} ({growth:+.2%})")
        print("at each moment, MiB:", *(f"{one.rss / 2**20:.0f}" for one in quiet))
        if growth > MOST_GROWTH:
            self.faults.append(f"memory grew by {growth:.2%}")
        hours = [one.seconds / 3600 for one in quiet]
        if hours[-1] - hours[0] < 0.5:
            return
        line = statistics.linear_regression(hours, [one.rss for one in quiet])
        mean = statistics.fmean(one.rss for one in quiet)
        misses = [one.rss - line.intercept - line.slope * at for one, at in zip(quiet, hours, strict=True)]
        spread = statistics.pstdev(misses) / statistics.pstdev(hours) / len(quiet) ** 0.5
        print(f"a line through them: {line.slope / mean:+.2%} an hour, with a standard error of {spread / mean:.2%}")
        if line.slope - 2 * spread > MOST_AN_HOUR * mean:
            self.faults.append(f"memory grows by {line.slope / mean:.2%} an hour")


def command(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "minivault.cli.main", *words], check=False).returncode


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        guide = next(iter(minivault.guide.__path__))
        if command("models", "import", guide, "--name", "second", "--data-dir", str(data)):
            return 1
        server = Server(data, "--kv-cache-memory", KV_CACHE)
        try:
            soak = Soak(server, data, time.monotonic() + MINUTES * 60)
            asyncio.run(soak.run())
            soak.judge()
            if server.stop() != 0:
                soak.faults.append("the server did not end cleanly")
        finally:
            server.kill()
        if command("vault", "verify", "--data-dir", str(data)):
            soak.faults.append("vault verify is not content")
    print(f"{sum(soak.done.values())} requests in {MINUTES:g} minutes: {dict(sorted(soak.done.items()))}")
    for fault, times in Counter(soak.faults).items():
        print(f"FAULT ({times} times) {fault}")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
