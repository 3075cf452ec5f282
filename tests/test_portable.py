"""Every module loads where POSIX's own modules, flags and calls are missing, as on Windows; elsewhere they are used.

What Windows has instead is tried by the tests of each part when they run there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "src"
LOAD_ALL = """
import os, pkgutil, sys, importlib, signal
import apsw, asyncio, cryptography, fastapi, gguf, httpx2, huggingface_hub, jinja2, llguidance, numpy, rich, structlog
import tokenizers, typer, uvicorn, pydantic_settings, limits, prometheus_client, swagger_ui_bundle, multiprocessing.pool
import subprocess, tempfile, shutil, socket, getpass, mmap
for name in "fcntl resource pwd grp termios uvloop".split():
    sys.modules[name] = None
for name in '''O_CLOEXEC O_NOFOLLOW O_DIRECTORY O_NONBLOCK getuid geteuid pread pwrite statvfs sched_getaffinity sysconf
        fchmod fork'''.split():
    if hasattr(os, name):
        delattr(os, name)
for name in "SIGHUP SIGUSR1 SIGUSR2 SIGKILL".split():
    delattr(signal, name)
optional = ("parquet", "redis_windows", "otel", "transformers")
import minivault
for module in pkgutil.walk_packages(minivault.__path__, "minivault."):
    if not any(part in optional for part in module.name.split(".")):
        importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("minivault.")]))
"""


def test_every_module_loads_without_what_posix_alone_has() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    ran = subprocess.run([sys.executable, "-c", LOAD_ALL], env=environment, capture_output=True, text=True, timeout=120)

    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 200
