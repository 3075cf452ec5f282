"""The arithmetic is the one that its profile's name stands for: an answer on record is computed again later."""

from __future__ import annotations

import json

import pytest

from minivault.engine.native import _native
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import ARITHMETIC, RunnerOptions
from tests.engine.bits import FILE, digest_of
from tests.oracle.golden import cases

RECORDED: dict[str, dict[str, str]] = json.loads(FILE.read_text())
NAMES = [case.name for case in cases()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lane", ARITHMETIC)
def test_every_lane_of_every_family_computes_the_bits_of_its_profile(name: str, lane: Precision) -> None:
    options = RunnerOptions(precision=lane, threads=2, kernels=_native.available_kernels()[0])
    # why the message: bits that are meant to change take another name in ARITHMETIC, and a new bits.json
    assert digest_of(name, options) == RECORDED[ARITHMETIC[lane]][name], f"other bits under the name {ARITHMETIC[lane]}"


def test_every_profile_and_every_family_has_its_bits_on_file() -> None:
    assert RECORDED.keys() == set(ARITHMETIC.values())
    assert all(found.keys() == set(NAMES) for found in RECORDED.values())
