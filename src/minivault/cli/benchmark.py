"""``minivault benchmark``: how fast a server is with one stream and with many. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.address import server_of
from minivault.cli.console import CliError, counting, note, table, write_json
from minivault.cli.files import refuse_present, require_folder, write_file
from minivault.cli.units import counted

if TYPE_CHECKING:
    from minivault.settings import Settings

EXAMPLES = """\
Examples:

  minivault benchmark                                     1, 8 and 32 streams against your server
  minivault benchmark --concurrency 16 --duration 60      one minute with 16 streams
  minivault benchmark --prompts questions.txt --json      your own prompts, a line each
  minivault benchmark --svg speed.svg                     a plot, too

Any OpenAI-compatible server can be measured, so that you can compare:

  minivault benchmark --url http://127.0.0.1:11434 --model llama3.2
  minivault benchmark --url http://127.0.0.1:8080 --model any

What MiniVault answers here is on the record, as always. Each answer is up to --max-tokens long; --ignore-eos makes
all of them so long, on servers that know it (MiniVault, vLLM and llama-server do).
"""
MOST_STREAMS = 1024
MOST_REQUESTS = 1_000_000


def register(app: typer.Typer) -> None:
    app.command("benchmark", help="Measure how fast a server answers.", epilog=EXAMPLES)(benchmark)


def benchmark(
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.ServerOf = None,
    model: options.Model = None,
    concurrency: Annotated[
        str, typer.Option("--concurrency", "-c", metavar="N,N,...", help="Streams at one time; a run for each.")
    ] = "1,8,32",
    requests: Annotated[
        int | None, typer.Option("--requests", help="Answers in each run. (default: four for each stream)")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", help="Seconds of each run, in place of --requests.")
    ] = None,
    prompt_words: Annotated[int, typer.Option(help="Length of made prompts, in words.")] = 64,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prompts to take in turn instead, a line each.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Most tokens of an answer.")] = 64,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after the model ends.")] = False,
    seed: Annotated[int, typer.Option(help="Of the made prompts.")] = 1,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a plot.")] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    from minivault.cli.benchmark_load import Load, first_model, make_prompts, run, summary

    _bounded("--max-tokens", max_tokens, 1, 1_000_000)
    _bounded("--prompt-words", prompt_words, 1, 100_000)
    if requests is not None:
        _bounded("--requests", requests, 1, MOST_REQUESTS)
    if duration is not None and not 0 < duration <= 86_400:
        raise CliError("--duration must be above 0 and at most 86400 seconds", exit_code=2)
    if requests is not None and duration is not None:
        raise CliError("--requests and --duration exclude each other", exit_code=2)
    if svg is not None:
        refuse_present(svg, overwrite)
        require_folder(svg)
    streams = _streams(concurrency)
    settings = options.settings(url=url, api_key=api_key, data_dir=data_dir)
    base = _endpoint(settings)
    name = model or first_model(base, _key(settings))
    texts = make_prompts(256, prompt_words, seed) if prompts is None else _lines_of(prompts)
    runs = []
    for number in streams:
        load = Load(
            url=base,
            model=name,
            prompts=texts,
            concurrency=number,
            requests=requests or 4 * number,
            seconds=duration,
            max_tokens=max_tokens,
            extra={"ignore_eos": True} if ignore_eos else {},
            api_key=_key(settings),
        )
        total = load.requests if duration is None else 0
        with counting(counted(number, "stream"), "answers") as shown:

            def answered(done: int, shown: Any = shown, total: int = total) -> None:
                shown(done, max(done, total))

            runs.append(summary(*run(load, answered), number))
    _show({"url": base, "model": name, "max_tokens": max_tokens, "runs": runs}, as_json=json, svg=svg)


def _show(report: dict[str, Any], *, as_json: bool, svg: Path | None) -> None:
    runs = report["runs"]
    if svg is not None:
        from minivault.cli.benchmark_plot import plot

        write_file(svg, [plot(f"{report['model']} at {report['url']}", runs)], public=True)
    if as_json:
        write_json(report)
    else:
        headings = [
            "streams",
            "answers",
            "failed",
            "tokens/s",
            "first token p50",
            "p99",
            "between p50",
            "p99",
            "whole p50",
        ]
        table(headings, [_row(run) for run in runs])
    for run in runs:
        for reason, times in run["errors"].items():
            note(f"{counted(run['concurrency'], 'stream')}: {times} x {reason}")
    if all(run["failed"] == run["requests"] for run in runs):
        raise CliError("Not one answer came.")


def _row(run: dict[str, Any]) -> list[str]:
    first, between, whole = run["time_to_first_token"], run["inter_token_latency"], run["request_latency"]
    return [
        str(run["concurrency"]),
        str(run["requests"]),
        str(run["failed"]),
        f"{run['tokens_per_second']:,.1f}",
        *(_milliseconds(value) for value in (first["p50"], first["p99"], between["p50"], between["p99"], whole["p50"])),
    ]


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:,.1f} ms" if value < 1 else f"{value:,.2f} s"


def _endpoint(settings: Settings) -> str:
    base = server_of(settings).rstrip("/")
    base = base if "://" in base else f"http://{base}"
    return base if base.endswith("/v1") else f"{base}/v1"


def _key(settings: Settings) -> str | None:
    return None if settings.api_key is None else settings.api_key.get_secret_value()


def _streams(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if not all(1 <= number <= MOST_STREAMS for number in found):
        raise CliError(f"--concurrency must be numbers from 1 to {MOST_STREAMS}, with commas between them", exit_code=2)
    return found


def _lines_of(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise CliError("--prompts must be a file of text in UTF-8 that can be read", exit_code=2) from None
    if not found:
        raise CliError("--prompts must hold at least one line", exit_code=2)
    return found


def _bounded(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise CliError(f"{option} must be from {least} to {most}", exit_code=2)
