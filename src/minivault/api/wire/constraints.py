"""The form of an answer in the words of vLLM and llama-server, whose clients do not send ``response_format``.

What they name is the same: a JSON Schema, a regular expression, or a choice of texts. Knows nothing of HTTP or of the
service.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from minivault.api.wire.lenient import LenientBody, json_schema_format
from minivault.api.wire.strict import Items
from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import FormNames

MOST_CHOICES = 1000
_MEANT = re.compile(r"[\\.+*?()|\[\]{}^$]")
_OTHER_GRAMMARS = (
    "response_format of the type grammar takes one, in Lark's syntax; those of other syntaxes are not read"
)

Schema = dict[str, Any]
Pattern = Annotated[str, Field(min_length=1)]
Choice = Annotated[Items[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES)]
Form = tuple[dict[str, Any], FormNames]
"""The service's ``response_format``, and what the client called it."""


class StructuredOutputs(LenientBody):
    """vLLM's form of an answer: one of these."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Schema | None = Field(None, alias="json", description="A JSON Schema.")
    regex: Pattern | None = None
    choice: Choice | None = Field(None, description="The answer is one of these texts.")
    json_object: bool | None = None
    grammar: str | None = Field(None, description="Refused: see `response_format`.")
    structural_tag: Any = Field(None, description="Refused.")


class Constraints(LenientBody):
    """The fields of other servers; at most one is sent, and then no ``response_format``."""

    structured_outputs: StructuredOutputs | None = Field(None, description="As vLLM has it.")
    guided_json: Schema | None = Field(None, description="As older versions of vLLM have it.")
    guided_regex: Pattern | None = None
    guided_choice: Choice | None = None
    guided_grammar: str | None = Field(None, description="Refused: see `response_format`.")
    json_schema: Schema | None = Field(None, description="As llama-server has it.")
    grammar: str | None = Field(None, description="Refused: see `response_format`.")

    def constraint(self) -> Form | None:
        """What one of them asks for.

        Raises:
            InvalidRequest: there are two.
            UnsupportedFeature: it is a grammar.
        """
        asked = {name: value for name in Constraints.model_fields if (value := getattr(self, name)) not in (None, "")}
        outer = asked.pop("structured_outputs", None)
        if outer is not None:
            asked |= {f"structured_outputs.{name}": value for name, value in _named(outer).items()}
        if len(asked) > 1:
            raise InvalidRequest(f"{' and '.join(asked)} are one form: send one", param=next(iter(asked)))
        return next((_form(name, value) for name, value in asked.items()), None)


def _named(outer: StructuredOutputs) -> dict[str, Any]:
    """What is set, as the client calls it."""
    fields = {"json": outer.schema_, "regex": outer.regex, "choice": outer.choice, "grammar": outer.grammar,
              "structural_tag": outer.structural_tag}  # fmt: skip
    set_ = fields | {"json_object": outer.json_object or None}
    return {name: value for name, value in set_.items() if value not in (None, "")}


def _form(name: str, value: Any) -> Form:
    names = FormNames(form=name.partition(".")[0], schema=name)
    match name.rpartition(".")[2].removeprefix("guided_"):
        case "grammar":
            raise UnsupportedFeature(f"{name}: {_OTHER_GRAMMARS}", param=name)
        case "structural_tag":
            raise UnsupportedFeature(f"{name}: forms of this kind are not taken", param=name)
        case "regex":
            return {"type": "regex", "regex": value}, names
        case "choice":
            return {"type": "regex", "regex": "|".join(_MEANT.sub(r"\\\g<0>", one) for one in value)}, names
        case "json_object":
            return {"type": "json_object"}, names
    return json_schema_format(value), names
