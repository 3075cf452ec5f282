"""Sampling parameters as the C++ core takes them. How a token is chosen is the core's; see ``native/sampler.hpp``.

The choice is a function of the logits, the parameters, the sequence's own tokens and the seed. It
knows nothing of batches.
"""

from __future__ import annotations

from minivault.engine.native import _native
from minivault.engine.native.sequence import Sequence
from minivault.generation import TokenLogprob

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
