"""What every engine is to the rest of the house: tokens in, tokens out.

An engine that is another server takes a request as it was asked and gives text; ``EngineInfo.speaks_text`` says so, and
its tokens are known by their text alone. Knows nothing of HTTP, SQLite or JSON. The native engine keeps *the law*: a
sequence's tokens are a function of weights, prompt tokens, parameters and seed, and of nothing else;
:attr:`EngineInfo.exact` says whether an engine does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from minivault.generation import FinishReason, GenerationRequest, SamplingParams, TokenLogprob, Usage

GRAMMAR_TOO_COMPLEX = "The grammar became too complex to follow. Repetition by * or + takes less than recursion."
"""A step's error that is of the request's own making."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine promises about itself; pinned in every record."""

    name: str
    """``native``, ``transformers`` or ``remote``."""
    build: str
    """Version of the code that computes; a change of arithmetic changes it."""
    arithmetic: str
    """The arithmetic profile, such as ``int8-g32-v1`` or ``f32-v1``. Equal profiles and weights give equal bytes."""
    exact: bool
    context_length: int
    """Most tokens a sequence can have, prompt and answer together: the model's own, whatever the memory."""
    vocab_size: int
    kernels: str = ""
    """The kernel set in use, such as ``avx512``; never changes a byte."""
    threads: int = 0
    speaks_text: bool = False
    """It is given requests in words, and its token ids mean something within one answer alone."""
    kv_cache_tokens: int = 0
    """Tokens that its KV cache holds; depends on the memory of this machine. 0: as many as a sequence can have."""

    @property
    def longest(self) -> int:
        """Most tokens that a sequence can have here, prompt and answer together."""
        # The last token of a sequence is given out and never run, so it needs no place.
        return min(self.context_length, self.kv_cache_tokens + 1) if self.kv_cache_tokens else self.context_length


class TokenWords(Protocol):
    """Gives the tokens of one answer numbers, where only their text is known."""

    def id_of(self, text: str, token: str, data: bytes) -> int:
        """The number of a token that adds ``text`` to the answer and is called ``token``; ``data`` are its bytes."""


class Constraint(Protocol):
    """Which tokens may come next: a function of the tokens accepted so far. Owned by the engine once submitted."""

    def mask(self) -> bytes:
        """One bit for each token id, in 32-bit words, low bits first: may it come next?"""

    def accept(self, token_id: int) -> bool:
        """Take a token; False if it may not come."""

    @property
    def is_complete(self) -> bool:
        """Nothing more may follow: the sequence ends here."""

    @property
    def is_broken(self) -> bool:
        """It cannot be followed any further: the sequence fails."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One sequence to run. ``sampling`` is resolved: no ``None`` but ``logprobs``."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    eos_token_ids: tuple[int, ...] = ()
    cache_salt: bytes = b""
    """Blocks of the prefix cache are shared only between equal salts."""
    fairness_key: str = ""
    """Sequences of one key share that key's turn."""
    constraint: Constraint | None = None
    """Only what it allows is chosen; it also decides the end, whatever ``min_tokens`` says."""
    pooling: str = ""
    """Not empty: the vectors of the prompt's tokens are pooled so (see ``models/pooling.py``). Native engine only."""
    normalized: bool = True
    """The pooled vector is scaled to length 1."""
    asked: GenerationRequest | None = None
    """For an engine that speaks text, which gets no prompt tokens: the request itself."""
    adapter: object | None = None
    """Set by an engine that runs a model's sequences with an adapter; its own. Native engine only."""
    words: TokenWords | None = None
    """With ``asked``: what the numbers of the answer's tokens are drawn from."""


@dataclass(frozen=True, slots=True)
class TokenStep:
    """What one or more engine steps gave to one sequence. The last one, and only it, has a ``finish_reason``.

    ``token_ids`` never includes an end-of-sequence or stop id that ended the sequence.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    error: str | None = None
    """Set with ``FAILED``: a message that is safe to show."""
    usage: Usage | None = None
    """On the last step of an engine that speaks text: how many tokens it counted, if it says so."""
    made_ns: int | None = None
    """When the first of its tokens was made, on the clock of :func:`time.monotonic_ns`, where the engine tells."""


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """One server behind a remote engine. Counts since the start."""

    address: str
    """Host and port; no credential and no path."""
    healthy: bool
    in_flight: int
    requests: int = 0
    failures: int = 0
    """Requests that it refused, broke or did not answer in time."""
    retried: int = 0
    """Of these, how many another server then took."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    running: int
    waiting: int
    kv_cache_usage: float
    """Share of KV blocks in use, 0..1."""
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_cache_queries: int = 0
    """Tokens of prompts that were looked up."""
    prefix_cache_hits: int = 0
    """Of these, how many were found and not computed again."""
    spec_decode_num_drafts: int = 0
    spec_decode_num_draft_tokens: int = 0
    spec_decode_num_accepted_tokens: int = 0
    """Of the drafted tokens, how many became part of an answer."""
    upstreams: tuple[UpstreamStats, ...] = ()
    """Of a remote engine."""


class TokenStream(Protocol):
    """The tokens of one sequence, in order. Owned by the event loop."""

    def __aiter__(self) -> AsyncIterator[TokenStep]: ...

    def cancel(self) -> None:
        """Stop at the next step. Idempotent; does not wait. The stream still ends with a step of its own."""


@runtime_checkable
class Answering(Protocol):
    """A stream from another server, which may refuse the request before the answer begins."""

    async def accepted(self) -> None:
        """Wait until the answer begins.

        Raises:
            MiniVaultError: it was refused; the stream has nothing.
        """

    def unread(self) -> int:
        """Tokens that came and were not taken from the stream."""


class Engine(Protocol):
    @property
    def info(self) -> EngineInfo: ...

    def submit(self, request: EngineRequest) -> TokenStream:
        """Queue a sequence and return at once. Must be called on a running event loop.

        Raises:
            ContextTooLong: prompt plus one token exceed ``info.context_length``, or prompt and ``max_tokens`` (up to
                the end of the context) exceed the KV memory: a sequence is never cut short for want of memory.
            InvalidRequest: the prompt is empty or holds a token id that the model does not have.
            Overloaded: the queue is full.
            EngineFailed: the engine has stopped.
        """

    def stats(self) -> EngineStats: ...

    @property
    def failure(self) -> BaseException | None:
        """What broke the engine, for good; ``None`` while it works."""

    async def close(self) -> None:
        """Fail what still runs, stop the thread, free the memory."""
