"""The description and the weight set are all that a forward pass needs: NumPy meets the oracle with nothing else."""

import numpy as np
import pytest

from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.description import Architecture
from minivault.models.families import FAMILIES
from minivault.models.json_file import read_json_object
from minivault.models.weights import weight_map
from tests.models.reference import Array, Reference
from tests.oracle.golden import GoldenCase, cases, cases_next

CASES = [*cases(), *cases_next()]


def described(case: GoldenCase) -> Architecture:
    return read_architecture(read_json_object(case.folder / "config.json"))


def reference_logits(case: GoldenCase, token_ids: list[int]) -> Array:
    arch = described(case)
    with Checkpoint.open(case.folder) as checkpoint:
        return Reference(arch, weight_map(arch, checkpoint)).logits(token_ids)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_reference_logits_and_greedy_tokens_are_the_oracles(case: GoldenCase) -> None:
    prompt = case.prompt_ids
    logits = reference_logits(case, prompt + case.greedy[:-1])
    assert np.abs(logits[: len(prompt)] - case.logits).max() < 1e-4 * np.ptp(case.logits)
    assert logits[len(prompt) - 1 :].argmax(-1).tolist() == case.greedy


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_parameters_counted_from_the_description_are_those_stored(case: GoldenCase) -> None:
    arch = described(case)
    with Checkpoint.open(case.folder) as checkpoint:
        views = {
            id(part.view.data): np.prod(part.view.shape)
            for source in weight_map(arch, checkpoint).values()
            for part in (source if isinstance(source, tuple) else (source,))
        }
    assert arch.parameters == sum(views.values())


def test_every_family_has_a_case() -> None:
    assert {described(case).family for case in CASES} == set(FAMILIES)


def test_every_part_of_the_description_is_used_by_a_case() -> None:
    described_cases = [described(case) for case in CASES]
    scalings = {rope.scaling.kind for arch in described_cases for rope in arch.ropes if rope.scaling}
    assert scalings == {"linear", "llama3", "dynamic", "yarn"}
    assert {arch.mlp for arch in described_cases} == {"gated_silu", "gated_gelu_tanh", "gelu_tanh", "gelu"}
    assert any(0 < arch.rotary_dim < arch.head_dim for arch in described_cases)
    assert any(arch.parallel and not arch.shared_norm for arch in described_cases)
    assert any(arch.shared_norm for arch in described_cases)
    assert any(arch.attention_softcap and arch.logit_softcap for arch in described_cases)
    assert any(len(set(arch.layer_windows)) > 1 for arch in described_cases)
    assert any(len(set(arch.layer_ropes)) > 1 for arch in described_cases)
    assert any(arch.hidden_size % 32 for arch in described_cases)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_prompts_reach_beyond_every_window(case: GoldenCase) -> None:
    windows = [window for window in described(case).layer_windows if window]
    assert all(window < len(case.prompt_ids) for window in windows)
