"""Replays deploy/Dockerfile without a container engine: each stage in a clean Debian of its own, made with debootstrap.

    python tests/deploy/image.py FOLDER [--suite trixie]

Needs root, debootstrap and a few gigabytes in FOLDER, which is left for a look. The base `python:3.13-slim` is stood in
for by Debian's own Python of the suite (trixie has 3.13). Instructions are read from the Dockerfile, so it is what is
tested: RUN runs in a chroot, COPY copies what .dockerignore leaves, ENV, WORKDIR and USER count. At the end the
image's command runs as its user, with its root read-only but for /data and /tmp, until the HEALTHCHECK passes; then it
must refuse a question without an API key, and answer it with one.
What it cannot show: layers, the registry's base image, and the engine's own isolation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PACKAGES = "python3,python3-dev,python3-venv,python3-pip,ca-certificates"
"""The official image has Python's headers too."""
READY_SECONDS = 120


@dataclass
class Stage:
    """A root file system, and what the instructions have set so far."""

    root: Path
    workdir: str = "/"
    user: str | None = None
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"})
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and argument of each instruction, with lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def inside(stage: Stage, command: list[str], *, user: str | None = None) -> list[str]:
    """The chroot command that runs ``command`` in a stage."""
    chosen = [f"--userspec={user}"] if user else []
    env = [f"{name}={value}" for name, value in stage.env.items()]
    into = ["sh", "-c", 'cd "$0" && exec "$@"', stage.workdir]
    return ["chroot", *chosen, str(stage.root), "env", "-i", *env, *into, *command]


def base(folder: Path, suite: str) -> Stage:
    made = folder / "base"
    if not made.exists():
        cache = ["--variant=minbase", f"--include={PACKAGES}", suite, str(made)]
        subprocess.run(["debootstrap", *cache], check=True, stdout=subprocess.DEVNULL)
        (made / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    root = folder / f"stage{len(list(folder.glob('stage*')))}"
    subprocess.run(["cp", "-a", str(made), str(root)], check=True)
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(Path("/") / name, root / name)
    return Stage(root)


def copy(stage: Stage, arguments: str, stages: dict[str, Stage]) -> None:
    *options, source, target = shlex.split(arguments)
    to = stage.root / (target if target.startswith("/") else f"{stage.workdir}/{target}").lstrip("/")
    origin = next((stages[option.partition("=")[2]] for option in options if option.startswith("--from=")), None)
    if origin is not None:
        subprocess.run(["cp", "-a", str(origin.root / source.lstrip("/")), str(to)], check=True)
        return
    # The last commit, as a clean checkout has it. Nothing that .dockerignore names is tracked.
    to.mkdir(parents=True, exist_ok=True)
    archive = ["git", "archive", "HEAD" if source == "." else f"HEAD:{source}"]
    packed = subprocess.run(archive, cwd=SOURCE, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(to)], input=packed, check=True)


def replay(folder: Path, suite: str) -> Stage:
    """Every instruction, in order. The last stage is returned."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for name, argument in instructions((SOURCE / "deploy" / "Dockerfile").read_text(encoding="utf-8")):
        print(f"{name} {argument[:100]}", flush=True)
        if name == "FROM":
            stage = base(folder, suite)
            if " AS " in argument:
                stages[argument.partition(" AS ")[2]] = stage
            continue
        assert stage is not None, "a Dockerfile begins with FROM"
        apply(stage, name, argument, stages)
    assert stage is not None
    return stage


def apply(stage: Stage, name: str, argument: str, stages: dict[str, Stage]) -> None:
    match name:
        case "RUN":
            subprocess.run(inside(stage, ["sh", "-c", argument]), check=True)
        case "COPY":
            copy(stage, argument, stages)
        case "WORKDIR":
            stage.workdir = argument
            (stage.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "ENV":
            for pair in shlex.split(argument):
                key, _, value = pair.partition("=")
                stage.env[key] = value.replace("$PATH", stage.env["PATH"])
        case "USER":
            stage.user = argument
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(argument)
        case "CMD":
            stage.command = json.loads(argument)
        case "HEALTHCHECK":
            stage.health = json.loads(argument.partition("CMD")[2])
        case "VOLUME" | "EXPOSE" | "STOPSIGNAL":
            return
        case _:
            raise SystemExit(f"this does not know the instruction {name}")


def run(stage: Stage) -> None:
    """The image's command, as its user, on a root that is read-only but for the volume and /tmp."""
    root = shlex.quote(str(stage.root))
    mounts = (
        f"mount --bind {root} {root} && mount --bind {root}/data {root}/data && mount -t tmpfs tmpfs {root}/tmp"
        f" && mount -t proc proc {root}/proc && mount --bind /dev {root}/dev && mount -o remount,ro,bind {root}"
        f" && ! touch {root}/usr/written 2>/dev/null"
    )
    served = shlex.join(inside(stage, [*stage.entrypoint, *stage.command, "--port", "8123"], user=stage.user))
    with (stage.root.parent / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {served}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(stage, server)
        ask(stage)
    finally:
        server.terminate()
        code = server.wait(timeout=60)
    if code != 0:
        raise SystemExit(f"the server ended with {code}: {stage.root.parent / 'serve.log'}")


def ask(stage: Stage) -> None:
    """A question, without a key and with the first one.

    Raises:
        SystemExit: it was answered without a key, or not with it.
    """
    question = [*stage.entrypoint, "generate", "What model are you?", "--seed", "7", "--url", "http://127.0.0.1:8123"]
    if subprocess.run(inside(stage, question, user=stage.user), capture_output=True).returncode == 0:
        raise SystemExit("it answered before there was any key")
    made = inside(stage, [*stage.entrypoint, "keys", "create", "me", "--role", "admin"], user=stage.user)
    key = subprocess.run(made, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    known = replace(stage, env={**stage.env, "MINIVAULT_API_KEY": key})
    answer = subprocess.run(inside(known, question, user=stage.user), stdout=subprocess.PIPE, text=True)
    if answer.returncode != 0 or not answer.stdout.strip():
        raise SystemExit(f"it did not answer with a key: {stage.root.parent / 'serve.log'}")
    print(answer.stdout.strip())


def wait_until_healthy(stage: Stage, server: subprocess.Popen[bytes]) -> None:
    health = [part.replace("8000", "8123") for part in stage.health]
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if subprocess.run(inside(stage, health, user=stage.user), stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.5)
    raise SystemExit(f"it did not get healthy: {stage.root.parent / 'serve.log'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", default="trixie")
    chosen = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("this needs root and debootstrap")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    run(replay(chosen.folder.resolve(), chosen.suite))
    print("The image's steps ran, and its command became healthy.")


if __name__ == "__main__":
    main()
