-- The records of the cache. They are never migrated: a cache of another version is begun anew.

-- What steps made. A key leads to one current result; older ones stay while something is built on them.
CREATE TABLE results (
    id         BLOB PRIMARY KEY,
    key        BLOB NOT NULL,
    current    INTEGER NOT NULL,
    project    TEXT NOT NULL,
    pipeline   TEXT NOT NULL,
    step       TEXT NOT NULL,
    run        INTEGER NOT NULL,
    made_at    INTEGER NOT NULL,
    took       INTEGER NOT NULL,
    -- When it was used last, and its place in the order of all uses, which no clock can disturb.
    used_at    INTEGER NOT NULL,
    used       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX results_by_key ON results (key) WHERE current = 1;
CREATE INDEX results_by_use ON results (used);

-- The folders that hold what steps wrote. `bytes`, `files` and `shape`, a digest of names, sizes and times, are
-- absent until somebody has counted.
CREATE TABLE layers (
    id         BLOB PRIMARY KEY,
    boot       TEXT NOT NULL,
    durable    INTEGER NOT NULL,
    bytes      INTEGER,
    files      INTEGER,
    shape      BLOB
) WITHOUT ROWID;

-- The layers that a result lies on, the lowest first, its own the last. `kind` is 0 for the system, 1 for the
-- workspace.
CREATE TABLE chains (
    result     BLOB NOT NULL REFERENCES results (id) ON DELETE CASCADE,
    kind       INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    layer      BLOB NOT NULL REFERENCES layers (id),
    PRIMARY KEY (result, kind, position)
) WITHOUT ROWID;
CREATE INDEX chains_by_layer ON chains (layer);

-- Runs that go on. What was used since the oldest of them began is leased.
CREATE TABLE leases (
    lease      TEXT PRIMARY KEY,
    began      INTEGER NOT NULL
) WITHOUT ROWID;

-- The leaves of the key that a step had when it was last looked up, and those it had before they last changed.
CREATE TABLE keys (
    project    TEXT NOT NULL,
    pipeline   TEXT NOT NULL,
    step       TEXT NOT NULL,
    looked_at  INTEGER NOT NULL,
    leaves     TEXT NOT NULL,
    before     TEXT,
    PRIMARY KEY (project, pipeline, step)
) WITHOUT ROWID;
