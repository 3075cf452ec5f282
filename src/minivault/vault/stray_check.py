"""Rows that lie where no record is: calls, contents, nodes, heads and counters that somebody put in. The walk over the
records meets none of them, and yet readers would show them. Digests of prompts that were to go with them, too. Knows
nothing of what a record says.
"""

from __future__ import annotations

from typing import Any, Final

from minivault.vault.database import Connection
from minivault.vault.findings import Fault
from minivault.vault.walk import MAX_FINDINGS, Walk

_LEVELS: Final = 63
"""More than a tree can have whose places are SQLite's numbers."""


def check_strays(walk: Walk, db: Connection) -> None:
    """In one snapshot that the caller holds; its own head says how many records there are by now."""
    for (index,) in db.execute(_CALLS):
        walk.found(Fault.DERIVED_ALTERED, index, f"the list names a call at {index}, where no record is")
    for index, outcome in db.execute(_ENDS):
        message = f"the list names an outcome of record {index} at {outcome}, where no record is"
        walk.found(Fault.DERIVED_ALTERED, index, message)
    for (index,) in db.execute(_LEAVES):
        walk.found(Fault.UNEXPECTED, index, f"record {index} lies before the first")
    contents = _count(db, _CONTENTS, walk.first)
    if contents:
        walk.found(Fault.CONTENT_UNEXPECTED, None, f"{contents} contents belong to no record")
    nodes = _count(db, _NO_NODES, _LEVELS) + sum(_count(db, _NODES, level) for level in range(1, _LEVELS))
    if nodes:
        walk.found(Fault.TREE, None, f"the tree holds {nodes} nodes over records that do not exist")
    if _count(db, "SELECT count(*) FROM tree_state") > 1:
        walk.found(Fault.HEAD, None, "the vault has more than one head")
    for (index,) in db.execute(_DIGESTS):
        message = f"the list keeps a digest of what record {index} asked, which was erased or not to be stored"
        walk.found(Fault.CONTENT_UNEXPECTED, index, message)
    if _count(db, _OTHER_COUNTERS) or _count(db, _COUNTERS) != 2:
        walk.found(Fault.DERIVED_ALTERED, None, "the vault's counters are not those that it was made with")
    if _count(db, _SCRUBBED):
        message = "mirror or search index count as level with erasures that are not on record: later ones would stay"
        walk.found(Fault.DERIVED_ALTERED, None, message)


def _count(db: Connection, sql: str, *values: Any) -> int:
    return int(db.execute(sql, values).get)


_SIZE: Final = "(SELECT size FROM tree_state)"
_CALLS: Final = f"""
SELECT intent_index FROM calls WHERE intent_index < 0
UNION ALL SELECT intent_index FROM calls WHERE intent_index >= {_SIZE} LIMIT {MAX_FINDINGS}
"""  # noqa: S608 - constants
_ENDS: Final = f"""
SELECT intent_index, outcome_index FROM calls WHERE outcome_index < 0
UNION ALL SELECT intent_index, outcome_index FROM calls WHERE outcome_index >= {_SIZE} LIMIT {MAX_FINDINGS}
"""  # noqa: S608 - constants
_LEAVES: Final = f"SELECT leaf_index FROM leaves WHERE leaf_index < 0 LIMIT {MAX_FINDINGS}"  # noqa: S608 - constants
_CONTENTS: Final = """
SELECT (SELECT count(*) FROM contents WHERE leaf_index < 0)
     + (SELECT count(*) FROM contents WHERE leaf_index >= ? AND leaf_index NOT IN (SELECT leaf_index FROM leaves))
"""
_NO_NODES: Final = "SELECT count(*) FROM nodes WHERE level < 1 OR level >= ?"
_NODES: Final = f"""
SELECT count(*) FROM nodes WHERE level = ?1 AND (position < 0 OR position >= {_SIZE} >> ?1)
"""  # noqa: S608 - constants
_DIGESTS: Final = f"""
SELECT intent_index FROM calls
WHERE repeat_key IS NOT NULL AND (store = 0 OR erased_index IS NOT NULL) LIMIT {MAX_FINDINGS}
"""  # noqa: S608 - constants
_COUNTERS: Final = "SELECT count(*) FROM counters WHERE name IN ('probe', 'mirror_scrubbed')"
_OTHER_COUNTERS: Final = """
SELECT count(*) FROM counters WHERE name NOT IN ('probe', 'mirror_scrubbed', 'search_scrubbed')
"""
_SCRUBBED: Final = """
SELECT count(*) FROM counters WHERE name IN ('mirror_scrubbed', 'search_scrubbed')
AND value > coalesce((SELECT max(erased_index) FROM calls WHERE erased_index IS NOT NULL), -1)
"""
