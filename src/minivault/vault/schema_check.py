"""Is the file's schema the one that the migrations make? A view or table of another making tells readers something else
than what is on record, with every record sound. Knows nothing of what the tables hold.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Final

from minivault.vault.database import Connection, open_scratch
from minivault.vault.findings import Fault
from minivault.vault.schema import migrate
from minivault.vault.walk import Walk

Objects = dict[tuple[str, str], tuple[str, object]]
"""By kind and name: the table that it is of, and its SQL."""

SEARCH: Final = "search"
_KINDS: Final = ("table", "index", "view", "trigger")
_ALL: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema"


def check_schema(walk: Walk, db: Connection) -> None:
    """Each table, index and view that is not as the migrations make it, is missing, or was put in, by its name."""
    wanted, found = expected_schema(), _objects(db)
    for (kind, name), made in wanted.items():
        there = found.get((kind, name))
        if there == made:
            continue
        walk.remade.add(name)
        what = "is gone" if there is None else "is not the one that the vault was made with"
        walk.found(Fault.SCHEMA, None, f"the {kind} {name} {what}")
    for kind in _KINDS:
        strange = sum(of == kind for of, _ in found.keys() - wanted.keys())
        if strange:
            # Their names are anybody's text, and are not said.
            walk.found(
                Fault.SCHEMA, None, f"the schema has a {kind} that the vault was not made with ({strange} in all)"
            )


@lru_cache(maxsize=1)
def expected_schema() -> Objects:
    """What the migrations make, all of them run: a reader opens no vault of another version."""
    with contextlib.closing(open_scratch()) as db:
        migrate(db)
        return _objects(db)


def _objects(db: Connection) -> Objects:
    rows = [(str(kind), str(name), str(table), sql) for kind, name, table, sql in db.execute(_ALL)]
    return {(kind, name): (table, _text(name, sql)) for kind, name, table, sql in rows if _ours(name)}


def _ours(name: str) -> bool:
    """Statistics of ANALYZE say nothing to readers; anybody may have had them made."""
    return not name.startswith("sqlite_stat")


def _text(name: str, sql: object) -> object:
    """The tables below the search index are SQLite's own: how their SQL is written is its business, and may change."""
    return None if name.startswith(SEARCH + "_") else sql
