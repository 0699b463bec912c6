-- Changes of generations. `what` is all that undoing or finishing one needs to know, as JSON.
CREATE TABLE upgrades (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    txid         TEXT NOT NULL UNIQUE,
    project_root BLOB NOT NULL,
    what         TEXT NOT NULL,
    who          TEXT NOT NULL,
    began_at     INTEGER NOT NULL,
    outcome      TEXT,
    detail       TEXT,
    ended_at     INTEGER
) STRICT;
CREATE INDEX upgrades_of_project ON upgrades (project_root, seq);

-- What was about to be done in one, and was done.
CREATE TABLE upgrade_steps (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    txid TEXT NOT NULL REFERENCES upgrades (txid) ON DELETE CASCADE,
    step TEXT NOT NULL,
    kind TEXT NOT NULL,
    note TEXT,
    at   INTEGER NOT NULL,
    pid  INTEGER NOT NULL
) STRICT;
CREATE INDEX steps_of_upgrade ON upgrade_steps (txid, seq);

-- The records of instances that are set aside, as JSON.
CREATE TABLE aside (
    unit       INTEGER NOT NULL REFERENCES units (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    what       TEXT NOT NULL,
    PRIMARY KEY (unit, generation)
) STRICT, WITHOUT ROWID;
