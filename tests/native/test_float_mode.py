"""A library may leave its thread in another mode of floating point: no bit of a vector depends on that."""

from __future__ import annotations

import ctypes
import platform
import sys
import threading

import pytest

from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.engine.native.sequence import BatchItem, Sequence
from minivault.generation import SamplingParams
from tests.engine.checkpoints import opened

UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}
PROMPT = list(range(3, 40))


def vector(kind: str) -> bytes | None:
    """Loaded, run and pooled on this thread."""
    runner = NativeRunner.load(*opened("llama-gqa"), RunnerOptions("f32", 2, kv_cache_memory=1 << 22))
    sampling = SamplingParams(max_tokens=1, temperature=0.0, seed=0)
    sequence = Sequence(0, PROMPT, sampling, pooling=kind, block_table=list(range(8)))
    runner.step([BatchItem(sequence, 0, len(PROMPT), True)])
    runner.close()
    return sequence.vector


@pytest.mark.skipif(sys.platform != "linux", reason="sets the mode through glibc")
@pytest.mark.parametrize("kind", ["mean", "last"])
def test_a_thread_that_rounds_upward_gives_the_same_bits(kind: str) -> None:
    expected = vector(kind)
    found: list[bytes | None] = []

    def rounding_upward() -> None:
        assert ctypes.CDLL("libm.so.6").fesetround(UPWARD[platform.machine()]) == 0
        found.append(vector(kind))

    thread = threading.Thread(target=rounding_upward)
    thread.start()
    thread.join()
    assert expected is not None
    assert found == [expected]
