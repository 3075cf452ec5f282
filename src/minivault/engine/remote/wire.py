"""What is said to an OpenAI-compatible server, and what its answer says: JSON to steps. Pure; opens no connection.

A parameter is sent only where the caller gave it, so what an upstream does not know cannot disturb it unasked. Calls of
tools and reasoning become the text that this house writes them in (``models/tool_calls.py``, ``models/reasoning.py``),
so that each surface can tell them in its own way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from minivault.engine.engine import TokenStep, TokenWords
from minivault.errors import EngineFailed
from minivault.generation import FinishReason, GenerationRequest, Message, SamplingParams, TokenLogprob, Usage
from minivault.models.tool_calls import written
from minivault.models.words import may_fill

UNREADABLE = "The upstream server sent an answer that cannot be read."
BROKEN_OFF = "The upstream server broke off before its answer ended."
REPORTED = "The upstream server reported an error while it answered."

_ALIKE = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty")
"""Parameters that are called the same on both sides, and sent where they are given."""
_REASONS = {"length": FinishReason.LENGTH}
"""All others ended of themselves."""
_HALF_PAIRS = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
_LEAST_LOGPROB = -9999.0
"""Stands for one that is not told, or is no number."""
_THINK, _THOUGHT = "<think>", "</think>\n"


def path_of(asked: GenerationRequest) -> str:
    """Where a request goes, below ``/v1``."""
    return "completions" if asked.raw else "chat/completions"


def body_of(asked: GenerationRequest, sampling: SamplingParams, model: str) -> dict[str, Any]:
    """The body for :func:`path_of`. ``sampling`` has the limit and the seed; the rest is as it was asked for."""
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= _sampling(sampling)
    if not may_fill(asked):
        body["max_tokens"] = sampling.max_tokens
    if asked.response_format is not None and asked.response_format.get("type", "text") != "text":
        body["response_format"] = _named_form(asked.response_format)
    if asked.raw:
        body["prompt"] = asked.prompt or ""
        return body if sampling.logprobs is None else body | {"logprobs": sampling.logprobs}
    body["messages"] = [_message(turn) for turn in _turns(asked)]
    if asked.tools:
        body |= {"tools": [dict(tool) for tool in asked.tools], "tool_choice": _tool_choice(asked.tool_choice)}
        body |= {} if asked.parallel_tool_calls else {"parallel_tool_calls": False}
    if asked.think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": asked.think}
    if sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    return body


def _sampling(sampling: SamplingParams) -> dict[str, Any]:
    given: dict[str, Any] = {name: value for name in _ALIKE if (value := getattr(sampling, name)) is not None}
    if sampling.repetition_penalty is not None:
        given["repeat_penalty"] = sampling.repetition_penalty  # llama.cpp's and Ollama's name for it
    given["seed"] = sampling.seed
    for name in ("presence_penalty", "frequency_penalty", "min_tokens", "ignore_eos"):
        if value := getattr(sampling, name):
            given[name] = value
    if sampling.stop:
        given["stop"] = list(sampling.stop)
    if sampling.stop_token_ids:
        given["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.logit_bias:
        given["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias}
    return given


def _turns(asked: GenerationRequest) -> Sequence[Message]:
    turns = asked.messages or (Message("user", asked.prompt or ""),)
    return turns if asked.system is None else (Message("system", asked.system), *turns)


def _named_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """With a name for its schema, which OpenAI's API asks for and other surfaces do not have."""
    held = form.get("json_schema")
    return {**form, "json_schema": {"name": "answer", **held}} if isinstance(held, Mapping) else dict(form)


def _message(turn: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        told["content"] = turn.content or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in turn.tool_calls
        ]
    optional = {"name": turn.name, "tool_call_id": turn.tool_call_id, "reasoning_content": turn.thinking or None}
    return told | {name: value for name, value in optional.items() if value is not None}


def _tool_choice(choice: str) -> Any:
    if not choice.startswith("named:"):
        return choice
    return {"type": "function", "function": {"name": choice.removeprefix("named:")}}


