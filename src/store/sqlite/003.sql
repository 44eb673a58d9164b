-- parked_since: set while the job waits at a gate, over all its waits there. calls: outbound calls that its last run asked for. calls_dropped: those of
-- all its runs that have no row.
ALTER TABLE jobs ADD COLUMN parked_since INTEGER;
ALTER TABLE jobs ADD COLUMN calls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN calls_dropped INTEGER NOT NULL DEFAULT 0;

-- Outbound calls of jobs. outcome: 0 intent, 1 succeeded, 2 refused, 3 failed, 4 unsent. headers (JSON, a list of pairs), kind and body: the answer, where a
-- rerun may need it; too_large: it would, and there was no room. The body is last, so that the rest is read without it.
CREATE TABLE calls (
    event INTEGER NOT NULL,
    n INTEGER NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    provider TEXT NOT NULL,
    operation TEXT NOT NULL,
    is_unsafe INTEGER NOT NULL,
    identity BLOB NOT NULL,
    digest BLOB NOT NULL,
    key TEXT,
    epoch INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    status INTEGER,
    error TEXT,
    too_large INTEGER NOT NULL,
    headers TEXT,
    kind TEXT,
    body BLOB,
    PRIMARY KEY (event, n, number)
) STRICT, WITHOUT ROWID;

-- What was used of providers, by the time that it is counted in.
CREATE TABLE usage (
    provider TEXT NOT NULL,
    unit TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (provider, unit, began_at)
) STRICT, WITHOUT ROWID;
