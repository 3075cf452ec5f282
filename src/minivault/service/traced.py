"""What a trace says of a call: its request and its outcome as values. Pure; knows nothing of OpenTelemetry."""

from __future__ import annotations

from dataclasses import replace

from minivault.generation import GenerationRequest, SamplingParams
from minivault.service.prepared import Prepared
from minivault.service.texts import PreparedTexts
from minivault.telemetry.tracing import TracedCall
from minivault.vault.record import Outcome, Receipt


def traced(prepared: Prepared | PreparedTexts, call_id: str, outcome: Outcome, receipt: Receipt) -> TracedCall:
    """Content is left out where the vault may not keep it either."""
    request = prepared.request
    generating = isinstance(request, GenerationRequest)
    store = request.store and prepared.caller.store
    sampling = prepared.sampling if store else replace(prepared.sampling, stop=())
    form = request.response_format if isinstance(request, GenerationRequest) else None
    return TracedCall(
        operation=_operation(request) if isinstance(request, GenerationRequest) else "embeddings",
        model=prepared.model.name,
        request_id=call_id,
        finish_reason=outcome.finish_reason,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        total_ns=outcome.timings["total_ns"],
        queue_ns=outcome.timings["queue_ns"],
        first_token_ns=outcome.timings.get("first_token_ns"),
        record_index=receipt.index,
        parameters=_parameters(sampling, request.stream) if isinstance(request, GenerationRequest) else {},
        as_json=form is not None and str(form.get("type", "")).startswith("json"),
        messages=_messages(prepared) if store else (),
        response=outcome.response_text if store and generating else "",
    )


def _operation(request: GenerationRequest) -> str:
    return "text_completion" if request.raw or request.prompt_token_ids else "chat"


def _parameters(sampling: SamplingParams, stream: bool) -> dict[str, str | int | float | bool | tuple[str, ...]]:
    named = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "stop_sequences": sampling.stop or None,
        "stream": stream or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def _messages(prepared: Prepared | PreparedTexts) -> tuple[tuple[str, str], ...]:
    request = prepared.request
    if isinstance(request, GenerationRequest) and request.messages:
        return tuple((turn.role, turn.content) for turn in request.messages)
    return (("user", prepared.prompt_text),)
