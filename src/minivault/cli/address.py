"""The address of the server that runs on a data directory, kept in that directory while it runs.

The file is locked by its server for as long as it counts: what a killed server left is not believed. Knows nothing of
what is asked there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from minivault.cli.console import CliError, program
from minivault.file_lock import lock
from minivault.files import NO_WAIT, OPEN_FILES_STAY, PLAIN, is_own, open_itself

if TYPE_CHECKING:
    from minivault.settings import Settings

NAME = "server.url"
_MOST_BYTES = 300
_NETWORK = Path("/proc/self/ns/net")


@contextmanager
def published(data_dir: Path, url: str) -> Iterator[None]:
    """Keep ``url`` in ``data_dir``, for its owner alone, for the length of a ``with`` block.

    Order: the block ends before the port is closed, or whoever takes the port next is shown the API keys of commands.

    A directory that cannot take it is no fault: clients then have to be told the address.
    """
    path = data_dir / NAME
    # Windows renames no file that is open: there it has its name at once, and counts from when it is locked.
    part = path if OPEN_FILES_STAY else path.with_name(f"{NAME}.{os.getpid()}")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            # Without O_EXCL a link that somebody laid here would be followed.
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | PLAIN, 0o600)
            if OPEN_FILES_STAY:
                stack.callback(_remove_closed, path)
            stack.callback(os.close, descriptor)
            if not OPEN_FILES_STAY:
                stack.callback(_remove, descriptor, path)
            # Locked before it has its name: who finds it finds it locked.
            lock(descriptor)
            os.write(descriptor, f"{url}\n{_network()}\n".encode())
            if part != path:
                part.replace(path)
        yield


def names_server(settings: Settings, url: str | None, data_dir: Path | None) -> bool:
    """Whether a command that reads a data directory is to ask a server instead: one was named, and no folder.

    ``url`` and ``data_dir`` are its options. A folder on the command line is meant, whatever the environment names.
    """
    return url is not None or (data_dir is None and "url" in settings.model_fields_set)


def serverless(settings: Settings) -> bool:
    """Whether a folder was named on which no server runs, and no server by its address: there is none to ask."""
    named = settings.model_fields_set
    return "data_dir" in named and "url" not in named and _read(settings.data_dir) is None


def server_of(settings: Settings) -> str:
    """The server to ask: the one that was named, or else that which runs on the data directory; the usual one only
    where neither was named, for it may have another vault.

    Raises:
        CliError: no server runs on the folder that was named, or it has a network of its own, where its address means
            another machine.
    """
    if "url" in settings.model_fields_set:
        return settings.url
    if serverless(settings):
        raise CliError(
            f"No server runs on {settings.data_dir}. Start one with: {program()} serve --data-dir {settings.data_dir}\n"
            "Or add --local where a command has it, or name a server with --url."
        )
    found = _read(settings.data_dir)
    if found is None:
        return settings.url
    url, network = found
    if network != _network() or ("data_dir" in settings.model_fields_set and not _is_here(url)):
        raise CliError(
            "The server of this data directory runs in a network of its own, such as a container's. "
            "Say how to reach it with --url."
        )
    return url if _is_here(url) else settings.url


def running_at(data_dir: Path) -> str | None:
    """Where the server that runs on ``data_dir`` is to be reached; ``None``: none does, or it is not known.

    Only an address of this machine is believed, and of this network of it, for 127.0.0.1 is another in a container:
    whoever could write the file must not be sent an API key.
    """
    found = _read(data_dir)
    return found[0] if found is not None and found[1] == _network() and _is_here(found[0]) else None


def _read(data_dir: Path) -> tuple[str, str] | None:
    """What the server that runs on ``data_dir`` wrote: its address, and the network that this is one of."""
    try:
        descriptor = open_itself(data_dir / NAME, os.O_RDONLY | NO_WAIT)
    except OSError:
        return None
    try:
        if not is_own(os.fstat(descriptor)) or not _is_locked(descriptor):
            return None
        url, _, network = os.read(descriptor, _MOST_BYTES).decode("ascii", "replace").partition("\n")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return url.strip(), network.strip()


def _network() -> str:
    """Which network of the kernel this process is in; empty where there is but one."""
    try:
        return str(_NETWORK.readlink())
    except OSError:
        return ""


def _remove(descriptor: int, path: Path) -> None:
    """Take the file away, unless another server has put its own in its place."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            path.unlink()


def _remove_closed(path: Path) -> None:
    """As :func:`_remove` where an open file cannot go: that of another server stays, for it is open."""
    with contextlib.suppress(OSError):
        path.unlink()


def _is_locked(descriptor: int) -> bool:
    try:
        lock(descriptor, shared=True)
    except BlockingIOError:
        return True
    return False


def _is_here(url: str) -> bool:
    """Whether this is ``http[s]://ADDRESS:PORT`` with an address of this machine, and nothing behind it."""
    try:
        parts = urlsplit(url)
        host = ipaddress.ip_address(parts.hostname or "")
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not port or parts.path or parts.query or parts.fragment:
        return False
    if parts.username is not None:
        return False
    with socket.socket(socket.AF_INET6 if host.version == 6 else socket.AF_INET) as probe:
        try:
            probe.bind((str(host), 0))  # no machine but this can
        except OSError:
            return False
    return True
