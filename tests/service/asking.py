"""One caller, what it asks of a service over fakes, and what it reads."""

from __future__ import annotations

from typing import Any

from minivault.access.caller import Caller
from minivault.generation import Chunk, GenerationRequest, SamplingParams
from minivault.service import Generation
from tests.fakes import Bench

CALLER = Caller("10.0.0.1")
TIMEOUTS = (0.05, 0.5, 5.0, 50.0)
"""Seconds. A test of a timeout takes the first in which this machine comes to where the answer is held."""


def ask(prompt: str = "hi", *, stream: bool = False, **fields: Any) -> GenerationRequest:
    sampling = fields.pop("sampling", SamplingParams(seed=7))
    return GenerationRequest(prompt=prompt, stream=stream, sampling=sampling, **fields)


async def collect(bench: Bench, request: GenerationRequest) -> list[Chunk]:
    return [chunk async for chunk in bench.service.stream(request, CALLER)]


async def held(bench: Bench, sent: int, *, stream: bool = True) -> tuple[Generation, Any]:
    """A generation that waits in the engine after ``sent`` steps, and its chunks, of which so many were read."""
    bench.engine.hold_after = sent
    generation = await bench.service.open(ask(stream=stream), CALLER)
    chunks = generation.chunks()
    return generation, chunks
