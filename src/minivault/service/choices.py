"""Several answers to one request: each a call of its own in the vault, run together and read as one.

Choice ``i`` has the id of the request and ``.i`` (the first has the id alone), and where the request has a seed, that
seed plus ``i``: so it is the answer that the request with that seed would get alone. The body that asked for all of
them is kept once, with the first. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from minivault.generation import Chunk, Completion, GenerationRequest
from minivault.service.walk import Generation

SEEDS = 2**63


def spread(request: GenerationRequest, count: int, first: int = 0) -> list[GenerationRequest]:
    """``count`` choices of one request, numbered from ``first``. The request must have its id."""
    return [_choice_of(request, first + place, place) for place in range(count)]


def _choice_of(request: GenerationRequest, choice: int, place: int) -> GenerationRequest:
    if choice == 0:
        return request
    seed = request.sampling.seed
    seed = None if seed is None else (seed + place) % SEEDS
    sampling = replace(request.sampling, seed=seed)
    request_id = f"{request.request_id}.{choice}"
    return replace(request, sampling=sampling, choice=choice, request_id=request_id, raw_request=b"")


class Choices:
    """Open generations as one. Iterate :meth:`chunks` or await :meth:`result` once, and :meth:`close` in any case."""

    def __init__(self, generations: Sequence[Generation]) -> None:
        self.generations = tuple(generations)

    async def result(self) -> tuple[Completion, ...]:
        """Run all to their ends. Raises what :meth:`Generation.result` raises, and then the others are abandoned."""
        if len(self.generations) == 1:
            return (await self.generations[0].result(),)
        running = [asyncio.ensure_future(generation.result()) for generation in self.generations]
        try:
            return tuple(await asyncio.gather(*running))
        except BaseException:
            self.abandon()
            await asyncio.gather(*running, return_exceptions=True)
            raise

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """The pieces of all as they come; of each, the last has its completion. Raises as :meth:`result`.

        When the reader leaves, each choice but the one being read may have counted one piece more as sent.
        """
        if len(self.generations) == 1:
            async with aclosing(self.generations[0].chunks()) as only:
                async for piece in only:
                    yield piece
            return
        sources = [generation.chunks() for generation in self.generations]
        pending = {asyncio.ensure_future(_next(source)): source for source in sources}
        try:
            while pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in pending if task in done]:  # in the order of the choices
                    source = pending.pop(task)
                    chunk = task.result()
                    if chunk is None:
                        continue
                    yield chunk
                    pending[asyncio.ensure_future(_next(source))] = source
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for source in sources:
                await source.aclose()

    def abandon(self) -> None:
        """The caller is gone: see :meth:`Generation.abandon`."""
        for generation in self.generations:
            generation.abandon()

    def close(self) -> None:
        """See :meth:`Generation.close`."""
        for generation in self.generations:
            generation.close()


async def _next(source: AsyncGenerator[Chunk]) -> Chunk | None:
    return await anext(source, None)
