"""Replays the first five minutes from a clean clone and writes docs/first-five-minutes.md from what it saw.

python docs/first_five_minutes.py FOLDER    a folder that is not there yet; the clone, with its own .venv, is left in it

Takes as long as the README's ``make run`` takes on this machine. It clones the last commit of this tree and types what
the page says, so a step that fails ends it, and nothing is written.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parent.parent
TARGET = Path(__file__).with_name("first-five-minutes.md")
PAGE = """# The first five minutes

Written by `python docs/first_five_minutes.py FOLDER`, which types what stands here. Replayed on {day} from a clean
clone of {commit}, with an empty home and no packages kept from before. The machine had **{cores} CPU cores that
other work used too** (load average {load_before} at the start, {load_after} at the end): these are times of a bad day.

| what was typed | time | what was seen |
|---|---:|---|
{rows}

{answer_after} to the first answer, {set_up} of it the set-up, which happens once. A second `make run` took {again}
until its model was loaded.

The same, to type; a test runs it against a live server:

```sh
{typed}
```

Then: [using.md](using.md) by task, [web.md](web.md) for the page, [models.md](models.md) for a model of your own,
[migrate.md](migrate.md) if you come from another server.
"""
TYPED = (
    "curl -s -X POST http://localhost:8000/generate -H 'Content-Type: application/json'"
    ' -d \'{"prompt": "What model are you?"}\'',
    'minivault generate "Where are my prompts stored?"',
    "minivault log -n 2",
    "minivault vault verify",
    "minivault vault replay 1",
)
"""What the page gives to type at the server."""
LONGEST = 110
"""Characters that a row quotes."""


class Clock(Thread):
    """Seconds that this process had: while it is held (stopped, or the machine asleep), the clock stands still."""

    TICK, HELD = 0.5, 10.0

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._held = 0.0

    def run(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(self.TICK)
            now = time.monotonic()
            self._held += now - last - self.TICK if now - last > self.HELD else 0.0
            last = now

    def __call__(self) -> float:
        return time.monotonic() - self._held


@dataclass(frozen=True)
class Step:
    """One row of the page."""

    typed: str
    seconds: float
    seen: str

    def row(self) -> str:
        return f"| {self.typed} | {in_words(self.seconds)} | {self.seen} |"


class Replay:
    """A reader's machine: a folder, a home in it, and an environment without this one's settings."""

    def __init__(self, folder: Path) -> None:
        self.clone, home = folder / "minivault", folder / "home"
        home.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MINIVAULT_", "VIRTUAL_ENV"))}
        path = f"{self.clone / '.venv' / 'bin'}:{kept['PATH']}"
        self.environment = {**kept, "HOME": str(home), "PATH": path, "PIP_NO_CACHE_DIR": "1"}
        self.clock = Clock()
        self.clock.start()
        self.began = self.clock()

    def run(self, command: str, where: Path, typed: str = "") -> tuple[str, float]:
        """What it printed, and how long it took."""
        begin = self.clock()
        done = subprocess.run(  # noqa: S603 - the commands of this file
            ["/bin/bash", "-c", command],
            cwd=where,
            env=self.environment,
            input=typed,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            sys.exit(f"{command}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout, self.clock() - begin

    @contextmanager
    def make_run(self) -> Iterator[list[tuple[str, float]]]:
        """``make run`` until its model is loaded: each line that it wrote, and when. Stopped at the end."""
        begin = self.clock()
        with subprocess.Popen(
            ["/bin/bash", "-c", "make run"],
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            written = process.stdout or ()
            lines = [("", 0.0)]
            while not re.search(r"model \S+ loaded", lines[-1][0]):
                line = next(iter(written), None)
                if line is None:
                    sys.exit("make run ended:\n" + "\n".join(line for line, _ in lines))
                lines.append((line.rstrip(), self.clock() - begin))
            yield lines
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=60)


def replay(folder: Path) -> str:
    """The whole page."""
    load_before, reader = os.getloadavg()[0], Replay(folder)
    _, cloned = reader.run(f"git clone -q '{ROOT}' minivault", folder)
    commit = reader.run("git rev-parse --short HEAD", reader.clone)[0].strip()
    with reader.make_run() as lines:
        steps = [Step("`git clone ... && cd minivault`", cloned, ""), *set_up_steps(lines)]
        ready = reader.clock() - reader.began
        asked = asked_steps(reader)
    with reader.make_run() as lines:
        again = lines[-1][1]
    return PAGE.format(
        day=datetime.now(UTC).date(),
        commit=f"`{commit}`",
        cores=os.cpu_count(),
        load_before=f"{load_before:.0f}",
        load_after=f"{os.getloadavg()[0]:.0f}",
        rows="\n".join(step.row() for step in [*steps, *asked]),
        answer_after=in_words(ready + asked[0].seconds),
        set_up=in_words(sum(step.seconds for step in steps[1:-1])),
        again=in_words(again),
        typed="\n".join(TYPED),
    )


def set_up_steps(lines: list[tuple[str, float]]) -> list[Step]:
    """``make run``'s own lines, each with the time until the next."""
    marks = ("Setting up", "Installing the libraries", "Building the native engine", "MiniVault listens")
    said = [next((line, at) for line, at in lines if line.startswith(mark)) for mark in marks]
    ends = [at for _, at in said[1:]] + [lines[-1][1]]
    typed = ("`make run`: a virtual environment", "its libraries, pinned and hashed", "the engine, compiled")
    rows = [
        Step(name, end - begin, f"“{line}”")
        for name, (line, begin), end in zip(typed, said, ends, strict=False)
    ]  # fmt: skip
    address = lines[-1][1] - said[-1][1]
    return [*rows, Step("the model, from the address to loaded", address, f"“{said[-1][0].split('    ')[0]}”")]


def asked_steps(reader: Replay) -> list[Step]:
    """What is typed at the running server, in the order of the rows."""
    rows = [Step(f"`{shortened(command)}`", *timed(reader, command)) for command in TYPED[:2]]
    page, took = reader.run("curl -s -H 'Accept: text/html' http://localhost:8000/", reader.clone)
    seen = f"the page: {len(page) / 1000:.1f} kB of HTML, then its parts"
    rows += [Step("http://localhost:8000 in a browser", took, seen)]
    rows += [Step("`minivault chat`, one question", *timed(reader, "minivault chat", "How do I change the port?\n"))]
    return rows + [Step(f"`{command}`", *timed(reader, command)) for command in TYPED[2:]]


def timed(reader: Replay, command: str, words: str = "") -> tuple[float, str]:
    printed, took = reader.run(command, reader.clone, words)
    return took, quoted(json.loads(printed)["response"] if printed.startswith("{") else printed)


def quoted(printed: str) -> str:
    """The first words of what was printed, fit for a cell of a table."""
    words = re.sub(r"\s+", " ", printed.replace("`", "")).strip().replace("|", "\\|")
    return f"“{words if len(words) <= LONGEST else words[:LONGEST].rsplit(' ', 1)[0] + ' ...'}”"


def shortened(command: str) -> str:
    return re.sub(r" -H .*", " ...", command)


def in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def main() -> None:
    page = replay(Path(sys.argv[1]).resolve())
    TARGET.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
