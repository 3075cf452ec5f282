"""Where the documents are tried: a home, a folder with the files that they speak of, a model hub, and a server.

A scene is one reader's machine. Blocks run in it one after another, as somebody types them: what the first one imports
the next one serves. It differs from a reader's machine in this: the port is the system's choice, ``minivault`` is these
sources, the hub is one on this machine and its models are small, ``minivault serve`` is told to stop once it has loaded
its model, and ``make`` finds its set-up done.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.process import MINIVAULT, RunningServer, environment, serving
from tests.cli.test_tls import make_pair
from tests.docs.reading import ROOT, Block
from tests.encoder_folder import encoder_folder
from tests.models.fake_hub import FakeHub, FakeRepository, fake_hub
from tests.models.folders import copy_of
from tests.models.gguf_writer import Kind, write_gguf
from tests.oracle.adapters import ADAPTER_DATA
from tests.oracle.golden import folder_of

SECONDS = 240
POSIX = pytest.mark.skipif(
    sys.platform == "win32" or not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl"
)
HUB = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": "llama-tied-bias",
    "HuggingFaceTB/SmolLM2-360M-Instruct": "llama-gqa",
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen2",
}
"""Repositories that the documents pull, and the small checkpoint of the same kind that stands in for each."""
MAKE_TEST = "tests/test_requirements.py -p no:cacheprovider"
"""All that ``make test`` runs here: it would otherwise run itself."""


class Scene:
    """One reader's machine."""

    def __init__(self, folder: Path, hub: FakeHub) -> None:
        self.home, self.here, self.bin = (folder / name for name in ("home", "here", "bin"))
        self.data_dir = self.home / ".minivault"
        self._hub = hub
        self._running = ExitStack()
        self._server: RunningServer | None = None
        for made in (self.home, self.here, self.bin):
            made.mkdir()
        serve_once = f'"{sys.executable}" -m tests.docs.serve_once'
        self._command(
            "minivault", f'if [ "$1" = serve ]; then exec {serve_once} "$@"; fi\nexec {" ".join(MINIVAULT)} "$@"'
        )
        self._command("python", f'exec "{sys.executable}" "$@"')

    def server(self) -> RunningServer:
        """The one that runs on the default data directory; started where none runs."""
        if self._server is None:
            self._server = self._running.enter_context(serving(self.data_dir))
        return self._server

    def stop(self) -> None:
        """No server from here on."""
        self._running.close()
        self._server = None

    def shell(self, script: str, *, make: bool = False) -> str:
        """Run it to its end, which must be a good one; what it printed."""
        script = "set -euo pipefail\n" + script.replace("curl ", "curl --fail-with-body ")
        return self._run(["bash", "-c", script], ROOT if make else self.here)

    def python(self, program: str) -> str:
        return self._run([sys.executable, "-c", program], self.here)

    def addressed(self, block: Block) -> str:
        """The block, with the server's address in the place of the default one."""
        found = self.server().url.removeprefix("http://")
        return block.text.replace("localhost:8000", found).replace("127.0.0.1:8000", found)

    def _run(self, command: list[str], where: Path) -> str:
        more = {
            "PATH": f"{self.bin}:{environment()['PATH']}",
            "HOME": str(self.home),
            "PYTHONPATH": f"{environment()['PYTHONPATH']}:{ROOT}",
            "MINIVAULT_PORT": "0",
            "HF_ENDPOINT": self._hub.url,
            "VENV": str(self.bin.parent),
            "ARGS": MAKE_TEST if "make test" in command[-1] else "",
        }
        with subprocess.Popen(
            command,
            env=environment(**more),
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, told = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
                printed, told = process.communicate()
        assert process.returncode == 0, f"{command[-1]}\n{printed}\n{told}"
        return printed

    def _command(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def lay_out_files(self) -> None:
        """The files that the documents speak of, each small and of the right kind."""
        copy_of("llama-gqa", self.home / "Downloads" / "TinyLlama-1.1B-Chat-v1.0")
        qwen = copy_of("qwen2", self.here / "qwen")
        write_gguf(qwen, self.here / "qwen2.5-0.5b-instruct-q4_k_m.gguf", Kind.F16)
        shutil.copytree(ADAPTER_DATA / "llama-all", self.here / "lora-support")
        certificate, key = make_pair(self.here)
        certificate.rename(self.here / "cert.pem")
        key.rename(self.here / "key.pem")
        for name, case in HUB.items():
            self._publish(name, folder_of(case))
        self._publish("sentence-transformers/all-MiniLM-L6-v2", encoder_folder(self.here / "encoder"))

    def _publish(self, repository: str, folder: Path) -> None:
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        self._hub.repositories[repository] = FakeRepository(
            {name: path.read_bytes() for name, path in files.items()}, revisions=("main",)
        )

    def set_up(self) -> None:
        """Stamps as ``make``'s set-up leaves them. The set-up itself, which downloads and compiles, is not run here."""
        for stamp in (".venv", ".run", ".built", ".test"):
            (self.bin.parent / stamp).touch()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """A machine with everything that the documents speak of, and no server yet."""
    with fake_hub() as hub:
        made = Scene(folder, hub)
        made.lay_out_files()
        made.set_up()
        try:
            yield made
        finally:
            made.stop()
