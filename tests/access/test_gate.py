"""From what is shown to a caller: rights, limits, and work that goes on later for a key that was shown before."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.access.gate import Gate
from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.limits import Limits
from minivault.access.roles import Permission, Role
from minivault.access.windows import MemoryWindows
from minivault.errors import ConfigError, Forbidden, KeysUnavailable, RateLimited, Unauthorized
from tests.access.clock import Clock


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json")


def gate_of(keys: KeyStore, **settings: object) -> Gate:
    return Gate(keys, Limits(MemoryWindows(Clock())), **settings)  # type: ignore[arg-type]  # a test's own names


def test_without_keys_everybody_may_do_everything_but_make_keys(keys: KeyStore) -> None:
    caller = gate_of(keys).caller(None, "192.0.2.1")
    assert {permission for permission in Permission if not caller.may(permission)} == {Permission.KEYS}
    assert (caller.owner, caller.fairness_key, caller.cache_salt) == (None, "192.0.2.1", b"")


def test_without_keys_the_addresses_of_one_ipv6_network_share_a_turn(keys: KeyStore) -> None:
    one, beside, other = (
        gate_of(keys).caller(None, address).fairness_key
        for address in ("2001:db8::1", "2001:db8:0:0:ffff::9", "2001:db8:0:1::1")
    )
    assert one == beside != other


@pytest.mark.parametrize(("role", "sees_all"), [(Role.USER, False), (Role.AUDITOR, True), (Role.ADMIN, True)])
def test_a_users_key_sees_its_own_records_alone(keys: KeyStore, role: Role, sees_all: bool) -> None:
    made = keys.create("team", KeyTerms(role=role))
    caller = gate_of(keys).caller(made.text, "192.0.2.1")
    assert caller.owner == (None if sees_all else made.key.id)


def test_an_auditor_asks_nothing_and_erases_nothing(keys: KeyStore) -> None:
    caller = gate_of(keys).caller(keys.create("audit", KeyTerms(role=Role.AUDITOR)).text, "192.0.2.1")
    for permission in (Permission.GENERATE, Permission.ERASE, Permission.KEYS, Permission.MODELS):
        with pytest.raises(Forbidden, match="auditor"):
            caller.require(permission)


def test_a_key_that_is_bound_to_models_may_use_no_other(keys: KeyStore) -> None:
    caller = gate_of(keys).caller(keys.create("team", KeyTerms(models=("a", "b"))).text, "192.0.2.1")
    caller.require_model("b")
    with pytest.raises(Forbidden, match="a, b"):
        caller.require_model("c")


async def test_a_key_without_limits_has_the_servers(keys: KeyStore) -> None:
    made = keys.create("team", KeyTerms()), keys.create("free", KeyTerms(requests=""))
    gate = gate_of(keys, rate_limit="1/minute")
    await gate.caller(made[0].text, "192.0.2.1").quota.admit()
    with pytest.raises(RateLimited):
        await gate.caller(made[0].text, "192.0.2.2").quota.admit()
    for _ in range(3):
        await gate.caller(made[1].text, "192.0.2.1").quota.admit()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
async def test_addresses_of_one_client_share_a_limit(keys: KeyStore, one: str, other: str, same: bool) -> None:
    gate = gate_of(keys, rate_limit="1/minute")
    await gate.caller(None, one).quota.admit()
    refused = False
    try:
        await gate.caller(None, other).quota.admit()
    except RateLimited:
        refused = True
    assert refused == same


def test_work_goes_on_for_a_key_and_not_for_one_that_was_revoked(keys: KeyStore) -> None:
    made = keys.create("team", KeyTerms(store=False))
    gate = gate_of(keys)
    later = gate.caller_of_key(made.key.id, "192.0.2.1")
    assert (later.api_key_id, later.role, later.store) == (made.key.id, Role.USER, False)
    keys.revoke("team")
    with pytest.raises(Unauthorized, match="revoked"):
        gate.caller_of_key(made.key.id, "192.0.2.1")
    with pytest.raises(Unauthorized, match="gone"):
        gate.caller_of_key("a" * 12, "192.0.2.1")


def test_work_that_began_without_keys_ends_with_the_first_one(keys: KeyStore) -> None:
    gate = gate_of(keys)
    gate.caller_of_key(None, "192.0.2.1")
    keys.create("team", KeyTerms())
    with pytest.raises(Unauthorized):
        gate.caller_of_key(None, "192.0.2.1")


def test_keys_that_cannot_be_read_let_nobody_in_where_they_are_required_either(keys: KeyStore) -> None:
    keys.path.write_bytes(b"{")
    gate = gate_of(keys, require_keys=True)
    with pytest.raises(KeysUnavailable):
        gate.asks_for_keys()
    with pytest.raises(KeysUnavailable):
        gate.caller(None, "192.0.2.1")


def test_a_rate_limit_that_cannot_be_read_ends_the_start(keys: KeyStore) -> None:
    with pytest.raises(ConfigError, match="rate_limit"):
        gate_of(keys, rate_limit="often")
