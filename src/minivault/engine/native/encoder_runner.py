"""Runs an encoder on the C++ core: packs its weights once, then turns each batch of texts into one call.

Sees tokens and arrays; knows nothing of queues or requests. Owner: the encoder's thread, once the encoder has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minivault import __version__
from minivault.control_group import usable_cores
from minivault.engine.embedding import EmbeddingInfo
from minivault.engine.engine import EngineInfo
from minivault.engine.native import _native
from minivault.engine.native.encoder import NativeEncoder
from minivault.engine.native.encoder_packing import EncoderPacker, encoder_spec, max_tokens_of
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import RunnerOptions, choose_kernels, vector_bytes
from minivault.engine.native.turns import TURN
from minivault.models.encoder import EncoderArchitecture, EncoderWeights
from minivault.models.pooling import PoolingConfig

ENCODER_ARITHMETIC: dict[Precision, str] = {
    "int8": "encoder-int8-g32-v1",
    "f32": "encoder-f32-v1",
}
"""The arithmetic profile of each lane. A change that can change a bit of any vector must change the name."""


def encoder_lane(precision: Precision) -> Precision:
    """The lane of an encoder: such models are too small, and too easily led astray, for 4 bits."""
    return "int8" if precision == "int4" else precision


class NativeEncoderRunner:
    """The packed weights of an encoder and the threads that compute. Build it with :meth:`load`."""

    def __init__(self, core: _native.EncoderCore) -> None:
        self._core: _native.EncoderCore | None = core
        self.kernels = core.kernels
        self.threads = core.threads
        self.weight_bytes = core.weight_bytes

    @classmethod
    def load(
        cls,
        arch: EncoderArchitecture,
        weights: EncoderWeights,
        pooling: PoolingConfig,
        options: RunnerOptions | None = None,
    ) -> NativeEncoderRunner:
        """Pack the weights. Their views are not needed afterwards.

        Raises:
            ConfigError: kernels that this machine does not have.
            CheckpointCorrupt: a weight is infinite or not a number.
        """
        options = options or RunnerOptions()
        precision = encoder_lane(options.precision)
        spec = encoder_spec(arch, pooling, precision)
        core = _native.EncoderCore(spec, choose_kernels(options.kernels), options.threads or usable_cores())
        EncoderPacker(core, arch, weights, precision).pack()
        core.finish()
        return cls(core)

    def vectors(self, texts: list[list[int]]) -> NDArray[np.float32]:
        """``[texts, hidden_size]``. The GIL is free meanwhile."""
        if self._core is None:
            raise RuntimeError("The runner is closed.")
        with TURN:
            return self._core.encode(texts)

    def encode(self, texts: list[list[int]]) -> list[bytes | None]:
        """A vector for each text, as little-endian 32-bit floats; ``None`` for one that is not finite."""
        return [vector_bytes(row) for row in self.vectors(texts)]

    def close(self) -> None:
        """Free the weights and the threads."""
        self._core = None


def load_native_encoder(
    arch: EncoderArchitecture, weights: EncoderWeights, pooling: PoolingConfig, options: RunnerOptions | None = None
) -> NativeEncoder:
    """Pack ``weights`` and start the encoder's thread; blocks meanwhile. Raises what the runner's ``load`` does."""
    options = options or RunnerOptions()
    runner = NativeEncoderRunner.load(arch, weights, pooling, options)
    longest = max_tokens_of(arch, pooling)
    info = EngineInfo(
        name="native",
        build=__version__,
        arithmetic=ENCODER_ARITHMETIC[encoder_lane(options.precision)],
        exact=True,
        context_length=longest,
        vocab_size=arch.vocab_size,
        kernels=runner.kernels,
        threads=runner.threads,
    )
    embedding = EmbeddingInfo(arch.hidden_size, longest, pooling.normalized, pooling.digest)
    return NativeEncoder(runner, info, embedding)
