"""Measures llama.cpp's server as the ``xllamacpp`` wheel has it. Runs in that peer's environment.

Each stream is a thread that calls the server's completion handler, which streams token by token; no HTTP is in between.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import xllamacpp  # type: ignore[import-not-found,unused-ignore]
from bench.workload import Arrivals, Task, main


class XLlamaCpp:
    def __init__(self, server: Any) -> None:
        self._server = server

    @classmethod
    def load(cls, task: Task) -> XLlamaCpp:
        params = xllamacpp.CommonParams()
        params.model.path = task.checkpoint
        params.n_parallel = task.streams
        params.n_ctx = task.streams * (max(task.tokens_per_stream, 128) + 64)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = task.threads
        params.fit_params = False
        params.cache_ram_mib = 0
        params.ui = False
        params.verbosity = 0
        if task.option("ubatch"):
            params.n_ubatch = int(task.option("ubatch"))
        if task.option("poll"):
            params.cpuparams.poll = params.cpuparams_batch.poll = int(task.option("poll"))
        params.kv_unified = task.option("kv_unified") == "yes"
        if task.option("flash_attention"):
            kind = xllamacpp.llama_flash_attn_type
            on = task.option("flash_attention") == "yes"
            params.flash_attn_type = kind.LLAMA_FLASH_ATTN_TYPE_ENABLED if on else kind.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return cls(xllamacpp.Server(params))

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        arrivals: list[list[float]] = [[] for _ in prompts]
        faults: list[Any] = []

        def one(index: int) -> None:
            def taken(piece: str) -> None:
                when = time.perf_counter()
                choices = json.loads(piece).get("choices")
                if not choices:
                    faults.append(piece)
                elif choices[0]["finish_reason"] is None:
                    arrivals[index].append(when)

            body = {
                "prompt": list(prompts[index]), "max_tokens": new_tokens, "ignore_eos": True, "temperature": 0.0,
                "samplers": ["top_k"], "top_k": 1, "cache_prompt": False, "stream": True, "id_slot": index,
            }  # fmt: skip
            self._server.handle_completions(json.dumps(body), taken)

        threads = [threading.Thread(target=one, args=(index,)) for index in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise RuntimeError(f"the server answered {faults[0]}")
        return arrivals

    def facts(self) -> dict[str, Any]:
        return {"system": xllamacpp.get_system_info(), "build": xllamacpp.BUILD_INFO}

    def close(self) -> None:
        del self._server


if __name__ == "__main__":
    main(XLlamaCpp.load)
