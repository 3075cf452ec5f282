"""A request for a model that other servers run: checked, and told in words, for there are no tokens here.

Pure; knows nothing of servers or records.
"""

from __future__ import annotations

from dataclasses import replace

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import GenerationRequest, SamplingParams
from minivault.models.prompt import Prompt, words_of
from minivault.models.reasoning import Reasoning
from minivault.models.tool_calls import Dialect, calling_of

ALL_THAT_FIT = 1_000_000
"""The most that a surface takes, and what it says with ``fit`` where its caller gave no limit. Servers refuse it."""


def read_words(request: GenerationRequest) -> Prompt:
    """A request's prompt, without tokens. Its answer writes tool calls and reasoning as the remote engine does.

    Raises:
        UnsupportedFeature: the prompt, or a part of it, is tokens.
        InvalidRequest: a system prompt beside a bare prompt.
    """
    if request.prompt_token_ids:
        raise UnsupportedFeature("a model on another server takes text, not token ids", param="prompt")
    if request.context:
        raise UnsupportedFeature("a model on another server takes text, not token ids", param="context")
    if request.begun:
        raise UnsupportedFeature("messages: on another server no answer can be begun", param="messages")
    if request.raw and request.system is not None:
        raise InvalidRequest("system cannot be used with raw: a bare prompt has no turns", param="system")
    if request.raw:
        return Prompt(words_of(request), ())
    return Prompt(words_of(request), (), (), calling_of(request, Dialect.TAGGED), Reasoning.IN_ANSWER)


def limited(given: SamplingParams, *, default_max_tokens: int, seed: int) -> SamplingParams:
    """``given`` with a limit and a seed; what else is not given is for the server to choose.

    Raises:
        InvalidRequest: ``min_tokens`` is above ``max_tokens``.
    """
    max_tokens = given.max_tokens if given.max_tokens is not None else max(default_max_tokens, given.min_tokens)
    if given.min_tokens > max_tokens:
        raise InvalidRequest(f"min_tokens must be at most max_tokens, which is {max_tokens}", param="min_tokens")
    return replace(given, max_tokens=max_tokens, seed=seed if given.seed is None else given.seed)


def may_fill(asked: GenerationRequest) -> bool:
    """Whether an answer may be as long as there is room for: only the server knows how much that is."""
    return asked.fit and (asked.sampling.max_tokens or 0) >= ALL_THAT_FIT