def parse(data: str) -> Mapping[str, Any]:
    """One event's JSON object.

    Raises:
        EngineFailed: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise EngineFailed(UNREADABLE) from None
    if not isinstance(value, dict):
        raise EngineFailed(UNREADABLE)
    return value


def encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


class Reading:
    """Reads one answer, event by event. What has an unexpected shape is left out; what makes no sense is an error."""

    def __init__(self, words: TokenWords, stop: Sequence[str]) -> None:
        self._words = words
        self._stop = stop
        self._count = 0
        self._thinking = False
        self._said = False
        self._calls: dict[int, list[str]] = {}
        """By its index: name and arguments, as far as they have come."""
        self._reason: str | None = None
        self._stopped_by: str | None = None
        self._usage: Usage | None = None

    @property
    def count(self) -> int:
        """Tokens so far, as far as the pieces of the answer tell."""
        return self._count

    def push(self, event: Mapping[str, Any]) -> TokenStep | None:
        """What an event adds to the answer; ``None``: nothing yet.

        Raises:
            EngineFailed: the event tells of an error.
        """
        if event.get("error"):
            raise EngineFailed(REPORTED)
        self._usage = _usage(event.get("usage")) or self._usage
        choice = next(iter(_list(event.get("choices"))), None)
        if not isinstance(choice, dict):
            return None
        if isinstance(choice.get("finish_reason"), str):
            self._reason = choice["finish_reason"]
        if isinstance(choice.get("stop_reason"), str):
            self._stopped_by = choice["stop_reason"]
        delta = _object(choice.get("delta")) or _object(choice.get("message"))
        self._note_calls(delta.get("tool_calls"))
        thought = self._thought(_text(delta.get("reasoning_content")) or _text(delta.get("reasoning")))
        said = self._tokens(_text(delta.get("content")) or _text(choice.get("text")), choice.get("logprobs"))
        ids = (*thought, *said[0])
        return TokenStep(ids, () if thought else said[1]) if ids else None

    def finish(self) -> TokenStep:
        """The last step: calls of tools, why it ended, and how many tokens the server counted.

        Raises:
            EngineFailed: the answer did not end.
        """
        if self._reason is None:
            raise EngineFailed(BROKEN_OFF)
        calls = [written(name, arguments) for name, arguments in self._calls.values() if name]
        tail = _THOUGHT if self._thinking else ""
        tail += ("\n" if self._said and calls else "") + "\n".join(calls)
        if self._stopped_by in self._stop:
            tail += self._stopped_by or ""  # so that the surface can tell which one it was
        ids = (self._id(tail),) if tail else ()
        reason = _REASONS.get(self._reason, FinishReason.STOP)
        return TokenStep(ids, finish_reason=reason, usage=self._usage or Usage(0, self._count))

    def _thought(self, text: str) -> tuple[int, ...]:
        if not text:
            return ()
        opening = "" if self._thinking else _THINK
        self._thinking = True
        self._count += 1
        return (self._id(opening + text),)

    def _tokens(self, text: str, logprobs: Any) -> tuple[tuple[int, ...], tuple[TokenLogprob, ...]]:
        told = _told_logprobs(logprobs)
        if not text and not told:
            return (), ()
        closing = _THOUGHT if self._thinking else ""
        self._thinking, self._said = False, True
        self._count += max(1, len(told))
        if not told or closing:
            return (self._id(closing + text),), ()
        # The text is what counts: where the tokens' own words do not add up to it, the last one has all of it.
        names = [token for token, _, _, _ in told]
        texts = names if "".join(names) == text else [*("" for _ in told[1:]), text]
        ids = tuple(self._words.id_of(part, token, data) for part, (token, data, _, _) in zip(texts, told, strict=True))
        found = tuple(
            TokenLogprob(token_id, value, tuple((self._words.id_of("", *other[:2]), other[2]) for other in top))
            for token_id, (_, _, value, top) in zip(ids, told, strict=True)
        )
        return ids, found

    def _id(self, text: str) -> int:
        return self._words.id_of(text, text, text.encode())

    def _note_calls(self, deltas: Any) -> None:
        for place, delta in enumerate(_list(deltas)):
            told = _object(delta)
            index = told.get("index")
            call = self._calls.setdefault(index if isinstance(index, int) else place, ["", ""])
            function = _object(told.get("function"))
            call[0] += _text(function.get("name"))
            call[1] += _text(function.get("arguments"))
            self._count += 1


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return _HALF_PAIRS.sub("\ufffd", value) if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _usage(value: Any) -> Usage | None:
    counts = [_object(value).get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, answer = (count if type(count) is int and 0 <= count < 1 << 40 else None for count in counts)
    return None if prompt is None or answer is None else Usage(prompt, answer)


_Told = tuple[str, bytes, float, list[tuple[str, bytes, float]]]


def _told_logprobs(value: Any) -> list[_Told]:
    """Token, bytes, log-probability and alternatives, from either API's form."""
    told = _object(value)
    if isinstance(told.get("content"), list):
        return [
            (*_token(one), [_token(other) for other in _list(one.get("top_logprobs")) if isinstance(other, dict)])
            for one in told["content"]
            if isinstance(one, dict)
        ]
    tokens, values, tops = _list(told.get("tokens")), _list(told.get("token_logprobs")), told.get("top_logprobs")
    tops = tops if isinstance(tops, list) else [None] * len(tokens)
    return [
        (*_token({"token": token, "logprob": value}),
         [_token({"token": word, "logprob": one}) for word, one in _object(top).items()])
        for token, value, top in zip(tokens, values, tops, strict=False)
        if isinstance(token, str)
    ]  # fmt: skip


def _token(told: Mapping[str, Any]) -> tuple[str, bytes, float]:
    token, data = _text(told.get("token")), told.get("bytes")
    sound = isinstance(data, list) and all(type(byte) is int and 0 <= byte < 256 for byte in data)
    return token, bytes(data) if sound and isinstance(data, list) else token.encode(), _number(told.get("logprob"))


def _number(value: Any) -> float:
    sound = isinstance(value, int | float) and _LEAST_LOGPROB <= value <= -_LEAST_LOGPROB
    return float(value) if sound else _LEAST_LOGPROB
