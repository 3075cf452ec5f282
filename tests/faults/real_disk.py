"""A small ext4 file system of its own, on a loop device, that can lose its power or fall back to read-only.

Needs root and loop devices; :func:`mounted` skips with the reason where it cannot be had. Power loss is ext4's own
shutdown (``EXT4_IOC_SHUTDOWN`` without flushing the log): from then on nothing reaches the image, and what had not been
synced is gone at the next mount.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
SIZE = 64 << 20


def _done(*words: str | Path) -> bool:
    return subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode == 0


class RealDisk:
    """A mounted image. ``folder`` is its mount point."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image = image
        self.folder = folder

    def mount(self) -> bool:
        return _done("mount", "-o", "loop,errors=remount-ro", self.image, self.folder)

    def unmount(self) -> None:
        assert _done("umount", self.folder), "somebody still has a file open"

    def lose_power(self) -> None:
        """Nothing that was not synced by now will ever be."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restart(self) -> None:
        """As a machine does: check what needs to be, and mount."""
        self.unmount()
        subprocess.run(["e2fsck", "-p", str(self.image)], capture_output=True, check=False)
        assert self.mount(), "the file system does not mount any more"

    def break_down(self) -> None:
        """An error in the file system itself, upon which it takes no more writes."""
        number = self.folder.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").readlink().name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("by plan")


@contextmanager
def mounted(parent: Path) -> Iterator[RealDisk]:
    """A fresh file system under ``parent``."""
    if os.geteuid() != 0:
        pytest.skip("mounting an ext4 image needs root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    disk = RealDisk(parent / "disk.img", parent / "disk")
    disk.folder.mkdir()
    with disk.image.open("wb") as image:
        image.truncate(SIZE)
    if not _done("mkfs.ext4", "-q", "-F", disk.image) or not disk.mount():
        pytest.skip("this system does not let root mount an ext4 image on a loop device")
    try:
        yield disk
    finally:
        with contextlib.suppress(AssertionError):
            disk.unmount()
