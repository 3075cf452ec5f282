"""The description and the weight set are all that a forward pass needs: NumPy meets the oracle with nothing else."""

import numpy as np
import pytest

from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.json_file import read_json_object
from minivault.models.weights import weight_map
from tests.models.reference import Reference
from tests.oracle.golden import GoldenCase, cases

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_reference_logits_equal_the_oracles(case: GoldenCase) -> None:
    arch = read_architecture(read_json_object(case.folder / "config.json"))
    with Checkpoint.open(case.folder) as checkpoint:
        logits = Reference(arch, weight_map(arch, checkpoint)).logits(case.prompt_ids)
    assert np.abs(logits - case.logits).max() < 1e-4 * np.ptp(case.logits)


def test_every_family_and_storage_dtype_has_a_case() -> None:
    names = {case.name for case in CASES}
    assert names >= {"llama-gqa", "llama-tied-bias", "llama-sharded", "llama3-rope", "llama-linear-rope"}
    assert names >= {"mistral-window", "gpt2", "gpt2-old-names"}
