"""From the bytes of an input file to the lines of a batch: each is a request with a name of its own.

Pure, and strict: everything wrong is found, up to a number, before anything is run. Knows nothing of files or of HTTP.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minivault.batches.values import Fault, Line

MAX_LINES = 50_000
MAX_FAULTS = 20
MAX_CUSTOM_ID = 512

Parse = Callable[[bytes], Any]
"""Strict JSON; raises ValueError with words that are safe to show."""


class LineReader:
    """Reads one input file. After the lines were iterated, ``faults`` says what was wrong; then there is no batch."""

    def __init__(self, endpoint: str, max_line_bytes: int, parse: Parse) -> None:
        self._endpoint = endpoint
        self._max = max_line_bytes
        self._parse = parse
        self._seen: set[str] = set()
        self.faults: list[Fault] = []

    def lines(self, pieces: Iterable[bytes]) -> Iterator[Line]:
        count = 0
        for place, raw in enumerate(_split(pieces, self._max), start=1):
            if len(self.faults) >= MAX_FAULTS:
                return
            if raw is None:
                self._fault("line_too_long", f"The line is longer than {self._max} bytes.", place)
                return
            if place == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if not raw.strip():
                continue
            if count == MAX_LINES:
                self._fault("too_many_lines", f"A batch has at most {MAX_LINES} lines.", place)
                return
            line = self._line(raw, place, count)
            if line is not None:
                count += 1
                yield line
        if not count and not self.faults:
            self._fault("empty_file", "The file has no lines.", None)

    def _line(self, raw: bytes, place: int, number: int) -> Line | None:
        try:
            value = self._parse(raw)
        except ValueError as error:
            self._fault("invalid_json_line", str(error), place)
            return None
        fault = self._fault_of(value)
        if fault is not None:
            self._fault(*fault[:2], place, fault[2])
            return None
        self._seen.add(value["custom_id"])
        return Line(number, value["custom_id"], json.dumps(value["body"], ensure_ascii=False))

    def _fault_of(self, value: Any) -> tuple[str, str, str | None] | None:
        """Code, message and field of the first thing that is wrong with a line."""
        if not isinstance(value, dict):
            return "invalid_request", "A line must be a JSON object.", None
        custom_id, body = value.get("custom_id"), value.get("body")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
            return "invalid_custom_id", f"custom_id must be a text of 1 to {MAX_CUSTOM_ID} characters.", "custom_id"
        if custom_id in self._seen:
            return "duplicate_custom_id", "An earlier line has this custom_id.", "custom_id"
        if value.get("method", "POST") != "POST":
            return "invalid_method", "method must be POST.", "method"
        if value.get("url", self._endpoint) != self._endpoint:
            return "mismatched_url", f"url must be that of the batch, {self._endpoint}.", "url"
        if not isinstance(body, dict):
            return "invalid_request", "body must be a JSON object.", "body"
        if body.get("stream"):
            return "invalid_request", "body.stream: a batch has no streams.", "body.stream"
        if body.get("background"):
            return "invalid_request", "body.background: a batch is in the background already.", "body.background"
        return None

    def _fault(self, code: str, message: str, place: int | None, param: str | None = None) -> None:
        self.faults.append(Fault(code, message, place, param))


def _split(pieces: Iterable[bytes], longest: int) -> Iterator[bytes | None]:
    """Lines without their ends; ``None`` for one that is too long, and then no more."""
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            if len(line) > longest:
                yield None
                return
            yield line
        if len(held) > longest:
            yield None
            return
    if held:
        yield held
