"""Files that commands write: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minivault.cli.console import CliError
from minivault.cli.files import is_same_file, refuse_present, write_file
from minivault.files import HAS_MODES


def test_text_and_bytes_are_written_one_after_the_other(tmp_path: Path) -> None:
    write_file(tmp_path / "out", ["für\n", b"b\n"])
    assert (tmp_path / "out").read_bytes() == "für\nb\n".encode()


@pytest.mark.skipif(not HAS_MODES, reason="modes say nothing here")
@pytest.mark.parametrize(("public", "others_read"), [(False, False), (True, True)])
def test_only_what_is_meant_for_others_can_be_read_by_them(tmp_path: Path, public: bool, others_read: bool) -> None:
    write_file(tmp_path / "out", ["text"], public=public)
    assert bool((tmp_path / "out").stat().st_mode & 0o044) == others_read


def test_a_source_that_breaks_off_leaves_what_was_there_and_no_part(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "new"
        raise CliError("The connection broke.")

    (tmp_path / "out").write_text("former")
    with pytest.raises(CliError, match="The connection broke"):
        write_file(tmp_path / "out", broken())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "former")]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(CliError, match=r"Cannot write .*out: "):
        write_file(tmp_path / "out", ["text"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="There is no folder"):
        write_file(tmp_path / "none" / "out", ["text"])


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before", encoding="utf-8")
    link.symlink_to(target)
    refuse_present(link, overwrite=True)
    write_file(link, ["after"])
    assert (link.is_symlink(), target.read_text(encoding="utf-8")) == (True, "after")


def test_what_is_no_regular_file_is_not_written_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(CliError, match="no regular file"):
            refuse_present(path, overwrite=True)


def test_a_vault_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "vault.db").touch()
    refuse_present(tmp_path / "vault.db", overwrite=True)  # a backup
    (tmp_path / "vault.db.lock").touch()
    (tmp_path / "link").symlink_to(tmp_path / "vault.db")
    for path in (tmp_path / "vault.db", tmp_path / "link"):
        with pytest.raises(CliError, match=r"vault\.db\.lock beside it"):
            refuse_present(path, overwrite=True)


def test_what_a_data_directory_keeps_is_not_written_over(tmp_path: Path) -> None:
    names = ("vault.key", "config.toml", "keys.json", "batches.db", "logs/log.jsonl", "logs/log.jsonl.2", "models/a/b")
    mine = ("mine.jsonl", "vault.jsonl", "logs/mine.jsonl")
    for folder in ("logs", "models/a"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (*names, *mine):
        (tmp_path / name).touch()
        refuse_present(tmp_path / name, overwrite=True)  # no data directory yet
    (tmp_path / "vault.db.lock").touch()
    for name in names:
        with pytest.raises(CliError, match="data directory"):
            refuse_present(tmp_path / name, overwrite=True)
    for name in mine:
        refuse_present(tmp_path / name, overwrite=True)


def test_one_file_has_many_names(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert is_same_file(tmp_path / "link", tmp_path / "a")
    assert not is_same_file(tmp_path / "a", tmp_path / "b")
    assert not is_same_file(tmp_path / "none", tmp_path / "none")
