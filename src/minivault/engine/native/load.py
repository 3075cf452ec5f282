"""From a checkpoint's weights to a running native engine. Knows nothing of files, text or requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minivault import __version__
from minivault.engine.embedding import EmbeddingInfo
from minivault.engine.engine import EngineInfo
from minivault.engine.native.decoder_embedding import DecoderEmbedder
from minivault.engine.native.engine import NativeEngine
from minivault.engine.native.runner import ARITHMETIC, NativeRunner, RunnerOptions
from minivault.models.architecture import Architecture
from minivault.models.pooling import PoolingConfig
from minivault.models.weights import WeightSet


def load_native_engine(
    arch: Architecture,
    weights: WeightSet,
    options: RunnerOptions | None = None,
    *,
    max_waiting: int = 256,
    prefix_cache: bool = True,
    weights_digest: str = "",
    packed_dir: Path | None = None,
    report: Callable[[float], None] = lambda share: None,
    pooling: PoolingConfig | None = None,
) -> NativeEngine:
    """Pack ``weights`` and start the engine thread; blocks while it packs. The weights may be closed afterwards.

    ``packed_dir`` keeps the packed weights, by ``weights_digest``, for the next start. ``report`` is called with the
    share of the weights that are packed, 0..1. With ``pooling`` the engine embeds too.

    Raises:
        ConfigError: kernels or KV memory that this machine does not have.
    """
    options = options or RunnerOptions()
    runner = NativeRunner.load(
        arch, weights, options, weights_digest=weights_digest, packed_dir=packed_dir, report=report
    )
    info = EngineInfo(
        name="native",
        build=__version__,
        arithmetic=ARITHMETIC[options.precision],
        exact=True,
        context_length=arch.context_length,
        vocab_size=arch.vocab_size,
        kernels=runner.kernels,
        threads=runner.threads,
    )
    engine = NativeEngine(
        runner,
        info,
        max_batch_tokens=options.max_batch_tokens,
        max_running=options.max_running,
        max_waiting=max_waiting,
        prefix_cache=prefix_cache,
    )
    if pooling is not None:
        # The last token that is drawn, and thrown away, needs a place of its own.
        longest = min(engine.info.longest - 1, pooling.max_tokens or info.context_length)
        facts = EmbeddingInfo(arch.hidden_size, longest, pooling.normalized, pooling.digest)
        engine.embedder = DecoderEmbedder(engine, facts, pooling.kind)
    return engine
