"""Runs a command under what the systemd unit forbids by seccomp, without systemd as the first process.

    .venv/deploy/bin/python tests/deploy/confined.py deploy/minivault.service COMMAND...

Held to: SystemCallFilter (its groups as `systemd-analyze` has them), SystemCallErrorNumber, MemoryDenyWriteExecute and
RestrictAddressFamilies. Knows nothing of the unit's mounts, users and namespaces: those need a boot.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyseccomp

SHM_EXEC = 0o100000
WRITE_AND_EXECUTE = mmap.PROT_WRITE | mmap.PROT_EXEC


def assigned(unit: str, name: str) -> list[str]:
    """The values of a setting, in the order of its lines."""
    return [line.partition("=")[2].strip() for line in unit.splitlines() if line.startswith(f"{name}=")]


def expanded(names: list[str]) -> set[str]:
    """System calls by name, groups replaced by what is in them."""
    calls = {name for name in names if not name.startswith("@")}
    for group in set(names) - calls:
        listed = subprocess.run(
            ["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True
        )
        inside = [line.strip() for line in listed.stdout.splitlines()[1:]]
        calls |= expanded([line for line in inside if line and not line.startswith("#")])
    return calls


def allowed(unit: str) -> set[str]:
    calls: set[str] = set()
    for line in assigned(unit, "SystemCallFilter"):
        if line.startswith("~"):
            calls -= expanded(line[1:].split())
        else:
            calls |= expanded(line.split())
    return calls


def conditions(unit: str) -> dict[str, list[pyseccomp.Arg]]:
    """Calls that are allowed with some arguments only: any one of the conditions must hold."""
    held: dict[str, list[pyseccomp.Arg]] = {}
    if assigned(unit, "MemoryDenyWriteExecute") == ["yes"]:
        some = (0, mmap.PROT_WRITE, mmap.PROT_EXEC)
        held["mmap"] = [pyseccomp.Arg(2, pyseccomp.MASKED_EQ, WRITE_AND_EXECUTE, bits) for bits in some]
        for call in ("mprotect", "pkey_mprotect"):
            held[call] = [pyseccomp.Arg(2, pyseccomp.MASKED_EQ, mmap.PROT_EXEC, 0)]
        held["shmat"] = [pyseccomp.Arg(2, pyseccomp.MASKED_EQ, SHM_EXEC, 0)]
    for line in assigned(unit, "RestrictAddressFamilies"):
        held["socket"] = [pyseccomp.Arg(0, pyseccomp.EQ, getattr(socket, family)) for family in line.split()]
    return held


def is_here(call: str) -> bool:
    """Whether this processor has the call: one of another has no number, or one below zero."""
    return bool(pyseccomp.resolve_syscall(pyseccomp.system_arch(), call) >= 0)


def confine(unit: str) -> None:
    """From here on, in this process and all that it starts."""
    [number] = assigned(unit, "SystemCallErrorNumber")
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(getattr(errno, number)))
    held = conditions(unit)
    for call in sorted(allowed(unit)):
        if not is_here(call):
            continue
        if call not in held:
            rules.add_rule(pyseccomp.ALLOW, call)
        for condition in held.get(call, ()):
            rules.add_rule(pyseccomp.ALLOW, call, condition)
    rules.load()


def main() -> None:
    unit, *command = sys.argv[1:]
    confine(Path(unit).read_text(encoding="utf-8"))
    os.execvp(command[0], command)  # noqa: S606  to run it is what this is for


if __name__ == "__main__":
    main()
