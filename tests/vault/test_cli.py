"""``minivault vault``: what is printed, what is escaped, which exit code."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import apsw
import pytest
import typer
from pyarrow import parquet

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.api import vault as http
from minivault.batches.store import BatchStore
from minivault.cli.main import main
from minivault.cli.vault import app as vault_app
from minivault.cli.vault_filters import FINISH_REASONS, SOURCES, SURFACES
from minivault.vault.cipher import VaultKey, is_plain
from minivault.vault.database import describe
from tests.vault.samples import intent, open_ledger, outcome, record_calls


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Command:
    """Runs ``minivault vault ...`` as the console script does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str, data_dir: Path | None = None) -> Ended:
        options = [] if data_dir is None else ["--data-dir", str(data_dir)]
        self._monkeypatch.setattr(sys, "argv", ["minivault", "vault", *words, *options])
        with pytest.raises(SystemExit) as left:
            main()
        captured = self._capsys.readouterr()
        return Ended(int(left.value.code or 0), captured.out, captured.err)


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ledger = open_ledger(folder, head_interval=3600)
    record_calls(ledger, 3)
    index = ledger.append_intent(intent(7, prompt_text="colour \x1b[31m red \u202e")).result(30).index
    ledger.append_outcome(outcome(index, response_text="\x1b]0;title\x07 done")).result(30)
    ledger.close()
    return folder


def test_list_shows_the_newest_first_and_how_to_go_on(vault: Command, data_dir: Path) -> None:
    ended = vault("list", "-n", "2", data_dir=data_dir)
    assert [line.split("\t")[0] for line in ended.out.splitlines()] == ["record", "7", "5"]
    assert "--cursor 4" in ended.err
    assert ended.code == 0


def test_list_as_json_is_one_object_a_line(vault: Command, data_dir: Path) -> None:
    ended = vault("list", "--json", "--cursor", "4", data_dir=data_dir)
    assert [json.loads(line)["index"] for line in ended.out.splitlines()] == [2, 0]


def test_list_filters_by_time(vault: Command, data_dir: Path) -> None:
    ended = vault("list", "--after", "2030-01-01", data_dir=data_dir)
    assert (ended.code, ended.out) == (0, "")
    assert "No call on record fits" in ended.err


@pytest.mark.parametrize("command", [("list", "--json"), ("search", "question", "--json"), ("export",)])
@pytest.mark.parametrize(
    ("asked", "some"),
    [
        (("--source", "http"), True),
        (("--source", "cli"), False),
        (("--min-duration-ms", "2.5"), True),
        (("--max-duration-ms", "2.4"), False),
        (("--min-duration-ms", "1", "--max-duration-ms", "3"), True),
    ],
)
def test_calls_are_filtered_by_source_and_duration(
    vault: Command, data_dir: Path, command: tuple[str, ...], asked: tuple[str, ...], some: bool
) -> None:
    assert bool(vault(*command, *asked, data_dir=data_dir).out) is some


def test_show_finds_by_index_and_by_id(vault: Command, data_dir: Path) -> None:
    assert "question 1" in vault("show", "3", data_dir=data_dir).out
    assert json.loads(vault("show", "gen-1", "--json", data_dir=data_dir).out)["response_token_ids"] == [4, 5]


@pytest.mark.parametrize("words", [("show", "6"), ("list",), ("search", "red"), ("export",), ("list", "--json")])
def test_no_record_drives_the_terminal(vault: Command, data_dir: Path, words: tuple[str, ...]) -> None:
    ended = vault(*words, data_dir=data_dir)
    assert "\x1b" not in ended.out
    assert "red" in ended.out


def test_search_finds_words(vault: Command, data_dir: Path) -> None:
    ended = vault("search", '"question 2"', "--json", data_dir=data_dir)
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == ["gen-2"]


def test_stats_count(vault: Command, data_dir: Path) -> None:
    assert json.loads(vault("stats", "--json", data_dir=data_dir).out)["calls"] == 4
    assert "all\t\t4\t12\t8\t2.5\t2.5\t2.5" in vault("stats", data_dir=data_dir).out


