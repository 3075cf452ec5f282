"""What a model folder is: which engine runs it, what it can be asked for, its family and its size.

The one place that decides this; imports, pulls and GGUF conversions all end here. Reads headers and small files, never
weights. Knows nothing of where a folder comes from or of what is kept about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import UnsupportedCheckpoint
from minivault.models import foreign
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.chat_template import ChatTemplate
from minivault.models.checkpoint import Checkpoint
from minivault.models.encoder import EncoderArchitecture, encoder_weights, is_encoder, read_encoder
from minivault.models.json_file import read_json_object
from minivault.models.pooling import read_pooling
from minivault.models.tokenizer import Tokenizer
from minivault.models.weights import weight_map

ENGINES = ("native", "transformers", "remote")
KINDS = ("generation", "embedding")


@dataclass(frozen=True, slots=True)
class Examined:
    """A folder that was found sound."""

    engine: str
    """One of :data:`ENGINES`."""
    kind: str
    """One of :data:`KINDS`."""
    family: str
    """``model_type`` of its config.json."""
    parameters: int


def examine(folder: Path) -> Examined:
    """What ``folder`` holds, once config, every tensor's header, tokenizer and template are known to be sound.

    Raises:
        CheckpointError: they are not, or no engine here can run it.
    """
    config = read_json_object(folder / "config.json")
    if is_encoder(config):
        return Examined("native", "embedding", config["model_type"], inspect_encoder(folder).parameters)
    try:
        arch = inspect_folder(folder)
    except UnsupportedCheckpoint as refused:
        return _for_transformers(folder, refused)
    return Examined("native", "generation", config["model_type"], arch.parameters)


def _for_transformers(folder: Path, refused: UnsupportedCheckpoint) -> Examined:
    """A folder that the native engine has ``refused``."""
    try:
        foreign.family_of(read_json_object(folder / "config.json"))
    except UnsupportedCheckpoint:
        raise refused from None
    if not foreign.is_transformers_installed():
        raise UnsupportedCheckpoint(f"{refused.message}: {foreign.EXTRA}") from None
    found = foreign.inspect_foreign(folder)
    return Examined("transformers", "generation", found.family, found.parameters)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a ``config.json`` that no engine here can run, before anything large is fetched or converted for it.

    Raises:
        CheckpointError: it is not sound, or of no family that an engine here runs.
    """
    if is_encoder(config):
        read_encoder(config)
        return
    try:
        read_architecture(config)
    except UnsupportedCheckpoint as refused:
        if not foreign.is_transformers_installed():
            raise
        try:
            foreign.family_of(config)
        except UnsupportedCheckpoint:
            raise refused from None


def inspect_folder(folder: Path) -> Architecture:
    """As :func:`examine`, for the native engine's generation models.

    Raises:
        CheckpointError: the folder is not sound, or not for the native engine.
    """
    arch = read_architecture(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        weight_map(arch, checkpoint)
    tokenizer = Tokenizer.load(folder)
    ChatTemplate.load(folder, tokenizer.special_tokens)
    return arch


def inspect_encoder(folder: Path) -> EncoderArchitecture:
    """As :func:`inspect_folder`, for encoders that embed texts.

    Raises:
        CheckpointError: the folder is not sound, or not for the native engine.
    """
    arch = read_encoder(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        encoder_weights(arch, checkpoint)
    Tokenizer.load(folder)
    read_pooling(folder)
    return arch


def sizes_from(config: Mapping[str, Any]) -> Architecture | EncoderArchitecture:
    """The description that a ``config.json`` gives, of a model that answers or of one that embeds.

    Raises:
        CheckpointError: it is not sound, or not for the native engine.
    """
    return read_encoder(config) if is_encoder(config) else read_architecture(config)
