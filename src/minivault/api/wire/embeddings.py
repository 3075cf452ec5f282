"""What the three surfaces take and give for embeddings: the native one, OpenAI's and Ollama's.

Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidatorFunctionWrapHandler, field_validator

from minivault.api.wire.lenient import LenientBody, listed
from minivault.api.wire.native import RecordBody
from minivault.api.wire.ollama import KeepAlive, ModelName, Options, seconds_of, tagged
from minivault.api.wire.openai import Name, TokenId, texts_or_tokens
from minivault.api.wire.strict import Items, StrictBody
from minivault.embedding import MAX_TEXTS, Embedded, EmbeddingRequest
from minivault.errors import InvalidRequest
from minivault.models.naming import untagged

MAX_DIMENSIONS = 1 << 16
MAX_TEXT_TOKENS = 1 << 20

Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[Items[Text], Field(min_length=1, max_length=MAX_TEXTS)]
TokenIds = Annotated[Items[TokenId], Field(min_length=1, max_length=MAX_TEXT_TOKENS)]
TokenTexts = Annotated[Items[TokenIds], Field(min_length=1, max_length=MAX_TEXTS)]
Dimensions = Annotated[
    int | None,
    Field(ge=1, le=MAX_DIMENSIONS, description="So many numbers of each vector, scaled to length 1; by default all."),
]


class EmbedRequest(StrictBody):
    """`POST /embed`. An unknown field is refused."""

    input: Text | Texts = Field(description="A text, or a list of texts.")
    model: Name | None = Field(None, description="By default, the server's default model.")
    truncate: bool = Field(False, description="Cut texts that are too long, rather than refuse them.")
    dimensions: Dimensions = None
    store: bool = Field(True, description="False: the record keeps commitments of the texts alone.")

    def to_embedding(self, *, request_id: str, raw_request: bytes) -> EmbeddingRequest:
        """The request of this body."""
        return EmbeddingRequest(
            texts=_texts(self.input),
            model=self.model,
            truncate=self.truncate,
            dimensions=self.dimensions,
            store=self.store,
            request_id=request_id,
            surface="native",
            raw_request=raw_request,
        )


class EmbedUsage(BaseModel):
    """Token counts by the model's tokenizer, special ones included."""

    prompt_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class EmbedResponse(BaseModel):
    """The vectors, in the order of the texts."""

    id: str
    model: str
    embeddings: list[list[float]]
    dimensions: int = Field(ge=1, description="Numbers of each vector.")
    usage: EmbedUsage
    generated_at: str = Field(description="UTC, RFC 3339.")
    record: RecordBody


class EmbeddingsRequest(LenientBody):
    """OpenAI's `POST /v1/embeddings`."""

    input: Text | Texts | TokenIds | TokenTexts = Field(description="A text, texts, token ids, or lists of token ids.")
    model: Annotated[Name, AfterValidator(untagged)] | None = None
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="`base64`: the bytes of little-endian 32-bit floats."
    )
    dimensions: Dimensions = None
    user: str | None = Field(None, max_length=512)

    @field_validator("input", mode="wrap")
    @classmethod
    def _in_one_of_four_ways(cls, value: Any, taken: ValidatorFunctionWrapHandler) -> Any:
        return texts_or_tokens(value, taken, MAX_TEXTS)

    def to_embedding(self, *, request_id: str, raw_request: bytes) -> EmbeddingRequest:
        """The request of this body.

        Raises:
            UnsupportedFeature: a limit was sent that is none here.
        """
        self.refuse_limits()
        given: Any = self.input
        is_text = isinstance(given, str) or isinstance(given[0], str)
        of_ids = () if is_text else (tuple(given),) if isinstance(given[0], int) else tuple(map(tuple, given))
        return EmbeddingRequest(
            texts=_texts(given) if is_text else (),
            token_ids=of_ids,
            model=self.model,
            dimensions=self.dimensions,
            request_id=request_id,
            surface="openai",
            ignored=listed([*self.unknown(), *(["user"] if self.user is not None else [])]),
            raw_request=raw_request,
        )


