"""Measures vLLM's CPU build, its engine in this process. Runs in that peer's environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import vllm  # type: ignore[import-not-found,unused-ignore]
from bench.workload import Arrivals, Task, main


class Vllm:
    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._ids = count()

    @classmethod
    def load(cls, task: Task) -> Vllm:
        model = vllm.LLM(
            model=task.checkpoint, dtype=task.option("dtype", "bfloat16"), enable_prefix_caching=False,
            max_model_len=max(task.tokens_per_stream, 128) + 64, max_num_seqs=32, max_num_batched_tokens=2048,
        )  # fmt: skip
        return cls(model.llm_engine)

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        delta = vllm.sampling_params.RequestOutputKind.DELTA
        params = vllm.SamplingParams(temperature=0.0, max_tokens=new_tokens, ignore_eos=True, output_kind=delta)
        arrivals: dict[str, list[float]] = {}
        for prompt in prompts:
            name = str(next(self._ids))
            arrivals[name] = []
            self._engine.add_request(name, {"prompt_token_ids": list(prompt)}, params)
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            when = time.perf_counter()
            for output in outputs:
                arrivals[output.request_id] += [when] * len(output.outputs[0].token_ids)
        return list(arrivals.values())

    def facts(self) -> dict[str, Any]:
        return {"version": vllm.__version__}

    def close(self) -> None:
        del self._engine


if __name__ == "__main__":
    main(Vllm.load)
