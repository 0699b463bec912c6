-- What the user wants of a unit that is kept running: `up` or `stopped`; `rules` are how it is kept, as JSON.
CREATE TABLE intents (
    unit       INTEGER PRIMARY KEY REFERENCES units (id) ON DELETE CASCADE,
    wanted     TEXT NOT NULL,
    generation INTEGER NOT NULL,
    rules      TEXT NOT NULL,
    at         INTEGER NOT NULL
) STRICT;

-- What became of keeping it so, as JSON.
CREATE TABLE histories (
    unit    INTEGER PRIMARY KEY REFERENCES units (id) ON DELETE CASCADE,
    history TEXT NOT NULL
) STRICT;
