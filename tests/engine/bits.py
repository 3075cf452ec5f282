"""Digests of every bit that each lane computes for each family: what an arithmetic profile's name stands for.

``python -m tests.engine.bits`` writes ``bits.json`` anew, with the scalar kernels. A digest changes only together with
its profile's name: else records of an earlier version would be compared with another arithmetic, and called forged.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from minivault.engine.native.runner import ARITHMETIC, RunnerOptions
from tests.engine.checkpoints import runner
from tests.oracle.golden import case, cases

FILE = Path(__file__).with_name("bits.json")


def digest_of(name: str, options: RunnerOptions) -> str:
    """Of the logits of a golden case's prompt and of the oracle's 64 greedy tokens, [T, V] little-endian float32."""
    golden = case(name)
    logits = runner(name, options).logits([*golden.prompt_ids, *golden.greedy])
    return hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest()[:32]


def main() -> None:
    """Write the file."""
    found = {
        profile: {
            golden.name: digest_of(golden.name, RunnerOptions(precision=lane, threads=1, kernels="scalar"))
            for golden in cases()
        }
        for lane, profile in ARITHMETIC.items()
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
