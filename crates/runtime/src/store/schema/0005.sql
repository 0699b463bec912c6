-- What tests a runner lists, as JSON, and the key of what that was found in.
CREATE TABLE listings (
    project_root BLOB NOT NULL,
    runner       TEXT NOT NULL,
    key          BLOB NOT NULL,
    tests        TEXT NOT NULL,
    PRIMARY KEY (project_root, runner)
) STRICT, WITHOUT ROWID;

-- How the tests that specs name ended, as JSON, and the digest of the source that they ran on.
CREATE TABLE test_outcomes (
    project_root BLOB NOT NULL,
    test         TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    source       BLOB NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, test)
) STRICT, WITHOUT ROWID;

-- How criteria stood when they were last verified, as JSON; the source, where its tests ran on one that is known.
CREATE TABLE verdicts (
    project_root BLOB NOT NULL,
    criterion    TEXT NOT NULL,
    verdict      TEXT NOT NULL,
    source       BLOB,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, criterion)
) STRICT, WITHOUT ROWID;

-- What criteria said when their tests last passed.
CREATE TABLE proofs (
    project_root BLOB NOT NULL,
    criterion    TEXT NOT NULL,
    text         TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (project_root, criterion)
) STRICT, WITHOUT ROWID;
