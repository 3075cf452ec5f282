"""Grammars that hold an answer to a form: JSON, a JSON Schema, a regular expression or a Lark grammar.

A compiled grammar says, from the tokens accepted so far and nothing else, which tokens may come next; so constrained
answers keep the law too. The parsing is llguidance's, which lives behind this door. Knows nothing of requests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Literal

import llguidance

from minivault.engine.native.grammar_fault import FIELDS, fault_of
from minivault.errors import InvalidRequest, UnsupportedFeature

GrammarKind = Literal["json_object", "json_schema", "regex", "lark"]

MAX_SOURCE_BYTES = 1 << 18
CACHED_GRAMMARS = 64
_ANY_OBJECT = '{"type": "object"}'

# Bounds on what a client's grammar may cost: about 20 ms to build, and some 40 ms a step at most, in which the other
# answers wait. Grammars of many meanings come to so many items within a sentence, those that repeat by recursion on the
# right within some hundred times, and a schema of 400 fields to fewer.
_STEP_ITEMS = 10_000
_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=_STEP_ITEMS,
    max_lexer_states=100_000,
    max_grammar_size=200_000,
)


class Grammar:
    """Where one answer stands in its grammar. Implements :class:`minivault.engine.engine.Constraint`."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    def mask(self) -> bytes:
        """One bit for each token id, in 32-bit words, low bits first: may it come next?"""
        return self._matcher.compute_bitmask()

    def accept(self, token_id: int) -> bool:
        """Take a token; False if the grammar does not allow it, or became too complex to follow."""
        return self._matcher.consume_token(token_id)

    @property
    def is_complete(self) -> bool:
        """Nothing more may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def is_broken(self) -> bool:
        """The grammar became too complex to follow."""
        return self._matcher.is_error()

    def fork(self) -> Grammar:
        """The same place, to go on from independently."""
        return Grammar(self._matcher.deep_copy())


class GrammarCompiler:
    """Compiles grammars for one tokenizer, and remembers the last ones. May be called from any thread."""

    version = f"llguidance {llguidance.__version__}, {_STEP_ITEMS} items"
    """What decides, with a grammar's source, which tokens may come, and when a grammar is too complex."""

    def __init__(self, tokenizer_json: str, vocab_size: int, eos_token_ids: tuple[int, ...]) -> None:
        """``tokenizer_json``: a ``tokenizer.json``; ``vocab_size``: width of the logits."""
        self._tokenizer_json = tokenizer_json
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._lock = threading.Lock()
        self._compiled: OrderedDict[tuple[GrammarKind, str], Grammar] = OrderedDict()

    def prepare(self) -> None:
        """Read the vocabulary, once. Takes a second where it is large.

        Raises:
            UnsupportedFeature: the library cannot read this tokenizer.
        """
        with self._lock:
            self._tokenizer = self._tokenizer or self._load_tokenizer()

    def compile(self, kind: GrammarKind, source: str = "") -> Grammar:
        """A fresh place at the start of a grammar. Takes milliseconds, for hard ones a second: not for an event loop.

        Raises:
            InvalidRequest: it is not a grammar of its kind, uses what is not supported, or is too complex.
            UnsupportedFeature: the library cannot read this tokenizer.
        """
        if len(source.encode()) > MAX_SOURCE_BYTES:
            raise InvalidRequest(f"{FIELDS[kind]}: must be at most {MAX_SOURCE_BYTES} bytes", param="response_format")
        with self._lock:
            known = self._compiled.get((kind, source))
            if known is not None:
                self._compiled.move_to_end((kind, source))
                return known.fork()
            tokenizer = self._tokenizer = self._tokenizer or self._load_tokenizer()
        grammar = Grammar(_match(tokenizer, kind, source))
        with self._lock:
            self._compiled[kind, source] = grammar
            if len(self._compiled) > CACHED_GRAMMARS:
                self._compiled.popitem(last=False)
        return grammar.fork()

    def _load_tokenizer(self) -> llguidance.LLTokenizer:
        try:
            return llguidance.LLTokenizer(
                self._tokenizer_json, n_vocab=self._vocab_size, eos_token=list(self._eos_token_ids) or None
            )
        except ValueError as error:
            raise UnsupportedFeature(
                "response_format: no answer of this model can be held to a form: its tokenizer is of a kind that the"
                " grammars' library does not read",
                param="response_format",
            ) from error


def _match(tokenizer: llguidance.LLTokenizer, kind: GrammarKind, source: str) -> llguidance.LLMatcher:
    try:
        match kind:
            case "json_object":
                text = llguidance.LLMatcher.grammar_from_json_schema(_ANY_OBJECT)
            case "json_schema":
                text = llguidance.LLMatcher.grammar_from_json_schema(source)
            case "regex":
                text = llguidance.LLMatcher.grammar_from_regex(source)
            case "lark":
                text = llguidance.LLMatcher.grammar_from_lark(source)
    except ValueError as error:
        raise InvalidRequest(fault_of(kind, str(error)), param="response_format") from None
    matcher = llguidance.LLMatcher(tokenizer, text, log_level=0, limits=_LIMITS)
    if matcher.is_error():
        raise InvalidRequest(fault_of(kind, matcher.get_error()), param="response_format")
    _require_first_token(matcher, kind)
    return matcher


def _require_first_token(matcher: llguidance.LLMatcher, kind: GrammarKind) -> None:
    """Refuse a grammar that cannot begin, such as one that leads to nothing but itself: it would only fail when run."""
    try:
        # On a copy: every answer's place is as the compiler left it, whatever this looked at.
        first = matcher.deep_copy()
        first.compute_bitmask()
        # Its first line alone: the lines below quote the grammar.
        said = first.get_error().partition("\n")[0] if first.is_error() else None
    except BaseException:  # also a panic of the library, as where answers are held to their grammars
        said = ""
    if said is not None:
        raise InvalidRequest(fault_of(kind, said), param="response_format")
