"""From a request and a model to what is recorded and run: prompt tokens, resolved parameters, the form of the answer.

Knows nothing of the ledger, of queues or of HTTP. Owned by the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from minivault.access.caller import Caller
from minivault.engine.engine import Constraint
from minivault.errors import ContextTooLong, ModelNotReady, UnsupportedFeature
from minivault.generation import GenerationRequest, SamplingParams
from minivault.models import parameters
from minivault.models.loaded_remote import RemoteModel
from minivault.models.prompt import LONG_TEXT, Prompt, read_prompt
from minivault.models.structure import GRAMMAR_THREADS, Structure, compiled, structure_of
from minivault.models.tool_calls import Calling
from minivault.models.words import limited, may_fill, read_words
from minivault.service.named import named_as_sent
from minivault.service.ports import ModelLease, ServedModel, generating
from minivault.service.prepared import Prepared

ENGINE_STOPPED = "The engine has stopped after a fault; the log of the server says which. The model is loaded anew."
ENGINE_RETRY_SECONDS = 30.0
CHARACTERS_A_TOKEN = 4


class Preparer:
    """Fills in what requests leave open."""

    def __init__(self, default_max_tokens: int, draw_seed: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._default_max_tokens = default_max_tokens
        self._draw_seed = draw_seed
        self._new_id = new_id

    async def prepare(self, request: GenerationRequest, caller: Caller, lease: ModelLease, begun_ns: int) -> Prepared:
        """Everything that the request needs of its model, checked. It holds the model from here on.

        Raises:
            InvalidRequest, UnsupportedFeature, ContextTooLong: a field is wrong for this model.
            ModelNotReady: its engine has stopped.
            Overloaded: so many other requests are prepared that this one was not begun.
        """
        model = generating(lease.model)
        if model.engine.failure is not None:
            raise ModelNotReady(ENGINE_STOPPED, retry_after=ENGINE_RETRY_SECONDS)
        info = model.engine.info
        if info.speaks_text:
            return await self._in_words(request, caller, lease, begun_ns)
        prompt = await read_prompt(request, model.tokenizer, model.chat_template, info.vocab_size)
        with named_as_sent(request, prompt.calling, None):
            structure = await _structure(request, prompt.calling)
        sampling = self._sampling(request, prompt, model)
        with named_as_sent(request, prompt.calling, structure):
            structure, constraint = await constraint_of(model, structure)
        named = request if request.request_id else replace(request, request_id=self._new_id())
        return Prepared(
            request=named,
            caller=caller,
            model=model,
            lease=lease.again(),
            prompt_text=prompt.text,
            prompt_token_ids=prompt.token_ids,
            sampling=sampling,
            begun_ns=begun_ns,
            structure=structure,
            constraint=constraint,
            calling=prompt.calling,
            reasoning=prompt.reasoning,
        )

    def _sampling(self, request: GenerationRequest, prompt: Prompt, model: ServedModel) -> SamplingParams:
        """With what the model and the settings say where the request says nothing."""
        info, prompt_tokens = model.engine.info, len(prompt.token_ids)
        return parameters.resolve(
            replace(request.sampling, stop=(*request.sampling.stop, *prompt.stop)),
            model.generation_defaults,
            prompt_tokens=prompt_tokens,
            context_length=context_length(request, info.context_length, prompt_tokens),
            longest=info.longest,
            vocab_size=info.vocab_size,
            default_max_tokens=self._default_max_tokens,
            seed=self._draw_seed(),
            fit=request.fit,
        )

    async def _in_words(self, request: GenerationRequest, caller: Caller, lease: ModelLease, begun_ns: int) -> Prepared:
        """For a model that other servers run: there are no tokens, and the servers hold answers to a form."""
        model = generating(lease.model)
        prompt = read_words(request)
        with named_as_sent(request, prompt.calling, None):
            structure = await _structure(request, None)
        default, seed = self._default_max_tokens, self._draw_seed()
        sampling = limited(request.sampling, default_max_tokens=default, seed=seed)
        # A limit that cannot be passed on is at least on record as such.
        ignored = request.ignored if request.context_limit is None else (*request.ignored, "context_limit")
        return Prepared(
            request=replace(request, request_id=request.request_id or self._new_id(), ignored=ignored),
            caller=caller,
            model=model.for_one_answer() if isinstance(model, RemoteModel) else model,
            lease=lease.again(),
            prompt_text=prompt.text,
            prompt_token_ids=(),
            sampling=sampling,
            begun_ns=begun_ns,
            structure=structure,
            calling=prompt.calling,
            reasoning=prompt.reasoning,
        )


async def _structure(request: GenerationRequest, calling: Calling | None) -> Structure | None:
    """The form that the answer must have. Schemas are as long as requests, at most."""

    def read() -> Structure | None:
        structure = structure_of(request.response_format)
        return structure if calling is None else calling.structure(structure)

    return read() if len(request.raw_request) < LONG_TEXT else await GRAMMAR_THREADS.do(read)


def context_length(request: GenerationRequest, length: int, prompt_tokens: int) -> int:
    """The model's, or less where the request says so."""
    limit = request.context_limit
    if limit is None or limit >= length:
        return length
    if prompt_tokens >= limit:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and the request limits the context to {limit}: "
            "there is no room for an answer",
            param="prompt",
        )
    return limit


async def reserved(prepared: Prepared, others: Sequence[Prepared] = (), shares: int = 1) -> Prepared:
    """With the tokens that it may use at most taken from the caller's windows. ``others``: of the same request;
    ``shares``: of how many, with this one, they are still to be taken."""
    most, least = _tokens_of(prepared)
    beside = sum(at_least or at_most for at_most, at_least in map(_tokens_of, others))
    reservation = await prepared.caller.quota.reserve(most, least=least, shares=shares, beside=beside)
    return replace(prepared, reservation=reservation)


def _tokens_of(prepared: Prepared) -> tuple[int, int | None]:
    """What it takes at most; and at least, where only a server behind knows its end."""
    prompt, info = guessed_prompt(prepared), prepared.model.engine.info
    most = prompt + (prepared.sampling.max_tokens or 0)
    if info.speaks_text and may_fill(prepared.request):
        return min(most, info.context_length), prompt + 1
    return most, None


def guessed_prompt(prepared: Prepared) -> int:
    """Tokens of the prompt. A model that other servers run counts it there: put right by the outcome."""
    return len(prepared.prompt_token_ids) or len(prepared.prompt_text) // CHARACTERS_A_TOKEN


async def constraint_of(model: ServedModel, structure: Structure | None) -> tuple[Structure | None, Constraint | None]:
    """The form as it was compiled, which is what is recorded, and what holds an answer to it.

    Raises:
        UnsupportedFeature: the model's engine cannot.
        InvalidRequest: it does not compile.
        Overloaded: so many others compile that it did not begin.
    """
    if structure is None:
        return None, None
    if model.grammars is None:
        raise UnsupportedFeature(
            "response_format: this model's engine cannot hold answers to a form", param="response_format"
        )
    return await compiled(structure, model.grammars)
