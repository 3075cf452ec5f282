"""What is made durable, replaced or locked, on whatever system the tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minivault import file_lock, files, processes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"one\ntwo\n")
    return tmp_path / "file"


@pytest.fixture
def two(path: Path) -> Iterator[tuple[int, int]]:
    descriptors = [os.open(path, os.O_RDWR | files.PLAIN) for _ in range(2)]
    yield descriptors[0], descriptors[1]
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_lock_keeps_others_out(two: tuple[int, int]) -> None:
    file_lock.lock(two[0])
    with pytest.raises(BlockingIOError):
        file_lock.lock(two[1])


def test_a_lock_keeps_out_who_would_share(two: tuple[int, int]) -> None:
    file_lock.lock(two[0])
    with pytest.raises(BlockingIOError):
        file_lock.lock(two[1], shared=True)


def test_a_lock_is_shared_by_those_who_share(two: tuple[int, int]) -> None:
    file_lock.lock(two[0], shared=True)
    file_lock.lock(two[1], shared=True)


def test_a_shared_lock_keeps_out_who_would_be_alone(two: tuple[int, int]) -> None:
    file_lock.lock(two[0], shared=True)
    with pytest.raises(BlockingIOError):
        file_lock.lock(two[1])


def test_a_locked_file_can_be_read(path: Path, two: tuple[int, int]) -> None:
    file_lock.lock(two[0])
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_lock_ends_when_its_file_is_closed(path: Path, two: tuple[int, int]) -> None:
    third = os.open(path, os.O_RDWR | files.PLAIN)
    file_lock.lock(third)
    os.close(third)
    file_lock.lock(two[0], wait=True)


def test_line_ends_are_written_as_they_are(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT | files.PLAIN, 0o600)
    os.write(descriptor, b"one\n")
    os.close(descriptor)
    assert (tmp_path / "new").read_bytes() == b"one\n"


def test_a_finished_file_takes_the_place_of_another(path: Path) -> None:
    part = path.with_name("part")
    part.write_bytes(b"three\n")
    files.put_in_place(part, path)
    assert path.read_bytes() == b"three\n"
    assert not part.exists()


def test_a_file_that_is_not_there_takes_no_place(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.put_in_place(path.with_name("part"), path)
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_file_is_replaced_when_all_is_written(path: Path) -> None:
    with files.replacing(path) as file:
        file.write(b"three\n")
        assert path.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_replacement_that_fails_leaves_all_as_it_was(path: Path) -> None:
    def fail() -> None:
        with files.replacing(path) as file:
            file.write(b"three\n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"one\ntwo\n"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


@pytest.mark.skipif(not files.HAS_MODES, reason="modes say nothing here")
def test_what_lies_where_a_replacement_is_written_lends_it_nothing(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.with_name("file.part").symlink_to(elsewhere)
    with files.replacing(path, 0o600) as file:
        file.write(b"three\n")
    assert not elsewhere.exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_this_process_runs_and_one_of_no_system_does_not() -> None:
    assert processes.is_running(os.getpid())
    assert not processes.is_running((1 << 31) - 8)


def test_what_this_user_made_is_its_own(path: Path) -> None:
    assert files.is_own(path.stat())


def test_a_link_is_not_opened(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        files.open_itself(link, os.O_RDONLY)


def test_memory_is_told_this_way_on_windows_alone() -> None:
    told = processes.windows_memory()
    if os.name != "nt":
        assert told is None
    else:
        assert told is not None
        assert 0 < told[1] <= told[0]
