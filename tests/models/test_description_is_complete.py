"""The description and the weight set are all that a forward pass needs: NumPy meets the oracle with nothing else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.description import Architecture
from minivault.models.families import FAMILIES
from minivault.models.json_file import read_json_object
from minivault.models.weights import weight_map
from tests.models.reference import Array, Reference
from tests.oracle.golden import GoldenCase, cases

CASES = cases()
TOLERANCE = 1e-5
"""Of the logits' range: the oracle computes in float32."""


def described(case: GoldenCase) -> Architecture:
    return read_architecture(read_json_object(case.folder / "config.json"))


def reference_logits(case: GoldenCase, token_ids: list[int], **changes: Any) -> Array:
    arch = described(case)
    with Checkpoint.open(case.folder) as checkpoint:
        return Reference(replace(arch, **changes), weight_map(arch, checkpoint)).logits(token_ids)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_reference_logits_and_greedy_tokens_are_the_oracles(case: GoldenCase) -> None:
    prompt = case.prompt_ids
    logits = reference_logits(case, prompt + case.greedy[:-1])
    assert np.abs(logits[: len(prompt)] - case.logits).max() < TOLERANCE * np.ptp(case.logits)
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


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt-neo", {"layer_windows": (None, None)}),
        ("gpt-neo", {"layer_windows": (None, 9)}),
        ("gpt-neo", {"attention_scale": 1 / np.sqrt(12)}),
        ("qwen2", {"layer_windows": (None, None)}),
        ("qwen2", {"layer_windows": (12, 12)}),
        ("phi3", {"rotary_dim": 16}),
        ("phi3", {"layer_windows": (None, None)}),
        ("qwen3", {"qk_norm": False}),
        ("falcon-new-decoder", {"parallel": False}),
        ("falcon-new-decoder", {"shared_norm": True}),
        ("falcon-7b", {"mlp": "gelu_tanh"}),
        ("falcon-sequential", {"mlp": "gelu"}),
        ("gemma2", {"attention_softcap": 0.0}),
        ("gemma2", {"logit_softcap": 0.0}),
        ("gemma2", {"embedding_scale": 1.0}),
        ("gemma2", {"norm_offset": 0.0}),
        ("gemma2", {"post_norms": False}),
        ("gemma2", {"layer_windows": (None, 12)}),
        ("gemma2", {"attention_scale": 1 / 4}),
        ("gemma2", {"mlp": "gated_silu"}),
        ("gemma3", {"layer_ropes": (0, 0, 0)}),
        ("gemma3", {"layer_ropes": (1, 1, 1)}),
    ],
)
def test_the_oracle_tells_a_description_that_is_wrong_in_one_part(name: str, changes: dict[str, Any]) -> None:
    (case,) = (case for case in CASES if case.name == name)
    wrong = reference_logits(case, case.prompt_ids, **changes)
    error = np.abs(wrong - case.logits).max() / np.ptp(case.logits)
    assert error > (4 * TOLERANCE if changes.get("mlp") in ("gelu", "gelu_tanh") else 1e-2)  # why: two GELUs are close


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama-yarn", {"attention_factor": 1.0}),
        ("llama-yarn", {"kind": "linear"}),
        ("qwen3-yarn", {"truncate": True}),
        ("qwen3-yarn", {"beta_fast": 32.0}),
        ("qwen3-yarn", {"attention_factor": 1.0}),
        ("llama-dynamic", {"factor": 1.0}),
    ],
)
def test_the_oracle_tells_a_scaling_that_is_wrong_in_one_part(name: str, changes: dict[str, Any]) -> None:
    (case,) = (case for case in CASES if case.name == name)
    (rope,) = described(case).ropes
    assert rope.scaling is not None
    token_ids = case.prompt_ids + case.greedy
    right = reference_logits(case, token_ids)
    wrong = reference_logits(case, token_ids, ropes=(replace(rope, scaling=replace(rope.scaling, **changes)),))
    assert np.abs(wrong - right).max() > 1e-2 * np.ptp(right)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_prompts_reach_beyond_every_window(case: GoldenCase) -> None:
    windows = [window for window in described(case).layer_windows if window]
    assert all(window < len(case.prompt_ids) for window in windows)
