"""The oracle's tiny checkpoints, loaded into runners and engines of the native core."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

from minivault.engine.native.engine import NativeEngine
from minivault.engine.native.load import load_native_engine
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.checkpoint import Checkpoint
from minivault.models.weights import WeightSet, weight_map
from tests.oracle.golden import DATA


@cache
def opened(name: str) -> tuple[Architecture, WeightSet]:
    """A golden checkpoint's description and weights; stays open for the run."""
    folder = DATA / name
    arch = read_architecture(json.loads((folder / "config.json").read_text()))
    return arch, weight_map(arch, Checkpoint.open(folder))


@cache
def runner(name: str, options: RunnerOptions) -> NativeRunner:
    """Shared between tests: its blocks are overwritten by whoever runs next."""
    return NativeRunner.load(*opened(name), replace(options, kv_cache_memory=options.kv_cache_memory or 1 << 24))


def engine(name: str, options: RunnerOptions, *, prefix_cache: bool = True) -> NativeEngine:
    """A fresh engine; the test closes it."""
    sized = replace(options, kv_cache_memory=options.kv_cache_memory or 1 << 24)
    return load_native_engine(*opened(name), sized, prefix_cache=prefix_cache)
