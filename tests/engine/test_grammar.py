"""Answers held to a form: whatever the model would rather say, what comes out fits the grammar, and keeps the law."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import jsonschema
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from minivault.engine.engine import GRAMMAR_TOO_COMPLEX, Constraint, EngineRequest, TokenStep
from minivault.engine.native.engine import NativeEngine
from minivault.engine.native.grammar import MAX_SOURCE_BYTES, GrammarCompiler, GrammarKind
from minivault.engine.native.runner import RunnerOptions
from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import FinishReason, SamplingParams
from minivault.models.structure import LazyGrammars, Structure
from minivault.models.tokenizer import Tokenizer
from tests.engine.checkpoints import engine, opened
from tests.oracle.golden import DATA

NAME = "llama-gqa"
TOKENIZER = Tokenizer.load(DATA / NAME)
EOS = TOKENIZER.eos_token_ids
COMPILER = GrammarCompiler((DATA / NAME / "tokenizer.json").read_text(), opened(NAME)[0].vocab_size, EOS)


async def constrained(
    served: NativeEngine, kind: GrammarKind, source: str, *, seed: int, max_tokens: int = 400
) -> tuple[str, FinishReason | None]:
    params = SamplingParams(max_tokens=max_tokens, temperature=1.0, seed=seed)
    request = EngineRequest("r", (1, 2, 3), params, EOS, constraint=COMPILER.compile(kind, source))
    tokens: list[int] = []
    reason = None
    async for step in served.submit(request):
        assert step.error is None
        tokens.extend(step.token_ids)
        reason = step.finish_reason
    return TOKENIZER.decode(tokens), reason


def answers(
    kind: GrammarKind, source: str, seeds: range, max_tokens: int = 400
) -> list[tuple[str, FinishReason | None]]:
    async def run() -> list[tuple[str, FinishReason | None]]:
        served = engine(NAME, RunnerOptions(threads=1))
        try:
            return await asyncio.gather(*(constrained(served, kind, source, seed=seed) for seed in seeds))
        finally:
            await served.close()

    return asyncio.run(run())


def test_a_random_model_is_held_to_a_regular_expression() -> None:
    for text, reason in answers("regex", r"[a-c]{3}-[0-9]{2}", range(12)):
        assert re.fullmatch(r"[a-c]{3}-[0-9]{2}", text)
        assert reason is FinishReason.STOP


def test_a_random_model_is_held_to_a_lark_grammar() -> None:
    for text, _ in answers("lark", 'start: "yes" | "no" " " DIGIT\nDIGIT: /[0-9]/', range(12)):
        assert re.fullmatch(r"yes|no [0-9]", text)


def test_a_random_model_is_held_to_a_json_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["ok", "n"],
        "additionalProperties": False,
    }
    ended = [text for text, reason in answers("json_schema", json.dumps(schema), range(24)) if reason == "stop"]
    assert ended
    for text in ended:
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("asked", [{"min_tokens": 20}, {"ignore_eos": True}])
async def test_a_grammar_decides_the_end_and_no_end_of_sequence_is_in_the_answer(asked: dict[str, Any]) -> None:
    served = engine(NAME, RunnerOptions(threads=1))
    try:
        for seed in range(4):
            params = SamplingParams(max_tokens=40, temperature=1.0, seed=seed, **asked)
            constraint = COMPILER.compile("regex", "a+")
            stream = served.submit(EngineRequest("r", (1, 2, 3), params, EOS, constraint=constraint))
            steps = [step async for step in stream]
            tokens = [token for step in steps for token in step.token_ids]
            assert not set(tokens) & set(EOS)
            assert re.fullmatch("a+", TOKENIZER.decode(tokens))
    finally:
        await served.close()


class Panic(BaseException):
    """As a library in another language may raise."""


class Breaking:
    """A constraint that breaks where it is told to, after some tokens."""

    is_broken = is_complete = False

    def __init__(self, place: str, after: int) -> None:
        self._place, self._left = place, after

    def mask(self) -> bytes:
        self._break("mask")
        return b"\xff" * 4 * -(-opened(NAME)[0].vocab_size // 32)

    def accept(self, token_id: int) -> bool:
        self._break("accept")
        self._left -= 1
        return True

    def _break(self, place: str) -> None:
        if self._left == 0 and place == self._place:
            raise Panic("what the client wrote")


@pytest.mark.parametrize("place", ["mask", "accept"])
async def test_a_grammar_that_breaks_fails_its_own_sequence_and_no_other(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = engine(NAME, RunnerOptions(threads=1))
    params = SamplingParams(max_tokens=12, temperature=1.0, seed=3, ignore_eos=True)

    async def read(constraint: Constraint | None) -> tuple[int, TokenStep]:
        steps = [
            step async for step in served.submit(EngineRequest("r", (1, 2, 3), params, EOS, constraint=constraint))
        ]
        return sum(len(step.token_ids) for step in steps), steps[-1]

    try:
        (before, broken), (whole, good) = await asyncio.gather(read(Breaking(place, 5)), read(None))
    finally:
        await served.close()
    assert (before, broken.finish_reason) == (5, FinishReason.FAILED)
    assert (whole, good.finish_reason, served.failure) == (12, FinishReason.LENGTH, None)
    assert broken.error == "The grammar could not be followed."
    assert "what the client wrote" not in caplog.text


MANY_MEANINGS = 'start: s\ns: s s s | s s | /[a-z]/ | " "'
"""Each text has so many readings that to follow one more token takes seconds."""


async def test_a_grammar_of_many_meanings_fails_its_own_answer_before_the_others_have_waited() -> None:
    served = engine(NAME, RunnerOptions(threads=1))
    params = SamplingParams(max_tokens=200, temperature=1.0, seed=3, logit_bias=tuple((end, -100.0) for end in EOS))

    async def read(constraint: Constraint | None) -> TokenStep:
        asked = EngineRequest("r", (1, 2, 3), params, EOS, constraint=constraint)
        return [step async for step in served.submit(asked)][-1]

    try:
        broken, good = await asyncio.gather(read(COMPILER.compile("lark", MANY_MEANINGS)), read(None))
    finally:
        await served.close()
    assert (broken.finish_reason, broken.error) == (FinishReason.FAILED, GRAMMAR_TOO_COMPLEX)
    assert good.finish_reason is FinishReason.LENGTH


def test_a_large_schema_is_followed_to_its_end() -> None:
    kinds = [{"type": "string", "pattern": "^[a-z]{3,9}$"}, {"type": "boolean"}, {"enum": [f"v{i}" for i in range(30)]}]
    fields = {f"field_{number}": {"anyOf": kinds} for number in range(12)}
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    for text, reason in answers("json_schema", Structure.json(schema).source, range(2)):
        assert reason is FinishReason.STOP
        jsonschema.validate(json.loads(text), schema)


FIELDS = {f"field_{number}": {"type": "string"} for number in range(400)}
STRING = 'start: "\\"" letters "\\""\nletters: letter letters | ""\nletter: /[^"\\\\\\n]/'


@pytest.mark.parametrize(
    ("kind", "source", "text"),
    [
        (
            "json_schema",
            Structure.json({"type": "object", "properties": FIELDS}).source,
            '{"field_0": "a", "field_399": "b"}',
        ),
        ("lark", STRING, f'"{"The quick brown fox. " * 5}"'),
    ],
    ids=["optional fields", "recursion on the right"],
)
def test_what_takes_many_items_but_little_time_is_followed(kind: GrammarKind, source: str, text: str) -> None:
    grammar = COMPILER.compile(kind, source)
    for token_id in TOKENIZER.encode(text, False):
        mask = grammar.mask()
        assert mask[token_id // 8] >> token_id % 8 & 1
        assert grammar.accept(token_id)
    grammar.mask()
    assert not grammar.is_broken


def test_a_tokenizer_that_the_library_cannot_read_is_told() -> None:
    odd = json.loads((DATA / NAME / "tokenizer.json").read_text()) | {"decoder": {"type": "Fuse"}}
    compiler = GrammarCompiler(json.dumps(odd), opened(NAME)[0].vocab_size, EOS)
    for ask in (compiler.prepare, lambda: compiler.compile("regex", "a")):
        with pytest.raises(UnsupportedFeature, match="tokenizer is of a kind"):
            ask()


def test_a_vocabulary_without_letters_has_grammars_too() -> None:
    words = tokenizers.Tokenizer(tokenizers.models.BPE({word: number for number, word in enumerate("CNO()=1")}, []))
    words.decoder = tokenizers.decoders.ByteLevel()
    lazy = LazyGrammars(lambda: GrammarCompiler(words.to_str(), 7, ()))
    lazy.prepare()
    assert lazy.compile("regex", "C+N").mask()[0] == 1


def test_constrained_answers_do_not_depend_on_their_company() -> None:
    together = answers("regex", r"[a-z]{20}", range(10))
    assert together == [answers("regex", r"[a-z]{20}", range(seed, seed + 1))[0] for seed in range(10)]


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "(unclosed"),
        ("lark", "no rules here"),
        ("json_schema", "{"),
        ("json_schema", '{"type": "nonsense"}'),
        ("regex", "a" * (MAX_SOURCE_BYTES + 1)),
    ],
)
def test_what_is_no_grammar_is_refused_without_repeating_it(kind: GrammarKind, source: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        COMPILER.compile(kind, source)
    assert refused.value.param == "response_format"
    assert source not in refused.value.message


@settings(max_examples=40)
@given(st.text(max_size=60), st.sampled_from(["regex", "lark", "json_schema"]))
def test_no_text_breaks_the_compiler(source: str, kind: GrammarKind) -> None:
    try:
        grammar = COMPILER.compile(kind, source)
    except InvalidRequest:
        return
    assert len(grammar.mask()) * 8 >= opened(NAME)[0].vocab_size
