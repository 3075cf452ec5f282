"""Canonical bytes and commitments: a contract, so the answers here are written out."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.vault.merkle import leaf_hash
from minivault.vault.record import (
    ContentKind,
    SealedRecord,
    canonical_json,
    commitment,
    format_time,
    pack_token_ids,
    parse_time,
    seal_intent,
    seal_outcome,
    unpack_token_ids,
)
from tests.vault.samples import NOON, counting_entropy, intent, outcome

GOLDEN_INTENT = (
    b'{"api_key_id":null,"commitments":{'
    b'"prompt_text":"%s","prompt_token_ids":"%s","raw_request":"%s"},'
    b'"format":"minivault.leaf.v1","ignored":["user"],"index":6,"kind":"intent","mode":"stream",'
    b'"parameters":{"max_tokens":16,"seed":4611686018427387905,"stop":[],"temperature":0.7},'
    b'"pin":{"arithmetic":"int8-v1","engine":"native","engine_build":"0.1.0","exact":true,"model":"guide",'
    b'"template_digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333",'
    b'"tokenizer_digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222",'
    b'"weights_digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"},'
    b'"policy":"full","prompt_tokens":3,"request_id":"gen-1","source":"http","surface":"native",'
    b'"time":"2023-11-14T22:13:20.123456789Z"}'
)
GOLDEN_OUTCOME = (
    b'{"commitments":{"response_text":"%s","response_token_ids":"%s"},'
    b'"completion_tokens":2,"error":null,"finish_reason":"stop","format":"minivault.leaf.v1","index":7,'
    b'"intent_index":6,"kind":"outcome","prompt_tokens":3,"request_id":"gen-1",'
    b'"time":"2023-11-14T22:13:20.123456789Z","timings":{"queue_ns":1000,"total_ns":2500000}}'
)


def sealed_intent(**changes: Any) -> SealedRecord:
    return seal_intent(intent(**changes), index=6, time_ns=NOON, entropy=counting_entropy())


def sealed_outcome(*, store: bool = True, **changes: Any) -> SealedRecord:
    return seal_outcome(
        outcome(6, **changes), request_id="gen-1", store=store, index=7, time_ns=NOON, entropy=counting_entropy()
    )


def by_hand(kind: str, salt: bytes, data: bytes) -> bytes:
    return hashlib.sha256(b"minivault.commitment.v1:" + kind.encode() + b"\x00" + salt + data).hexdigest().encode()


def test_the_bytes_of_an_intent() -> None:
    record = sealed_intent(mode="stream", ignored=("user",))
    salts = counting_entropy()(96)
    pieces = {"prompt_text": b"question 1", "prompt_token_ids": bytes.fromhex("010000000200000003000000")}
    pieces["raw_request"] = b'{"prompt": "question"}'
    expected = [by_hand(kind, salts[32 * n : 32 * n + 32], data) for n, (kind, data) in enumerate(pieces.items())]
    assert record.data == GOLDEN_INTENT % tuple(expected)
    assert record.hash == hashlib.sha256(b"\x00" + record.data).digest() == leaf_hash(record.data)


def test_the_bytes_of_an_outcome() -> None:
    record = sealed_outcome()
    salts = counting_entropy()(64)
    expected = (
        by_hand("response_text", salts[:32], b"answer to 6"),
        by_hand("response_token_ids", salts[32:], bytes.fromhex("0400000005000000")),
    )
    assert record.data == GOLDEN_OUTCOME % expected


def test_golden_hash_of_an_intent() -> None:
    assert sealed_intent().hash.hex() == "a3ae1983f9d050f48ff01a542762e6ec87fbeb77addc2156a19cd10eb8290c34"


def test_without_storing_the_leaf_keeps_its_commitments_and_nothing_else_is_kept() -> None:
    kept, dropped = sealed_intent(), sealed_intent(store=False)
    assert dropped.contents == ()
    assert dropped.data == kept.data.replace(b'"policy":"full"', b'"policy":"digest"')
    assert sealed_outcome(store=False).contents == ()
    assert sealed_outcome(store=False).data == sealed_outcome().data


def test_the_same_content_under_another_kind_or_salt_has_another_commitment() -> None:
    made = {commitment(kind, salt, b"same") for kind in ContentKind for salt in (b"\x00" * 32, b"\x01" * 32)}
    assert len(made) == 2 * len(ContentKind)


def test_a_salt_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        commitment(ContentKind.PROMPT_TEXT, b"short", b"")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        ({"x": [True, False, None]}, b'{"x":[true,false,null]}'),
        ({"x": '\u20ac$\x0f\nA\'B"\\\\"/'}, '{"x":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()),
        ({"x": 2**63 - 1}, b'{"x":9223372036854775807}'),
        ({"x": (0.1, 1.0, 1e-7)}, b'{"x":[0.1,1.0,1e-07]}'),
        ({"é": "\U0001f600"}, '{"é":"\U0001f600"}'.encode()),
    ],
)
def test_canonical_json(value: dict[str, Any], expected: bytes) -> None:
    assert canonical_json(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {1, 2}, object(), b"bytes"])
def test_what_has_no_canonical_bytes_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words come from json for some of these
        canonical_json({"x": value})


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_token_ids_come_back(token_ids: list[int]) -> None:
    assert unpack_token_ids(pack_token_ids(token_ids)) == tuple(token_ids)


@pytest.mark.parametrize("token_id", [-1, 2**32])
def test_a_token_id_outside_its_bounds_is_refused(token_id: int) -> None:
    with pytest.raises(ValueError, match="2\\*\\*32"):
        pack_token_ids([token_id])


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_times_come_back_to_the_nanosecond(time_ns: int) -> None:
    assert parse_time(format_time(time_ns)) == time_ns


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-02", 86400), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01T00:00:01", 1), ("1970-01-01T00:00:01Z", 1)],
)
def test_times_in_other_forms(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds * 10**9