class EmbeddingBody(BaseModel):
    """One vector: numbers, or their bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(ge=0)
    embedding: list[float] | str


class EmbeddingsBody(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"] = "list"
    data: list[EmbeddingBody]
    model: str
    usage: EmbedUsage


class OllamaEmbedBody(LenientBody):
    """Ollama's `POST /api/embed`. Without texts, the model is only made ready."""

    model: ModelName
    input: str | Annotated[Items[str], Field(max_length=MAX_TEXTS)] | None = None
    truncate: bool | None = Field(None, description="By default true: texts that are too long are cut.")
    dimensions: Dimensions = None
    keep_alive: KeepAlive = None
    options: Options | None = None

    @property
    def asks_nothing(self) -> bool:
        return not self.input

    def to_embedding(self, *, request_id: str, raw_request: bytes) -> EmbeddingRequest:
        """
        Raises:
            InvalidRequest: one of several texts is empty.
            UnsupportedFeature: a limit was sent that is none here.
        """
        _refuse_limits(self, self.options)
        texts = _texts(self.input or [])
        for place, text in enumerate(texts):
            if not text:
                raise InvalidRequest(f"input.{place} must have at least 1 character", param=f"input.{place}")
        return EmbeddingRequest(
            texts=texts,
            model=untagged(self.model),
            truncate=self.truncate is not False,
            context_limit=_longest(self.options),
            dimensions=self.dimensions,
            keep_alive=seconds_of(self.keep_alive),
            request_id=request_id,
            surface="ollama",
            ignored=listed([*self.unknown(), *_of_options(self.options)]),
            raw_request=raw_request,
        )


class OllamaEmbeddingsBody(LenientBody):
    """Ollama's older `POST /api/embeddings`: one text, one vector."""

    model: ModelName
    prompt: str | None = None
    keep_alive: KeepAlive = None
    options: Options | None = None

    @property
    def asks_nothing(self) -> bool:
        return not self.prompt

    def to_embedding(self, *, request_id: str, raw_request: bytes) -> EmbeddingRequest:
        """The request of this body; what is too long is cut.

        Raises:
            UnsupportedFeature: a limit was sent that is none here.
        """
        _refuse_limits(self, self.options)
        return EmbeddingRequest(
            texts=(self.prompt or "",),
            model=untagged(self.model),
            truncate=True,
            context_limit=_longest(self.options),
            keep_alive=seconds_of(self.keep_alive),
            request_id=request_id,
            surface="ollama",
            ignored=listed([*self.unknown(), *_of_options(self.options)]),
            raw_request=raw_request,
        )


class OllamaVectorsBody(BaseModel):
    """The answer of `POST /api/embed`. Durations are nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class OllamaVectorBody(BaseModel):
    """The answer of `POST /api/embeddings`."""

    embedding: list[float]


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _of_options(options: Options | None) -> list[str]:
    """Options of sampling, none of which an embedding has."""
    if options is None:
        return []
    sent = options.model_fields_set | set(options.model_extra or {})
    return [f"options.{name}" for name in sorted(sent - {"num_ctx"})]


def _longest(options: Options | None) -> int | None:
    return None if options is None else options.num_ctx


def _refuse_limits(body: LenientBody, options: Options | None) -> None:
    body.refuse_limits()
    if options is not None:
        options.refuse_limits("options.")


def numbers(vector: bytes) -> list[float]:
    """A vector as JSON has it."""
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def native_answer(embedded: Embedded) -> dict[str, Any]:
    """As :class:`EmbedResponse` describes it."""
    return {
        "id": embedded.id,
        "model": embedded.model,
        "embeddings": [numbers(vector) for vector in embedded.vectors],
        "dimensions": embedded.width,
        "usage": _usage(embedded),
        "generated_at": embedded.generated_at,
        "record": {"index": embedded.record.index, "leaf": embedded.record.leaf},
    }


def openai_answer(embedded: Embedded, *, as_base64: bool) -> dict[str, Any]:
    """As :class:`EmbeddingsBody` describes it."""
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector).decode("ascii") if as_base64 else numbers(vector),
            }
            for index, vector in enumerate(embedded.vectors)
        ],
        "model": embedded.model,
        "usage": _usage(embedded),
    }


def ollama_answer(embedded: Embedded, model: str) -> dict[str, Any]:
    """As :class:`OllamaVectorsBody` describes it; ``model`` as it was called, with its tag."""
    return {
        "model": tagged(model),
        "embeddings": [numbers(vector) for vector in embedded.vectors],
        "total_duration": embedded.total_ns,
        "load_duration": 0,
        "prompt_eval_count": embedded.prompt_tokens,
    }


def _usage(embedded: Embedded) -> dict[str, int]:
    return {"prompt_tokens": embedded.prompt_tokens, "total_tokens": embedded.prompt_tokens}
