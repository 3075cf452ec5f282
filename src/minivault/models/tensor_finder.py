"""Finds a checkpoint's tensors by the names a family gives them, checks presence, shape and dtype, and slices them.

Nothing is copied: a source is a view, a range of its rows and whether it is stored transposed. Knows no family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.checkpoint import TensorView

WEIGHT_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class LinearSource:
    """Output rows ``row_start .. row_start + rows`` of a stored tensor: logically ``[rows, in]``, at rank 1 ``[rows]``.

    ``transposed``: the view is stored ``[in, out]`` (GPT-2's Conv1D), so the rows lie along its second axis.
    """

    view: TensorView
    row_start: int
    rows: int
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape: ``[rows, in]`` or ``[rows]``."""
        if len(self.view.shape) == 1:
            return (self.rows,)
        return (self.rows, self.view.shape[0 if self.transposed else 1])


Source = LinearSource | tuple[LinearSource, ...]
"""One range of a stored tensor, or several of the same tensor whose rows follow each other in this order."""

Named = Iterator[tuple[str, Source]]
"""Canonical names with their sources."""


@dataclass(slots=True)
class TensorFinder:
    """The tensors of one checkpoint; remembers which were used."""

    tensors: Mapping[str, TensorView]
    prefix: str
    """Before every name, but where ``prefixed`` is false."""
    _used: set[str] = field(default_factory=set)

    def whole(self, name: str, *shape: int, prefixed: bool = True) -> LinearSource:
        return LinearSource(self._take(name, shape, prefixed), 0, shape[0])

    def conv1d(self, name: str, rows: int, columns: int, row_start: int = 0, total: int | None = None) -> LinearSource:
        """Rows of a Conv1D that is stored ``[columns, total]``."""
        view = self._take(name, (columns, total or rows), prefixed=True)
        return LinearSource(view, row_start, rows, transposed=True)

    def part(self, name: str, rows: int, row_start: int, *shape: int) -> LinearSource:
        """A range of rows of a tensor that is stored with ``shape``."""
        return LinearSource(self._take(name, shape, prefixed=True), row_start, rows)

    def parts(self, name: str, rows: int, row_starts: Sequence[int], *shape: int) -> Source:
        """Ranges of ``rows`` rows each, one after the other."""
        found = tuple(self.part(name, rows, start, *shape) for start in row_starts)
        return found[0] if len(found) == 1 else found

    def has(self, name: str) -> bool:
        return name in self.tensors

    def unused(self, ignored_prefixes: tuple[str, ...], ignored_suffixes: tuple[str, ...]) -> Iterator[str]:
        for name in self.tensors:
            ignored = name.startswith(ignored_prefixes) or name.endswith(ignored_suffixes)
            if name not in self._used and not ignored:
                yield name

    def _take(self, name: str, shape: tuple[int, ...], prefixed: bool) -> TensorView:
        full = self.prefix + name if prefixed else name
        view = self.tensors.get(full)
        if view is None:
            raise CheckpointCorrupt(f"The checkpoint lacks the tensor {full}")
        if view.shape != shape:
            raise CheckpointCorrupt(
                f"The tensor {full} must have shape {list(shape)} by config.json, found {list(view.shape)}"
            )
        if view.dtype not in WEIGHT_DTYPES:
            raise UnsupportedCheckpoint(
                f"The tensor {full} has dtype {view.dtype}; supported: {', '.join(WEIGHT_DTYPES)}. "
                "The `transformers` engine may be able to run it"
            )
        self._used.add(full)
        return view
