"""``minivault batch``: a file of requests in, a file of answers out, by way of the server's own batches.

The server runs the lines and remembers how far it is, so that a command that was killed, or a server that was, goes on
where it was. Parses and prints; knows nothing of what the lines ask.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.console import CliError, counting, escape, note, write_json
from minivault.cli.files import is_same_file, refuse_present, require_folder, write_file

if TYPE_CHECKING:
    from minivault.cli.batch_client import BatchClient

EXAMPLES = """\
Examples:

  minivault batch in.jsonl -o out.jsonl                   one request a line, answered in this order
  minivault batch in.jsonl -o out.jsonl --concurrency 2   at most two of them together
  minivault batch in.jsonl -o out.jsonl                   after Ctrl-C or a crash: goes on where it was
  minivault batch in.jsonl --cancel                       stop the batch of this file, and delete it from the server
  minivault batch in.jsonl --cancel -o out.jsonl          the same, but keep what was answered by then

A line is what OpenAI's batches have:

  {"custom_id": "a", "url": "/v1/chat/completions",
   "body": {"messages": [{"role": "user", "content": "What model are you?"}]}}

Exit code 1: a line was refused or failed. All lines are in the output all the same.
"""

MARK = "minivault_input"
"""The name in a batch's metadata of the digest of its input."""
POLL_SECONDS = 0.3
GOING = ("validating", "in_progress", "finalizing", "cancelling")
GIVEN_UP = ("cancelling", "cancelled", "expired")
"""Those that are not gone on with."""
Sleep = Callable[[float], None]


def register(app: typer.Typer) -> None:
    app.command("batch", help="Answer a file of requests, through interruptions.", epilog=EXAMPLES)(batch)


