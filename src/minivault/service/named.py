"""What is wrong with the form of an answer, under the name of the field that the client sent.

The work below calls every such field ``response_format``. Knows nothing of grammars or of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import RESPONSE_FORMAT, FormNames, GenerationRequest
from minivault.models.structure import Structure
from minivault.models.tool_calls import Calling

TOOLS = "tools"


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
        names = request.form_names
        if calling is not None and structure is not None:
            names = FormNames(TOOLS, TOOLS) if calling.must else FormNames(names.form, f"{TOOLS} or {names.schema}")
            message = f"{names.schema}: {_fault(error.message).partition(', at line ')[0]}"  # a line of no client's
        elif structure is not None and structure.kind == "json_schema" and not isinstance(error, UnsupportedFeature):
            message = f"{names.schema}: {_fault(error.message)}"
        else:
            message = error.message.replace(RESPONSE_FORMAT.schema, names.schema).replace(
                RESPONSE_FORMAT.form, names.form
            )
        raise type(error)(message, param=names.form) from None


def _fault(message: str) -> str:
    """Without the field that it begins with."""
    field, colon, fault = message.partition(": ")
    return fault if colon else field
