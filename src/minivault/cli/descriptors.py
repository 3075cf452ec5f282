"""How many files and connections the process may have open. Knows nothing of what they are for."""

from __future__ import annotations

try:
    import resource
except ImportError:  # Windows, which counts no sockets as files
    resource = None  # type: ignore[assignment]  # either, and asked for below

OTHER_DESCRIPTORS = 512
"""Files of the vault and of models, and what libraries hold."""


def allow_descriptors(connections: int) -> int:
    """Have room for so many beside the files; the usual soft limit of 1024 leaves too little. Each is a descriptor.

    Gives how many there is room for: fewer where the hard limit is low.
    """
    if resource is None:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_DESCRIPTORS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most - min(OTHER_DESCRIPTORS, most // 2)
