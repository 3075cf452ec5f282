"""The families of architectures that the native engine runs; each file knows how one is configured and stored."""

from __future__ import annotations

from collections.abc import Mapping

from minivault.models.description import FamilyName
from minivault.models.families.falcon import FALCON
from minivault.models.families.family import Family
from minivault.models.families.gemma import GEMMA2, GEMMA3
from minivault.models.families.gpt2 import GPT2
from minivault.models.families.gpt_neo import GPT_NEO
from minivault.models.families.llama import LLAMA
from minivault.models.families.phi3 import PHI3
from minivault.models.families.qwen import QWEN2, QWEN3

FAMILIES: Mapping[FamilyName, Family] = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "gpt_neo": GPT_NEO,
    "falcon": FALCON,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "phi3": PHI3,
}

BY_MODEL_TYPE: Mapping[str, Family] = {
    model_type: family for family in FAMILIES.values() for model_type in family.readers
}

__all__ = ["BY_MODEL_TYPE", "FAMILIES", "Family"]
