"""What recording costs: the same service and engine with the vault as it is, and with a ledger that keeps nothing.

    python bench/recording.py                        32 streams on the embedded model, in turns, about two minutes
    python bench/recording.py --model NAME --data-dir DIR
    python bench/recording.py --quick                a few seconds: does it work; its figures mean nothing

Both services run in this process, over one loaded model, without HTTP, which would only hide the cost. Rounds of the
two take turns, and which goes first changes with each pair; a figure is the median over the pairs. The vault is a new
one, on the disk that holds ``--vault-dir``; with heads and with the mirror, as a server has them, and with 500 calls
in it before the first round, so that its write-ahead log has the size that it keeps. Prefixes are shared with no other
round. Run it on a quiet machine. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minivault.access.caller import Caller
from minivault.engine.engine import EngineRequest, TokenStep, TokenStream
from minivault.engine.native.cores import give_way
from minivault.generation import GenerationRequest, SamplingParams
from minivault.service import Service
from minivault.service.opening import open_pool
from minivault.service.ports import generating
from minivault.settings import Settings
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.record import Erasure, Intent, Outcome, Pin, Receipt
from minivault.vault.status import LedgerStatus

MOST_LOSS = 0.02
"""Of throughput, at 32 streams."""
MOST_ADDED_MS = 5.0
"""To a request, at the 99th percentile."""
LEAF = "0" * 64
FIRST = "first"
"""How the prompts of the first calls of a round begin."""
SWITCH_SECONDS = 0.001
"""As the server has it."""
WORN_IN = 500
"""Calls after which the write-ahead log has the size that it keeps."""


class NoLedger:
    """Says at once that a record is durable, and keeps nothing."""

    def __init__(self) -> None:
        self._size = 0

    def append_intent(self, intent: Intent, /) -> Future[Receipt]:
        return self._receipt(intent.request_id)

    def append_outcome(self, outcome: Outcome, /) -> Future[Receipt]:
        return self._receipt(None)

    def append_outcomes(self, outcomes: Sequence[Outcome], /) -> list[Future[Receipt]]:
        return [self._receipt(None) for _ in outcomes]

    def append_erasure(self, erasure: Erasure, /) -> Future[Receipt]:
        return self._receipt(None)

    def sign_head(self) -> Future[int]:
        future: Future[int] = Future()
        future.set_result(self._size)
        return future

    def status(self) -> LedgerStatus:
        return LedgerStatus(self._size, self._size, LEAF, writable=True, reason=None, open_calls=0, mirror_error=None)

    def _receipt(self, call_id: str | None) -> Future[Receipt]:
        future: Future[Receipt] = Future()
        future.set_result(Receipt(self._size, LEAF, call_id))
        self._size += 1
        return future


@dataclass(frozen=True)
class Waits:
    """Of one call, in seconds."""

    intent: float
    """Until it was durable."""
    blocked: float
    """How long its first token had to wait for that."""
    outcome: float
    """Until it was durable, which the end of the answer waits for."""


class FirstTokens:
    """An engine's ``submit``, and when the first token of each request came out of it.

    One task reads each stream ahead of its reader, in both services alike.
    """

    def __init__(self, submit: Callable[[EngineRequest], TokenStream]) -> None:
        self._submit = submit
        self.came: dict[str, float] = {}

    def __call__(self, request: EngineRequest) -> TokenStream:
        return ReadAhead(self._submit(request), lambda: self.came.setdefault(request.request_id, time.perf_counter()))


class ReadAhead:
    def __init__(self, stream: TokenStream, came: Callable[[], Any]) -> None:
        self._stream = stream
        self._steps: asyncio.Queue[TokenStep | None] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._read(came))

    async def _read(self, came: Callable[[], Any]) -> None:
        async for step in self._stream:
            came()
            self._steps.put_nowait(step)
        self._steps.put_nowait(None)

    def __aiter__(self) -> ReadAhead:
        return self

    async def __anext__(self) -> TokenStep:
        step = await self._steps.get()
        if step is None:
            raise StopAsyncIteration
        return step

    def cancel(self) -> None:
        self._stream.cancel()


class TimedLedger:
    """The real ledger, and how long its receipts took."""

    def __init__(self, ledger: Ledger, first_tokens: FirstTokens) -> None:
        self._ledger = ledger
        self._first_tokens = first_tokens
        self._intents: dict[int, tuple[bool, float, float]] = {}
        self.waits: dict[bool, list[Waits]] = {True: [], False: []}
        """Of each call that has ended. Calls that began all together, at the start of a round, are under ``True``."""

    def append_intent(self, intent: Intent, /) -> Future[Receipt]:
        began = time.perf_counter()

        def done(future: Future[Receipt]) -> None:
            together, now = intent.prompt_text.startswith(FIRST), time.perf_counter()
            blocked = now - self._first_tokens.came.get(intent.request_id, now)
            self._intents[future.result().index] = together, now - began, blocked

        return self._told(self._ledger.append_intent(intent), done)

    def append_outcome(self, outcome: Outcome, /) -> Future[Receipt]:
        began = time.perf_counter()

        def done(future: Future[Receipt]) -> None:
            future.result()
            together, durable, blocked = self._intents.pop(outcome.intent_index)
            self.waits[together].append(Waits(durable, blocked, time.perf_counter() - began))

        return self._told(self._ledger.append_outcome(outcome), done)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    @staticmethod
    def _told(future: Future[Receipt], done: Callable[[Future[Receipt]], None]) -> Future[Receipt]:
        future.add_done_callback(done)
        return future


@dataclass
class Round:
    """One round of one service."""

    seconds: float = 0.0
    cpu: float = 0.0
    tokens: int = 0
    totals: list[float] = field(default_factory=list)
    """Seconds of each request."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Figures:
    """Medians over the pairs of rounds; times in milliseconds."""

    streams: int
    requests: int
    tokens_per_second_without: float
    tokens_per_second_with: float
    loss: float
    """Share of throughput that recording takes; below 0 where it is lost in the noise."""
    loss_least: float
    loss_most: float
    cpu_us_a_token_without: float
    cpu_us_a_token_with: float
    receipts_ms_p50: float
    """What a call waits for its two receipts, of those that begin one by one: its first token for that of the intent,
    and its end for that of the outcome."""
    receipts_ms_p99: float
    durable_ms_p50: float
    """What its two records take until they are durable, added up; the engine works meanwhile."""
    durable_ms_p99: float
    together_ms_p50: float
    """The same of those that all begin at one moment, at the start of a round."""
    together_ms_p99: float
    added_ms_p50: float
    """The difference of the two services' percentiles; noisier than the receipts."""
    added_ms_p99: float

    @property
    def met(self) -> bool:
        return self.loss <= MOST_LOSS and self.receipts_ms_p99 <= MOST_ADDED_MS


