-- Secrets that were generated: what tells the loss of one from one that was never made.
CREATE TABLE generated (
    project_root BLOB NOT NULL,
    name         TEXT NOT NULL,
    digest       BLOB NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, name)
) STRICT, WITHOUT ROWID;

-- Steps of first boots that were done, with the data that they were done for, as JSON. They outlive their units, as the
-- data does.
CREATE TABLE first_boot (
    project_root BLOB NOT NULL,
    unit         TEXT NOT NULL,
    step         TEXT NOT NULL,
    data         TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, unit, step)
) STRICT, WITHOUT ROWID;
