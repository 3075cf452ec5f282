"""``minivault serve ...`` as a document has it, told to stop once it has loaded its model: it would not return else.

Prints where it listened. Its exit code is the server's.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from tests.cli.process import MINIVAULT


def main() -> int:
    with subprocess.Popen([*MINIVAULT, *sys.argv[1:]], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = False  # a second signal would stop it at once
        for line in process.stderr:
            sys.stderr.write(line)
            if found := re.search(r"listens on (\S+)", line):
                print(found[1], flush=True)
            if not told and re.search(r"model (\S+ )?loaded", line):
                process.send_signal(signal.SIGTERM)
                told = True
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
