"""The words that every part of MiniVault shares: what is asked, what comes back, and why it ended.

Frozen values from the standard library only. Knows nothing of HTTP, of models, of the vault or of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

JsonObject = Mapping[str, Any]


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """The model ended its answer, or a stop string or stop id was met."""
    LENGTH = "length"
    """``max_tokens`` or the end of the context was reached."""
    CANCELLED = "cancelled"
    """The caller went away; what it had been sent is recorded."""
    FAILED = "failed"
    """Something broke on this side; the caller was told so."""
    INTERRUPTED = "interrupted"
    """The process died in between; written by the next start."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen. ``None`` means: take the checkpoint's default, and where it has none, the neutral value.

    Resolved ones (see ``models/parameters.py``) hold no ``None`` but ``logprobs``; engine and vault see only those.
    """

    max_tokens: int | None = None
    """Most tokens to generate, at least 1. ``None``: the setting's default."""
    min_tokens: int = 0
    """No end of sequence and no stop before so many tokens."""
    temperature: float | None = None
    """0 is argmax."""
    top_k: int | None = None
    """0 turns it off."""
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    """1 turns it off; over prompt and answer."""
    presence_penalty: float = 0.0
    """Over the answer alone."""
    frequency_penalty: float = 0.0
    """Over the answer alone."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Pairs of token id and the value added to its logit."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these; it is not part of the answer."""
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None
    """0 <= seed < 2**63. ``None``: the service draws one, and records it."""
    logprobs: int | None = None
    """``None``: none. ``n``: the chosen token's log-probability and those of the ``n`` best alternatives (0..20)."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. ``arguments`` is JSON as a text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as a chat template takes it."""

    role: str
    content: str
    name: str | None = None
    """Who speaks, where roles are shared; of a tool's result, the tool."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """Of a tool's result: the call that it answers."""
    thinking: str = ""
    """Of an answer: the reasoning before it. Templates of models that reason may write it out again."""


class FormNames(NamedTuple):
    """What the client calls ``response_format``, and the JSON Schema in it; for errors."""

    form: str = "response_format"
    schema: str = "response_format.json_schema.schema"


RESPONSE_FORMAT = FormNames()
"""As OpenAI's clients send it."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request after parsing: exactly one of ``prompt``, ``prompt_token_ids`` and ``messages`` is set.

    The type is the proof of validity.
    """

    prompt: str | None = None
    prompt_token_ids: tuple[int, ...] = ()
    """A bare prompt that is tokens already."""
    context: tuple[int, ...] = ()
    """Tokens that come before the prompt's own: those of an earlier prompt and its answer."""
    context_limit: int | None = None
    """Prompt and answer together get no more tokens, even if the model's context is longer."""
    fit: bool = False
    """True: a ``max_tokens`` that does not fit the context is cut to what does. False: it is refused."""
    messages: tuple[Message, ...] = ()
    begun: bool = False
    """True: the last of ``messages`` is the beginning of the answer, which goes on from it and does not repeat it."""
    tools: tuple[JsonObject, ...] = ()
    """Functions that the model may call, as OpenAI writes them: ``{"type": "function", "function": {...}}``."""
    tool_choice: str = "auto"
    """``auto``, ``none``, ``required``, or ``named:`` and the name of the one tool that must be called."""
    parallel_tool_calls: bool = True
    """False: at most one call in an answer."""
    think: bool | None = None
    """Whether a model that can reason shall, where its template leaves the choice. ``None``: as the template does."""
    system: str | None = None
    raw: bool = False
    """True: the bare prompt. False: a model with a chat template gets the prompt as a user turn."""
    echo: bool = False
    """The prompt is put before the response."""
    model: str | None = None
    """``None``: the server's default model."""
    keep_alive: float | None = None
    """Seconds that the model stays in memory after this use; negative: for ever. ``None``: as the server is set."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stream: bool = False
    response_format: JsonObject | None = None
    """``type`` is text, json_object, json_schema, regex or grammar; see ``models/structure.py``."""
    form_names: FormNames = RESPONSE_FORMAT
    timeout: float | None = None
    """Most seconds that it may take, waiting included; then it ends as failed."""
    choice: int = 0
    """Which of several answers to one request this is, from 0. Each is a call of its own in the vault."""
    store: bool = True
    """False: the vault keeps commitments and drops the content."""
    request_id: str = ""
    surface: str = "native"
    source: str = "http"
    """``http`` or ``cli``."""
    ignored: tuple[str, ...] = ()
    """Names of fields that the client sent and the surface ignores; listed in the record."""
    raw_request: bytes = b""
    """The body as it came, for the record's commitment."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts by the model's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability (natural log, after penalties and bias, before temperature and truncation)."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RecordRef:
    """The record that holds a call: the index of its outcome leaf and that leaf's hash, 64 hex digits."""

    index: int
    leaf: str
    from_index: int | None = None
    """The record that the answer was taken from; ``None``: it was generated."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation whose outcome is durable."""

    id: str
    model: str
    response: str
    finish_reason: FinishReason
    usage: Usage
    seed: int
    generated_at: str
    """UTC, RFC 3339, ``Z``."""
    record: RecordRef
    logprobs: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[int, ...] = ()
    """The answer's tokens, without those of an echoed prompt."""
    choice: int = 0
    stop_sequence: str | None = None
    """The stop string that ended the answer."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. The pieces' ``text`` joined equals the full response, byte for byte.

    The last chunk of a stream, and only it, carries ``completion``; it exists only once the outcome is durable.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    completion: Completion | None = None
    choice: int = 0
