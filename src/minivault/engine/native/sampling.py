"""Sampling parameters as the C++ core takes them. How a token is chosen is the core's; see ``native/sampler.hpp``.

The choice is a function of the logits, the parameters, the sequence's own tokens and the seed. It
knows nothing of batches, nor of who computed the logits.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from minivault.engine.engine import GRAMMAR_TOO_COMPLEX
from minivault.engine.native import _native
from minivault.engine.native.sequence import SampledToken, Sequence
from minivault.generation import TokenLogprob

logger = logging.getLogger("minivault.engine")

NEUTRAL_TEMPERATURE = 1.0


def sampler_state(sequence: Sequence) -> _native.SequenceState:
    """The core's state of a sequence, as if it had seen every token that the sequence holds."""
    params = sequence.params
    state = _native.SequenceState.make(
        prompt=sequence.token_ids[: sequence.prompt_length],
        temperature=NEUTRAL_TEMPERATURE if params.temperature is None else params.temperature,
        top_k=params.top_k or 0,
        top_p=1.0 if params.top_p is None else params.top_p,
        min_p=params.min_p or 0.0,
        typical_p=1.0 if params.typical_p is None else params.typical_p,
        repetition_penalty=1.0 if params.repetition_penalty is None else params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        seed=params.seed or 0,
        min_tokens=params.min_tokens,
        logprobs=-1 if params.logprobs is None else params.logprobs,
        logit_bias=list(params.logit_bias),
        end_ids=sorted(sequence.ending_ids),
    )
    for token_id in sequence.token_ids[sequence.prompt_length :]:
        state.accept(token_id)
    return state


def token_logprob(sampled: _native.Sampled) -> TokenLogprob:
    """The log-probabilities that came with a token."""
    return TokenLogprob(sampled.token, sampled.logprob, tuple(sampled.top))


def hold_to_constraint(sequence: Sequence, state: _native.SequenceState) -> str | None:
    """Let the next token be one that the sequence's constraint allows; what to tell where the constraint broke."""
    if sequence.constraint is None:
        return None
    try:
        allowed = sequence.constraint.mask()
        if sequence.constraint.is_broken:  # it says so only here, and its mask is empty
            return GRAMMAR_TOO_COMPLEX
        state.allow(allowed)
    except BaseException as error:  # also a panic of a library in another language: the other sequences go on
        return _grammar_failed(error)
    return None


def sampled_token(sequence: Sequence, one: _native.Sampled) -> SampledToken:
    """What the core sampled, as the scheduler takes it; the sequence's constraint is told of it."""
    if not one.finite:
        return SampledToken(0, finite=False)
    logprob = None if sequence.params.logprobs is None else token_logprob(one)
    constraint = sequence.constraint
    if constraint is None:
        return SampledToken(one.token, logprob)
    try:
        followed = constraint.accept(one.token) and not constraint.is_broken
        complete = constraint.is_complete
    except BaseException as error:  # as above
        return SampledToken(one.token, error=_grammar_failed(error))
    if not followed:
        return SampledToken(one.token, error=GRAMMAR_TOO_COMPLEX)
    # An end of sequence ends it by itself, and is no part of the answer.
    return SampledToken(one.token, logprob, ends=complete and one.token not in sequence.ending_ids)


def _grammar_failed(error: BaseException) -> str:
    logger.warning("A grammar failed: %s", type(error).__name__)
    return "The grammar could not be followed."


class Sampler:
    """Chooses one sequence's tokens from logits that came from elsewhere. Owner: the engine thread."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self._state = sampler_state(sequence)
        self._kernels = _native.available_kernels()[0]

    def choose(self, logits: NDArray[np.float32]) -> SampledToken:
        """The next token, from its logits ``[vocab_size]``."""
        if (fault := hold_to_constraint(self._sequence, self._state)) is not None:
            return SampledToken(0, error=fault)
        one = _native.sample_once(self._state, logits, self._kernels)
        if one.finite:
            self._state.accept(one.token)
        return sampled_token(self._sequence, one)
