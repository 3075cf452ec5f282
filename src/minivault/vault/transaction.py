"""A batch of the ledger as one SQL statement: a row into a view, whose trigger writes all tables.

SQLite is left and entered once for each step of a statement, and each time the ledger's thread must win Python's lock
back from threads that may hold it for milliseconds. So a commit takes one step, whatever it holds: numbers and names go
as JSON, hashes and contents as one run of bytes, of which each row takes its part. Knows nothing of connections.
"""

from __future__ import annotations

import json

from minivault.vault.batch import Batch
from minivault.vault.merkle import Tree

PREPARE = """
CREATE TEMP VIEW batch (bytes, size, leaves, nodes, contents, starts, ends, searched, erased) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TEMP TRIGGER write_batch INSTEAD OF INSERT ON batch BEGIN
    INSERT INTO leaves (leaf_index, hash, data)
    SELECT value ->> 0, substr(NEW.bytes, value ->> 1, 32), substr(NEW.bytes, (value ->> 1) + 32, value ->> 2)
    FROM json_each(NEW.leaves);

    INSERT INTO nodes (level, position, hash)
    SELECT value ->> 0, value ->> 1, substr(NEW.bytes, value ->> 2, 32) FROM json_each(NEW.nodes);

    INSERT INTO contents (leaf_index, kind, salt, data)
    SELECT value ->> 0, value ->> 1, substr(NEW.bytes, value ->> 2, value ->> 3),
           substr(NEW.bytes, (value ->> 2) + (value ->> 3), value ->> 4)
    FROM json_each(NEW.contents);

    INSERT INTO calls (
        intent_index, request_id, time_ns, model, surface, source, api_key_id, mode, store, prompt_tokens, repeat_key,
        copy_of
    )
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
           value ->> 8, value ->> 9, value ->> 10, value ->> 11
    FROM json_each(NEW.starts);

    UPDATE calls SET
        outcome_index = due.value ->> 0, prompt_tokens = due.value ->> 1, completion_tokens = due.value ->> 2,
        finish_reason = due.value ->> 3, duration_ns = due.value ->> 4
    FROM json_each(NEW.ends) AS due WHERE intent_index = due.value ->> 5;

    INSERT INTO search (rowid, prompt, response)
    SELECT intent_index, prompt, response
    FROM json_each(NEW.searched) AS due CROSS JOIN call_texts ON intent_index = due.value;

    DELETE FROM search WHERE rowid IN (SELECT value ->> 0 FROM json_each(NEW.erased));
    DELETE FROM contents WHERE leaf_index IN (SELECT value ->> 0 FROM json_each(NEW.erased));
    DELETE FROM contents WHERE leaf_index IN (
        SELECT outcome_index FROM json_each(NEW.erased) AS due CROSS JOIN calls
        ON intent_index = due.value ->> 0
    );
    UPDATE calls SET erased_index = due.value ->> 1, repeat_key = NULL
    FROM json_each(NEW.erased) AS due WHERE intent_index = due.value ->> 0;

    UPDATE tree_state SET size = NEW.size, root = substr(NEW.bytes, 1, 32);
END;
"""
"""Made once for a connection, and gone with it."""

COMMIT = "INSERT INTO temp.batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def packed(batch: Batch, tree: Tree) -> tuple[bytes | int | str | None, ...]:
    """The values of :data:`COMMIT`: ``batch``, and the head of ``tree`` with it. Offsets count from 1, as SQL's do."""
    pieces = [tree.root()]
    at = 1 + len(pieces[0])

    def put(*parts: bytes) -> int:
        nonlocal at
        begin = at
        pieces.extend(parts)
        at += sum(map(len, parts))
        return begin

    tables = (
        [(one.index, put(one.hash, one.data), len(one.data)) for one in batch.records],
        [(node.level, node.position, put(node.hash)) for node in batch.nodes],
        [
            (one.index, content.kind.value, put(content.salt, content.data), len(content.salt), len(content.data))
            for one in batch.records
            for content in one.contents
        ],
        [start.row() for start in batch.starts],
        [end.row() for end in batch.ends],
        [end.intent_index for end in batch.ends if end.searchable],
        list(batch.erased.items()),
    )
    return b"".join(pieces), tree.size, *(json.dumps(rows, separators=(",", ":")) if rows else None for rows in tables)
