"""The socket that a server listens on: where it may be bound, who has it already, and its address.

Knows nothing of what is served, or of HTTP.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

from minivault.cli.console import CliError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: one that the system chooses.

    Raises:
        CliError: it cannot be had; says who has it.
    """
    family, address = _resolve(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without this, the port stays taken for a minute after a server with open connections has ended. Windows frees
        # it in any case, and there the same option would let another program take the port of this one.
        only = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if only is None else only, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CliError(
            f"Cannot listen on port {port} of {host} ({error.strerror}). {_what_to_do(address, error)}"
        ) from None
    return listener


def _what_to_do(address: Any, error: OSError) -> str:
    """Says whether it is a MiniVault server that has the port: it may have the vault, too."""
    if error.errno != errno.EADDRINUSE:
        return "Choose another with --port."
    from minivault.cli.client import is_ours

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - replaced, not bound to
    url = f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"
    if not is_ours(url):
        return "Another program has it: choose another with --port."
    return (
        f"A MiniVault server answers there already, at {url}. "
        "Choose another port with --port, and another folder with --data-dir."
    )


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # the latter: no name that can be encoded
        raise CliError(f"host: {host!r} is not an address of this machine.", exit_code=2) from None
    # IPv4 first: it is what `localhost` means to most clients.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def is_this_machine_alone(host: str) -> bool:
    """Whether nobody beyond this machine reaches what listens there.

    Raises:
        CliError: it is no address of this machine.
    """
    return all(ipaddress.ip_address(address).is_loopback for address in _addresses(host))


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise CliError(f"host: {host!r} is not an address of this machine.", exit_code=2) from None
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The address at which a listener is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  named to be replaced, not bound to
    return _url(scheme, host, port)


def bound_url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The address that a listener is bound to: 0.0.0.0 or :: where that is every address of this machine."""
    host, port = listener.getsockname()[:2]
    return _url(scheme, host, port)


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
