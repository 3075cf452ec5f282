"""Makes the tiny LoRA adapters and golden files in ``adapter_data/`` with PEFT itself: the oracle.

Run it where PyTorch, Transformers and PEFT are installed: ``python -m tests.oracle.make_adapters [NAME ...]``. Both
matrices are random, so that an adapter changes much; golden values are computed in float32 from what is stored.
"""

# mypy: disable-error-code="import-not-found, no-any-return"
# why: PyTorch, Transformers and PEFT live in an environment of their own, where types are checked without them

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from tests.oracle.adapters import ADAPTER_DATA, GREEDY_TOKENS
from tests.oracle.golden import DATA
from tests.oracle.make_checkpoints import MIN_MARGIN, load_oracle, logits_of

PROMPT_LENGTH = 24


@dataclass(frozen=True)
class Recipe:
    """One adapter: of which checkpoint, and what PEFT is asked for."""

    name: str
    base: str
    config: LoraConfig
    dtype: torch.dtype = torch.float32
    scale: float = 0.1


def _lora(*targets: str, **settings: Any) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", target_modules=list(targets), **({"r": 8, "lora_alpha": 16} | settings))


def recipes() -> Iterator[Recipe]:
    """All of them; an adapter's seed is its place in this order."""
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    yield Recipe("llama-all", "llama-gqa", _lora(*every))
    yield Recipe("llama-qv", "llama-gqa", _lora("q_proj", "v_proj", r=3, lora_alpha=4, use_rslora=True), torch.bfloat16)
    yield Recipe("llama-ranks", "llama-tied-bias", _lora("k_proj", "up_proj", rank_pattern={"up_proj": 5}))
    yield Recipe("gpt2-all", "gpt2", _lora("c_attn", "c_proj", "c_fc", fan_in_fan_out=True), torch.float16)
    yield Recipe("gpt2-old-names", "gpt2-old-names", _lora("c_attn", fan_in_fan_out=True, r=40))
    yield Recipe("phi3-fused", "phi3", _lora("qkv_proj", "gate_up_proj"), torch.bfloat16)
    yield Recipe("falcon-interleaved", "falcon-new-decoder", _lora("query_key_value", "dense_h_to_4h"))
    yield Recipe("gemma2-mlp", "gemma2", _lora("gate_proj", "down_proj", "o_proj"))


def adapted_oracle(base: str, folder: Path) -> Any:
    """The base in float32 with the stored adapter, by PEFT."""
    return PeftModel.from_pretrained(load_oracle(DATA / base), folder).float().eval()


def greedy(oracle: Any, prompt: list[int]) -> tuple[list[int], float]:
    """Tokens by argmax, and the least distance of the two best logits as a share of the logits' range."""
    tokens, margin = list(prompt), float("inf")
    for _ in range(GREEDY_TOKENS):
        logits = logits_of(oracle, tokens)[-1]
        best = logits.topk(2)
        margin = min(margin, float((best.values[0] - best.values[1]) / (logits.max() - logits.min())))
        tokens.append(int(best.indices[0]))
    return tokens[len(prompt) :], margin


def make(recipe: Recipe, seed: int) -> None:
    folder = ADAPTER_DATA / recipe.name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    model = get_peft_model(load_oracle(DATA / recipe.base), recipe.config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            with torch.no_grad():
                parameter.copy_(recipe.scale * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    stated = json.loads(config.read_text()) | {"base_model_name_or_path": recipe.base}  # why: no path of this machine
    config.write_text(json.dumps(stated | {"target_modules": sorted(stated["target_modules"])}, indent=1) + "\n")
    stored = folder / "adapter_model.safetensors"
    save_file({name: tensor.to(recipe.dtype).contiguous() for name, tensor in load_file(stored).items()}, stored)
    oracle = adapted_oracle(recipe.base, folder)
    rng = np.random.default_rng(seed)
    for _ in range(300):
        prompt = rng.integers(3, 320, PROMPT_LENGTH).tolist()
        continuation, margin = greedy(oracle, prompt)
        if margin >= MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{recipe.name}: no prompt without near ties")
    logits = logits_of(oracle, prompt).numpy()
    plain = logits_of(load_oracle(DATA / recipe.base), prompt).numpy()
    np.savez_compressed(
        ADAPTER_DATA / f"{recipe.name}.npz", base=recipe.base, prompt_ids=prompt, logits=logits, greedy=continuation
    )
    print(f"{recipe.name}: margin {margin:.4f}, changes logits by up to {abs(logits - plain).max():.2f}")


def main() -> None:
    """Make the named adapters, or all."""
    names = set(sys.argv[1:])
    ADAPTER_DATA.mkdir(exist_ok=True)
    for seed, recipe in enumerate(recipes(), start=1):
        if not names or recipe.name in names:
            make(recipe, seed)


if __name__ == "__main__":
    main()