def wear_in(ledger: Ledger | TimedLedger) -> None:
    """A log that grows has its size synced as well, which a server that has run for a minute need not do any more."""
    pin = Pin("worn-in", LEAF, LEAF, LEAF, "none", "0", "none", exact=True)
    for number in range(WORN_IN):
        intent = Intent(
            request_id=f"worn-in-{number}",
            surface="native",
            source="bench",
            api_key_id=None,
            mode="full",
            pin=pin,
            parameters={},
            ignored=(),
            store=True,
            prompt_text="What is on record here?",
            prompt_token_ids=(1, 2, 3),
            raw_request=b"{}",
        )
        index = ledger.append_intent(intent).result().index
        ledger.append_outcome(Outcome(index, "stop", "This.", (4, 5), 3, 2, {"queue_ns": 0, "total_ns": 1})).result()


async def run_round(service: Service, salt: bytes, streams: int, requests: int, tokens: int) -> Round:
    """``streams`` callers, each with so many requests one after the other, of ``tokens`` on average, from half of it to
    half as much again: people do not ask in step, and answers do not end together.
    """
    done = Round()
    caller = Caller("bench", cache_salt=salt)

    async def caller_of_its_own(stream: int) -> None:
        lengths = random.Random(stream)  # noqa: S311 - nothing is secret, and both services get the same
        for turn in range(requests):
            length = lengths.randint(tokens - tokens // 2, tokens + tokens // 2)
            sampling = SamplingParams(
                max_tokens=length, min_tokens=length, temperature=0.7, seed=stream, ignore_eos=True
            )
            prompt = f"{'' if turn else FIRST} question {turn} of caller {stream}."
            request = GenerationRequest(prompt=prompt, raw=True, sampling=sampling)
            began = time.perf_counter()
            async for chunk in service.stream(request, caller):
                if chunk.completion is not None:
                    done.tokens += chunk.completion.usage.completion_tokens
            done.totals.append(time.perf_counter() - began)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller_of_its_own(stream) for stream in range(streams)))
    done.seconds, done.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return done


