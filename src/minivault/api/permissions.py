"""Which route needs which permission: one table, read from the top. A path that is in no row is there for an admin's
key alone.

Decided on the path that routes are chosen by. Knows nothing of keys.
"""

from __future__ import annotations

from typing import NamedTuple

from minivault.access.roles import Permission

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/favicon.ico", "/docs", "/openapi.json"})
"""For everybody, even where keys are asked for. They tell nothing of this server but that it is there."""
OPEN_PREFIXES = ("/docs/", "/assets/")
"""The files of the pages: fixed ones, under fixed names."""

READING = ("GET", "HEAD")


class Row(NamedTuple):
    """``prefix`` ends with ``/`` where it stands for all below it; else it is one path, with or without more below."""

    methods: tuple[str, ...]
    """Empty: all."""
    prefix: str
    permission: Permission

    def fits(self, method: str, path: str) -> bool:
        if self.methods and method not in self.methods:
            return False
        return path == self.prefix or path.startswith(self.prefix if self.prefix.endswith("/") else self.prefix + "/")


TABLE = (
    Row((), "/admin/", Permission.KEYS),
    Row((), "/generate", Permission.GENERATE),
    Row((), "/generate-stream", Permission.GENERATE),
    Row((), "/embed", Permission.GENERATE),
    Row((), "/health", Permission.LOOK),
    Row((), "/metrics", Permission.OBSERVE),
    # Models: whoever has a key sees them; who changes what is served is an admin.
    Row(READING, "/models", Permission.LOOK),
    Row((), "/models", Permission.MODELS),
    # Records.
    Row(READING, "/vault", Permission.READ),
    Row(("DELETE",), "/vault", Permission.ERASE),
    Row(("POST",), "/vault/records/", Permission.REPLAY),
    # OpenAI's and Anthropic's. What is made there is the key's own, and so is what is read and deleted.
    Row(READING, "/v1/models", Permission.LOOK),
    Row(READING, "/v1/responses/", Permission.READ),
    Row(("DELETE",), "/v1/responses/", Permission.ERASE),
    Row(("POST",), "/v1/chat/completions", Permission.GENERATE),
    Row(("POST",), "/v1/completions", Permission.GENERATE),
    Row(("POST",), "/v1/responses", Permission.GENERATE),
    Row(("POST",), "/v1/embeddings", Permission.GENERATE),
    Row(("POST",), "/v1/messages", Permission.GENERATE),
    Row(READING, "/v1/files", Permission.READ),
    Row(READING, "/v1/batches", Permission.READ),
    Row((), "/v1/files", Permission.GENERATE),
    Row((), "/v1/batches", Permission.GENERATE),
    # Ollama's.
    Row(READING, "/api/tags", Permission.LOOK),
    Row(READING, "/api/ps", Permission.LOOK),
    Row(READING, "/api/version", Permission.LOOK),
    Row(("POST",), "/api/show", Permission.LOOK),
    Row(("POST",), "/api/generate", Permission.GENERATE),
    Row(("POST",), "/api/chat", Permission.GENERATE),
    Row(("POST",), "/api/embed", Permission.GENERATE),
    Row(("POST",), "/api/embeddings", Permission.GENERATE),
    Row((), "/api/pull", Permission.MODELS),
    Row((), "/api/delete", Permission.MODELS),
)


def is_open(path: str) -> bool:
    """Whether no key is needed."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


def permission_of(method: str, path: str) -> Permission | None:
    """What a path needs; ``None`` for one that nobody has thought of."""
    return next((row.permission for row in TABLE if row.fits(method, path)), None)
