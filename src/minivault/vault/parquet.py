"""Calls as a Parquet file, written row group by row group, so that a vault of any size passes through little memory.

The only module that imports pyarrow, which is an extra. Knows nothing of files: the bytes go to whoever asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from minivault.errors import UnsupportedFeature
from minivault.vault.calls import CallDetail

GROUP_ROWS: Final = 4096
GROUP_CHARACTERS: Final = 16 << 20


class _Sink:
    """A file to write into that gives back what was written since it was last asked."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing waits."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def write_parquet(calls: Iterable[CallDetail]) -> Iterator[bytes]:
    """The bytes of the file, a row group at a time; the schema is :func:`_schema`'s.

    Raises:
        UnsupportedFeature: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise UnsupportedFeature(
            "Parquet needs an extra, in the environment that MiniVault runs in: pip install 'minivault[parquet]'",
            param="format",
        ) from None
    return _pieces(pyarrow, calls)


def _pieces(pyarrow: Any, calls: Iterable[CallDetail]) -> Iterator[bytes]:
    from pyarrow import parquet

    schema, sink = _schema(pyarrow), _Sink()
    writer = parquet.ParquetWriter(sink, schema, compression="zstd")
    rows: list[dict[str, Any]] = []
    characters = 0
    for call in calls:
        rows.append(_row(call))
        characters += len(call.call.prompt or "") + len(call.call.response or "")
        if len(rows) == GROUP_ROWS or characters >= GROUP_CHARACTERS:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            rows, characters = [], 0
            yield sink.take()
    if rows:
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    writer.close()
    yield sink.take()


def _schema(pyarrow: Any) -> Any:
    """One row a call. ``timestamp`` is UTC; ``pin`` and ``parameters`` are JSON."""
    text, number, token_ids = pyarrow.string(), pyarrow.int64(), pyarrow.list_(pyarrow.uint32())
    return pyarrow.schema(
        {
            "record": number,
            "index": number,
            "outcome_index": number,
            "id": text,
            "timestamp": pyarrow.timestamp("ns", tz="UTC"),
            "model": text,
            "surface": text,
            "source": text,
            "api_key_id": text,
            "mode": text,
            "store": pyarrow.bool_(),
            "finish_reason": text,
            "prompt_tokens": number,
            "completion_tokens": number,
            "processing_time_ms": pyarrow.float64(),
            "prompt": pyarrow.large_string(),
            "response": pyarrow.large_string(),
            "erased_index": number,
            "altered": pyarrow.bool_(),
            "prompt_token_ids": token_ids,
            "response_token_ids": token_ids,
            "pin": text,
            "parameters": text,
            "error": text,
        }
    )


def _row(detail: CallDetail) -> dict[str, Any]:
    fields = detail.as_dict()
    return {
        **fields,
        **fields["usage"],
        "record": detail.call.record_index,
        "altered": detail.call.altered,
        "timestamp": detail.call.time_ns,
        "pin": json.dumps(fields["pin"], ensure_ascii=False),
        "parameters": json.dumps(fields["parameters"], ensure_ascii=False),
    }
