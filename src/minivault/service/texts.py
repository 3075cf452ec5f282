"""Texts that have passed every check, to be embedded, and what goes on record of them before that.

Knows nothing of how vectors are made, or of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

from minivault.access.caller import Caller
from minivault.access.limits import Reservation
from minivault.embedding import MAX_TEXTS, EmbeddingRequest
from minivault.engine.embedding import Embedder
from minivault.engine.engine import Engine
from minivault.errors import ContextTooLong, InvalidRequest, UnsupportedFeature
from minivault.generation import SamplingParams
from minivault.models.pooled import PooledModel
from minivault.models.prompt import LONG_TEXT, PROMPT_SECONDS, PROMPT_THREADS, TOKEN_SIZE, TURN_SIZE, PromptTokenizer
from minivault.models.threads import Limit
from minivault.service.admission import Place
from minivault.service.ports import ModelLease
from minivault.vault.record import Intent, Pin


class EmbeddingModel(Protocol):
    """A loaded model that can embed."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> PromptTokenizer: ...
    @property
    def weights_digest(self) -> str: ...
    @property
    def tokenizer_digest(self) -> str: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def embedder(self) -> Embedder: ...


def embedding(model: PooledModel) -> EmbeddingModel:
    """``model`` as one that embeds.

    Raises:
        UnsupportedFeature: it does not.
    """
    if getattr(model, "embedder", None) is None:
        raise UnsupportedFeature(f"the model {model.name} cannot embed: choose another with `model`", param="model")
    return cast(EmbeddingModel, model)


@dataclass(frozen=True, slots=True)
class PreparedTexts:
    """A request that has passed every check."""

    request: EmbeddingRequest
    caller: Caller
    lease: ModelLease
    """Holds the model until the call is over."""
    model: EmbeddingModel
    prompt_text: str
    texts: tuple[tuple[int, ...], ...]
    begun_ns: int
    extra_parameters: dict[str, Any]
    reservation: Reservation = field(default_factory=Reservation)
    """Tokens of the caller's that it uses; settled when the call is over."""
    place: Place = field(default_factory=Place)
    """Among the prompts that wait; given up when the call is over."""
    limit: float | None = None
    """Seconds that it may take from ``begun_ns`` on."""

    @property
    def sampling(self) -> SamplingParams:
        """None is drawn."""
        return SamplingParams(max_tokens=0)

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.texts))


async def prepared_texts(
    request: EmbeddingRequest, caller: Caller, lease: ModelLease, begun_ns: int, replay_of: int | None = None
) -> PreparedTexts:
    """A request, checked, with a lease of its own.

    Raises:
        InvalidRequest: a text is empty or too long, or a bound is broken.
        UnsupportedFeature: the model cannot embed.
        Overloaded: so many other requests are prepared that this one was not begun.
    """
    model = embedding(lease.model)
    known = model.embedder.embedding
    _check_bounds(request, known.width)
    longest = known.max_tokens if request.context_limit is None else min(request.context_limit, known.max_tokens)
    texts, words, truncated = await _read(request, model, longest)
    said = {
        "token_counts": [len(text) for text in texts],
        "pooling": known.pooling_digest,
        "dimensions": request.dimensions,
        "truncated": truncated,
    }
    return PreparedTexts(
        request=request,
        caller=caller,
        lease=lease.again(),
        model=model,
        prompt_text=words,
        texts=texts,
        begun_ns=begun_ns,
        extra_parameters={"embedding": said} | ({} if replay_of is None else {"replay_of": replay_of}),
    )


def _check_bounds(request: EmbeddingRequest, width: int) -> None:
    if not 1 <= request.count <= MAX_TEXTS:
        raise InvalidRequest(f"input must have 1 to {MAX_TEXTS} texts", param="input")
    if request.dimensions is not None and not 1 <= request.dimensions <= width:
        raise InvalidRequest(f"dimensions must be from 1 to {width} for this model", param="dimensions")


