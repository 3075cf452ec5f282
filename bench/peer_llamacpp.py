"""Measures llama.cpp as ``llama-cpp-python`` builds it for this machine. Runs in that peer's environment.

Calls ``llama_decode`` as its own batched benchmark does: one batch for all prompts, then one token a sequence a step;
the likeliest token is taken outside. No server is in between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import llama_cpp  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from bench.workload import Arrivals, Task, main

BATCH = 2048


class LlamaCpp:
    def __init__(self, model: Any, context: Any) -> None:
        self._model = model
        self._context = context
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    @classmethod
    def load(cls, task: Task) -> LlamaCpp:
        llama_cpp.llama_log_set(_silent, None)
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        model = llama_cpp.llama_model_load_from_file(task.checkpoint.encode(), options)
        if not model:
            raise RuntimeError("the model could not be loaded")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = task.streams * (max(task.tokens_per_stream, 128) + 64)
        params.n_seq_max = task.streams
        params.n_batch, params.n_ubatch = BATCH, int(task.option("ubatch", "512"))
        params.n_threads = params.n_threads_batch = task.threads
        params.kv_unified = task.option("kv_unified") == "yes"
        context = llama_cpp.llama_init_from_model(model, params)
        if not context:
            raise RuntimeError("no context could be made")
        return cls(model, context)

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        tokens, arrivals = self._prefill(prompts)
        for step in range(new_tokens - 1):
            entries = [(token, len(prompts[0]) + step, index, True) for index, token in enumerate(tokens)]
            tokens = self._decode(entries)
            when = time.perf_counter()
            for times in arrivals:
                times.append(when)
        return arrivals

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[list[int], list[list[float]]]:
        tokens, arrivals = [], []
        together = max(1, BATCH // len(prompts[0]))
        for first in range(0, len(prompts), together):
            entries = [
                (token, position, index, position == len(prompts[index]) - 1)
                for index in range(first, min(first + together, len(prompts)))
                for position, token in enumerate(prompts[index])
            ]
            found = self._decode(entries)
            when = time.perf_counter()
            tokens += found
            arrivals += [[when] for _ in found]
        return tokens, arrivals

    def _decode(self, entries: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Entries are token, position, sequence and whether its logits are wanted; the likeliest tokens, in order."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for place, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[place] = token
            batch.pos[place] = position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = wanted
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        rows = [place for place, entry in enumerate(entries) if entry[3]]
        return [int(np.argmax(self._logits(place))) for place in rows]

    def _logits(self, place: int) -> Any:
        row = llama_cpp.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(row, shape=(self._vocab_size,))

    def facts(self) -> dict[str, Any]:
        return {"system": llama_cpp.llama_print_system_info().decode(), "version": llama_cpp.__version__}

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, data: Any) -> None:
    """Its log would drown the result. Stays alive as long as the library may call it: to the end."""


if __name__ == "__main__":
    main(LlamaCpp.load)
