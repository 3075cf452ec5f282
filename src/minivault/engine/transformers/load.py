"""From a folder to a running Transformers engine: which device and arithmetic, how much memory, and what it promises.

Safetensors alone, no code of the checkpoint's own, nothing from a network. Knows nothing of text or requests.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from minivault.control_group import usable_cores
from minivault.engine.engine import EngineInfo
from minivault.engine.native.engine import NativeEngine
from minivault.engine.transformers.runner import BLOCK_SIZE, TransformersRunner
from minivault.errors import CheckpointCorrupt, ConfigError, UnsupportedCheckpoint
from minivault.models.memory import free_memory

logger = logging.getLogger("minivault.engine")

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_DEFAULT_CONTEXT = 2048
"""Tokens, where a checkpoint names no length: its positions have no end of their own."""
_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
_GPU_SHARE = 0.8
"""Of the free memory of a graphics card: what the KV cache may take."""


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    device: Device = "auto"
    dtype: Dtype = "auto"
    threads: int = 0
    """0: what PyTorch takes by itself."""
    kv_cache_memory: int = 0
    """Bytes; 0: most of what the graphics card has left, and elsewhere ``host_cache_memory``."""
    host_cache_memory: int = 0
    """Bytes; 0: a quarter of the free memory."""
    max_batch_tokens: int = 512
    max_running: int = 64


def load_transformers_engine(
    folder: Path, options: TransformersOptions | None = None, *, max_waiting: int = 256
) -> NativeEngine:
    """Load the checkpoint in ``folder`` and start its engine thread; blocks while it loads.

    Raises:
        ConfigError: this machine has no such device.
        UnsupportedCheckpoint: not a causal language model of this version of Transformers.
        CheckpointCorrupt: it cannot be loaded.
    """
    options = options or TransformersOptions()
    device = _device(options.device)
    torch.set_num_threads(options.threads or min(torch.get_num_threads(), usable_cores()))
    config, model = _load(folder, device, options.dtype)
    text = config.get_text_config()
    vocab_size = int(model.get_output_embeddings().weight.shape[0])
    bytes_a_token = _bytes_a_token(text, model.dtype)
    num_blocks = _num_blocks(options, device, bytes_a_token, _context(text))
    runner = TransformersRunner(model, device, num_blocks, vocab_size)
    logger.info("transformers engine: %s, %s, %s", device, str(model.dtype).removeprefix("torch."), runner.way)
    info = EngineInfo(
        name="transformers",
        build=f"torch {torch.__version__}, transformers {transformers.__version__}",
        arithmetic=f"torch-{str(model.dtype).removeprefix('torch.')}-{device.type}",
        exact=False,
        context_length=_context(text),
        vocab_size=vocab_size,
        kernels=device.type,
        threads=torch.get_num_threads(),
    )
    return NativeEngine(
        runner,
        info,
        max_batch_tokens=options.max_batch_tokens,
        max_running=options.max_running,
        max_waiting=max_waiting,
        prefix_cache=False,  # why: keys and values are kept by sequence here, not by block
    )


def _device(wanted: Device) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, is_there in there.items() if is_there))
    if not there[wanted]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise ConfigError(f"device: PyTorch finds {found} on this machine", param="device")
    return torch.device(wanted)


def _load(folder: Path, device: torch.device, dtype: Dtype) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()
    given: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **given)
        chosen = _dtype(config, device, dtype)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=chosen, use_safetensors=True, output_loading_info=True, **given
        )
        missing = sorted(report["missing_keys"])
    except (ValueError, KeyError, ImportError) as error:
        # The library's own words name paths, and what an attacker wrote into the folder.
        logger.info("transformers refused a folder: %s", type(error).__name__)
        raise UnsupportedCheckpoint(
            f"This checkpoint is no causal language model of transformers {transformers.__version__}, "
            "or needs code of its own, which is never run"
        ) from None
    except (OSError, RuntimeError) as error:
        raise CheckpointCorrupt(f"PyTorch cannot load this checkpoint: {type(error).__name__}") from None
    if missing:
        raise CheckpointCorrupt(f"This checkpoint lacks {len(missing)} of its model's tensors")
    return config, model.to(device)


def _dtype(config: Any, device: torch.device, wanted: Dtype) -> torch.dtype:
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    named = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None) or torch.float32
    if isinstance(named, str):
        named = getattr(torch, named, torch.float32)
    # Half precision has no fast arithmetic on processors.
    return torch.float32 if device.type == "cpu" and named is torch.float16 else named


def _context(config: Any) -> int:
    lengths = (getattr(config, name, None) for name in _CONTEXT_NAMES)
    return next((int(length) for length in lengths if isinstance(length, int) and length > 0), _DEFAULT_CONTEXT)


def _bytes_a_token(config: Any, dtype: torch.dtype) -> int:
    """Keys and values of one token over all layers; an upper bound where a model has layers of other kinds."""
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    hidden = int(getattr(config, "hidden_size", None) or 1)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or -(-hidden // heads))
    layers = int(getattr(config, "num_hidden_layers", None) or 1)
    return 2 * layers * kv_heads * width * int(dtype.itemsize)


def _num_blocks(options: TransformersOptions, device: torch.device, bytes_a_token: int, context: int) -> int:
    """As many blocks as the memory allows, but no more than all sequences can use at full length."""
    memory = options.kv_cache_memory or (
        int(torch.cuda.mem_get_info(device)[0] * _GPU_SHARE)
        if device.type == "cuda"
        else options.host_cache_memory or free_memory() // 4
    )
    needed = BLOCK_SIZE * bytes_a_token
    blocks = min(options.max_running * -(-context // BLOCK_SIZE), memory // needed)
    if blocks < 1:
        raise ConfigError(f"kv_cache_memory: must be at least {needed} bytes for this model", param="kv_cache_memory")
    return blocks
