"""How each of the three packages is called, and what it makes of timeouts and refusals: one face for tests that ask the
same of all."""

from __future__ import annotations

from typing import Any, ClassVar

import anthropic
import httpx
import httpx2
import ollama
import openai
import pytest

TURNS: Any = [{"role": "user", "content": "hi"}]


def _errors(package: Any, *, stream: type[Exception]) -> dict[int | str, type[Exception]]:
    """What it raises by a refusal's status, and when a stream breaks off: two of the three name their errors alike."""
    return {
        404: package.NotFoundError,
        422: package.UnprocessableEntityError,
        429: package.RateLimitError,
        503: package.InternalServerError,
        "stream": stream,
    }


class OpenAI:
    """Each of these: how a package is called, and what it makes of a timeout."""

    timed_out: Any = (openai.APITimeoutError, httpx2.TimeoutException)
    errors: ClassVar[Any] = _errors(openai, stream=openai.APIError)

    def client(self, url: str, *, timeout: float = 120, retries: int = 0) -> Any:
        return openai.OpenAI(base_url=f"{url}/v1", api_key="k", timeout=timeout, max_retries=retries)

    def async_client(self, url: str, *, timeout: float = 120) -> Any:
        return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", timeout=timeout, max_retries=0)

    def ask(self, client: Any, *, stream: bool = False, model: str = "fake", temperature: float = 1) -> Any:
        return client.chat.completions.create(model=model, messages=TURNS, stream=stream, temperature=temperature)

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)

    def piece(self, event: Any) -> str:
        return event.choices[0].delta.content or "" if event.choices else ""


class Anthropic:
    timed_out: Any = (anthropic.APITimeoutError, httpx2.TimeoutException)
    errors: ClassVar[Any] = _errors(anthropic, stream=anthropic.APIStatusError)

    def client(self, url: str, *, timeout: float = 120, retries: int = 0) -> Any:
        return anthropic.Anthropic(base_url=url, api_key="k", timeout=timeout, max_retries=retries)

    def async_client(self, url: str, *, timeout: float = 120) -> Any:
        return anthropic.AsyncAnthropic(base_url=url, api_key="k", timeout=timeout, max_retries=0)

    def ask(self, client: Any, *, stream: bool = False, model: str = "fake", temperature: float = 1) -> Any:
        more = {"temperature": temperature}
        return client.messages.create(model=model, messages=TURNS, max_tokens=99, stream=stream, extra_body=more)

    def text(self, answer: Any) -> str:
        return "".join(block.text for block in answer.content)

    def piece(self, event: Any) -> str:
        return str(event.delta.text) if event.type == "content_block_delta" else ""


class Ollama:
    timed_out: Any = (httpx.TimeoutException,)
    errors: ClassVar[Any] = dict.fromkeys((404, 422, 429, 503, "stream"), ollama.ResponseError)

    def client(self, url: str, *, timeout: float = 120, retries: int = 0) -> Any:
        assert not retries, "it has none"
        return ollama.Client(host=url, timeout=timeout)

    def async_client(self, url: str, *, timeout: float = 120) -> Any:
        return ollama.AsyncClient(host=url, timeout=timeout)

    def ask(self, client: Any, *, stream: bool = False, model: str = "fake", temperature: float = 1) -> Any:
        return client.chat(model, TURNS, stream=stream, options={"temperature": temperature})

    def text(self, answer: Any) -> str:
        return str(answer.message.content)

    def piece(self, event: Any) -> str:
        return event.message.content or ""


Package = OpenAI | Anthropic | Ollama
PACKAGES: list[Package] = [OpenAI(), Anthropic(), Ollama()]
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: type(package).__name__)
RETRYING = pytest.mark.parametrize("package", PACKAGES[:2], ids=lambda package: type(package).__name__)
