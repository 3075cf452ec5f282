"""Measures plain Transformers on PyTorch: one batch, one forward pass a step. Runs in that peer's environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch  # type: ignore[import-not-found,unused-ignore]
import transformers  # type: ignore[import-not-found,unused-ignore]
from bench.workload import Arrivals, Task, main


class Transformers:
    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, task: Task) -> Transformers:
        torch.set_num_threads(task.threads)
        dtype = getattr(torch, task.option("dtype", "bfloat16"))
        return cls(transformers.AutoModelForCausalLM.from_pretrained(task.checkpoint, dtype=dtype).eval())

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        times = []
        with torch.inference_mode():
            tokens, past = torch.tensor(prompts), None
            for _ in range(new_tokens):
                output = self._model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
                past, tokens = output.past_key_values, output.logits[:, -1:].argmax(-1)
                times.append(time.perf_counter())
        return [times] * len(prompts)

    def facts(self) -> dict[str, Any]:
        return {"version": transformers.__version__, "torch": torch.__version__}

    def close(self) -> None:
        del self._model


if __name__ == "__main__":
    main(Transformers.load)
