"""What is wrong with a grammar, a regular expression or a schema: in fixed words and by line and column.

The compiler's own words quote what it was given, so none of them is passed on: they are only recognised. Pure functions
over its message. Knows nothing of tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FIELDS: Mapping[str, str] = {
    "regex": "response_format.regex",
    "lark": "response_format.grammar",
    "json_schema": "the JSON Schema of the answer",
    "json_object": "response_format",
}
"""By the kind of a grammar. A schema's field has another name on each surface."""

_KNOWN = (
    ("unclosed group", "a group is not closed"),
    ("unopened group", "a group is closed that was not opened"),
    ("unclosed character class", "a character class is not closed"),
    ("invalid character class range", "the range of a character class ends before it begins"),
    ("invalid repetition count range", "a repetition's most is less than its least"),
    ("repetition operator missing expression", "there is nothing before a repetition to repeat"),
    ("look-around", "look-ahead and look-behind are not supported"),
    ("backreferences", "backreferences are not supported"),
    ("unrecognized escape sequence", "an escape sequence is unknown"),
    ("Unicode property not found", "a Unicode property is unknown"),
    ("regex parse error", "it cannot be read as a regular expression"),
    ("unknown name", "a rule or token is used that is not defined"),
    ("duplicate rule", "a rule is defined twice"),
    ("duplicate token", "a token is defined twice"),
    ("no start rule found", "there is no rule named start"),
    ("lexer error", "a character is not expected here"),
    ("Unknown common regex", "a name is imported that common does not have"),
    ("expecting", "something else is expected here"),
    ("Invalid type", "a type is none of string, number, integer, boolean, object, array and null"),
    ("does not exist", "a $ref leads nowhere"),
    ("Unknown format", "a format is unknown"),
    ("Unsatisfiable schema", "no value can fit it"),
    ("oneOf constraints are not supported", "a oneOf has alternatives that may overlap, where anyOf would do"),
    ("min/maxProperties only supported", "minProperties and maxProperties above 1 need all properties to be required"),
    ("circular references with sibling", "a $ref to what it stands in has other keywords beside it"),
    ("NoExtensionBias", "no text can fit it"),
    ("multiple of", "multipleOf must be above 0"),
    ("must be an object", "a keyword must be an object and is not"),
    ("must be an array", "a keyword must be an array and is not"),
    ("must be a", "a keyword's value is of the wrong type"),
    ("too complex", "it is too complex"),
    ("too large", "it is too large"),
    ("too big", "it is too large"),
    ("limit", "it is too complex"),
    ("out of fuel", "it is too complex"),
)
_OUTSIDE = re.compile(r"Resource '|Invalid URI reference '")
"""What the compiler says of a reference that it would have to fetch, which it never does."""
_PLACE = re.compile(r"(?:at )?([0-9]{1,6})\(([0-9]{1,6})\):")
_CARET = re.compile(r"^( +)\^", re.MULTILINE)
_INDENT = 4
"""Of the lines in which a regular expression's error is shown."""
_KEYWORDS = re.compile(
    r'"(additionalItems|contains|contentEncoding|contentMediaType|contentSchema|dependencies|dependentRequired'
    r"|dependentSchemas|else|if|maxContains|minContains|not|propertyNames|then|unevaluatedItems"
    r'|unevaluatedProperties|uniqueItems|\$dynamicRef|\$recursiveRef|\$anchor|\$dynamicAnchor)"'
)


def fault_of(kind: str, said: str) -> str:
    """The message for a client. ``said``: the compiler's, which holds the client's own text."""
    return f"{FIELDS[kind]}: {_what(kind, said)}"


def _what(kind: str, said: str) -> str:
    if kind == "json_schema" and said.startswith("Unimplemented keys"):
        # Only words of the standard are named: anything else was thought of by the client.
        named = ", ".join(sorted(set(_KEYWORDS.findall(said))))
        return f"it uses a keyword that is not supported{f': {named}' if named else ''}"
    if kind == "json_schema" and _OUTSIDE.match(said):
        return "a $ref must stay within the schema, such as #/$defs/name"
    told = said.rpartition("\nerror: ")[2] if kind == "regex" and "\nerror: " in said else said
    what = next((ours for theirs, ours in _KNOWN if theirs in _unquoted(told)), "it cannot be read, or is too complex")
    return what + _where(kind, said)


def _unquoted(said: str) -> str:
    """Without what stands in quotes and below: the client's text may hold any word."""
    head = said.partition("\n   1 | ")[0]
    lines = [line for line in head.splitlines() if not line.startswith(" ")]
    return re.sub(r'"[^"]*"', "", "\n".join(lines))


def _where(kind: str, said: str) -> str:
    if kind == "regex":
        caret = _CARET.search(said)
        at = len(caret[1]) - _INDENT + 1 if caret else 0
        return f", at character {at}" if at > 0 else ""
    place = _PLACE.match(said) if kind == "lark" else None
    return f", at line {place[1]}, column {place[2]}" if place else ""
