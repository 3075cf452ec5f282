"""Who is measured: for each contender its environment, the checkpoint it wants, and the script that measures it.

Versions are pinned. An environment is a folder ``.venv-bench-NAME``, made once for its list of requirements.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.shapes import write_random_checkpoint

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"


@dataclass(frozen=True)
class Environment:
    name: str
    installs: tuple[tuple[str, ...], ...]
    """Arguments of ``pip install``, one call each, in order."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """For the building of packages."""

    @property
    def folder(self) -> Path:
        return ROOT / f".venv-bench-{self.name}"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def make(self) -> None:
        """Install what is not yet installed.

        Raises:
            subprocess.CalledProcessError: pip could not; its ``stderr`` says why.
        """
        wanted = hashlib.sha256(json.dumps([self.installs, dict(self.variables)]).encode()).hexdigest()
        stamp = self.folder / "bench-stamp"
        if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
            return
        print(f"setting up {self.folder.name}", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        for arguments in self.installs:
            _run([str(self.python), "-m", "pip", "--disable-pip-version-check", "install", *arguments], self.variables)
        stamp.write_text(wanted, encoding="ascii")


def _run(command: list[str], variables: Mapping[str, str] | None = None) -> None:
    environment = os.environ | dict(variables or {})
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)  # noqa: S603


XLLAMACPP = Environment("xllamacpp", (("xllamacpp==2026.10.11549", "gguf==0.19.0", "numpy==2.4.6"),))
ENVIRONMENTS = {environment.name: environment for environment in (XLLAMACPP,)}


@dataclass(frozen=True)
class Contender:
    key: str
    title: str
    lane: str
    """``int8`` or ``int4``: who is compared with whom."""
    module: str
    """Run as ``python -m``, with the task as its argument."""
    form: str
    """The checkpoint's form; see :func:`prepare`."""
    note: str
    """How it is run, for the report."""
    environment: Environment | None = None
    """``None``: the one that runs the benchmark."""
    options: tuple[tuple[str, str], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    streams: tuple[int, ...] = ()
    """Only these, where given."""
    prefill: bool = True

    @property
    def ours(self) -> bool:
        return self.environment is None

    def command(self, task_json: str) -> list[str]:
        python = sys.executable if self.environment is None else str(self.environment.python)
        return [python, "-m", self.module, task_json]


CONTENDERS = (
    Contender(
        "ours-int8", "MiniVault int8", "int8", "bench.ours", "hf",
        "The engine in process, through the `submit` that the server calls, prefix cache on.",
        options=(("precision", "int8"),),
    ),
    Contender(
        "http-int8", "MiniVault int8, HTTP + SSE", "int8", "bench.ours_http", "served",
        "A real `minivault serve`, vault and mirror on, asked over HTTP/1.1 with Server-Sent Events by a client on the "
        "same cores.",
        options=(("precision", "int8"),), streams=(1, 8, 32), prefill=False,
    ),
    Contender(
        "xllamacpp-q8", "llama.cpp Q8_0, server in the wheel", "int8", "bench.peer_xllamacpp", "gguf-Q8_0",
        "`xllamacpp` 2026.10.11549 (an AVX2 build), `Server` with a slot for each stream, called in process.",
        environment=XLLAMACPP,
    ),
)  # fmt: skip


def prepare(form: str, shape: str) -> Path:
    """The checkpoint of ``shape`` in the wanted form, made on the first call.

    ``hf``: the Hugging Face folder. ``served``: a data directory with it imported. ``gguf-TYPE``: one file.
    """
    folder = BUILD / "checkpoints" / shape
    if not (folder / "model.safetensors").exists():
        print(f"writing a random {shape}", flush=True)
        _publish(folder, lambda unfinished: write_random_checkpoint(unfinished, shape, seed=1))
    if form == "hf":
        return folder
    target = BUILD / form / shape
    if target.exists():
        return target
    print(f"making {form} of {shape}", flush=True)
    if form == "served":
        from bench.ours_http import import_model

        _publish(target, lambda unfinished: import_model(folder, unfinished))
    elif form.startswith("gguf-"):
        XLLAMACPP.make()
        kind = form.removeprefix("gguf-")
        python = str(XLLAMACPP.python)
        _publish(target, lambda out: _run([python, "-m", "bench.gguf_checkpoint", str(folder), str(out), kind]))
    else:
        raise ValueError(f"no such form: {form}")
    return target


def _publish(target: Path, make: Callable[[Path], object]) -> None:
    """Make it beside its place and move it there whole."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    target.parent.mkdir(parents=True, exist_ok=True)
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    make(unfinished)
    unfinished.replace(target)
