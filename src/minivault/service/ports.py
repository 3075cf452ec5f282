"""What the service needs of models and of the ledger, as protocols, so that each can be another.

Knows nothing of who implements them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from minivault.engine.engine import Engine
from minivault.errors import UnsupportedFeature
from minivault.models.pooled import PooledModel
from minivault.models.prompt import PromptTemplate, PromptTokenizer
from minivault.models.structure import Compiler
from minivault.vault.export import ExportForm
from minivault.vault.reader import CallDetail, CallFilter, Page
from minivault.vault.record import Erasure, Intent, Outcome, Receipt


class ServedModel(Protocol):
    """A loaded model as the service needs it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def tokenizer(self) -> PromptTokenizer: ...
    @property
    def chat_template(self) -> PromptTemplate | None: ...
    @property
    def generation_defaults(self) -> Mapping[str, Any]: ...
    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...
    @property
    def weights_digest(self) -> str: ...
    @property
    def tokenizer_digest(self) -> str: ...
    @property
    def template_digest(self) -> str: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def grammars(self) -> Compiler | None:
        """``None``: answers cannot be held to a form."""


class ModelLease(Protocol):
    """A model that stays loaded until it is released."""

    @property
    def model(self) -> PooledModel:
        """Of any kind: see :func:`minivault.service.ports.generating`."""

    def again(self) -> ModelLease:
        """One more lease of the same model, at once."""

    def release(self) -> None:
        """Idempotent."""


class ModelSource(Protocol):
    """Where models come from by name. Owned by the event loop, but for what is said to block."""

    @property
    def default_name(self) -> str: ...

    async def acquire(self, name: str | None, keep_alive: float | None = None) -> ModelLease:
        """A lease of a model, or of the default one, once it is loaded. ``keep_alive``: seconds that it stays after
        this use; for ever if negative.

        Raises:
            UnknownModel: no such model; names the closest.
            ModelTooLarge: it does not fit the memory that models may take.
            Overloaded, ModelNotReady: too many wait, or this one waited too long.
            CheckpointError, ServerError: it could not be loaded.
        """

    def lease(self, name: str | None, keep_alive: float | None = None) -> AbstractAsyncContextManager[PooledModel]:
        """As :meth:`acquire`, for the length of a block."""

    async def load(self, name: str | None, keep_alive: float | None = None) -> None:
        """Have a model loaded; ``keep_alive`` becomes its own. Raises as :meth:`acquire`."""

    async def unload(self, name: str) -> bool:
        """Have a model leave memory once nobody uses it. Returns whether it was there.

        Raises:
            ModelNotReady: it is in use for too long.
        """

    def drain(self) -> None:
        """Begin no load any more, and let nobody wait for one."""

    def not_ready_because(self) -> str | None:
        """Why a request for the default model would fail or wait now."""

    def loaded(self) -> Iterable[PooledModel]: ...

    def states(self) -> dict[str, dict[str, Any]]:
        """Of each model in memory, or on its way there, what changes: see :mod:`minivault.models.pooled`."""

    def listing(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """What the catalog says, one object a model, and by the names of models that cannot be served what is wrong.

        Blocking; may be called on any thread.
        """

    def describe(self, name: str) -> dict[str, Any]:
        """The listing's object of one model, with its sizes. Blocking; may be called on any thread.

        Raises:
            UnknownModel: no such model; names the closest.
        """


def generating(model: PooledModel) -> ServedModel:
    """``model`` as one that answers prompts.

    Raises:
        UnsupportedFeature: it does not.
    """
    if model.kind != "generation":
        raise UnsupportedFeature(f"the model {model.name} makes embeddings and answers no prompts", param="model")
    return cast(ServedModel, model)


class LedgerState(Protocol):
    @property
    def records(self) -> int: ...
    @property
    def tree_size(self) -> int: ...
    @property
    def writable(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def signed_at(self) -> str | None: ...
    @property
    def open_calls(self) -> int: ...
    @property
    def head_size(self) -> int: ...
    @property
    def head_error(self) -> str | None: ...
    @property
    def mirror_error(self) -> str | None: ...


class Book(Protocol):
    """The ledger as the service needs it. Futures fail with LedgerUnavailable, by the receipt deadline."""

    def append_intent(self, intent: Intent, /) -> Future[Receipt]: ...
    def append_outcome(self, outcome: Outcome, /) -> Future[Receipt]: ...
    def append_outcomes(self, outcomes: Sequence[Outcome], /) -> list[Future[Receipt]]:
        """Not empty; all of them become durable together."""

    def append_erasure(self, erasure: Erasure, /) -> Future[Receipt]: ...
    def sign_head(self) -> Future[int]: ...
    def status(self) -> LedgerState: ...


class RecordReader(Protocol):
    """The vault, read. Blocking: called in a thread."""

    def list(self, filters: CallFilter | None = None, *, cursor: str | None = None, limit: int = 50) -> Page: ...
    def get(self, id_or_index: str | int, /, *, owner: str | None = None) -> CallDetail: ...
    def erased_calls(
        self, prefix: str, after: str = "", *, limit: int = 1000
    ) -> tuple[tuple[tuple[str, str | None], ...], str]: ...
    def erased_by(self, index: int, /) -> tuple[int, ...]: ...
    def raw_request(self, index: int, /) -> bytes | None: ...
    def repeats(self, repeat_key: int, /, *, owner: str | None = None) -> tuple[CallDetail, ...]: ...
    def is_sound(self, index: int, /) -> bool: ...
    def stats(self, filters: CallFilter | None = None) -> dict[str, Any]: ...
    def head(self) -> tuple[str, str]: ...
    def erasable(self, filters: CallFilter | None = None, *, after: int = -1, limit: int = 64) -> tuple[int, ...]: ...
    def proof(self, id_or_index: str | int, /, *, owner: str | None = None) -> str: ...
    def export(self, form: ExportForm, filters: CallFilter | None = None) -> Iterator[bytes]: ...
