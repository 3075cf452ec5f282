"""The law where everything comes together: a base and its adapters, answers held to forms, drawn tokens with their
log-probabilities, mates that are cancelled; on one engine at once, against each alone by the scalar kernels.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from minivault.engine.engine import Engine, EngineRequest
from minivault.engine.native import _native
from minivault.engine.native.adapter import adapted
from minivault.engine.native.grammar import GrammarKind
from minivault.engine.native.packing import Precision, core_spec
from minivault.engine.native.runner import RunnerOptions
from minivault.generation import FinishReason, SamplingParams, TokenLogprob
from minivault.models.adapter import opened_adapter
from tests.engine.checkpoints import engine, opened
from tests.engine.test_grammar import COMPILER, EOS, NAME
from tests.engine.test_law import KERNELS
from tests.oracle.adapters import ADAPTER_DATA
from tests.oracle.golden import folder_of

ADAPTERS = ("llama-all", "llama-qv")
FORMS: list[tuple[GrammarKind, str] | None] = [
    *(None, None),
    ("regex", "[a-c]{3}-[0-9]{2}"),
    ("regex", "(the )*end"),
    ("json_schema", '{"type": "array", "items": {"type": "integer"}}'),
    ("lark", 'start: ("ab" | "cd")+'),
]
Answer = tuple[list[int], list[TokenLogprob], FinishReason | None]


@dataclass(frozen=True)
class Job:
    prompt: tuple[int, ...]
    params: SamplingParams
    adapter: str
    form: tuple[GrammarKind, str] | None


def drawn(draw: random.Random) -> Job:
    length = draw.choice([1, 8, 17, 60])
    few = draw.random() < 0.5  # tokens, so that guesses about the next have something to go by
    prompt = tuple(draw.choice([7, 8, 9]) if few else draw.randrange(256) for _ in range(length))
    params = SamplingParams(
        max_tokens=draw.choice([1, 9, 30]),
        temperature=draw.choice([0.0, 0.5, 1.5]),
        top_k=draw.choice([0, 40]),
        repetition_penalty=draw.choice([1.0, 1.2]),
        logit_bias=draw.choice([(), tuple((token, 9.0) for token in (7, 8, 9))]),
        logprobs=draw.choice([None, 0, 4]),
        seed=draw.randrange(2**53),
    )
    return Job(prompt, params, draw.choice(["", *ADAPTERS]), draw.choice(FORMS))


async def run(options: RunnerOptions, jobs: list[Job], *, alone: bool, cancelled: int = 0) -> list[Answer]:
    """The answers, one after the other or at once; beside these, the first ``cancelled`` jobs again, given up early."""
    served = engine(NAME, options, prefix_cache=not alone)
    ways: dict[str, Engine] = {"": served}
    for name in ADAPTERS:
        with opened_adapter(ADAPTER_DATA / name, folder_of(NAME)) as adapter:
            ways[name], _ = adapted(served, adapter, name)

    async def one(number: int, most: int = 1000) -> Answer:
        job = jobs[number]
        form = None if job.form is None else COMPILER.compile(*job.form)
        tokens: list[int] = []
        logprobs: list[TokenLogprob] = []
        reason = None
        request = EngineRequest(str(number), job.prompt, job.params, EOS, constraint=form)
        stream = ways[job.adapter].submit(request)
        async for step in stream:
            assert step.error is None
            tokens.extend(step.token_ids)
            logprobs.extend(step.logprobs)
            reason = step.finish_reason
            if len(tokens) >= most:
                stream.cancel()
        return tokens, logprobs, reason

    try:
        if alone:
            return [await one(number) for number in range(len(jobs))]
        given_up = [one(number, most=2) for number in range(cancelled)]
        answers = await asyncio.gather(*(one(number) for number in range(len(jobs))), *given_up)
        return list(answers[: len(jobs)])
    finally:
        await served.close()


@pytest.mark.parametrize("precision", ["int8", "int4", "f32"])
@pytest.mark.parametrize("seed", range(4))
async def test_forms_adapters_and_mates_that_leave_change_nothing(precision: Precision, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - test data
    jobs = [drawn(draw) for _ in range(7)]
    jobs += [Job(jobs[0].prompt, jobs[0].params, name, jobs[0].form) for name in ("", *ADAPTERS)]
    expected = await run(RunnerOptions(precision, 1, "scalar", speculation=False), jobs, alone=True)
    memory = draw.choice([14, 400]) * _native.block_bytes(core_spec(opened(NAME)[0], precision))
    options = RunnerOptions(
        precision,
        draw.choice([1, 2, 3]),
        draw.choice(KERNELS),
        kv_cache_memory=memory,
        max_batch_tokens=draw.choice([16, 64, 512]),
        speculation=True,
    )
    assert await run(options, jobs, alone=False, cancelled=3) == expected
