"""The same work for all, and speed told rightly from when tokens came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from bench.shapes import SHAPES, weight_bytes
from bench.workload import (
    Arrivals,
    Task,
    decode_rate,
    make_prompts,
    measure,
    overall_rate,
    prompt_text,
    read_result,
)

TASK = Task(
    "somewhere", "decode", streams=3, prompt_tokens=64, new_tokens=8, threads=2, options=(("precision", "int8"),)
)


class Scripted:
    """Gives ``tokens`` tokens a stream, whatever is asked; keeps what was asked."""

    def __init__(self, tokens: int | None = None) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self.closed = False
        self._tokens = tokens

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        self.asked.append((len(prompts), len(prompts[0]), new_tokens))
        return [[1e9 + step for step in range(self._tokens or new_tokens)] for _ in prompts]

    def facts(self) -> dict[str, Any]:
        return {"kernels": "none"}

    def close(self) -> None:
        self.closed = True


def test_a_task_survives_its_journey_to_another_process() -> None:
    assert Task.from_json(TASK.to_json()) == TASK


def test_prompts_are_the_same_each_time_and_have_no_common_beginning() -> None:
    prompts = make_prompts(32, 64, seed=1)
    assert prompts == make_prompts(32, 64, seed=1)
    assert len({tuple(prompt[:8]) for prompt in prompts}) == 32


def test_a_prompt_as_text_has_one_letter_a_token() -> None:
    (prompt,) = make_prompts(1, 500, seed=1)
    text = prompt_text(prompt)
    assert len(text) == 500
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text


def test_streams_in_step_add_up() -> None:
    assert decode_rate([[float(step) for step in range(9)]] * 4) == pytest.approx(4.0)


def test_only_the_time_in_which_all_streams_decode_counts() -> None:
    early = [0.0, 0.1, 0.2, 0.3, 4.0, 5.0, 6.0, 7.0]
    late = [4.0, 5.0, 6.0, 7.0, 7.1, 7.2, 7.3, 7.4]
    assert decode_rate([early, late]) == pytest.approx(2.0)


def test_tokens_of_one_step_that_come_one_after_the_other_are_not_counted_twice() -> None:
    arrivals = [[step + 0.01 * stream for step in range(17)] for stream in range(32)]
    assert decode_rate(arrivals) == pytest.approx(32.0, rel=0.001)


def test_streams_that_never_decode_together_have_no_decode_rate() -> None:
    assert decode_rate([[0.0, 1.0, 2.0, 3.0], [9.0, 10.0, 11.0, 12.0]]) is None


def test_the_overall_rate_counts_the_prompts_too() -> None:
    assert overall_rate(10.0, [[14.0, 15.0], [15.0, 20.0]]) == pytest.approx(0.4)


def test_a_measurement_starts_and_warms_up_before_it_measures() -> None:
    backend = Scripted()
    result = measure(TASK, lambda task: backend)
    assert backend.asked == [(1, 64, 1), (3, 16, 4), (3, 64, 8)]
    assert backend.closed
    assert result["decode"] == pytest.approx(3.0)
    assert result["kernels"] == "none"
    assert result["first_token_seconds"] > 0
    assert result["peak_bytes"] > 1 << 20


def test_prefill_is_of_one_prompt_and_its_first_token() -> None:
    backend = Scripted()
    measure(replace(TASK, kind="prefill", streams=1, prompt_tokens=512), lambda task: backend)
    assert backend.asked == [(1, 64, 1), (1, 512, 1), (1, 512, 1), (1, 512, 1)]


def test_a_contender_that_gives_fewer_tokens_than_asked_is_not_measured() -> None:
    backend = Scripted(tokens=1)
    with pytest.raises(RuntimeError, match="should have given 8 tokens"):
        measure(TASK, lambda task: backend)
    assert backend.closed


def test_the_result_is_found_among_what_a_library_prints() -> None:
    assert read_result('loading\nmeasured: {"decode": 2.5}\nbye\n') == {"decode": 2.5}
    assert read_result("loading\n") is None


def test_the_weights_that_a_step_reads_are_those_of_its_matrix_products() -> None:
    assert weight_bytes(SHAPES["TinyLlama-1.1B"], 8) == 1_034_420_224
    assert weight_bytes(SHAPES["distilgpt2"], 8) == 6 * 12 * 768 * 768 + 50257 * 768


def test_a_cached_prompt_is_timed_in_decode_steps_after_it_was_answered_once() -> None:
    backend = Scripted()
    result = measure(replace(TASK, kind="cached", streams=1, prompt_tokens=512), lambda task: backend)
    assert backend.asked == [(1, 64, 1), (1, 512, 1), *[(1, 512, 8)] * 5]
    assert result["cached"] > 0
