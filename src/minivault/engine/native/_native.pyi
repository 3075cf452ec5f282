"""Types of the C++ core; see ``native/bindings.cpp``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZE: int

def available_kernels() -> list[str]: ...
def block_bytes(spec: dict[str, Any], /) -> int: ...
def philox_uniform(seed: int, position: int) -> float: ...

class Sampled:
    @property
    def token(self) -> int: ...
    @property
    def finite(self) -> bool: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top(self) -> list[tuple[int, float]]: ...

class SequenceState:
    blocks: list[int]
    @staticmethod
    def make(
        *,
        prompt: list[int],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        typical_p: float = 1.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        seed: int = 0,
        min_tokens: int = 0,
        logprobs: int = -1,
        logit_bias: list[tuple[int, float]] = ...,
        end_ids: list[int] = ...,
    ) -> SequenceState: ...
    @property
    def generated(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    def accept(self, token: int) -> None: ...
    def sync_blocks(self, table: list[int]) -> None: ...
    def allow(self, mask: bytes) -> None: ...

_Source = tuple[NDArray[np.uint8], str, bool, int, int, int, NDArray[np.float32] | None]

class Core:
    def __init__(self, spec: dict[str, Any], kernels: str, threads: int) -> None: ...
    def set_table(self, name: str, data: NDArray[np.uint8], dtype: str, rows: int, columns: int) -> None: ...
    def set_norm(
        self, layer: int, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None
    ) -> None: ...
    def set_linear(
        self,
        layer: int,
        name: str,
        sources: list[_Source],
        inputs: int,
        outputs: int,
        input_scales: NDArray[np.float32] | None,
    ) -> None: ...
    def column_maxima(self, sources: list[_Source], inputs: int) -> NDArray[np.float32]: ...
    def save_packed(self, path: str, key: bytes) -> bool: ...
    def load_packed(self, path: str, key: bytes) -> bool: ...
    def finish(self, blocks: int, max_rows: int) -> None: ...
    def step(
        self,
        states: list[SequenceState],
        tokens: list[list[int]],
        starts: list[int],
        sample: list[bool],
        drafted: list[int],
    ) -> list[list[Sampled]]: ...
    def forward(
        self, states: list[SequenceState], tokens: list[list[int]], starts: list[int]
    ) -> NDArray[np.float32]: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def cache_bytes(self) -> int: ...
    @property
    def kernels(self) -> str: ...
    @property
    def threads(self) -> int: ...
