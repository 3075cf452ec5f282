"""Makes the tiny checkpoints and golden files in ``data/`` with Transformers itself: the oracle.

Run it where PyTorch and Transformers are installed: ``python tests/oracle/make_checkpoints.py``. Weights are random but
larger than a fresh model's, so that logits are not flat; golden values are computed in float32 from the weights *as
stored*. Prompts are drawn until greedy choices are clear of ties, so that equal greedy tokens are a fair demand.
"""

# mypy: disable-error-code="import-not-found, no-any-return"
# why: PyTorch and Transformers live in an environment of their own, where types are checked without them

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, PreTrainedModel

DATA = Path(__file__).parent / "data"
GREEDY_TOKENS = 64
MIN_MARGIN = 2e-3
"""Least distance of the two best logits in a greedy step, as a share of the logits' range."""

CORPUS = [
    "MiniVault keeps every prompt and every answer in a vault.",
    "The same request gives the same bytes, alone or among many others.",
    "A quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "Tokens, blocks, sequences and layers: the engine turns tokens into tokens.",
    "How do I start the server? Type the command and wait until it answers.",
    "One, two, three, four; then five and six. Numbers: 0 1 2 3 4 5 6 7 8 9.",
]


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what Transformers is asked for, and how it is stored."""

    name: str
    config: Any
    dtype: torch.dtype
    prompt_length: int = 40
    max_shard_size: str = "5GB"
    sentencepiece: bool = False
    old_names: bool = False


def llama(**changes: Any) -> LlamaConfig:
    values: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    return LlamaConfig(**(values | changes))


def recipes() -> Iterator[Recipe]:
    yield Recipe("llama-gqa", llama(), torch.float32)
    yield Recipe(
        "llama-tied-bias",
        # why these sizes: none is a multiple of 32, and the heads are wider together than the hidden size
        llama(
            vocab_size=331, hidden_size=72, head_dim=16, num_attention_heads=6, num_key_value_heads=3,
            intermediate_size=100, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
            bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5,
        ),
        torch.bfloat16,
        sentencepiece=True,
    )  # fmt: skip
    yield Recipe("llama-sharded", llama(num_hidden_layers=3), torch.float16, max_shard_size="80KB")
    scaling = {
        "rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    yield Recipe("llama3-rope", llama(rope_parameters=scaling), torch.bfloat16, prompt_length=100)
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    yield Recipe("llama-linear-rope", llama(rope_parameters=linear), torch.bfloat16, prompt_length=80)
    window = MistralConfig(
        **{**llama().to_dict(), "sliding_window": 16, "model_type": "mistral", "architectures": None}
    )
    yield Recipe("mistral-window", window, torch.bfloat16, prompt_length=80)
    gpt2 = GPT2Config(
        vocab_size=320, n_embd=64, n_layer=2, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0, n_inner=None
    )
    yield Recipe("gpt2", gpt2, torch.float32)
    narrow = GPT2Config(
        vocab_size=320, n_embd=60, n_layer=3, n_head=5, n_positions=200, bos_token_id=0, eos_token_id=0, n_inner=132
    )
    yield Recipe("gpt2-old-names", narrow, torch.float16, old_names=True)


def randomise(model: PreTrainedModel, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        with torch.no_grad():
            scale = 0.6 if ".wpe." in name else 0.15  # why: tied GPT-2 would else repeat one token for ever
            parameter.copy_(1 + 0.1 * noise if is_norm else scale * noise)


def byte_level_tokenizer() -> Tokenizer:
    """GPT-2's and Llama 3's way: bytes as letters, merges, nothing normalised."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    """Llama 2's way: ``▁`` for a space, one put in front, bytes as ``<0xHH>`` where no piece fits."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=72, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = [tuple(merge) for merge in model["merges"]]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = trained.normalizer
    strip = decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    return tokenizer


def write_tokenizer(folder: Path, sentencepiece: bool) -> None:
    tokenizer = sentencepiece_tokenizer() if sentencepiece else byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    bos, eos = ("<s>", "</s>") if sentencepiece else ("<|begin|>", "<|end|>")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def to_old_names(folder: Path) -> None:
    """As the first GPT-2 files were: no ``transformer.`` prefix, and the causal mask stored beside the weights."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor.clone() for name, tensor in load_file(path).items()}
    config = json.loads((folder / "config.json").read_text())
    positions = config["n_positions"] // 8  # why smaller: the buffer is ignored, only its name counts
    for layer in range(config["n_layer"]):
        mask = torch.ones(positions, positions, dtype=torch.bool).tril()
        tensors[f"h.{layer}.attn.bias"] = mask.view(1, 1, positions, positions)
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path, metadata={"format": "pt"})


def logits_of(model: PreTrainedModel, token_ids: list[int]) -> torch.Tensor:
    """Float32 logits [T, V] of one plain forward pass."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0].float()


def greedy(model: PreTrainedModel, prompt: list[int]) -> tuple[list[int], float]:
    """Greedy tokens after ``prompt``, ends of sequence included, and the least margin met."""
    token_ids, margin = list(prompt), float("inf")
    for _ in range(GREEDY_TOKENS):
        last = logits_of(model, token_ids)[-1]
        best = last.topk(2)
        margin = min(margin, float((best.values[0] - best.values[1]) / (last.max() - last.min())))
        token_ids.append(int(best.indices[0]))
    return token_ids[len(prompt) :], margin


def load_oracle(folder: Path) -> PreTrainedModel:
    """The stored checkpoint in float32, with the plainest attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def make(recipe: Recipe, seed: int) -> None:
    folder = DATA / recipe.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(recipe.config)
    randomise(model, torch.Generator().manual_seed(seed))
    model.to(recipe.dtype).save_pretrained(folder, max_shard_size=recipe.max_shard_size)
    write_tokenizer(folder, recipe.sentencepiece)
    if recipe.old_names:
        to_old_names(folder)
    oracle = load_oracle(folder)
    rng = np.random.default_rng(seed)
    for _ in range(200):
        prompt = rng.integers(3, 320, recipe.prompt_length).tolist()
        continuation, margin = greedy(oracle, prompt)
        if margin >= MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{recipe.name}: no prompt without near ties")
    logits = logits_of(oracle, prompt).numpy()
    np.savez_compressed(DATA / f"{recipe.name}.npz", prompt_ids=prompt, logits=logits, greedy=continuation)
    print(
        f"{recipe.name}: margin {margin:.4f}, logits {logits.min():.2f}..{logits.max():.2f}, {len(set(continuation))}"
    )


def main() -> None:
    DATA.mkdir(exist_ok=True)
    for seed, recipe in enumerate(recipes(), start=1):
        make(recipe, seed)


if __name__ == "__main__":
    main()
