"""Measures OpenVINO GenAI's continuous batching. Runs in that peer's environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import openvino  # type: ignore[import-not-found,unused-ignore]
import openvino_genai  # type: ignore[import-not-found,unused-ignore]
from bench.workload import Arrivals, Task, main


class OpenVino:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._ids = count()

    @classmethod
    def load(cls, task: Task) -> OpenVino:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 2  # GiB
        scheduler.max_num_seqs = 64
        scheduler.max_num_batched_tokens = int(task.option("batched_tokens", "2048"))
        scheduler.enable_prefix_caching = False
        scheduler.dynamic_split_fuse = task.option("split_fuse", "yes") == "yes"
        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": task.threads, "PERFORMANCE_HINT": "LATENCY"}
        if task.option("dynamic_quantisation"):
            properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = int(task.option("dynamic_quantisation"))
        if task.option("kv_precision"):
            properties["KV_CACHE_PRECISION"] = task.option("kv_precision")
        return cls(openvino_genai.ContinuousBatchingPipeline(task.checkpoint, scheduler, "CPU", properties))

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        handles = []
        for prompt in prompts:
            ids = openvino.Tensor(np.array([prompt], dtype=np.int64))
            handles.append(self._pipeline.add_request(next(self._ids), ids, config))
        arrivals: list[list[float]] = [[] for _ in prompts]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            when = time.perf_counter()
            for handle, times in zip(handles, arrivals, strict=True):
                while handle.can_read():
                    for output in handle.read().values():
                        times += [when] * len(output.generated_ids)
        return arrivals

    def facts(self) -> dict[str, Any]:
        return {"version": openvino_genai.__version__}

    def close(self) -> None:
        del self._pipeline


if __name__ == "__main__":
    main(OpenVino.load)
