-- Migrations that were applied to the data of a volume, or to none (an empty name). `volume_id` tells the volume from a later one
-- of its name.
CREATE TABLE ledger (
    project_root BLOB NOT NULL,
    engine       TEXT NOT NULL,
    volume       TEXT NOT NULL,
    volume_id    TEXT NOT NULL,
    migration    TEXT NOT NULL,
    sha256       TEXT NOT NULL,
    progress     TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, engine, volume, migration)
) STRICT, WITHOUT ROWID;