class _Read(NamedTuple):
    texts: tuple[tuple[int, ...], ...]
    words: str
    truncated: int
    """How many of them were cut."""


async def _read(request: EmbeddingRequest, model: EmbeddingModel, longest: int) -> _Read:
    """The tokens of each text within the model's bound, and what the vault shows."""

    def read() -> _Read:
        whole = _tokens(request, model)
        texts = tuple(_fitting(text, place, longest, request) for place, text in enumerate(whole))
        cut = sum(len(one) != len(text) for one, text in zip(whole, texts, strict=True))
        return _Read(texts, _words(request, texts, model.tokenizer), cut)

    size = sum(map(len, request.texts)) + TOKEN_SIZE * sum(map(len, request.token_ids)) + TURN_SIZE * request.count
    if size < LONG_TEXT:
        return read()
    late = InvalidRequest(f"input: did not become tokens within {PROMPT_SECONDS:g} seconds", param="input")
    return await PROMPT_THREADS.do(read, Limit(PROMPT_SECONDS, late))


def _tokens(request: EmbeddingRequest, model: EmbeddingModel) -> tuple[tuple[int, ...], ...]:
    if request.token_ids:
        most = model.engine.info.vocab_size
        if not all(0 <= token_id < most for text in request.token_ids for token_id in text):
            raise InvalidRequest(f"input: token ids must lie in 0 to {most - 1}", param="input")
        return request.token_ids
    lower = getattr(model, "lower_case", False)
    texts = (text.lower() if lower else text for text in request.texts)
    return tuple(tuple(model.tokenizer.encode(text, add_special_tokens=True)) for text in texts)


def _fitting(text: tuple[int, ...], place: int, longest: int, request: EmbeddingRequest) -> tuple[int, ...]:
    """``text`` within the model's bound. What is cut is cut before its last token: an encoder's texts end in one."""
    if not text:
        raise InvalidRequest(f"input.{place} must give at least 1 token", param=f"input.{place}")
    if len(text) <= longest:
        return text
    if not request.truncate:
        who = "the request" if longest == request.context_limit else "this model"
        raise ContextTooLong(
            f"input.{place} has {len(text)} tokens, and {who} takes at most {longest}", param=f"input.{place}"
        )
    return text[:longest] if request.token_ids else (*text[: longest - 1], text[-1])


def _words(request: EmbeddingRequest, texts: Sequence[Sequence[int]], tokenizer: PromptTokenizer) -> str:
    """What the vault shows as the prompt: the text, or all of them as a JSON list."""
    words = list(request.texts)
    for ids in texts if not words else ():
        decoder = tokenizer.decoder()
        words.append(decoder.push(list(ids)) + decoder.finish())
    return words[0] if len(words) == 1 else json.dumps(words, ensure_ascii=False)


def embedding_pin(model: EmbeddingModel) -> Pin:
    """What vectors of this model depend on. How they are pooled takes the place of a template."""
    info = model.engine.info
    return Pin(
        model=model.name,
        weights_digest=model.weights_digest,
        tokenizer_digest=model.tokenizer_digest,
        template_digest=model.embedder.embedding.pooling_digest,
        engine=info.name,
        engine_build=info.build,
        arithmetic=info.arithmetic,
        exact=info.exact,
    )


def embedding_intent(prepared: PreparedTexts) -> Intent:
    request = prepared.request
    return Intent(
        request_id=request.request_id,
        surface=request.surface,
        source=request.source,
        api_key_id=prepared.caller.api_key_id,
        mode="full",
        pin=embedding_pin(prepared.model),
        parameters=prepared.extra_parameters,
        ignored=request.ignored,
        store=request.store and prepared.caller.store,
        prompt_text=prepared.prompt_text,
        prompt_token_ids=tuple(token_id for text in prepared.texts for token_id in text),
        raw_request=request.raw_request,
    )
