"""Measures MiniVault's native engine in process, through the same ``submit`` that the server calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from bench.workload import Arrivals, Task, main

from minivault.engine.engine import Engine, EngineRequest
from minivault.engine.native.load import load_native_engine
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import RunnerOptions
from minivault.generation import SamplingParams
from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.json_file import read_json_object
from minivault.models.weights import weight_map

KV_BYTES = 1 << 30
PACKED = Path("build/bench/packed")


class Ours:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.new_event_loop()

    @classmethod
    def load(cls, task: Task) -> Ours:
        folder = Path(task.checkpoint)
        architecture = read_architecture(read_json_object(folder / "config.json"))
        precision = cast("Precision", task.option("precision", "int8"))
        options = RunnerOptions(
            precision=precision,
            threads=task.threads,
            kv_cache_memory=KV_BYTES,
            speculation=task.option("speculation") == "yes",
        )
        written = (folder / "model.safetensors").stat()
        digest = f"{folder.name} {written.st_size} {written.st_mtime_ns}"  # the catalog has a real one at hand
        with Checkpoint.open(folder) as checkpoint:
            weights = weight_map(architecture, checkpoint)
            engine = load_native_engine(architecture, weights, options, weights_digest=digest, packed_dir=PACKED)
        return cls(engine)

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        return self._loop.run_until_complete(self._all(prompts, new_tokens))

    async def _all(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        return await asyncio.gather(*(self._one(prompt, new_tokens) for prompt in prompts))

    async def _one(self, prompt: Sequence[int], new_tokens: int) -> list[float]:
        sampling = SamplingParams(
            max_tokens=new_tokens, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0,
            repetition_penalty=1.0, ignore_eos=True, seed=0,
        )  # fmt: skip
        times: list[float] = []
        async for step in self._engine.submit(EngineRequest("bench", tuple(prompt), sampling)):
            times += [time.perf_counter()] * len(step.token_ids)
        return times

    def facts(self) -> dict[str, Any]:
        info = self._engine.info
        return {"kernels": info.kernels, "arithmetic": info.arithmetic, "version": info.build}

    def close(self) -> None:
        self._loop.run_until_complete(self._engine.close())
        self._loop.close()


if __name__ == "__main__":
    main(Ours.load)
