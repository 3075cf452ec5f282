"""How fast a large vault is read and verified: makes one of 10**6 records, and times what people do with it.

    python bench/vault.py                          makes the vault in a temporary folder, times it, deletes it
    python bench/vault.py --records 100000 --keep /var/tmp/big

Run it on a quiet machine; each figure is the median of several runs, with a warm page cache: wall time, and beside it
the time of this process on a core, which other programs disturb less. Nothing is sent anywhere and no model is needed.
`make bench-vault` runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from minivault.vault.book import MAX_GROUP, Book, Draft, free_space
from minivault.vault.database import Writer
from minivault.vault.findings import Verified
from minivault.vault.head import HeadKeeper
from minivault.vault.ledger import Ledger
from minivault.vault.reader import CallFilter, Reader
from minivault.vault.record import Intent, Outcome, Pin
from minivault.vault.verify import verify

START_NS = 1_750_000_000_000_000_000
SPAN_NS = 180 * 86_400 * 10**9
"""The calls are spread over half a year."""
MODELS = ("guide", "tinyllama", "qwen2.5-0.5b", "smollm2-1.7b")
KEYS = (None, "alice", "bob", "carol")
TEXT = """
the a of to and in is it you that he was for on are with as his they be at one have this from or had by hot but some
what there we can out other were all your when up use word how said an each she which do their time if will way about
many then them would write like so these her long make thing see him two has look more day could go come did number
sound no most people my over know than call first who may down side been now find stand own page should country found
school grow study still learn plant cover food sun four thought let keep eye never last door between city cross since
hard start might story saw far sea draw left late run while press close night real life few stop ledger proof record
limit rate key model vault search replay export
"""
WORDS = tuple(TEXT.split())


def make_vault(vault: Path, records: int, *, seed: int = 7, progress: Callable[[int, int], None] | None = None) -> None:
    """Fill a new vault with ``records // 2`` calls through the book itself, as fast as it goes, and sign its head."""
    book = Book(vault, open_writer=lambda: Writer.open(vault), entropy=os.urandom, free=free_space)
    vault.parent.mkdir(parents=True, exist_ok=True)
    book.resume()
    heads = HeadKeeper(vault)
    drawn = random.Random(seed)  # noqa: S311 - made-up text
    calls = records // 2
    done = 0
    while done < calls:
        group = range(done, min(done + MAX_GROUP, calls))
        receipts = book.write([Draft(_intent(number, drawn), _time(number, calls)) for number in group])
        ends = [_outcome(receipt.index, drawn) for receipt in receipts]  # type: ignore[union-attr]  # none is refused
        book.write([Draft(end, _time(number, calls) + 10**6) for number, end in zip(group, ends, strict=True)])
        book.fold_wal()
        done = group.stop
        if progress is not None:
            progress(2 * done, records)
    assert book.writer is not None  # noqa: S101 - write() would have raised
    heads.sign(book.tree, book.writer.node)
    book.wipe()
    book.drop()


def _time(number: int, calls: int) -> int:
    return START_NS + SPAN_NS * number // calls


def _intent(number: int, drawn: random.Random) -> Intent:
    model = MODELS[number % 7 % len(MODELS)]
    text = " ".join(drawn.choices(WORDS, k=12)) + f" {number:06x}"
    tokens = tuple(drawn.randrange(32_000) for _ in range(16))
    digest = "sha256:" + hashlib.sha256(model.encode()).hexdigest()
    return Intent(
        request_id=f"call-{number:08x}",
        surface="native" if number % 3 else "openai",
        source="http",
        api_key_id=KEYS[number % len(KEYS)],
        mode="stream" if number % 2 else "full",
        pin=Pin(model, digest, digest, digest, "native", "0.1.0", "int8-v1", exact=True),
        parameters={"max_tokens": 256, "temperature": 0.7, "top_p": 0.9, "seed": number, "stop": []},
        ignored=(),
        store=bool(number % 50),
        prompt_text=text,
        prompt_token_ids=tokens,
        raw_request=json.dumps({"prompt": text}).encode(),
    )


