"""Makes the tiny checkpoints and golden files in ``data/`` with Transformers itself: the oracle.

Run it where PyTorch and Transformers are installed: ``python -m tests.oracle.make_checkpoints [NAME ...]``. Weights are
random but larger than a fresh model's, so that logits are not flat; golden values are computed in float32 from the
weights *as stored*. Prompts are drawn until greedy choices are clear of ties, so that equal greedy tokens are a fair
demand.
"""

# mypy: disable-error-code="import-not-found, no-any-return"
# why: PyTorch and Transformers live in an environment of their own, where types are checked without them

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.oracle.golden import DATA
from tests.oracle.recipes import Recipe, recipes

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


def randomise(model: PreTrainedModel, recipe: Recipe, generator: torch.Generator) -> None:
    center = 0 if recipe.config.model_type.startswith("gemma") else 1  # why 0: Gemma stores the distance from 1
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        scale = 0.6 if ".wpe." in name else 0.15  # why: tied GPT-2 would else repeat one token for ever
        for part, factor in recipe.scales.items():
            scale *= factor if part in name else 1
        with torch.no_grad():
            parameter.copy_(center + 0.1 * noise if is_norm else scale * noise)


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
    """Greedy tokens after ``prompt``, ends of sequence included, and the least margin met.

    Step by step with a cache: with dynamic rope scaling that is not the same as one pass over everything.
    """
    token_ids, margin, cache, fed = list(prompt), float("inf"), None, list(prompt)
    for _ in range(GREEDY_TOKENS):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([fed]), past_key_values=cache, use_cache=True)
        last, cache = output.logits[0, -1].float(), output.past_key_values
        best = last.topk(2)
        margin = min(margin, float((best.values[0] - best.values[1]) / (last.max() - last.min())))
        fed = [int(best.indices[0])]
        token_ids += fed
    return token_ids[len(prompt) :], margin


def load_oracle(folder: Path) -> PreTrainedModel:
    """The stored checkpoint in float32, with the plainest attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def restate(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change config.json; ``None`` removes."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | dict(changes)
    kept = {name: value for name, value in config.items() if name not in changes or value is not None}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def make(recipe: Recipe, seed: int, data: Path) -> None:
    folder = data / recipe.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(recipe.config)
    randomise(model, recipe, torch.Generator().manual_seed(seed))
    model.to(recipe.dtype).save_pretrained(folder, max_shard_size=recipe.max_shard_size)
    write_tokenizer(folder, recipe.sentencepiece)
    if recipe.old_names:
        to_old_names(folder)
    if recipe.stored_config:
        restate(folder, recipe.stored_config)
    oracle = load_oracle(folder)
    rng = np.random.default_rng(seed)
    for _ in range(300):
        prompt = rng.integers(3, 320, recipe.prompt_length).tolist()
        continuation, margin = greedy(oracle, prompt)
        if margin >= MIN_MARGIN and len(set(continuation)) >= recipe.least_tokens:
            break
    else:
        raise SystemExit(f"{recipe.name}: no prompt without near ties and with enough different tokens")
    logits = logits_of(oracle, prompt).numpy()
    np.savez_compressed(data / f"{recipe.name}.npz", prompt_ids=prompt, logits=logits, greedy=continuation)
    print(
        f"{recipe.name}: margin {margin:.4f}, logits {logits.min():.2f}..{logits.max():.2f}, {len(set(continuation))}"
    )


def main() -> None:
    """Make the named checkpoints, or all."""
    names = set(sys.argv[1:])
    DATA.mkdir(exist_ok=True)
    for seed, recipe in enumerate(recipes(), start=1):
        if not names or recipe.name in names:
            make(recipe, seed, DATA)


if __name__ == "__main__":
    main()
