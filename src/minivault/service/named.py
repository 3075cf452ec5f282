"""What is wrong with the form of an answer, under the name of the field that the client sent.

The work below calls every such field ``response_format``. Knows nothing of grammars or of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from minivault.engine.engine import GRAMMAR_TOO_COMPLEX
from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import RESPONSE_FORMAT, FormNames, GenerationRequest
from minivault.models.structure import Structure
from minivault.models.tool_calls import Calling

CHOICE = "tool_choice"
TOOLS = "tools"
_PATH = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")
"""The field that a message begins with."""


@contextmanager
def named_as_sent(request: GenerationRequest, calling: Calling | None, structure: Structure | None) -> Iterator[None]:
    """Passes on errors of ``response_format`` in the client's words. ``structure``: what is compiled, once it is known;
    it may come from the tools alone.

    Raises:
        InvalidRequest: of the same kind and code.
    """
    try:
        yield
    except InvalidRequest as error:
        if error.param != RESPONSE_FORMAT.form:
            raise
        field, param = _place_of(error, request.form_names, calling, structure)
        if field is None:
            names = request.form_names
            message = error.message.replace(RESPONSE_FORMAT.schema, names.schema)
            message = message.replace(RESPONSE_FORMAT.form, names.form)
            if names.form == names.schema:  # a field of its own
                message = message.replace(f"{names.form}.regex", names.form)
        else:
            fault = _fault(error.message)
            # A line of the grammar that the calls were made into is none of the client's.
            message = f"{field}: {fault if calling is None else fault.partition(', at line ')[0]}"
        if told := _PATH.match(message):
            within = told[0] == request.form_names.form or told[0].startswith(f"{request.form_names.form}.")
            param = told[0] if within else param
        raise type(error)(message, param=param) from None


def too_complex(request: GenerationRequest, calling: Calling | None, structure: Structure | None) -> InvalidRequest:
    """Of an answer whose grammar could not be followed to its end."""
    try:
        with named_as_sent(request, calling, structure):
            raise InvalidRequest(f"{RESPONSE_FORMAT.form}: {GRAMMAR_TOO_COMPLEX}", param=RESPONSE_FORMAT.form)
    except InvalidRequest as error:
        return error


def _place_of(
    error: InvalidRequest, names: FormNames, calling: Calling | None, structure: Structure | None
) -> tuple[str | None, str]:
    """What is at fault, in words, or ``None`` where the error itself says which part of the form it is; and the field
    for programs."""
    unable = isinstance(error, UnsupportedFeature)
    if structure is not None and calling is not None and calling.must:
        return (CHOICE, CHOICE) if unable else (TOOLS, TOOLS)
    if structure is None or unable:
        return None, names.form
    if calling is not None:
        return f"{TOOLS} or {names.schema}", names.form
    return names.schema if structure.kind == "json_schema" else None, names.form


def _fault(message: str) -> str:
    """Without the field that it begins with."""
    field, colon, fault = message.partition(": ")
    return fault if colon else field