def _outcome(intent_index: int, drawn: random.Random) -> Outcome:
    count = drawn.randrange(8, 40)
    return Outcome(
        intent_index=intent_index,
        finish_reason="stop" if count % 9 else "length",
        response_text=" ".join(drawn.choices(WORDS, k=count)),
        response_token_ids=tuple(drawn.randrange(32_000) for _ in range(count)),
        prompt_tokens=16,
        completion_tokens=count,
        timings={"queue_ns": 20_000, "first_token_ns": 9_000_000, "total_ns": drawn.randrange(10**7, 10**9)},
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds, of wall time and of this process's own on a core."""

    wall: float
    cpu: float


def timed(work: Callable[[], object], runs: int = 5, *, warm_up: bool = True) -> Timed:
    """The median of ``runs``, after one to warm up."""
    if warm_up:
        work()
    taken = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Timed(statistics.median(wall for wall, _ in taken), statistics.median(cpu for _, cpu in taken))


@dataclass(frozen=True, slots=True)
class Figure:
    """What was timed. ``bar``: the most (ms, s) or the least (records/s) that is asked for."""

    what: str
    wall: float
    cpu: float
    unit: str
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.wall >= self.bar if self.unit == "records/s" else self.wall <= self.bar

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "met": self.met}

    def __str__(self) -> str:
        said = "" if self.met is None else "  met" if self.met else f"  MISSED: {self.bar:g}"
        return f"{self.what:<50}{self.wall:>12,.1f}{self.cpu:>12,.1f} {self.unit}{said}"


def in_ms(what: str, taken: Timed, bar: float | None = None) -> Figure:
    return Figure(what, 1e3 * taken.wall, 1e3 * taken.cpu, "ms", bar)


def figures(vault: Path, records: int) -> Iterator[Figure]:
    """Times what people do with the vault, one after the other."""
    opened = timed(lambda: Ledger.open(vault, mirror_dir=None).close(), 3)
    yield Figure("open the ledger to ready, and close it", opened.wall, opened.cpu, "s", 2.0)
    reader = Reader.open(vault)
    for what, chosen in lists().items():
        yield in_ms(what, timed(partial(reader.list, chosen)), 50.0)
    yield in_ms("list, a page in the middle", timed(partial(reader.list, cursor=str(records // 2))), 50.0)
    for what, chosen in searches(records).items():
        yield in_ms(what, timed(partial(reader.list, chosen)), 200.0)
    yield in_ms("statistics", timed(reader.stats, 1))
    yield in_ms("statistics of one key", timed(partial(reader.stats, CallFilter(api_key_id="alice")), 1))
    quick = timed(partial(verify, reader, contents=False), 3, warm_up=False)
    yield Figure("verify, without content", records / quick.wall, records / quick.cpu, "records/s", 50_000.0)
    full = timed(partial(verify, reader), 1, warm_up=False)
    yield Figure("verify, with content and SQLite's own check", records / full.wall, records / full.cpu, "records/s")
    report = verify(reader, contents=False)
    assert report.ok, report.findings[:3]  # noqa: S101 - a figure of a broken vault would be none
    since = Verified(report.records, bytes.fromhex(report.root))
    yield in_ms("verify, since the last time", timed(partial(verify, reader, since=since)))
    reader.close()


def lists() -> dict[str, CallFilter]:
    middle = START_NS + SPAN_NS // 2
    return {
        "list, newest 50": CallFilter(),
        "list, of one model": CallFilter(model="tinyllama"),
        "list, of one key": CallFilter(api_key_id="alice"),
        "list, of one key and model, before a day": CallFilter(api_key_id="bob", model="guide", before_ns=middle),
        "list, between two times": CallFilter(after_ns=middle, before_ns=middle + 10**13),
        "list, by finish reason and surface": CallFilter(finish_reason="length", surface="openai"),
        "list, of a model that is not there": CallFilter(model="nobody"),
        "list, calls longer than any": CallFilter(min_duration_ns=10**12),
    }


def searches(records: int) -> dict[str, CallFilter]:
    early = START_NS + SPAN_NS // 50
    return {
        "search, one common word": CallFilter(query="ledger"),
        "search, two words": CallFilter(query="rate limit"),
        "search, a phrase": CallFilter(query='"rate limit"'),
        "search, a rare word": CallFilter(query=f"{records // 4:06x}"),
        "search, a word that is not there": CallFilter(query="zzzzzz"),
        "search, a common word of one key": CallFilter(query="proof", api_key_id="carol"),
        "search, a common word of a key that is not there": CallFilter(query="proof", api_key_id="nobody"),
        "search, common words before an early day": CallFilter(query="the ledger", before_ns=early),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10**6, help="how many (default: 1000000)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to make the vault, or find it made")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="minivault-bench-") as temporary:
        vault = (chosen.keep or Path(temporary)) / "vault.db"
        if not vault.exists():
            started = time.perf_counter()
            make_vault(vault, chosen.records)
            print(f"made in {time.perf_counter() - started:.0f} s: {vault.stat().st_size >> 20} MiB", file=sys.stderr)
        if not chosen.json:
            print(f"{'':<50}{'wall':>12}{'own':>12}")
        for figure in figures(vault, chosen.records):
            print(json.dumps(figure.as_dict()) if chosen.json else figure, flush=True)


if __name__ == "__main__":
    main()
