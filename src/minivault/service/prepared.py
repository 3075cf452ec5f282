"""A request that has passed every check, and what goes on record of it before anything is shown. Pure values.

Knows nothing of how a request is checked, or of how it is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minivault.access.caller import Caller
from minivault.access.limits import Reservation
from minivault.engine.engine import Constraint
from minivault.generation import GenerationRequest, SamplingParams
from minivault.models import parameters
from minivault.models.chat_template import DEFAULT_STOPS
from minivault.models.reasoning import Reasoning
from minivault.models.structure import Structure
from minivault.models.tool_calls import Calling
from minivault.service.admission import Place
from minivault.service.ports import ModelLease, ServedModel
from minivault.service.repeat import RecordedAnswer, repeat_key
from minivault.vault.record import Intent, Pin


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that has passed every check: what the engine and the vault get."""

    request: GenerationRequest
    caller: Caller
    model: ServedModel
    lease: ModelLease
    """Holds ``model`` until the call is over."""
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    begun_ns: int
    structure: Structure | None = None
    constraint: Constraint | None = None
    """Of ``structure``, at its start; the engine's once it is submitted."""
    calling: Calling | None = None
    reasoning: Reasoning | None = None
    extra_parameters: Mapping[str, Any] = field(default_factory=dict)
    reservation: Reservation = field(default_factory=Reservation)
    """Tokens of the caller's that it may use; settled when the call is over."""
    recorded: RecordedAnswer | None = None
    """Given again instead of asking the engine."""
    place: Place = field(default_factory=Place)
    """Among the prompts that wait; given up when the answer begins."""
    limit: float | None = None
    """Seconds that it may take from ``begun_ns`` on."""


def pin_of(model: ServedModel) -> Pin:
    """What answers of this model depend on."""
    info = model.engine.info
    return Pin(
        model=model.name,
        weights_digest=model.weights_digest,
        tokenizer_digest=model.tokenizer_digest,
        template_digest=model.template_digest,
        engine=info.name,
        engine_build=info.build,
        arithmetic=info.arithmetic,
        exact=info.exact,
    )


def effective_of(prepared: Prepared) -> dict[str, Any]:
    """The parameters that decide what is answered, as they are recorded."""
    effective = parameters.to_record(prepared.sampling)
    if prepared.structure is not None:
        compiler = prepared.model.grammars
        version = {} if compiler is None else {"compiler": compiler.version}
        effective["response_format"] = prepared.structure.to_record() | version
    return effective


def written_in(effective: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the parameters that the caller wrote as text, as tokens, which are text, or as structure."""
    names = [name for name in ("logit_bias", "stop_token_ids") if effective.get(name)]
    if {*effective.get("stop", ())} - {*DEFAULT_STOPS}:
        names.append("stop")
    if "source" in effective.get("response_format", {}):
        names.append("response_format.source")
    return tuple(names)


def key_of(prepared: Prepared) -> int | None:
    """The key under which calls are found that must be answered as this one."""
    model = prepared.model
    return repeat_key(pin_of(model), prepared.prompt_token_ids, effective_of(prepared), model.eos_token_ids)


def intent_of(prepared: Prepared) -> Intent:
    request = prepared.request
    effective = effective_of(prepared) | {"raw": request.raw, "echo": request.echo}
    if request.choice:
        effective["choice"] = request.choice
    if prepared.calling is not None:
        effective["tool_dialect"] = prepared.calling.dialect.value
    if prepared.reasoning is not None:
        effective["reasoning"] = prepared.reasoning.value
    if prepared.recorded is not None:
        effective["from_record"] = prepared.recorded.index
    effective |= prepared.extra_parameters
    # Only answers of the engine's are given again, so that each names where it was first given.
    original = prepared.recorded is None and not prepared.extra_parameters
    return Intent(
        request_id=request.request_id,
        surface=request.surface,
        source=request.source,
        api_key_id=prepared.caller.api_key_id,
        mode="stream" if request.stream else "full",
        pin=pin_of(prepared.model),
        parameters=effective,
        ignored=request.ignored,
        store=request.store and prepared.caller.store,
        prompt_text=prepared.prompt_text,
        prompt_token_ids=prepared.prompt_token_ids,
        raw_request=request.raw_request,
        repeat_key=key_of(prepared) if original else None,
        constraints=written_in(effective),
    )