def test_export_writes_a_file_for_its_owner(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    assert vault("export", "--format", "csv", "-o", str(target), data_dir=data_dir).code == 0
    rows = list(csv.DictReader(io.StringIO(target.read_text("utf-8"))))
    assert rows[3]["prompt"] == "colour \x1b[31m red \u202e"
    assert target.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize(
    "words", [("export", "-o"), ("prove", "3", "-o"), ("head", "-o"), ("head", "--key", "-o"), ("backup",)]
)
def test_a_file_that_is_there_is_written_over_only_when_told_to(
    vault: Command, data_dir: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    target = tmp_path / "mine"
    target.write_text("mine")
    ended = vault(*words, str(target), data_dir=data_dir)
    assert (ended.code, target.read_text()) == (2, "mine")
    assert ended.err == f"Error: {target} is there already; --overwrite writes over it.\n"
    if words[0] == "backup":  # a file that is no vault is never one to write over
        target.unlink()
        assert vault(*words, str(target), data_dir=data_dir).code == 0
    assert vault(*words, str(target), "--overwrite", data_dir=data_dir).code == 0
    assert target.read_bytes() != b"mine"


def test_export_to_a_folder_that_is_not_there_fails(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    ended = vault("export", "-o", str(tmp_path / "none" / "out"), data_dir=data_dir)
    assert (ended.code, ended.out) == (1, "")
    assert "There is no folder" in ended.err


def test_verify_of_a_sound_vault(vault: Command, data_dir: Path) -> None:
    ended = vault("verify", data_dir=data_dir)
    assert ended.code == 0
    assert "self-attested" in ended.out


def test_verify_of_a_damaged_vault_names_the_record_and_fails(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "vault.db"
    copy.write_bytes((data_dir / "vault.db").read_bytes())
    db = apsw.Connection(str(copy))
    db.execute("UPDATE contents SET data = x'00' WHERE leaf_index = 4 AND kind = 'prompt_text'")
    db.close()
    ended = vault("verify", data_dir=tmp_path)
    assert ended.code == 1
    assert "the prompt_text of record 4 is altered" in ended.out
    report = json.loads(vault("verify", "--json", data_dir=tmp_path).out)
    assert (report["ok"], report["integrity"]) == (False, "broken")


def test_a_head_kept_elsewhere_attests(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.head"
    assert vault("head", "-o", str(kept), data_dir=data_dir).code == 0
    ended = vault("verify", "--against", str(kept), data_dir=data_dir)
    assert (ended.code, "attested up to record 7" in ended.out) == (0, True)


@pytest.fixture
def own_vault(tmp_path: Path) -> Path:
    """Four calls of two keys, for one test alone."""
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", head_interval=3600)
    record_calls(ledger, 2, api_key_id="alice")
    record_calls(ledger, 2)
    ledger.close()
    return tmp_path


def test_verify_says_when_no_signed_head_bears_on_the_end(vault: Command, own_vault: Path) -> None:
    with_head = vault("verify", data_dir=own_vault)
    (own_vault / "vault.head").unlink()
    without = vault("verify", data_dir=own_vault)
    assert "(newest signed head: 8 records)" in with_head.out
    assert (without.code, "self-attested (no signed head)" in without.out) == (0, True)
    assert "cannot be told whether records are missing at its end" in without.err


def test_erase_by_id_takes_content_and_line_and_leaves_a_record(vault: Command, own_vault: Path) -> None:
    ended = vault("erase", "2", "--yes", data_dir=own_vault)
    assert (ended.code, "the content of 1 call" in ended.out) == (0, True)
    assert "(erased by record 8)" in vault("show", "2", data_dir=own_vault).out
    assert len((own_vault / "logs" / "log.jsonl").read_text().splitlines()) == 3
    assert "1 call, each by a record that says so" in vault("verify", data_dir=own_vault).out


def test_show_says_when_what_it_shows_was_altered_and_of_nothing_else(vault: Command, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 2)
    record_calls(ledger, 1, store=False)
    ledger.close()
    assert vault("erase", "2", "--yes", data_dir=tmp_path).code == 0
    db = apsw.Connection(str(tmp_path / "vault.db"))
    db.execute("UPDATE contents SET data = CAST('another' AS BLOB) WHERE leaf_index = 1 AND kind = 'response_text'")
    db.close()
    shown, told = vault("show", "0", data_dir=tmp_path), vault("show", "0", "--json", data_dir=tmp_path)
    assert (shown.code, "another" in shown.out, "not what was recorded" in shown.err) == (1, True, True)
    assert (told.code, json.loads(told.out)["altered"]) == (1, True)
    others = [vault("show", index, "--json", data_dir=tmp_path) for index in ("2", "4")]
    assert [(one.code, json.loads(one.out)["altered"], one.err) for one in others] == [(0, False, "")] * 2


@pytest.fixture
def forged(tmp_path: Path) -> Path:
    """Three calls, of which the second's answer was altered."""
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 3)
    ledger.close()
    db = apsw.Connection(str(tmp_path / "vault.db"))
    db.execute("UPDATE contents SET data = CAST('a lie' AS BLOB) WHERE leaf_index = 3 AND kind = 'response_text'")
    db.close()
    return tmp_path


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_an_export_with_an_altered_call_is_written_and_fails(vault: Command, forged: Path, form: str) -> None:
    target = forged / f"out.{form}"
    ended = vault("export", "--format", form, "-o", str(target), data_dir=forged)
    assert (ended.code, "1 call in it: record 3.\n" in ended.err) == (1, True)
    assert target.stat().st_size > 0


def test_an_export_to_standard_output_fails_too(vault: Command, forged: Path) -> None:
    ended = vault("export", data_dir=forged)
    assert ended.code == 1
    assert [json.loads(line)["altered"] for line in ended.out.splitlines()] == [False, True, False]


def test_an_export_of_other_calls_is_well(vault: Command, forged: Path) -> None:
    assert vault("export", "--before", "2023-01-01", data_dir=forged).code == 0


def test_a_list_says_which_call_was_altered(vault: Command, forged: Path) -> None:
    ended = vault("list", data_dir=forged)
    assert [line.split("\t")[4] for line in ended.out.splitlines()[1:]] == ["stop", "stop, ALTERED", "stop"]
    assert "not what was recorded: 1 call of these" in ended.err
    rows = [json.loads(line) for line in vault("search", "question", "--json", data_dir=forged).out.splitlines()]
    assert [(row["index"], row.get("altered")) for row in rows] == [(4, None), (2, True), (0, None)]


def test_show_tells_the_parameters_and_which_are_erased(vault: Command, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    parameters = {"max_tokens": 16, "stop": ("xylophone",)}
    record_calls(ledger, 1, parameters=parameters, constraints=("stop",))
    ledger.close()
    assert "xylophone" in vault("show", "0", data_dir=tmp_path).out
    assert vault("erase", "0", "--yes", data_dir=tmp_path).code == 0
    shown = vault("show", "0", data_dir=tmp_path).out
    assert re.search(r"parameters\.stop +\(erased by record 2\)", shown)
    told = json.loads(vault("show", "0", "--json", data_dir=tmp_path).out)
    assert told["parameters"] == {"constraints": ["stop"], "max_tokens": 16, "stop": None}
    assert told["constraints"] is None


def test_erase_by_key_and_by_time(vault: Command, own_vault: Path) -> None:
    assert json.loads(vault("erase", "--key", "alice", "--yes", "--json", data_dir=own_vault).out)["erased"] == [0, 2]
    later = vault("erase", "--before", "2030-01-01", "--yes", "--json", data_dir=own_vault)
    assert json.loads(later.out)["erased"] == [4, 6]


def test_a_time_in_which_nothing_is_left_to_erase_is_no_failure(vault: Command, own_vault: Path) -> None:
    ended = vault("erase", "--before", "2000-01-01", "--yes", data_dir=own_vault)
    assert (ended.code, ended.out) == (0, "Nothing to erase: no call of that time holds content.\n")
    told = vault("erase", "--before", "2000-01-01", "--yes", "--json", data_dir=own_vault)
    assert (told.code, told.out) == (0, '{"erased": [], "copies": []}\n')


@pytest.mark.parametrize("which", [("--key", "alice"), ("--key", "alice", "--after", "2100-01-01"), ("0",)])
def test_erasing_nothing_is_told_and_fails(vault: Command, own_vault: Path, which: tuple[str, ...]) -> None:
    vault("erase", "0", "2", "--yes", data_dir=own_vault)
    ended = vault("erase", *which, "--yes", data_dir=own_vault)
    assert (ended.code, ended.out, ended.err.startswith("Error: Nothing was erased: ")) == (1, "", True)
    told = vault("erase", *which, "--yes", "--json", data_dir=own_vault)
    assert (told.code, told.out, told.err) == (1, '{"erased": [], "copies": []}\n', "")


OF_A_KEY = [
    ("list", "--json"),
    ("search", "question", "--json"),
    ("export",),
    ("stats", "--json"),
    ("erase", "--yes", "--json"),
]


@pytest.mark.parametrize("words", OF_A_KEY, ids=lambda words: words[0])
def test_a_key_is_meant_by_its_name_its_id_or_what_records_name(
    vault: Command, own_vault: Path, words: tuple[str, ...]
) -> None:
    made = KeyStore.in_folder(own_vault).create("team", KeyTerms()).key
    ledger = open_ledger(own_vault)
    record_calls(ledger, 1, api_key_id=made.id)
    ledger.close()
    answers = [vault(*words, "--key", word, data_dir=own_vault) for word in ("team", "alice", "alcie")]
    assert [_calls_in(words[0], answer.out) for answer in answers] == [1, 2, 0]
    assert [answer.code for answer in answers] == [0, 0, 2]
    assert answers[2].err.startswith("Error: --key must be the id or the name of a key, or an id that a record names.")


def _calls_in(command: str, out: str) -> int:
    """How many calls a command told of."""
    if command not in ("stats", "erase") or not out:
        return len(out.splitlines())
    told = json.loads(out)
    return told["calls"] if command == "stats" else len(told["erased"])


@pytest.mark.parametrize("option", ["--surface", "--source", "--finish-reason"])
def test_a_word_that_no_call_can_bear_is_refused(vault: Command, data_dir: Path, option: str) -> None:
    for command in (("list",), ("search", "question"), ("export",)):
        ended = vault(*command, option, "nonsense", data_dir=data_dir)
        assert (ended.code, ended.out, ended.err.startswith(f"Error: {option} must be ")) == (2, "", True)


def test_the_words_of_filters_are_those_of_http() -> None:
    told = [set(get_args(get_args(get_args(one)[0])[0])) for one in (http.Surface, http.Source, http.Reason)]
    assert told == [set(SURFACES), set(SOURCES), set(FINISH_REASONS)]


READING = [("list",), ("search", "x"), ("show", "0"), ("stats",), ("export",), ("verify",), ("head",), ("prove", "0")]


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_a_folder_that_is_not_there_is_no_empty_vault(vault: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = vault(*words, data_dir=tmp_path / "typo")
    assert (ended.code, ended.out, ended.err) == (2, "", f"Error: There is no folder {tmp_path / 'typo'}.\n")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("words", [*READING[:5], ("erase", "0", "--yes")], ids=lambda words: words[0])
def test_a_vault_that_is_gone_is_no_empty_one(vault: Command, own_vault: Path, words: tuple[str, ...]) -> None:
    (own_vault / "vault.db").unlink()
    ended = vault(*words, data_dir=own_vault)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Error: There is no vault.db in {own_vault}, but a head over 8 records was signed")
    assert "vault restore FILE" in ended.err


def test_verify_says_that_a_vault_is_gone(vault: Command, own_vault: Path) -> None:
    (own_vault / "vault.db").unlink()
    ended = vault("verify", data_dir=own_vault)
    assert (ended.code, "counts 8 records, the vault holds 0" in ended.out) == (1, True)


def test_an_export_of_what_is_not_there_yet_says_so(vault: Command, tmp_path: Path) -> None:
    assert vault("export", data_dir=tmp_path).err == f"Nothing is on record in {tmp_path} yet.\n"


def test_erase_asks_back(vault: Command, own_vault: Path) -> None:
    ended = vault("erase", "2", data_dir=own_vault)
    assert (ended.code, "--yes" in ended.err) == (2, True)
    assert "question 1" in vault("show", "2", data_dir=own_vault).out


@pytest.mark.parametrize(
    ("words", "said"), [((), "Name calls"), (("1", "--before", "2030-01-01"), "Ids and filters exclude each other")]
)
def test_erase_wants_ids_or_a_filter(vault: Command, own_vault: Path, words: tuple[str, ...], said: str) -> None:
    ended = vault("erase", *words, "--yes", data_dir=own_vault)
    assert (ended.code, ended.err.startswith(f"Error: {said}")) == (2, True)


class Answering(io.StringIO):
    """A terminal at which somebody presses Ctrl-C, or types this."""

    def isatty(self) -> bool:
        return True

    def readline(self, *size: Any) -> str:  # type: ignore[override]
        typed = super().readline(*size)
        if typed == "^C\n":
            raise KeyboardInterrupt
        return typed


@pytest.mark.parametrize(("typed", "code", "erased"), [("^C\n", 130, False), ("n\n", 1, False), ("y\n", 0, True)])
def test_a_question_ends_as_it_is_answered(
    vault: Command, own_vault: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, erased: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Answering(typed))
    assert vault("erase", "2", data_dir=own_vault).code == code
    assert ("erased" in vault("show", "2", data_dir=own_vault).out) is erased


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--against", "nothere.head"),
        ("check-proof", "nothere.tlog-proof", "--key", "k+0+0"),
        ("import", "nothere.jsonl"),
        ("restore", "nothere.db"),
    ],
    ids=lambda words: words[0],
)
def test_a_file_that_is_not_there_is_wrong_use_and_no_verdict(
    vault: Command, data_dir: Path, words: tuple[str, ...]
) -> None:
    ended = vault(*words, data_dir=None if words[0] == "check-proof" else data_dir)
    assert (ended.code, ended.out) == (2, "")


def test_an_import_into_a_new_folder_says_that_it_is_new(vault: Command, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    ended = vault("import", str(tmp_path / "log.jsonl"), data_dir=tmp_path / "typo")
    assert f"The data directory {tmp_path / 'typo'} is new" in ended.err


def test_erase_is_refused_while_another_process_writes(vault: Command, own_vault: Path) -> None:
    ledger = open_ledger(own_vault)
    ended = vault("erase", "2", "--yes", data_dir=own_vault)
    ledger.close()
    assert (ended.code, "--url" in ended.err) == (1, True)


def test_a_file_in_a_folder_that_is_missing_is_told_by_the_folder(
    vault: Command, data_dir: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "usb"
    for words in (("backup", str(nowhere / "vault.db")), ("head", "-o", str(nowhere / "a.head"))):
        ended = vault(*words, data_dir=data_dir)
        assert (ended.code, f"no folder {nowhere}." in ended.err) == (1, True)


def test_backup_and_restore(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.db", tmp_path / "other"
    ended = vault("backup", str(copy), data_dir=data_dir)
    assert (ended.code, "8 records of 4 calls, self-attested up to record 7" in ended.out) == (0, True)
    assert vault("restore", str(copy), data_dir=other).code == 0
    assert "question 1" in vault("list", data_dir=other).out
    ended = vault("restore", str(copy), data_dir=other)
    assert (ended.code, "already" in ended.err) == (2, True)
    assert vault("restore", str(copy), "--replace", data_dir=other).code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"a letter to a friend\n", "it is text"),
        ("grüße ".encode() * 900, "it is text"),
        (b'{"prompt": "a"}\n', "minivault vault import"),
        (b"\x1f\x8b\x08\0", "packed (gzip)"),
        (b"\xff\0" * 5001, "10,002 bytes are no whole pages"),
        (b"\xff\0" * 4096, "encrypted, and vault_key_file names no key"),
        (b"SQLite format 3\0", "the vault's file is damaged"),
    ],
)
def test_a_restore_says_what_the_file_is(vault: Command, tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "some.file").write_bytes(content)
    ended = vault("restore", str(tmp_path / "some.file"), data_dir=tmp_path / "other")
    assert (ended.code, told in ended.err) == (1, True), ended.err
    assert not (tmp_path / "other" / "vault.db").exists()


def test_what_is_handed_out_can_be_read_by_others(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    former = os.umask(0o022)
    try:
        for name, words in {"a": ("prove", "3"), "b": ("head", "--key"), "c": ("head",)}.items():
            vault(*words, "-o", str(tmp_path / name), data_dir=data_dir)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
        os.umask(0o077)
        vault("head", "-o", str(tmp_path / "a"), "--overwrite", data_dir=data_dir)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(former)


def test_import_refuses_the_vaults_own_files(vault: Command, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log.jsonl"
    log.parent.mkdir()
    log.write_text('{"prompt": "a", "response": "b"}\n')
    ended = vault("import", str(log), data_dir=tmp_path)
    assert (ended.code, "on record already" in ended.err) == (2, True)


def test_import_names_the_lines_that_it_cannot_read(vault: Command, tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text('{"prompt": "an old", "response": "answer"}\nno json\n')
    ended = vault("import", str(tmp_path / "old.jsonl"), data_dir=tmp_path / "data")
    assert (ended.code, ended.out, "line 2: not JSON" in ended.err) == (0, "Imported: 1 call\n", True)
    again = vault("import", str(tmp_path / "old.jsonl"), "--json", data_dir=tmp_path / "data")
    assert json.loads(again.out)["known"] == 1
    assert vault("import", str(tmp_path / "none"), data_dir=tmp_path / "data").code == 2


def test_verify_goes_on_from_the_last_time(vault: Command, own_vault: Path) -> None:
    assert json.loads(vault("verify", "--since-last", "--json", data_dir=own_vault).out)["since"] == 0
    ledger = open_ledger(own_vault, head_interval=3600)
    record_calls(ledger, 1)
    ledger.close()
    shown = vault("verify", "--since-last", data_dir=own_vault).out
    assert "checked now    records 8 to 9 (1 call, 0 of them not ended), and that the tree goes on" in shown
    assert "taken over     records 0 to 7, as verified on 20" in shown
    assert "integrity      intact (of what was checked now" in shown


def test_a_forged_head_is_refused(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.head"
    forged.write_text(vault("head", data_dir=data_dir).out.replace("\n8\n", "\n6\n"))
    ended = vault("verify", "--against", str(forged), data_dir=data_dir)
    assert (ended.code, "signature is wrong" in ended.err) == (2, True)


def test_a_proof_is_checked_without_the_vault(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    proof, key = tmp_path / "3.tlog-proof", vault("head", "--key", data_dir=data_dir).out.strip()
    assert vault("prove", "3", "-o", str(proof), data_dir=data_dir).code == 0
    ended = vault("check-proof", str(proof), "--key", key)
    assert (ended.code, "Proven: record 3" in ended.out) == (0, True)
    proof.write_text(proof.read_text().replace("index 3", "index 1"))
    ended = vault("check-proof", str(proof), "--key", key)
    assert (ended.code, "Not proven" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("head",), 1),
        (("prove", "1"), 1),
        (("list",), 0),
        (("search", "x"), 0),
        (("stats",), 0),
        (("export",), 0),
        (("show", "1"), 1),
        (("verify",), 1),
        (("erase", "1", "--yes"), 1),
    ],
)
def test_without_a_vault_the_exit_code_is_honest(
    vault: Command, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    ended = vault(*words, data_dir=tmp_path)
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("list", "--after", "yesterday"), "--after must be a time"),
        (("list", "--cursor", "x"), "cursor"),
        (("search", "?!"), "word"),
        (("export", "--format", "xml"), "--format"),
        (("list", "-n", "0"), "-n"),
        (("replay",), "--sample"),
        (("replay", "0", "--all"), "--sample"),
    ],
)
def test_wrong_use_is_exit_code_2(vault: Command, data_dir: Path, words: tuple[str, ...], says: str) -> None:
    ended = vault(*words, data_dir=data_dir)
    assert ended.code == 2
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_the_command_stands_alone(data_dir: Path) -> None:
    # In a process of its own: nothing of the engine or of HTTP is loaded to read the vault.
    program = (
        "import sys; from minivault.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "vault", "list", "--data-dir", str(data_dir)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True, timeout=60)
    loaded = set(ended.stderr.split())
    assert "question 2" in ended.stdout
    assert "apsw" in loaded
    assert not {
        name for name in loaded if name.startswith(("fastapi", "minivault.engine", "minivault.service", "numpy"))
    }


def test_a_fresh_record_is_proven_by_a_head_signed_for_it(vault: Command, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)  # signs no heads
    record_calls(ledger, 1)
    ledger.close()
    proof = tmp_path / "0.proof"
    assert vault("prove", "0", "-o", str(proof), data_dir=tmp_path).code == 0
    checked = vault("check-proof", str(proof), "--key", str(tmp_path / "vault.pub"), "--json")
    assert json.loads(checked.out)["index"] == 0


def test_a_search_shows_the_words_in_their_column(vault: Command, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1, prompt_text="so " * 40 + "needle " + "on " * 40)
    ledger.close()
    row = vault("search", "needle", data_dir=tmp_path).out.splitlines()[1].split("\t")
    assert ("needle" in row[6], row[7]) == (True, "answer to 0")


def test_the_head_as_json(vault: Command, data_dir: Path) -> None:
    found = json.loads(vault("head", "--json", data_dir=data_dir).out)
    assert (found["size"], found["head"].splitlines()[0]) == (8, found["origin"])


def test_export_to_parquet(vault: Command, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    assert vault("export", "--format", "parquet", "-o", str(target), data_dir=data_dir).code == 0
    assert parquet.read_table(target).num_rows == 4


def test_a_vault_is_encrypted_and_read_by_its_key(
    vault: Command, own_vault: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path_factory.mktemp("keys") / "key"
    assert vault("encrypt", "--key-file", str(key), data_dir=own_vault).code == 0
    assert vault("list", data_dir=own_vault).code == 1
    monkeypatch.setenv("MINIVAULT_VAULT_KEY_FILE", str(key))
    assert "question 1" in vault("list", data_dir=own_vault).out
    assert vault("verify", data_dir=own_vault).code == 0
    assert vault("erase", "2", "--yes", data_dir=own_vault).code == 0
    assert vault("decrypt", data_dir=own_vault).code == 0


@pytest.mark.parametrize("keyed", [True, False])
def test_a_plain_vault_is_not_decrypted(
    vault: Command, own_vault: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    keyed: bool,
) -> None:  # fmt: skip
    if keyed:
        key = tmp_path_factory.mktemp("keys") / "key"
        VaultKey.create(key)
        monkeypatch.setenv("MINIVAULT_VAULT_KEY_FILE", str(key))
    ended = vault("decrypt", data_dir=own_vault)
    assert (ended.code, ended.err) == (1, f"Error: The vault in {own_vault} is not encrypted.\n")
    missing = vault("decrypt", data_dir=own_vault / "none")
    assert (missing.code, "There is no vault in" in missing.err) == (1, True)


def test_files_and_batches_get_the_vaults_key_with_it(
    vault: Command, own_vault: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [tmp_path_factory.mktemp("keys") / name for name in ("one", "two")]
    batches = own_vault / "batches.db"
    BatchStore.open(batches).close()
    for key in keys:
        assert vault("encrypt", "--key-file", str(key), data_dir=own_vault).code == 0
        BatchStore.open(batches, key).close()
        assert is_plain(batches) is False
        monkeypatch.setenv("MINIVAULT_VAULT_KEY_FILE", str(key))
    assert vault("decrypt", data_dir=own_vault).code == 0
    assert is_plain(batches)


def test_a_key_that_was_made_in_vain_is_not_left(vault: Command, own_vault: Path) -> None:
    (own_vault / "vault.head").write_text("no head")
    ended = vault("encrypt", "--key-file", str(own_vault / "key"), data_dir=own_vault)
    assert (ended.code, (own_vault / "key").exists()) == (1, False)


def test_a_key_that_is_in_use_stays_though_the_command_cannot_say_so(
    vault: Command, own_vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(text: str) -> None:
        raise OSError(errno.ENOSPC, text)

    monkeypatch.setattr("minivault.cli.vault_encrypt.line", full)
    monkeypatch.setattr("minivault.cli.main._print_no_more", lambda: None)
    assert vault("encrypt", "--key-file", str(own_vault / "key"), data_dir=own_vault).code == 1
    assert is_plain(own_vault / "vault.db") is False
    monkeypatch.setenv("MINIVAULT_VAULT_KEY_FILE", str(own_vault / "key"))
    assert "question 1" in vault("list", data_dir=own_vault).out


COMMANDS = list(typer.main.get_command(vault_app).commands)  # type: ignore[attr-defined]  # it is a group


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(vault: Command, name: str) -> None:
    assert f"minivault vault {name}" in vault(name, "--help").out.replace("Usage: minivault vault", "")


def test_erase_asks_the_server_that_the_environment_names(
    vault: Command, own_vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIVAULT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MINIVAULT_DATA_DIR", str(own_vault))
    assert "No server answers" in vault("erase", "2", "--yes").err
    assert vault("erase", "2", "--yes", data_dir=own_vault).code == 0


@pytest.mark.parametrize(
    "words",
    [("erase", "1", "--yes"), ("import", "more.jsonl"), ("encrypt", "--key-file", "key.hex")],
    ids=lambda words: words[0],
)
def test_a_folder_that_cannot_be_written_is_told_and_no_server_is_blamed(
    vault: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    data = tmp_path / "data"
    ledger = open_ledger(data)
    record_calls(ledger, 1)
    ledger.close()
    (data / "vault.db.lock").unlink()
    (data / "vault.db.lock").mkdir()
    ended = vault(*words, data_dir=data)
    assert ended.code == 1
    assert "the vault's folder cannot be used" in ended.err
    assert "server" not in ended.err


@pytest.mark.parametrize("kind", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_may_not_be_written_is_not_called_a_fault_of_the_disk(kind: int) -> None:
    assert describe(OSError(kind, "no")) == "it may not be written"
