"""``minivault`` that kills itself with SIGKILL at one step of one line of a batch: ``dying_server.py STEP ARGUMENTS``.

Steps are ``before`` or ``after`` the name of a method of the store, or of the ledger.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from minivault.batches.store import BatchStore
from minivault.cli.main import main
from minivault.vault.ledger import Ledger

PASSES = 3
"""How often the step is passed before."""


def die_at(step: str) -> None:
    when, name = step.split("-")
    owner: Any = BatchStore if hasattr(BatchStore, name) else Ledger
    real = getattr(owner, name)
    left = PASSES

    def dying(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*args)
        if left < 0:
            for receipt in done if isinstance(done, list) else [done] if owner is Ledger else []:
                receipt.result()
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, name, dying)


if __name__ == "__main__":
    die_at(sys.argv.pop(1))
    main()
