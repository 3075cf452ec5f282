"""What the service needs of models and of the ledger, as protocols, so that each can be another.

Knows nothing of who implements them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from minivault.engine.engine import Engine
from minivault.models.prompt import PromptTemplate, PromptTokenizer
from minivault.models.structure import GrammarSource
from minivault.vault.reader import CallDetail, CallFilter, Page
from minivault.vault.record import Erasure, Intent, Outcome, Receipt


class ServedModel(Protocol):
    """A loaded model as the service needs it."""

    @property
    def name(self) -> str: ...
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
    def grammars(self) -> GrammarSource | None:
        """``None``: answers cannot be held to a form."""


class ModelSource(Protocol):
    """Where models come from by name."""

    @property
    def default_name(self) -> str: ...

    def get(self, name: str | None) -> ServedModel:
        """
        Raises:
            UnknownModel: no such model; names the closest.
            ModelNotReady: it is still loading.
        """

    def loaded(self) -> Iterable[ServedModel]: ...

    def listing(self) -> list[dict[str, Any]]:
        """What GET /models shows, one object a model."""

    def describe(self, name: str) -> dict[str, Any]:
        """The listing's object of one model, with its sizes. Blocking.

        Raises:
            UnknownModel: no such model; names the closest.
        """


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


class Book(Protocol):
    """The ledger as the service needs it. Futures fail with LedgerUnavailable, by the receipt deadline."""

    def append_intent(self, intent: Intent, /) -> Future[Receipt]: ...
    def append_outcome(self, outcome: Outcome, /) -> Future[Receipt]: ...
    def append_erasure(self, erasure: Erasure, /) -> Future[Receipt]: ...
    def status(self) -> LedgerState: ...


class RecordReader(Protocol):
    """The vault, read. Blocking: called in a thread."""

    def list(self, filters: CallFilter | None = None, *, cursor: str | None = None, limit: int = 50) -> Page: ...
    def get(self, id_or_index: str | int, /) -> CallDetail: ...
    def raw_request(self, index: int, /) -> bytes | None: ...
    def stats(self, filters: CallFilter | None = None) -> dict[str, Any]: ...
    def head(self) -> tuple[str, str]: ...
    def erasable(self, filters: CallFilter | None = None, *, after: int = -1, limit: int = 64) -> tuple[int, ...]: ...
    def proof(self, id_or_index: str | int, /) -> str: ...
