"""What the native engine does not run is taken for the Transformers engine, if that is installed and may run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minivault.errors import UnsupportedCheckpoint
from minivault.models import foreign
from minivault.models.inspection import Examined, check_config, examine
from tests.models.folders import copy_of

OPT: dict[str, Any] = {"model_type": "opt", "architectures": ["OPTForCausalLM"]}


@pytest.fixture(params=[True, False], ids=["installed", "not installed"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(foreign, "is_transformers_installed", lambda: request.param)
    return bool(request.param)


def test_a_family_that_the_native_engine_lacks_goes_to_transformers(tmp_path: Path, installed: bool) -> None:
    folder = copy_of("gpt2", tmp_path / "opt", OPT)
    if installed:
        found = examine(folder)
        assert (found.engine, found.kind, found.family, found.parameters > 0) == (
            "transformers",
            "generation",
            "opt",
            True,
        )
    else:
        with pytest.raises(UnsupportedCheckpoint, match=r"pip install 'minivault\[transformers\]'"):
            examine(folder)


def test_a_native_family_stays_native(tmp_path: Path, installed: bool) -> None:
    found: Examined = examine(copy_of("gpt2", tmp_path / "gpt2"))
    assert found.engine == "native"


@pytest.mark.parametrize(
    "config",
    [
        OPT | {"architectures": ["OPTForSequenceClassification"]},
        OPT | {"architectures": None},
        OPT | {"quantization_config": {"quant_method": "awq"}},
        OPT | {"model_type": 3},
    ],
    ids=["a classifier", "no architecture", "quantised", "no type"],
)
def test_what_neither_engine_runs_is_refused_with_what_is_supported(
    config: dict[str, Any], tmp_path: Path, installed: bool
) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="supported: "):
        examine(copy_of("gpt2", tmp_path / "other", config))
    with pytest.raises(UnsupportedCheckpoint, match="supported: "):
        check_config(config)
