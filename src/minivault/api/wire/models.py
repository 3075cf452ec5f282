"""Models as the wire shows them, and what may be asked of them. Knows nothing of HTTP or of the service."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from minivault.api.wire.strict import StrictBody

LocalName = Field(default=None, min_length=1, max_length=100, description="What it is called here; null: after it.")


class PullModelBody(StrictBody):
    model: str = Field(
        min_length=1,
        max_length=300,
        description="`ORG/NAME`, `ORG/NAME@REVISION`, or a short name such as `tinyllama`.",
    )
    name: str | None = LocalName
    stream: bool = Field(default=True, description="False: one object, once it is there.")


class ImportModelBody(StrictBody):
    path: str = Field(
        min_length=1, max_length=1000, description="A folder or a GGUF file, relative to the setting `import_dir`."
    )
    name: str | None = LocalName


class LoadModelBody(StrictBody):
    keep_alive: float | None = Field(
        default=None,
        ge=-1,
        le=1e9,
        description="Seconds that it stays when it is idle; -1: until its room is needed.",
    )


class ModelFileBody(BaseModel):
    size: int = Field(ge=0)
    sha256: str


class ModelDetailsBody(BaseModel):
    """Everything that is known of a model without loading it."""

    name: str
    engine: str
    kind: str
    family: str
    parameters: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    digest: str
    embedded: bool
    imported_at: str | None
    context_length: int | None
    hidden_size: int | None
    layers: int | None
    attention_heads: int | None
    kv_heads: int | None
    vocab_size: int | None
    template: str | None = Field(description="The chat template.")
    source: dict[str, Any] | None = Field(description="Where it came from: repository and commit, or file.")
    licence_files: list[str]
    files: dict[str, ModelFileBody]


class PullStepBody(BaseModel):
    """A line of a pull. The last has `status` `success` and the model, or is an error."""

    status: str
    file: str | None = None
    file_completed: int | None = None
    file_total: int | None = None
    completed: int | None = None
    total: int | None = None
    model: ModelDetailsBody | None = None


class CheckedFileBody(BaseModel):
    name: str
    size: int = Field(ge=0)
    sha256: str
    fault: str | None = Field(description="`gone`, `another size` or `another content`; null: it is what it was.")


class VerifiedModelBody(BaseModel):
    name: str
    sound: bool
    files: list[CheckedFileBody]
