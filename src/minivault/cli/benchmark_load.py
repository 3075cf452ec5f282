"""Asks an OpenAI-compatible server for many streamed answers at once, and keeps when each piece came.

Works against any server that has ``POST /v1/chat/completions`` with streams. Knows nothing of the terminal.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

import httpx2

from minivault.cli.console import CliError, program

WORDS = (
    *("time", "way", "year", "work", "day", "world", "life", "part", "house", "place", "week", "case", "point"),
    *("water", "room", "fact", "month", "lot", "study", "book"),
)
"""Common words, most of them one token to most tokenizers."""

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for. ``requests`` answers in all, or as many as end within ``seconds``."""

    url: str
    """Up to and without ``/chat/completions``."""
    model: str
    prompts: Sequence[str]
    """Taken in turn."""
    concurrency: int
    requests: int
    seconds: float | None
    max_tokens: int
    extra: Mapping[str, Any]
    """More fields of the body."""
    api_key: str | None = None


@dataclass(slots=True)
class Answer:
    """One request. Times are of ``time.perf_counter``."""

    begun: float
    pieces: list[float] = field(default_factory=list)
    """When each piece of text came."""
    ended: float = math.nan
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """By the server's own usage; where it tells none, the pieces."""
    error: str = ""

    @property
    def first(self) -> float:
        return self.pieces[0] - self.begun

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.pieces)]


def make_prompts(count: int, words: int, seed: int) -> list[str]:
    """Different prompts of so many words, the same for the same seed."""
    drawn = random.Random(seed)  # noqa: S311 - not a secret
    return [" ".join(drawn.choices(WORDS, k=words)) for _ in range(count)]


def first_model(url: str, api_key: str | None) -> str:
    """The first model that a server lists; MiniVault lists its default first.

    Raises:
        CliError: it lists none.
    """
    try:
        answer = httpx2.get(f"{url}/models", headers=_headers(api_key), timeout=10.0, trust_env=False)
        answer.raise_for_status()
        return str(answer.json()["data"][0]["id"])
    except httpx2.HTTPStatusError as error:
        raise CliError(
            f"The server answered {error.response.status_code} when it was asked for its models; "
            "name one with --model, and give a key with MINIVAULT_API_KEY if it wants one."
        ) from None
    except (httpx2.HTTPError, httpx2.InvalidURL):
        raise CliError(f"No server answers at {url}. Start one with: {program()} serve") from None
    except (ValueError, LookupError, TypeError):
        raise CliError("The server does not say which models it has; name one with --model.") from None


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def run(load: Load, answered: Callable[[int], object]) -> tuple[list[Answer], float]:
    """All answers and the seconds they took; ``answered`` is called with the number so far."""
    return asyncio.run(_run(load, answered))


async def _run(load: Load, answered: Callable[[int], object]) -> tuple[list[Answer], float]:
    limits = httpx2.Limits(max_connections=load.concurrency, max_keepalive_connections=load.concurrency)
    headers = _headers(load.api_key)
    answers: list[Answer] = []
    begun = time.perf_counter()
    until = math.inf if load.seconds is None else begun + load.seconds
    numbers = iter(range(load.requests)) if load.seconds is None else count()

    async def worker(client: httpx2.AsyncClient) -> None:
        for number in numbers:
            if time.perf_counter() >= until:
                return
            answers.append(await ask(client, load, load.prompts[number % len(load.prompts)]))
            answered(len(answers))

    timeout = httpx2.Timeout(connect=10, read=600, write=30, pool=None)
    async with httpx2.AsyncClient(headers=headers, limits=limits, timeout=timeout, trust_env=False) as client:
        await asyncio.gather(*(worker(client) for _ in range(load.concurrency)))
    return answers, time.perf_counter() - begun


async def ask(client: httpx2.AsyncClient, load: Load, prompt: str) -> Answer:
    """One answer; what goes wrong is told in it."""
    body = {
        "model": load.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": load.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **load.extra,
    }
    answer = Answer(time.perf_counter())
    try:
        async with client.stream("POST", f"{load.url}/chat/completions", json=body) as response:
            if response.is_error:
                await response.aread()
                answer.error = f"status {response.status_code}"
            else:
                await _read(response, answer)
    except httpx2.HTTPError as error:
        answer.error = type(error).__name__
    answer.ended = time.perf_counter()
    if not answer.error and not answer.pieces and not answer.completion_tokens:
        answer.error = "an empty answer"
    return answer


async def _read(response: httpx2.Response, answer: Answer) -> None:
    async for data in _events(response):
        if data == b"[DONE]":
            break
        try:
            event = json.loads(data)
        except ValueError:
            answer.error = "an event that is not JSON"
            return
        if event.get("error"):
            answer.error = "broken off by the server"
            return
        _take(event, answer)
    answer.completion_tokens = answer.completion_tokens or len(answer.pieces)


def _take(event: Mapping[str, Any], answer: Answer) -> None:
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content") or delta.get("reasoning_content"):
            answer.pieces.append(time.perf_counter())
    if usage := event.get("usage"):
        answer.prompt_tokens = usage.get("prompt_tokens") or 0
        answer.completion_tokens = usage.get("completion_tokens") or 0


async def _events(response: httpx2.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def summary(answers: Sequence[Answer], seconds: float, concurrency: int) -> dict[str, Any]:
    """The figures of one run: seconds as such, rates per second."""
    good = [answer for answer in answers if not answer.error]
    tokens = sum(answer.completion_tokens for answer in good)
    return {
        "concurrency": concurrency,
        "requests": len(answers),
        "failed": len(answers) - len(good),
        "errors": dict(_counted(answer.error for answer in answers if answer.error)),
        "seconds": seconds,
        "prompt_tokens": sum(answer.prompt_tokens for answer in good),
        "completion_tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "requests_per_second": len(good) / seconds,
        "time_to_first_token": quantiles([answer.first for answer in good if answer.pieces]),
        "inter_token_latency": quantiles([gap for answer in good for gap in answer.gaps]),
        "request_latency": quantiles([answer.ended - answer.begun for answer in good]),
    }


def _counted(names: Iterator[str]) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return sorted(found.items())


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """``mean``, ``p50``, ``p90`` and ``p99`` (nearest rank); ``None`` without values."""
    ordered = sorted(values)
    if not ordered:
        return {"mean": None, **{f"p{quantile * 100:g}": None for quantile in QUANTILES}}
    ranks = {f"p{q * 100:g}": ordered[max(0, math.ceil(q * len(ordered)) - 1)] for q in QUANTILES}
    return {"mean": sum(ordered) / len(ordered), **ranks}
