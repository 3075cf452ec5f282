"""Answers again, from the records of calls: for lines of batches that a crash cut off from their answers.

Each takes the body that was asked and the calls that were made for it. Knows nothing of how records are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from minivault.api.wire import openai_answers, responses_answers
from minivault.api.wire.openai import ChatCompletionRequest, CompletionRequest
from minivault.api.wire.responses import ID_PREFIX, ResponsesRequest
from minivault.generation import Completion, FinishReason, JsonObject, RecordRef, Usage
from minivault.models.reasoning import Reasoning, answer_parser
from minivault.models.tool_calls import Dialect, ToolCallParser, parser_for
from minivault.service import EarlierCall

_NO_RECORD = RecordRef(0, "")
"""OpenAI's answers name none."""


def parser_of(call: EarlierCall, tools: Sequence[JsonObject], *, several: bool) -> ToolCallParser | None:
    """A parser of a recorded answer, as it was read then."""
    dialect = call.tool_dialect
    calls = None if dialect is None else parser_for(Dialect(dialect), tools, call.id, several=several)
    return answer_parser(None if call.reasoning is None else Reasoning(call.reasoning), calls)


def calls_of_chat(body: bytes) -> int:
    return ChatCompletionRequest.model_validate(json.loads(body)).choices


def chat(body: bytes, calls: Sequence[EarlierCall]) -> Mapping[str, Any] | None:
    """``None``: log-probabilities were asked for, which records do not hold."""
    asked = ChatCompletionRequest.model_validate(json.loads(body))
    if asked.logprobs:
        return None
    tools = asked.to_generation(request_id="", raw_request=b"").tools
    several = asked.parallel_tool_calls is not False
    parsers = [parser_of(call, tools, several=several) for call in calls]
    return openai_answers.chat_answer(_head("chatcmpl-", calls, asked.choices), _completions(calls), None, parsers)


def calls_of_text(body: bytes) -> int:
    asked = CompletionRequest.model_validate(json.loads(body))
    return len(asked.prompts) * asked.choices


def text(body: bytes, calls: Sequence[EarlierCall]) -> Mapping[str, Any] | None:
    """As :func:`chat`, of a text completion."""
    asked = CompletionRequest.model_validate(json.loads(body))
    if asked.logprobs is not None:
        return None
    completions = _completions(calls, echo=asked.echo or False)
    return openai_answers.text_answer(_head("cmpl-", calls, asked.choices), completions, None)


def response(body: bytes, calls: Sequence[EarlierCall]) -> Mapping[str, Any] | None:
    asked = ResponsesRequest.model_validate(json.loads(body))
    [call] = calls
    complete = call.finish_reason is FinishReason.STOP
    parser = parser_of(call, asked.offered, several=asked.parallel_tool_calls is not False)
    output = responses_answers.whole_output(call.id, call.response, parser, complete=complete)
    head = responses_answers.ResponseHead(ID_PREFIX + call.id, call.time_ns // 10**9, call.model, asked)
    return head.ended(output, call.prompt_tokens, call.completion_tokens, complete=complete)


def _head(prefix: str, calls: Sequence[EarlierCall], choices_a_prompt: int) -> openai_answers.AnswerHead:
    first = calls[0]
    return openai_answers.AnswerHead(
        id=prefix + first.id,
        created=first.time_ns // 10**9,
        model=first.model,
        fingerprint=first.fingerprint,
        choices=len(calls),
        choices_a_prompt=choices_a_prompt,
    )


def _completions(calls: Sequence[EarlierCall], *, echo: bool = False) -> list[Completion]:
    return [
        Completion(
            id=call.id,
            model=call.model,
            response=(call.prompt if echo else "") + call.response,
            finish_reason=call.finish_reason,
            usage=Usage(call.prompt_tokens, call.completion_tokens),
            seed=0,
            generated_at="",
            record=_NO_RECORD,
            choice=choice,
        )
        for choice, call in enumerate(calls)
    ]
