"""The schema, as numbered migrations. Each runs once, in one transaction; a shipped one is never edited.

Two kinds of tables. *Evidence*: ``leaves`` (bytes exactly as hashed), ``nodes`` (the tree's inner hashes),
``tree_state`` (the head so far), ``contents`` (content and salts, which may be erased). *Derived* from evidence and
checked against it by ``verify``: ``calls`` (one row a call, for lists and filters), ``search``, the views.

Knows nothing but SQL.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x4D564C54
"""``MVLT``, in the header of the file."""

_RECORDS: Final = """
CREATE TABLE leaves (
    leaf_index INTEGER PRIMARY KEY CHECK (leaf_index >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    data BLOB NOT NULL
) STRICT;

CREATE TABLE nodes (
    level INTEGER NOT NULL CHECK (level > 0),
    position INTEGER NOT NULL CHECK (position >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE tree_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32)
) STRICT;
INSERT INTO tree_state (id, size, root)
VALUES (1, 0, x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');

CREATE TABLE contents (
    leaf_index INTEGER NOT NULL REFERENCES leaves (leaf_index),
    kind TEXT NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    data BLOB NOT NULL,
    PRIMARY KEY (leaf_index, kind)
) STRICT;

CREATE TABLE calls (
    intent_index INTEGER PRIMARY KEY REFERENCES leaves (leaf_index),
    outcome_index INTEGER UNIQUE REFERENCES leaves (leaf_index),
    request_id TEXT NOT NULL,
    time_ns INTEGER NOT NULL,
    model TEXT NOT NULL,
    surface TEXT NOT NULL,
    source TEXT NOT NULL,
    api_key_id TEXT,
    mode TEXT NOT NULL,
    store INTEGER NOT NULL CHECK (store IN (0, 1)),
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER,
    finish_reason TEXT,
    duration_ns INTEGER
) STRICT;
CREATE INDEX calls_request_id ON calls (request_id);
CREATE INDEX calls_time ON calls (time_ns);
CREATE INDEX calls_model ON calls (model);
CREATE INDEX calls_finish_reason ON calls (finish_reason);
CREATE INDEX calls_api_key ON calls (api_key_id) WHERE api_key_id IS NOT NULL;
CREATE INDEX calls_open ON calls (intent_index) WHERE outcome_index IS NULL;

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('probe', 0);
"""

_READING: Final = """
CREATE VIEW call_texts (intent_index, prompt, response) AS
SELECT c.intent_index,
       (SELECT CAST(data AS TEXT) FROM contents WHERE leaf_index = c.intent_index AND kind = 'prompt_text'),
       (SELECT CAST(data AS TEXT) FROM contents WHERE leaf_index = c.outcome_index AND kind = 'response_text')
FROM calls AS c;

CREATE VIEW interactions (id, prompt, response, timestamp) AS
SELECT c.request_id, t.prompt, t.response,
       strftime('%Y-%m-%dT%H:%M:%S', c.time_ns / 1000000000, 'unixepoch')
           || printf('.%09dZ', c.time_ns % 1000000000)
FROM calls AS c JOIN call_texts AS t USING (intent_index);

CREATE VIRTUAL TABLE search USING fts5 (
    prompt, response,
    content = 'call_texts', content_rowid = 'intent_index',
    tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);
INSERT INTO search (rowid, prompt, response)
SELECT t.intent_index, t.prompt, t.response
FROM call_texts AS t JOIN calls AS c USING (intent_index)
WHERE c.outcome_index IS NOT NULL AND c.store = 1;
"""

_ERASURE: Final = """
ALTER TABLE calls ADD COLUMN erased_index INTEGER REFERENCES leaves (leaf_index);
CREATE INDEX calls_erased ON calls (erased_index) WHERE erased_index IS NOT NULL;
CREATE INDEX calls_erasable ON calls (time_ns)
WHERE store = 1 AND outcome_index IS NOT NULL AND erased_index IS NULL;
INSERT INTO counters (name, value) VALUES ('mirror_scrubbed', -1);
"""

_REPEATS: Final = """
ALTER TABLE calls ADD COLUMN repeat_key INTEGER;
CREATE INDEX calls_repeat ON calls (repeat_key, api_key_id)
WHERE repeat_key IS NOT NULL AND finish_reason IN ('stop', 'length');
"""

_COPIES: Final = """
ALTER TABLE calls ADD COLUMN copy_of INTEGER;
UPDATE calls SET copy_of = (
    SELECT coalesce(
        iif(json_type(text, '$.parameters.replay_of') = 'integer', text ->> '$.parameters.replay_of', NULL),
        iif(json_type(text, '$.parameters.from_record') = 'integer', text ->> '$.parameters.from_record', NULL)
    )
    FROM (SELECT CAST(data AS TEXT) AS text FROM leaves WHERE leaf_index = intent_index) WHERE json_valid(text)
)
WHERE intent_index IN (
    SELECT leaf_index FROM leaves
    WHERE instr(data, CAST('"replay_of":' AS BLOB)) OR instr(data, CAST('"from_record":' AS BLOB))
);
CREATE INDEX calls_copies ON calls (copy_of) WHERE copy_of IS NOT NULL;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_RECORDS, _READING, _ERASURE, _REPEATS, _COPIES)
"""Migration ``n`` (from 1) leads from schema version ``n - 1`` to ``n``; ``PRAGMA user_version`` holds the version."""
