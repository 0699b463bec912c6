-- Secrets that were generated: what tells the loss of one from one that was never made.
CREATE TABLE generated (
    project_root BLOB NOT NULL,
    name         TEXT NOT NULL,
    digest       BLOB NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, name)
) STRICT, WITHOUT ROWID;