def batch(
    source: Annotated[Path, typer.Argument(metavar="IN.JSONL", help="A request a line.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.JSONL", help="Where the answers go, a line each.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="What the lines ask. (default: the url of the first line)", show_default=False)
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Most lines at the same time. (default: the server's)", show_default=False),
    ] = None,
    overwrite: options.Overwrite = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Stop the batch of this file instead, and delete its files there.")
    ] = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.ServerOf = None,
    json: options.Json = False,
) -> None:
    from minivault.cli.batch_client import BatchClient

    with BatchClient.of(options.settings(url=url, api_key=api_key, data_dir=data_dir)) as client:
        if cancel:
            ended = _cancelled(client, source, None if output is None else _output(source, output, overwrite))
        else:
            ended = _answered(client, source, _output(source, output, overwrite), endpoint, concurrency)
    if json:
        write_json(ended)
    refused = 0 if cancel else ended["request_counts"]["failed"]
    if ended["status"] != ("cancelled" if cancel else "completed") or refused:
        raise typer.Exit(1)


def _output(source: Path, output: Path | None, overwrite: bool) -> Path:
    if output is None:
        raise CliError("-o must say where the answers go.", exit_code=2)
    if is_same_file(source, output):
        raise CliError("-o must name another file than the input.", exit_code=2)
    refuse_present(output, overwrite)
    require_folder(output)
    return output


def _answered(
    client: BatchClient, source: Path, output: Path, endpoint: str | None, concurrency: int | None
) -> dict[str, Any]:
    names, first_url, digest = _read(source)
    endpoint = endpoint or first_url or "/v1/chat/completions"
    mark = f"{digest}:{endpoint}"
    running = _find(client, mark)
    if running is None or running["status"] in GIVEN_UP:
        running = _begin_anew(client, running, source, endpoint, mark, concurrency)
    else:
        note(f"Going on with {running['id']}.")
    ended = _wait(
        client,
        running,
        "The server goes on with it. The same command picks it up again; with --cancel instead of -o it is stopped.",
    )
    if ended["status"] == "failed":
        raise CliError(f"{_faults(ended)}\n{_taken_back(client, ended)}", exit_code=2)
    _write(client, ended, names, output)
    note(f"{_counts(ended)}: {output}")
    if refused := ended["request_counts"]["failed"]:
        lines = "1 line was" if refused == 1 else f"{refused} lines were"
        note(f"{lines} refused or failed; {output} has the status and the error of each. Exit code 1.")
    if ended["status"] in GIVEN_UP:
        note(f"{ended['id']} is {ended['status']}: the same command with --overwrite asks all lines anew.")
    _clear(client, ended)
    return ended


def _counts(ended: dict[str, Any]) -> str:
    counts = ended["request_counts"]
    return f"{counts['completed']} answered, {counts['failed']} refused, of {counts['total']}"


def _read(source: Path) -> tuple[list[str], str | None, str]:
    """The names of the lines in their order, the url of the first, and the digest of the file."""
    digest = hashlib.sha256()
    names: list[str] = []
    url = None
    try:
        with source.open("rb") as lines:
            for raw in lines:
                digest.update(raw)
                value = _object(raw)
                url = url or (value.get("url") if isinstance(value.get("url"), str) else None)
                names.append(str(value.get("custom_id")))
    except OSError as error:
        raise CliError(f"Cannot read {source}: {error.strerror}", exit_code=2) from None
    return names, url, digest.hexdigest()


def _object(raw: bytes) -> dict[str, Any]:
    """A line, for its names alone: what is wrong with it the server says."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _find(client: BatchClient, mark: str) -> dict[str, Any] | None:
    """The newest batch of this input that can be gone on with, or whose answers are still there; else the newest of
    all, if it was given up."""
    newest = None
    for one in client.batches():
        if (one.get("metadata") or {}).get(MARK) != mark:
            continue
        newest = newest or one
        if one["status"] in GOING[:3] or (one["status"] == "completed" and client.has_file(_result(one))):
            return one
    return newest if newest is not None and newest["status"] in GIVEN_UP else None


def _begin_anew(
    client: BatchClient, former: dict[str, Any] | None, source: Path, endpoint: str, mark: str, concurrency: int | None
) -> dict[str, Any]:
    """A batch that asks all lines. Order: the files of a ``former`` one, which was given up, are of no use only once it
    is there; while that is being cancelled they are needed."""
    if former is not None:
        note(f"{former['id']} of this file is {former['status']}: a new batch asks all lines.")
    begun = _begin(client, source, endpoint, mark, concurrency)
    if former is not None and former["status"] not in GOING:
        _clear(client, former)
    return begun


def _result(one: dict[str, Any]) -> str | None:
    found = one["output_file_id"] or one["error_file_id"]
    return None if found is None else str(found)


def _begin(client: BatchClient, source: Path, endpoint: str, mark: str, concurrency: int | None) -> dict[str, Any]:
    file = client.upload(source)
    body = {
        "input_file_id": file["id"],
        "endpoint": endpoint,
        "completion_window": "24h",
        "metadata": {MARK: mark},
        "concurrency": concurrency,
    }
    try:
        return client.create_batch(body)
    except CliError:
        client.delete_file(file["id"])
        raise


def _wait(client: BatchClient, running: dict[str, Any], interrupted: str, sleep: Sleep = time.sleep) -> dict[str, Any]:
    """Until it has ended. ``interrupted``: what Ctrl-C leaves behind."""
    try:
        with counting("Answering", "lines") as tell:
            while running["status"] in GOING:
                counts = running["request_counts"]
                tell(counts["completed"] + counts["failed"], counts["total"])
                sleep(POLL_SECONDS)
                running = client.batch(running["id"])
    except KeyboardInterrupt:
        note(interrupted)
        raise
    return running


def _faults(ended: dict[str, Any]) -> str:
    faults = (ended.get("errors") or {}).get("data", [])
    told = "\n".join(f"  {_place(fault)}{escape(str(fault['message']))}" for fault in faults)
    return f"Nothing was run: some lines are no requests.\n{told}"


def _place(fault: dict[str, Any]) -> str:
    return "" if fault["line"] is None else f"line {fault['line']}: "


def _write(client: BatchClient, ended: dict[str, Any], names: list[str], output: Path) -> None:
    """Answers and refusals in the order of the input; whole or not at all."""
    sources = [
        client.file_lines(file_id) if file_id else iter(())
        for file_id in (ended["output_file_id"], ended["error_file_id"])
    ]
    write_file(output, (line + b"\n" for line in merged(names, *sources)))


def merged(names: list[str], *sources: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of all sources, each in the order of ``names``, as one in that order."""
    heads = [next(source, None) for source in sources]
    for name, place in itertools.product(names, range(len(sources))):
        head = heads[place]
        if head is not None and _object(head).get("custom_id") == name:
            yield head
            heads[place] = next(sources[place], None)


def _clear(client: BatchClient, ended: dict[str, Any]) -> None:
    """Delete what the server keeps of it. Point of no return: answers that are wanted were written."""
    for file_id in (ended["input_file_id"], ended["output_file_id"], ended["error_file_id"]):
        if file_id:
            client.delete_file(file_id)


def _taken_back(client: BatchClient, refused: dict[str, Any]) -> str:
    """Delete what was uploaded for a batch that was refused; says whether that came about."""
    try:
        client.delete_file(refused["input_file_id"])
    except CliError as error:
        return f"What was uploaded, {refused['input_file_id']}, is still on the server: {error}"
    return "What was uploaded is deleted from the server again."


def _cancelled(client: BatchClient, source: Path, output: Path | None) -> dict[str, Any]:
    """Stopped, and its files deleted from the server: this command put them there. Its calls stay on record."""
    names, _, digest = _read(source)
    running = _find_stoppable(client, digest)
    if running["status"] in GOING[:3]:
        running = client.cancel_batch(running["id"])
    note(f"{running['id']} begins no more lines.")
    ended = _wait(
        client, running, "Lines that run come to their ends. The same command deletes then what was uploaded."
    )
    if output is not None:
        _write(client, ended, names, output)
    _clear(client, ended)
    note(_counts(ended) + ("." if output is None else f": {output}"))
    note("The files of the batch are deleted from the server; calls on record stay there.")
    return ended


def _find_stoppable(client: BatchClient, digest: str) -> dict[str, Any]:
    """The newest batch of this file that goes on; or that was cancelled, and left files.

    Raises:
        CliError: there is none.
    """
    ended = False
    for one in client.batches():
        if not str((one.get("metadata") or {}).get(MARK, "")).startswith(f"{digest}:"):
            continue
        if one["status"] in GOING or (one["status"] == "cancelled" and client.has_file(one["input_file_id"])):
            return one
        ended = ended or (one["status"] == "completed" and client.has_file(_result(one)))
    if ended:
        raise CliError("The batch of this file has ended. Its answers are taken with -o OUT.JSONL, without --cancel.")
    raise CliError("No batch of this file is running.")