async def measure(settings: Settings, vault_dir: Path, pairs: int, streams: int, requests: int, tokens: int) -> Figures:
    """Warm both up, then run the pairs."""
    sys.setswitchinterval(SWITCH_SECONDS)
    models = open_pool(settings)
    models.start()
    await models.ready()
    path = vault_dir / "vault.db"
    engine = generating(models.loaded()[0]).engine
    first_tokens = FirstTokens(engine.submit)
    engine.submit = first_tokens  # type: ignore[method-assign]
    ledger = TimedLedger(Ledger.open(path, mirror_dir=vault_dir / "logs", pressing=give_way), first_tokens)
    await asyncio.to_thread(wear_in, ledger)
    reader = Reader.open(path)
    services = {"without": Service(models, NoLedger(), reader), "with": Service(models, ledger, reader)}
    rounds: dict[str, list[Round]] = {name: [] for name in services}
    try:
        for name, service in services.items():
            await run_round(service, f"warm {name}".encode(), streams, 1, tokens)
        for waits in ledger.waits.values():
            waits.clear()
        for pair in range(pairs):
            for name in list(services)[:: 1 if pair % 2 else -1]:
                salt = f"{name} {pair}".encode()
                rounds[name].append(await run_round(services[name], salt, streams, requests, tokens))
    finally:
        for service in services.values():
            await service.drain(5)
        await models.close()
        reader.close()
        await asyncio.to_thread(ledger.close)
    return figures_of(rounds["without"], rounds["with"], ledger, streams, requests * pairs)


def figures_of(
    without: Sequence[Round], kept: Sequence[Round], ledger: TimedLedger, streams: int, each: int
) -> Figures:
    losses = [1 - one.tokens_per_second / other.tokens_per_second for one, other in zip(kept, without, strict=True)]
    waits = {together: [wait.blocked + wait.outcome for wait in found] for together, found in ledger.waits.items()}
    durable = [wait.intent + wait.outcome for wait in ledger.waits[False]]
    pairs = list(zip(kept, without, strict=True))
    added = {
        part: statistics.median(1e3 * (share(one.totals, part) - share(other.totals, part)) for one, other in pairs)
        for part in (0.5, 0.99)
    }
    return Figures(
        streams=streams,
        requests=streams * each,
        tokens_per_second_without=statistics.median(one.tokens_per_second for one in without),
        tokens_per_second_with=statistics.median(one.tokens_per_second for one in kept),
        loss=statistics.median(losses),
        loss_least=min(losses),
        loss_most=max(losses),
        cpu_us_a_token_without=1e6 * statistics.median(one.cpu / one.tokens for one in without),
        cpu_us_a_token_with=1e6 * statistics.median(one.cpu / one.tokens for one in kept),
        receipts_ms_p50=1e3 * share(waits[False], 0.5),
        receipts_ms_p99=1e3 * share(waits[False], 0.99),
        durable_ms_p50=1e3 * share(durable, 0.5),
        durable_ms_p99=1e3 * share(durable, 0.99),
        together_ms_p50=1e3 * share(waits[True], 0.5),
        together_ms_p99=1e3 * share(waits[True], 0.99),
        added_ms_p50=added[0.5],
        added_ms_p99=added[0.99],
    )


def share(values: Sequence[float], part: float) -> float:
    """The value that ``part`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="default: the embedded one")
    parser.add_argument("--data-dir", type=Path, default=None, help="where the models are")
    parser.add_argument(
        "--vault-dir", type=Path, default=None, help="where the vault is made; default: a temporary one"
    )
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--requests", type=int, default=4, help="of each stream in a round")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="one small pair, to see that it works")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.requests, chosen.tokens, chosen.pairs = 2, 8, 1
    given = {name: getattr(chosen, name) for name in ("model", "data_dir", "threads")}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    with tempfile.TemporaryDirectory(prefix="minivault-bench-", dir=chosen.vault_dir) as folder:
        found = asyncio.run(
            measure(settings, Path(folder), chosen.pairs, chosen.streams, chosen.requests, chosen.tokens)
        )
    if chosen.json:
        print(json.dumps(asdict(found) | {"met": found.met}, indent=2))
        return 0
    for name, value in asdict(found).items():
        print(f"{name:<28}{value:>12,.4g}" if isinstance(value, float) else f"{name:<28}{value:>12,}")
    print(f"at most {MOST_LOSS:.0%} of throughput, and {MOST_ADDED_MS:g} ms: {'met' if found.met else 'MISSED'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
