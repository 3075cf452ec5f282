"""``minivault vault replay``: are recorded answers what the model gives again. Parses, draws and prints verdicts."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.address import server_of, serverless
from minivault.cli.backend import Backend, open_backend
from minivault.cli.console import CliError, line, note, working, write_json
from minivault.cli.units import counted
from minivault.cli.vault_reader import reading

if TYPE_CHECKING:
    from minivault.service.replay import ReplayResult
    from minivault.settings import Settings

EXAMPLES = """\
Examples:

  minivault vault replay 4711            by its record, as every listing shows it
  minivault vault replay 4711 --local    without a server
  minivault vault replay ID --json       by its id, for programs
  minivault vault replay --sample 200    200 calls drawn from the whole vault
  minivault vault replay --all           every call that holds its content
"""

RATE_LIMIT_SECONDS = 1.0
NO_MODEL = "there is no model of its name here"

RecordId = Annotated[
    str | None, typer.Argument(metavar="ID", help="Id of the call, or index of either of its records.")
]


def register(app: typer.Typer) -> None:
    app.command(
        "replay",
        help="Run recorded calls again and compare their tokens. Exit code 1 unless all match.",
        epilog=EXAMPLES,
    )(replay)


def replay(
    id: RecordId = None,
    every: Annotated[bool, typer.Option("--all", help="Every call that holds its content.")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="So many of them, drawn at random.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed draws the same calls.")] = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    local: options.Local = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    if (id is not None) + every + (sample is not None) != 1:
        raise CliError("Name one call by its id, or give --all or --sample N.", exit_code=2)
    settings = options.settings(url=url, data_dir=data_dir)
    if not local and serverless(settings):
        local = True
        _require_vault(settings)
        note(f"No server runs on {settings.data_dir}: replaying in this process.")
    elif local:
        _require_vault(settings)
    elif url is None:
        note(f"Asking the server at {server_of(settings)}.")
    where: dict[str, Any] = {"url": url, "api_key": api_key, "local": local, "data_dir": data_dir}
    if id is None:
        with open_backend(**where) as backend:
            verdicts = audit(backend, sample, seed, json)
    else:
        result = _one(id, settings, where)
        verdicts = Counter([result["verdict"]])
        if json:
            write_json(result)
        else:
            line(sentence(result))
    if set(verdicts) - {"MATCH"}:
        raise typer.Exit(1)


def audit(backend: Backend, sample: int | None, seed: int | None, json: bool) -> Counter[str]:
    """Replay all calls that hold their content, or a sample of them; says what did not match, and the sums."""
    chosen, passed_over = comparable(backend)
    if sample is not None:
        chosen = random.Random(seed).sample(chosen, min(sample, len(chosen)))  # noqa: S311 - which calls, no secret
    verdicts: Counter[str] = Counter()
    with working(f"Replaying {counted(len(chosen), 'call')}"):
        for index, record in chosen:
            result = replay_one(backend, index)
            verdicts[result["verdict"]] += 1
            if json:
                write_json({"index": index, **result})
            elif result["verdict"] != "MATCH":
                line(f"record {record}: {sentence(result)}")
    if not json:
        counts = [f"{verdicts[verdict]} {verdict}" for verdict in ("MATCH", "MISMATCH", "NOT COMPARABLE")]
        line(f"{len(chosen)} replayed: {', '.join(counts)}")
    if passed_over:
        note(f"Passed over, since there is nothing to compare: {passed_over} (no content, no answer, or imported)")
    return verdicts


def comparable(backend: Backend) -> tuple[list[tuple[int, int]], int]:
    """The calls that may be compared, each by the indexes of its intent and its outcome, newest first, without former
    replays; and how many cannot be."""
    chosen: list[tuple[int, int]] = []
    passed_over, cursor = 0, None
    while True:
        page = backend.records(cursor)
        for call in page["records"]:
            if call["surface"] == "replay":
                continue
            answered = call["finish_reason"] in ("stop", "length") or call["usage"]["completion_tokens"] > 0
            if not answered or call["prompt"] is None or call["surface"] == "import":
                passed_over += 1
            else:
                chosen.append((call["index"], call["outcome_index"]))
        cursor = page["next_cursor"]
        if cursor is None:
            return chosen, passed_over


def replay_one(backend: Backend, index: int, pause: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """One verdict. A model that is not there makes a call not comparable; a rate limit is waited out."""
    while True:
        try:
            return backend.replay(str(index))
        except CliError as error:
            if error.code == "rate_limit_exceeded":
                pause(RATE_LIMIT_SECONDS)
            elif error.code == "model_not_found":
                return {"verdict": "NOT COMPARABLE", "reason": NO_MODEL}
            else:
                raise


def _require_vault(settings: Settings) -> None:
    if not settings.vault_path.is_file():
        raise CliError(f"There is no vault in {settings.data_dir}: nothing to replay.")


def _one(id: str, settings: Settings, where: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on one call, of the backend ``where`` says. Here, what no model could prove is told without one."""
    from minivault.errors import MiniVaultError
    from minivault.service.replay import ReplayResult, ReplayVerdict

    model = _to_be_asked(id, settings) if where["local"] else None
    if isinstance(model, ReplayResult):
        return asdict(model)
    try:
        with open_backend(**where, model=model) as backend:
            return backend.replay(id)
    except (CliError, MiniVaultError) as error:
        if error.code != "model_not_found":
            raise
        return asdict(ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason=NO_MODEL))


def _to_be_asked(id: str, settings: Settings) -> str | ReplayResult:
    """The model that answered, or the verdict where none needs to be asked."""
    from minivault.service.replay import ALTERED, ReplayResult, ReplayVerdict, why_never_comparable

    with reading(settings) as reader:
        recorded = reader.get(id)
        if not reader.is_sound(recorded.call.index):
            return ReplayResult(ReplayVerdict.MISMATCH, reason=ALTERED)
    reason = why_never_comparable(recorded)
    return recorded.call.model if reason is None else ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason=reason)


def sentence(result: Mapping[str, Any]) -> str:
    """The verdict, and what it rests on."""
    verdict = result["verdict"]
    if verdict == "MATCH":
        return f"MATCH: {_all(result['compared_tokens'])}"
    if verdict == "NOT COMPARABLE":
        return f"NOT COMPARABLE: {result['reason']}"
    if result["position"] is None:
        return f"MISMATCH: {result['reason'] or 'what came has another digest'}"
    recorded, now = (_token(result[name]) for name in ("expected_token_id", "actual_token_id"))
    return f"MISMATCH at token {result['position']}: {recorded} is on record, and {now} came"


def _all(tokens: int) -> str:
    return "the one recorded token came again" if tokens == 1 else f"all {tokens} recorded tokens came again"


def _token(token_id: int | None) -> str:
    return "the end" if token_id is None else f"token id {token_id}"
