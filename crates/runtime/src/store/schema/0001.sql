-- Units: what Setpoint made, and what it is called by its engine.
CREATE TABLE units (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    project_root BLOB NOT NULL,
    project_name TEXT NOT NULL,
    name         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    engine       TEXT NOT NULL,
    instance     TEXT,
    labels       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (project_root, name)
) STRICT;

-- Records: what was applied with success.
CREATE TABLE leaves (
    unit    INTEGER NOT NULL REFERENCES units (id) ON DELETE CASCADE,
    path    TEXT NOT NULL,
    class   TEXT NOT NULL,
    digest  BLOB NOT NULL,
    shown   TEXT,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (unit, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE packs (
    unit     INTEGER NOT NULL REFERENCES units (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name     TEXT NOT NULL,
    digest   BLOB NOT NULL,
    at       INTEGER NOT NULL,
    took_ms  INTEGER NOT NULL,
    PRIMARY KEY (unit, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE phases (
    unit     INTEGER NOT NULL REFERENCES units (id) ON DELETE CASCADE,
    hook     TEXT NOT NULL,
    digest   BLOB,
    instance TEXT NOT NULL,
    outcome  TEXT NOT NULL,
    at       INTEGER NOT NULL,
    took_ms  INTEGER NOT NULL,
    PRIMARY KEY (unit, hook)
) STRICT, WITHOUT ROWID;

-- The journal. It refers to units without a foreign key: an operation that removes its unit outlives it.
CREATE TABLE operations (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    txid     TEXT NOT NULL UNIQUE,
    unit     INTEGER NOT NULL,
    what     TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    pid      INTEGER NOT NULL,
    outcome  TEXT,
    detail   TEXT,
    ended_at INTEGER
) STRICT;
CREATE INDEX operations_of_unit ON operations (unit, seq);

CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    txid    TEXT NOT NULL REFERENCES operations (txid) ON DELETE CASCADE,
    step    TEXT NOT NULL,
    kind    TEXT NOT NULL,
    payload TEXT NOT NULL,
    at      INTEGER NOT NULL,
    pid     INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_of_operation ON journal (txid, seq);
