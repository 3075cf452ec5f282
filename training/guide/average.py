"""Averages the weights of two exported guides: what was taught late, without forgetting what was known before.

    python training/guide/average.py BEFORE AFTER 0.82 OUTPUT

OUTPUT gets AFTER's files, and 0.82 of its weights and 0.18 of BEFORE's. Knows nothing of the corpus or of training.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def average(before: Path, after: Path, share: float, output: Path) -> None:
    """Write the average; both folders have the same tokenizer and the same shapes."""
    former, latter = (load_file(str(folder / "model.safetensors")) for folder in (before, after))
    mixed = {name: latter[name].float().lerp(former[name].float(), 1.0 - share) for name in latter}
    shutil.copytree(after, output, dirs_exist_ok=True)
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in mixed.items()}
    save_file(tensors, str(output / "model.safetensors"), metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    average(options.before, options.after, options.share, options.output)


if __name__ == "__main__":
    main()
