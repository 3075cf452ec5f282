"""API keys: shown once, kept as digests, changed while a server runs, and nobody let in when the file is in doubt."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minivault.access import keys
from minivault.access.key_file import ApiKey, KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.roles import Role
from minivault.errors import InvalidRequest, KeysUnavailable, Unauthorized, UnknownKey
from minivault.outage import QUIET_SECONDS, Outage
from tests.access.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> KeyStore:
    return KeyStore(tmp_path / "keys.json", clock)


def test_a_key_names_its_id_and_has_256_random_bits(store: KeyStore) -> None:
    made = store.create("team", KeyTerms())
    match = re.fullmatch(r"mv_([a-z0-9]{12})_([0-9a-f]{64})", made.text)
    assert match is not None
    assert match[1] == made.key.id


def test_a_key_opens_the_door(store: KeyStore) -> None:
    made = store.create("team", KeyTerms(role=Role.AUDITOR))
    assert store.authenticate(made.text) == made.key


def test_one_who_was_held_up_while_reading_does_not_bring_old_keys_back(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = store.create("team", KeyTerms()).text
    real, begun, go_on = keys._load, threading.Event(), threading.Event()

    def held_up(path: Path) -> Mapping[str, ApiKey]:
        found = real(path)
        if threading.current_thread() is slow:
            begun.set()
            go_on.wait(30)
        return found

    monkeypatch.setattr(keys, "_load", held_up)
    reader = KeyStore(store.path, store._clock)
    slow = threading.Thread(target=reader.exist)
    slow.start()
    assert begun.wait(30)
    store.revoke("team")
    with pytest.raises(Unauthorized):
        reader.authenticate(text)
    go_on.set()
    slow.join(30)
    with pytest.raises(Unauthorized):
        reader.authenticate(text)


def test_the_secret_is_not_kept(store: KeyStore) -> None:
    secret = store.create("team", KeyTerms()).text.rpartition("_")[2]
    assert secret not in store.path.read_text()


def test_neither_a_key_nor_its_making_shows_the_secret(store: KeyStore) -> None:
    made = store.create("team", KeyTerms())
    secret = made.text.rpartition("_")[2]
    assert secret not in repr(made) + repr(made.key) + json.dumps(made.key.as_dict())
    assert made.key.sha256 not in json.dumps(made.key.as_dict())


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "mv_",
        "mv_abc_def",
        "sk-1234",
        "mv_" + "a" * 12 + "_" + "0" * 64,
        "mv_" + "a" * 12 + "_" + "é" * 64,
        "x" * 10**5,
    ],
)
def test_anything_else_does_not(store: KeyStore, shown: str) -> None:
    store.create("team", KeyTerms())
    with pytest.raises(Unauthorized) as refused:
        store.authenticate(shown)
    assert shown not in refused.value.message or not shown


def test_a_wrong_secret_of_a_known_key_does_not_either(store: KeyStore) -> None:
    text = store.create("team", KeyTerms()).text
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    with pytest.raises(Unauthorized, match="not known"):
        store.authenticate(wrong)


def test_the_answer_to_an_unknown_id_is_that_to_a_wrong_secret(store: KeyStore) -> None:
    known = store.create("team", KeyTerms()).key.id
    said = set()
    for shown in (f"mv_{known}_{'0' * 64}", f"mv_{'z' * 12}_{'0' * 64}", "nonsense"):
        with pytest.raises(Unauthorized) as refused:
            store.authenticate(shown)
        said.add((refused.value.message, refused.value.code))
    assert len(said) == 1


def test_the_file_is_for_its_owner_alone(store: KeyStore) -> None:
    store.create("team", KeyTerms())
    assert [stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()] == [0o600, 0o600]


def test_another_process_sees_a_new_key_and_a_revocation(store: KeyStore, clock: Clock) -> None:
    server = KeyStore(store.path, clock)
    assert not server.exist()
    made = store.create("team", KeyTerms())
    assert server.authenticate(made.text).name == "team"
    store.revoke("team")
    with pytest.raises(Unauthorized, match="revoked"):
        server.authenticate(made.text)


def test_a_revoked_key_keeps_the_door_shut(store: KeyStore) -> None:
    store.create("team", KeyTerms())
    store.revoke("team")
    assert store.exist()


def test_a_key_expires(store: KeyStore, clock: Clock) -> None:
    made = store.create("guest", KeyTerms(expires_at=clock.now + 60))
    clock.now += 59
    store.authenticate(made.text)
    clock.now += 1
    with pytest.raises(Unauthorized, match="expired"):
        store.authenticate(made.text)


def test_rotation_changes_the_secret_and_not_the_id(store: KeyStore) -> None:
    before = store.create("team", KeyTerms())
    after = store.rotate("team")
    assert (after.key.id, store.authenticate(after.text).id) == (before.key.id, before.key.id)
    with pytest.raises(Unauthorized):
        store.authenticate(before.text)


def test_in_its_time_of_grace_the_former_secret_is_taken_too(store: KeyStore, clock: Clock) -> None:
    before = store.create("team", KeyTerms())
    after = store.rotate("team", grace=3600)
    clock.now += 3599
    assert store.authenticate(before.text) == store.authenticate(after.text)
    clock.now += 1
    with pytest.raises(Unauthorized):
        store.authenticate(before.text)


def test_revoking_ends_a_time_of_grace(store: KeyStore) -> None:
    before = store.create("team", KeyTerms())
    store.rotate("team", grace=3600)
    store.revoke("team")
    with pytest.raises(Unauthorized):
        store.authenticate(before.text)


def test_terms_can_be_changed(store: KeyStore) -> None:
    made = store.create("team", KeyTerms())
    store.change("team", lambda terms: replace(terms, concurrent=3), name="crew")
    changed = store.authenticate(made.text)
    assert (changed.name, changed.terms.concurrent) == ("crew", 3)


def test_two_active_keys_cannot_have_one_name(store: KeyStore) -> None:
    store.create("team", KeyTerms())
    with pytest.raises(InvalidRequest, match="exists already"):
        store.create("team", KeyTerms())
    store.revoke("team")
    store.create("team", KeyTerms())


@pytest.mark.parametrize("deed", ["get", "rotate", "revoke"])
def test_an_unknown_key_is_said_to_be_unknown(store: KeyStore, deed: str) -> None:
    with pytest.raises(UnknownKey):
        getattr(store, deed)("nobody")


def test_a_revoked_key_is_not_rotated(store: KeyStore) -> None:
    key = store.create("team", KeyTerms()).key
    store.revoke("team")
    with pytest.raises(InvalidRequest, match="revoked"):
        store.rotate(key.id)


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"requests": "often"}, "requests"),
        ({"tokens": "5/aeon"}, "tokens"),
        ({"concurrent": -1}, "concurrent"),
        ({"models": ("",)}, "models"),
        ({"models": ("m",) * 101}, "models"),
        ({"note": "a\x1b[2J"}, "note"),
        ({"requests": f"{'9' * 100}/minute"}, "requests"),
        ({"tokens": f"1/{'9' * 100} years"}, "tokens"),
        ({"expires_at": 253_402_343_999.0}, "expires_at"),
        ({"expires_at": -1.0}, "expires_at"),
        ({"expires_at": float("nan")}, "expires_at"),
        ({"note": "n" * 501}, "note"),
    ],
)
def test_terms_have_bounds(terms: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        KeyTerms(**terms)  # type: ignore[arg-type]  # on purpose
    assert refused.value.param == param


@pytest.mark.parametrize("name", ["", " a", "a\n", "ü", "x" * 65, "-a", "../a"])
def test_names_have_bounds(store: KeyStore, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        store.create(name, KeyTerms())


def test_all_is_kept(store: KeyStore, clock: Clock) -> None:
    terms = KeyTerms(Role.ADMIN, "5/minute", "100/day", 3, ("guide", "b"), False, clock.now + 9, "for Ada")
    made = store.create("team", terms)
    assert KeyStore(store.path, clock).get("team") == made.key


@pytest.mark.parametrize("kept", [253_402_343_999.0, 1e300, -1e300])
def test_a_key_of_an_earlier_version_that_ends_beyond_the_calendar_shuts_no_door(store: KeyStore, kept: float) -> None:
    store.create("team", KeyTerms(expires_at=0.0))
    store.path.write_text(store.path.read_text().replace('"expires_at": 0.0', f'"expires_at": {kept}'))
    shown = [key.as_dict()["expires_at"] for key in store.list()]
    assert shown == ["1970-01-01T00:00:00Z" if kept < 0 else "9999-12-31T23:59:59Z"]


# -- in doubt, nobody comes in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "keys": []}',
        b'{"version": 1}',
        b'{"version": 1, "keys": [{}]}',
        b'{"version": 1, "keys": [7]}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_lets_nobody_in(store: KeyStore, damage: bytes) -> None:
    store.path.write_bytes(damage)
    store.path.chmod(0o600)
    with pytest.raises(KeysUnavailable):
        store.exist()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "short"),
        ("sha256", None),
        ("id", "x"),
        ("created_at", "now"),
        ("extra", 1),
        ("revoked_at", "yes"),
        ("terms", {"role": "king", "models": []}),
        ("terms", {"role": "user", "models": [], "store": "no"}),
        ("terms", {"role": "user", "models": [], "concurrent": True}),
    ],
)
def test_a_field_of_the_wrong_kind_is_damage(store: KeyStore, field: str, value: object) -> None:
    store.create("team", KeyTerms())
    document = json.loads(store.path.read_text())
    document["keys"][0][field] = value
    store.path.write_text(json.dumps(document))
    with pytest.raises(KeysUnavailable, match="damaged"):
        KeyStore(store.path).list()


def test_a_file_that_others_can_write_lets_nobody_in(store: KeyStore) -> None:
    made = store.create("team", KeyTerms())
    store.path.chmod(0o622)
    with pytest.raises(KeysUnavailable, match="chmod 600"):
        KeyStore(store.path).authenticate(made.text)


def test_a_file_that_others_may_write_from_now_on_lets_nobody_in_until_it_is_closed(store: KeyStore) -> None:
    made = store.create("team", KeyTerms())
    assert store.authenticate(made.text) == made.key
    store.path.chmod(0o666)
    with pytest.raises(KeysUnavailable, match="chmod 600"):
        store.authenticate(made.text)
    store.path.chmod(0o600)
    assert store.authenticate(made.text) == made.key


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_lets_nobody_in_but_where_the_folder_is_theirs(store: KeyStore) -> None:
    made = store.create("team", KeyTerms())
    os.chown(store.path, 1234, 1234)
    with pytest.raises(KeysUnavailable, match="another user"):
        store.authenticate(made.text)
    os.chown(store.path.parent, 1234, 1234)
    os.utime(store.path)
    assert store.authenticate(made.text) == made.key


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path, 0o600)], ids=["folder", "pipe"])
def test_what_is_no_file_lets_nobody_in_and_leaves_nothing_open(store: KeyStore, make: Any) -> None:
    make(store.path)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match="is not a file"):
            store.exist()
    assert not before or len(list(descriptors.iterdir())) == before


def test_a_link_in_place_of_the_file_is_not_followed(store: KeyStore, tmp_path: Path) -> None:
    elsewhere = KeyStore(tmp_path / "elsewhere.json")
    elsewhere.create("team", KeyTerms())
    store.path.symlink_to(elsewhere.path)
    with pytest.raises(KeysUnavailable):
        store.exist()


def test_a_file_that_goes_while_a_server_runs_does_not_open_the_door(store: KeyStore) -> None:
    store.create("team", KeyTerms())
    server = KeyStore(store.path)
    assert server.exist()
    store.path.unlink()
    with pytest.raises(KeysUnavailable, match="gone"):
        server.exist()


def test_the_log_of_a_server_says_once_that_the_keys_are_gone_and_once_that_they_are_back(
    store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.create("team", KeyTerms())
    clock = Clock()
    server = KeyStore(store.path, outage=Outage(keys.logger, "no keys", "keys again", clock))
    assert server.exist()
    kept = store.path.rename(store.path.with_suffix(".away"))
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            server.exist()
    kept.rename(store.path)
    clock.now += QUIET_SECONDS
    assert server.exist()
    assert caplog.messages == [
        "no keys: keys.json has gone. Restore it, or restart the server to go on without keys.",
        "keys again",
    ]


def test_the_log_of_a_server_says_that_the_keys_are_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "keys.json").write_bytes(b"{mv_secret")
    with pytest.raises(KeysUnavailable):
        KeyStore.of_server(tmp_path).exist()
    assert caplog.messages == [
        "the keys cannot be believed, so nobody is let in: keys.json is damaged. Restore it from a copy."
    ]


def test_a_command_says_it_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "keys.json").write_bytes(b"{")
    with pytest.raises(KeysUnavailable):
        KeyStore.in_folder(tmp_path).list()
    assert caplog.messages == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable):
        KeyStore(tmp_path / "none" / "keys.json").create("team", KeyTerms())


def test_racing_changes_lose_nothing(store: KeyStore) -> None:
    def make(number: int) -> None:
        KeyStore(store.path).create(f"key {number}", KeyTerms())

    makers = [threading.Thread(target=make, args=(number,)) for number in range(16)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert {key.name for key in store.list()} == {f"key {number}" for number in range(16)}


def test_an_unknown_id_costs_what_a_wrong_secret_costs(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    known = store.create("team", KeyTerms()).key.id
    compared: list[int] = []

    def compare(one: str, other: str) -> bool:
        compared[-1] += 1
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    for shown in (f"mv_{known}_{'0' * 64}", f"mv_{'z' * 12}_{'0' * 64}", "nonsense"):
        compared.append(0)
        with pytest.raises(Unauthorized):
            store.authenticate(shown)
    assert compared == [2, 2, 2]
