"""A process that records calls and prints each receipt once it has it; made to be killed.

    python appender.py FOLDER STREAMS [CALLS | --no-sync]

Prints ``ready``, then ``begun ID INDEX LEAF``, ``ended ID INDEX LEAF`` and ``failed ID`` lines, each in one write.
With CALLS, each stream ends after so many calls, and the process ends by itself. With ``--no-sync`` receipts are given
for what was not synced: a control.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

from minivault.errors import LedgerUnavailable
from minivault.vault.database import Writer
from minivault.vault.ledger import Ledger
from tests.vault.samples import intent, outcome


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def call(ledger: Ledger, request_id: str) -> None:
    begun = ledger.append_intent(intent(request_id=request_id, prompt_text=f"prompt of {request_id}")).result()
    say("begun", request_id, begun.index, begun.leaf)
    ended = ledger.append_outcome(outcome(begun.index, response_text=f"answer to {request_id}")).result()
    say("ended", request_id, ended.index, ended.leaf)


def stream(ledger: Ledger, name: str, calls: int | None) -> None:
    """One caller: call after call, each recorded before and after."""
    for number in count() if calls is None else range(calls):
        try:
            call(ledger, f"{name}-{number}")
        except LedgerUnavailable:
            say("failed", f"{name}-{number}")


def careless(path: Path) -> Writer:
    writer = Writer.open(path)
    writer.connection.pragma("synchronous", "OFF")
    return writer


def main(folder: Path, streams: int, calls: int | None, open_writer: Callable[[Path], Writer] | None) -> None:
    ledger = Ledger.open(
        folder / "vault.db", mirror_dir=folder / "logs", mirror_max_bytes=1 << 16, open_writer=open_writer
    )
    say("ready")
    names = [f"{os.getpid()}-{number}" for number in range(streams)]
    threads = [threading.Thread(target=stream, args=(ledger, name, calls), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()


if __name__ == "__main__":
    option = sys.argv[3] if len(sys.argv) > 3 else None
    no_sync = option == "--no-sync"
    limit = None if option is None or no_sync else int(option)
    main(Path(sys.argv[1]), int(sys.argv[2]), limit, careless if no_sync else None)
