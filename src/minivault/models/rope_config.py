"""Reads rotary positions from a ``config.json``, in its older and its newer spelling.

Older files have ``rope_theta`` and ``rope_scaling`` (with ``type`` or ``rope_type``), newer ones ``rope_parameters``.
Knows nothing of families; what the description cannot say is refused by name.
"""

from __future__ import annotations

import math

from minivault.models.config_values import Config, corrupt, flag, integer, named, number, section, unsupported
from minivault.models.description import MAX_CONTEXT_LENGTH, Rope, RopeScaling

MAX_THETA = 1e12
KINDS = ("default", "linear", "llama3", "dynamic", "yarn")

_KNOWN_OPTIONS = frozenset(
    {
        "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "low_freq_factor", "high_freq_factor",
        "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "truncate", "finetuned",
    }
)  # fmt: skip
"""``finetuned`` says how a checkpoint was made, not what it computes."""


def rope_options(config: Config) -> Config:
    """The object with the options of rotary positions; empty where there is none."""
    newer = config.get("rope_parameters") is not None
    return section(config, "rope_parameters" if newer else "rope_scaling")


def read_rope(
    config: Config,
    options: Config,
    context: int,
    rotary_dim: int,
    *,
    theta: float = 10_000.0,
    kinds: tuple[str, ...] = KINDS,
) -> Rope:
    """Rotary positions from ``options``, and what is missing there from ``config`` itself.

    ``context`` is ``max_position_embeddings``; ``theta`` the default; ``kinds`` the scalings that the family has.

    Raises:
        UnsupportedCheckpoint: a scaling or an option that the description cannot say.
        CheckpointCorrupt: a value is missing or out of bounds.
    """
    source = options if options.get("rope_theta") is not None else config
    theta = number(source, "rope_theta", 1.0, MAX_THETA, default=theta)
    if theta == 1:  # why: no frequency would differ from another
        raise corrupt(f"rope_theta must be above 1 and at most {MAX_THETA:g}")
    kind = _kind(options)
    if kind not in kinds:
        raise unsupported(f"rope scaling {named(kind)}", wanted="rope scaling " + ", ".join(kinds))
    for name, value in options.items():
        if name not in _KNOWN_OPTIONS and value is not None:
            raise unsupported(f"the rope option {named(name)}", wanted=", ".join(sorted(_KNOWN_OPTIONS)))
    return Rope(theta, _scaling(str(kind), config, options, context, rotary_dim))


def rotary_dim(config: Config, options: Config, head_dim: int, *, partial: bool = False) -> int:
    """How many dimensions of a head are rotated.

    Raises:
        UnsupportedCheckpoint: a part only, and the family does not have that (``partial``), or an odd number.
    """
    source = options if options.get("partial_rotary_factor") is not None else config
    share = number(source, "partial_rotary_factor", 0.0, 1.0, default=1.0)
    if share != 1 and not partial:
        raise unsupported("partial_rotary_factor other than 1", wanted="rotary positions over the whole head")
    rotated = int(head_dim * share)
    if rotated < 2 or rotated % 2:
        raise unsupported(f"partial_rotary_factor {share:g}", wanted="an even number of rotated dimensions, 2 or more")
    return rotated


def stretched_context(context: int, scaling: RopeScaling | None) -> int:
    """Positions that the checkpoint was made for: ``dynamic`` and ``yarn`` go beyond ``max_position_embeddings``."""
    if scaling is None or scaling.kind not in ("dynamic", "yarn"):
        return context
    return min(MAX_CONTEXT_LENGTH, max(context, int(scaling.original_context_length * scaling.factor)))


def _kind(options: Config) -> object:
    for name in ("rope_type", "type"):
        if options.get(name) is not None:
            return options[name]
    return "default"


def _scaling(kind: str, config: Config, options: Config, context: int, rotary_dim: int) -> RopeScaling | None:
    if kind == "default":
        return None
    if kind == "yarn":
        return _yarn(config, options, context)
    factor = number(options, "factor", 1.0, 1e6)
    if kind == "linear":
        return RopeScaling("linear", factor)
    if kind == "llama3":
        return _llama3(config, options, factor, context)
    return _dynamic(options, factor, context, rotary_dim)


def _original(config: Config, options: Config, context: int) -> int:
    name = "original_max_position_embeddings"
    return integer(config if config.get(name) is not None else options, name, MAX_CONTEXT_LENGTH, default=context)


def _llama3(config: Config, options: Config, factor: float, context: int) -> RopeScaling:
    low = number(options, "low_freq_factor", 1e-6, 1e6)
    high = number(options, "high_freq_factor", 1e-6, 1e6)
    if high <= low:
        raise corrupt("high_freq_factor must be above low_freq_factor")
    return RopeScaling("llama3", factor, low, high, _original(config, options, context))


def _dynamic(options: Config, factor: float, context: int, rotary_dim: int) -> RopeScaling:
    if rotary_dim < 4:
        raise unsupported("dynamic rope scaling of 2 dimensions", wanted="4 rotated dimensions or more")
    if options.get("original_max_position_embeddings") not in (None, context):
        raise unsupported(
            "dynamic rope scaling with original_max_position_embeddings", wanted="growth from max_position_embeddings"
        )
    return RopeScaling("dynamic", factor, original_context_length=context)


def _yarn(config: Config, options: Config, context: int) -> RopeScaling:
    original = _original(config, options, context)
    factor = number(options, "factor", 1.0, 1e6, default=max(1.0, context / original))
    fast = number(options, "beta_fast", 0.0, 1e6) if options.get("beta_fast") else 32.0
    slow = number(options, "beta_slow", 0.0, 1e6) if options.get("beta_slow") else 1.0
    if fast < slow:
        raise corrupt("beta_fast must not be below beta_slow")
    return RopeScaling(
        "yarn",
        factor,
        original_context_length=original,
        attention_factor=_attention_factor(options, factor),
        beta_fast=fast,
        beta_slow=slow,
        truncate=flag(options, "truncate", default=True),
    )


def _attention_factor(options: Config, factor: float) -> float:
    """Given, or the paper's ``0.1 ln(factor) + 1``, or a ratio of two such where ``mscale`` weighs the logarithm."""
    if options.get("attention_factor") is not None:
        return number(options, "attention_factor", 0.0, 1e3)

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0

    numerator = number(options, "mscale", 0.0, 1e3, default=0.0)
    denominator = number(options, "mscale_all_dim", 0.0, 1e3, default=0.0)
    return grown(numerator) / grown(denominator) if numerator and denominator else grown(1.0)
