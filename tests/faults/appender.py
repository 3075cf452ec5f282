"""A process that records calls and prints each receipt once it has it; made to be killed.

    python appender.py FOLDER STREAMS [MIRROR]

Prints ``ready``, then ``begun ID INDEX LEAF`` and ``ended ID INDEX LEAF`` lines, each in one write.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count
from pathlib import Path

from minivault.vault.ledger import Ledger
from tests.vault.samples import intent, outcome


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def stream(ledger: Ledger, name: str) -> None:
    """One caller: call after call, each recorded before and after."""
    for number in count():
        request_id = f"{name}-{number}"
        begun = ledger.append_intent(intent(request_id=request_id, prompt_text=f"prompt of {request_id}")).result()
        say("begun", request_id, begun.index, begun.leaf)
        ended = ledger.append_outcome(outcome(begun.index, response_text=f"answer to {request_id}")).result()
        say("ended", request_id, ended.index, ended.leaf)


def main(folder: Path, streams: int) -> None:
    ledger = Ledger.open(folder / "vault.db", mirror_dir=folder / "logs", mirror_max_bytes=1 << 16)
    say("ready")
    threads = [
        threading.Thread(target=stream, args=(ledger, f"{os.getpid()}-{number}"), daemon=True)
        for number in range(streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
