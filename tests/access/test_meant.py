"""Which key a word means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minivault.access.key_file import ApiKey
from minivault.access.meant import key_id_of
from minivault.errors import InvalidRequest

ALICE = ApiKey("a" * 12, "alice", "0" * 64, 1.0)
FORMER = replace(ALICE, id="b" * 12, revoked_at=2.0)
EARLIER = replace(ALICE, id="c" * 12, revoked_at=1.5)


def on_no_record(_: str) -> bool:
    return False


@pytest.mark.parametrize("word", ["alice", ALICE.id])
def test_a_key_is_meant_by_its_name_and_by_its_id(word: str) -> None:
    assert key_id_of(word, [FORMER, ALICE, EARLIER], on_no_record) == ALICE.id


def test_a_name_that_only_one_revoked_key_had_means_that_one() -> None:
    assert key_id_of("alice", [FORMER], on_no_record) == FORMER.id


@pytest.mark.parametrize("keys", [[FORMER, ALICE], [FORMER, EARLIER]])
def test_of_several_keys_of_one_name_that_records_name_the_id_must_say_which(keys: list[ApiKey]) -> None:
    with pytest.raises(InvalidRequest, match="give the id"):
        key_id_of("alice", keys, lambda _: True)
    assert key_id_of(FORMER.id, keys, lambda _: True) == FORMER.id


def test_of_several_revoked_keys_of_one_name_the_one_that_a_record_names_is_meant() -> None:
    assert key_id_of("alice", [FORMER, EARLIER], lambda key_id: key_id == EARLIER.id) == EARLIER.id


def test_of_several_revoked_keys_of_one_name_the_id_must_say_which() -> None:
    with pytest.raises(InvalidRequest, match="give the id"):
        key_id_of("alice", [FORMER, EARLIER], on_no_record)
    assert key_id_of(EARLIER.id, [FORMER, EARLIER], on_no_record) == EARLIER.id


def test_the_id_of_a_key_that_is_gone_counts_while_a_record_names_it() -> None:
    assert key_id_of("d" * 12, [ALICE], lambda key_id: key_id == "d" * 12) == "d" * 12


def test_a_word_that_means_no_key_is_refused_and_not_echoed() -> None:
    with pytest.raises(InvalidRequest, match=r"^key: must be") as refused:
        key_id_of("alcie", [ALICE], on_no_record)
    assert (refused.value.param, "alcie" in refused.value.message) == ("key", False)
