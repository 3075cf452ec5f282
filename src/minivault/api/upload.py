"""A form with one file (``multipart/form-data``), read piece by piece within strict bounds.

The file goes on as it comes: nothing is spooled, and nothing but the file is longer than a line. Knows nothing of where
it goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from minivault.api.problems import Problem

MAX_FIELDS = 8
MAX_FIELD_BYTES = 1024
MAX_BOUNDARY = 70
OVERHEAD_BYTES = 64 << 10
"""What a form may have around its file."""
PIECE_BYTES = 256 << 10

Take = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Form:
    """A form, read to its end."""

    filename: str
    fields: dict[str, str]


@dataclass(slots=True)
class _Parts:
    """What the parser's callbacks gather; the bytes of the file wait in ``held``."""

    fields: dict[str, bytearray] = field(default_factory=dict)
    filename: str | None = None
    held: bytearray = field(default_factory=bytearray)
    ended: bool = False
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _into: bytearray | None = None

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._part,
            "on_header_field": lambda data, start, end: self._grow(self._name, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._body,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _part(self) -> None:
        if len(self.fields) + (self.filename is not None) >= MAX_FIELDS:
            raise _wrong(f"The form has more than {MAX_FIELDS} parts.")
        self._disposition = b""

    @staticmethod
    def _grow(target: bytearray, data: bytes) -> None:
        target += data

    def _header(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _body(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == "file":
            if self.filename is not None or b"filename" not in options:
                raise _wrong("file must be one file, with a name.", "file")
            self.filename = options[b"filename"].decode("utf-8", "replace")
            self._into = self.held
            return
        if not name or name in self.fields:
            raise _wrong("Each part of the form must have a name of its own.")
        self._into = self.fields[name] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._into is not None  # noqa: S101 - headers come first
        self._into += data[start:end]
        if self._into is not self.held and len(self._into) > MAX_FIELD_BYTES:
            raise _wrong(f"A field of the form is longer than {MAX_FIELD_BYTES} bytes.")

    def _end(self) -> None:
        self.ended = True


def declared_bytes(request: Request, max_file_bytes: int) -> int:
    """How many bytes the file has at least, by the length of the form; 0 where that is not said.

    Raises:
        Problem: 413, the form is longer than one with the largest file.
    """
    said = request.headers.get("content-length", "")
    length = int(said) if said.isascii() and said.isdigit() else 0
    if length > max_file_bytes + OVERHEAD_BYTES:
        raise _too_large(max_file_bytes)
    return max(0, length - OVERHEAD_BYTES)


async def read_form(request: Request, max_file_bytes: int, take: Take) -> Form:
    """Read the form to its end; ``take`` gets the file's bytes in pieces.

    Raises:
        Problem: 400 no sound form, 413 the file is too large, 415 no form, 422 a part is wrong.
    """
    parts = _Parts()
    parser = MultipartParser(_boundary(request), parts.callbacks())  # type: ignore[arg-type]  # its own typed dict
    taken = seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > max_file_bytes + OVERHEAD_BYTES:
            raise _too_large(max_file_bytes)
        try:
            parser.write(piece)
        except FormParserError:
            raise Problem(400, "The form cannot be read.", code="invalid_form") from None
        if len(parts.held) >= PIECE_BYTES:
            taken += await _hand_on(parts, take)
        if taken + len(parts.held) > max_file_bytes:
            raise _too_large(max_file_bytes)
    if not parts.ended:
        raise Problem(400, "The form ends before its end.", code="invalid_form")
    if parts.filename is None:
        raise _wrong("file: is required", "file")
    await _hand_on(parts, take)
    fields = {name: bytes(value).decode("utf-8", "replace") for name, value in parts.fields.items()}
    return Form(_printable(parts.filename), fields)


async def _hand_on(parts: _Parts, take: Take) -> int:
    data = bytes(parts.held)
    parts.held.clear()
    if data:
        await take(data)
    return len(data)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY:
        raise Problem(415, "Send a form: Content-Type must be multipart/form-data.", code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise Problem(415, "Compressed bodies are not taken: leave out Content-Encoding.", code="unsupported_encoding")
    return boundary


def _printable(name: str) -> str:
    """A file's name for showing; it is never a path here."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(filter(str.isprintable, base))[:255] or "file"


def _too_large(most: int) -> Problem:
    headers = {"connection": "close"}
    return Problem(413, f"The file is larger than {most} bytes.", code="file_too_large", headers=headers)


def _wrong(message: str, param: str | None = None) -> Problem:
    return Problem(422, message, code="invalid_value", param=param)
