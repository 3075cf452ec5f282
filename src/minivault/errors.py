"""The one tree of exceptions. Each says whose fault it was; none knows HTTP (``api/problems.py`` does the mapping).

MiniVaultError
|-- CallerError                 the one who asked must change something
|   |-- InvalidRequest          a field is wrong: ``param`` names it, the message gives its bound
|   |   |-- ContextTooLong      prompt and answer do not fit the model's context
|   |   `-- UnsupportedFeature  well-formed, but this model or engine cannot do it
|   |       `-- ModelTooLarge   it does not fit the memory that models may take; gives the figures
|   |-- UnknownModel            no such model in the catalog; names the closest
|   |-- ModelInUse              the model is loaded somewhere, and cannot be taken away
|   |-- HubRefused              the model hub will not give this: not there, gated, or not in a form that is taken
|   |-- UnknownRecord           no such record in the vault
|   |-- UnknownKey              no such API key
|   |-- Unauthorized            an API key is needed, or the one that was shown does not open the door
|   |-- Forbidden               the caller may not do this
|   `-- RateLimited             too much in this window: ``retry_after`` in seconds
|-- ServerError                 this side must change something
|   |-- Overloaded              the queue is full: ``retry_after`` in seconds
|   |-- DeadlineExceeded        the request took longer than it may
|   |-- Draining                the server is shutting down
|   |-- ModelNotReady           the model is still loading: ``retry_after`` in seconds
|   |-- LedgerUnavailable       a record could not be made durable; nothing was answered
|   |-- KeysUnavailable         the file of the keys cannot be trusted or written; nobody is let in
|   |-- LimitsUnavailable       limits cannot be counted; nobody is let in
|   |-- VaultCorrupt            the vault does not hold together; nothing is written to it
|   |-- EngineFailed            the engine broke while it worked
|   |-- TooManyOpenFiles        the system has no descriptor left; what was to be read is not at fault
|   |-- HubUnavailable          the model hub cannot be reached, or broke off
|   `-- ConfigError             a setting is wrong: names the setting and where it came from
`-- CheckpointError             a model's files are at fault
    |-- CheckpointCorrupt       truncated, overlapping, lying about shapes
    `-- UnsupportedCheckpoint   sound, but not for this engine: says what was found and what is supported
"""

from __future__ import annotations


class MiniVaultError(Exception):
    """Base of all. ``str(error)`` is safe to show to the caller: it never echoes input."""

    code: str = "internal_error"
    """A stable word for programs."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class CallerError(MiniVaultError):
    code = "invalid_request"


class InvalidRequest(CallerError):
    code = "invalid_value"


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"


class UnsupportedFeature(InvalidRequest):
    code = "unsupported_feature"


class ModelTooLarge(UnsupportedFeature):
    code = "model_too_large"


class UnknownModel(CallerError):
    code = "model_not_found"


class ModelInUse(CallerError):
    code = "model_in_use"


class HubRefused(CallerError):
    code = "hub_refused"


class UnknownRecord(CallerError):
    code = "record_not_found"


class UnknownKey(CallerError):
    code = "key_not_found"


class Unauthorized(CallerError):
    code = "invalid_api_key"


class Forbidden(CallerError):
    code = "forbidden"


class RateLimited(CallerError):
    code = "rate_limit_exceeded"
    limit: str = "requests"
    """Which it was: requests, tokens or concurrent."""


def limit_of(error: BaseException) -> str | None:
    """Which limit of the client's own refused it; ``None`` where none did."""
    return error.limit if isinstance(error, RateLimited) else None


class ServerError(MiniVaultError):
    code = "server_error"


class Overloaded(ServerError):
    code = "overloaded"


class DeadlineExceeded(ServerError):
    code = "deadline_exceeded"


class Draining(ServerError):
    code = "draining"


class ModelNotReady(ServerError):
    code = "model_not_ready"


class LedgerUnavailable(ServerError):
    code = "ledger_unavailable"


class KeysUnavailable(ServerError):
    code = "keys_unavailable"


class LimitsUnavailable(ServerError):
    code = "limits_unavailable"


class VaultCorrupt(ServerError):
    code = "vault_corrupt"


class EngineFailed(ServerError):
    code = "engine_failed"


class TooManyOpenFiles(ServerError):
    code = "too_many_open_files"


class HubUnavailable(ServerError):
    code = "hub_unavailable"


class ConfigError(ServerError):
    code = "config_error"


class CheckpointError(MiniVaultError):
    code = "checkpoint_error"


class CheckpointCorrupt(CheckpointError):
    code = "checkpoint_corrupt"


class UnsupportedCheckpoint(CheckpointError):
    code = "unsupported_checkpoint"
