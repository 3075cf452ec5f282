"""``--local``: the service and its engine in this process, for the length of a command. Recorded like any other call.

Bodies are read and answers are written by the code of the native surface, so both ways of asking have the same bounds.
Knows nothing of the terminal.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Coroutine, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from minivault.access.caller import Caller
from minivault.api.problems import Problem, validated
from minivault.api.wire.embeddings import EmbedRequest, native_answer
from minivault.api.wire.native import GenerateRequest, answer_of
from minivault.cli.console import CliError, taught, working
from minivault.embedding import EmbeddingRequest
from minivault.errors import InvalidRequest, MiniVaultError
from minivault.generation import Chunk, GenerationRequest
from minivault.service import Service
from minivault.service.opening import open_service
from minivault.settings import Settings
from minivault.telemetry.logging import configure_logging

CALLER = Caller(address="local")
T = TypeVar("T")


class Local:
    """A backend that owns an event loop and on it a service; the loop runs only while a command waits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        # Diagnostics below a warning would stand between the lines of an answer.
        configure_logging("warning", self._settings.log_format)
        try:
            with working("Loading the model"):
                self._service: Service = self._run(self._stack.enter_async_context(open_service(self._settings)))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        """Everything that was begun has its outcome on the record when this returns."""
        try:
            self._run(self._stack.aclose())
        finally:
            self._runner.close()

    def replay(self, record_id: str) -> dict[str, Any]:
        with _failures():
            return asdict(self._run(self._service.replay(record_id, CALLER)))

    def records(self, cursor: str | None) -> dict[str, Any]:
        with _failures():
            return self._run(self._service.records.list(cursor=cursor, limit=1000))

    def takes(self, field: str) -> bool:
        return field in GenerateRequest.model_fields

    def generate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with _failures():
            return answer_of(self._run(self._service.generate(_request(body, stream=False), CALLER)), None)

    def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with _failures():
            embedded = self._run(self._service.embed(_embedding_request(body), CALLER))
        if embedded is None:
            raise CliError("The embedding was cancelled.")
        return native_answer(embedded)

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        with _failures():
            chunks = self._service.stream(_request(body, stream=True), CALLER)

        async def following() -> Chunk | None:
            return await anext(chunks, None)

        try:
            while True:
                with _failures():
                    chunk = self._run(following())
                if chunk is None:
                    return
                yield _piece(chunk)
        finally:
            self._run(chunks.aclose())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except MiniVaultError as error:
        raise CliError(
            taught(error.message), exit_code=2 if isinstance(error, InvalidRequest) else 1, code=error.code
        ) from None


def _request(body: Mapping[str, Any], *, stream: bool) -> GenerationRequest:
    """The request that a body of the native surface asks for."""
    raw = json.dumps(body, ensure_ascii=False).encode()
    try:
        parsed = validated(GenerateRequest, body)
    except Problem as error:
        raise CliError(error.message, exit_code=2) from None
    with _failures():
        request = parsed.to_generation(stream=stream, request_id=uuid.uuid4().hex, raw_request=raw)
    return replace(request, source="cli")


def _embedding_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    raw = json.dumps(body, ensure_ascii=False).encode()
    try:
        parsed = validated(EmbedRequest, body)
    except Problem as error:
        raise CliError(error.message, exit_code=2) from None
    return replace(parsed.to_embedding(request_id=uuid.uuid4().hex, raw_request=raw), source="cli")


def _piece(chunk: Chunk) -> dict[str, Any]:
    """A chunk as a JSON line of the native surface has it."""
    if chunk.completion is None:
        return {"response": chunk.text}
    answer = answer_of(chunk.completion, None)
    closing = {name: answer[name] for name in ("usage", "finish_reason", "seed", "record")}
    return {"response": "", "done": True, **closing}
