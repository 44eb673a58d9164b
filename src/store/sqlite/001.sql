-- One row of an accepted delivery. Small, so that lists and recovery scans read few pages.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    webhook TEXT NOT NULL,
    delivery_id TEXT,
    kind TEXT NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;
-- This index is what makes a duplicate one.
CREATE UNIQUE INDEX events_delivery ON events (webhook, delivery_id) WHERE delivery_id IS NOT NULL;

-- Apart from events: retention takes it earlier than the delivery id.
CREATE TABLE payloads (
    seq INTEGER PRIMARY KEY,
    request TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- state: 0 dead, 1 parked, 2 retrying, 3 running, 4 pending, 5 done, 6 ignored; an event shows the smallest of its jobs.
-- due_at: set exactly while the job waits or runs (states 1 to 4).
CREATE TABLE jobs (
    event INTEGER NOT NULL,
    n INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    due_at INTEGER,
    script TEXT NOT NULL,
    pattern TEXT,
    error TEXT,
    PRIMARY KEY (event, n)
) STRICT, WITHOUT ROWID;
-- Both are partial, so that a job that is inserted as done costs no entry.
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, event) WHERE state <> 5;

-- Every attempt but a success at the first try.
CREATE TABLE attempts (
    row INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    n INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    error TEXT
) STRICT;
CREATE INDEX attempts_of ON attempts (event);

-- A tombstone is a row without body. The body is last, so that versions are read without it.
CREATE TABLE documents (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    tombstone_until INTEGER,
    body TEXT,
    PRIMARY KEY (collection, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX documents_tombstones ON documents (tombstone_until) WHERE tombstone_until IS NOT NULL;

-- epoch: openings so far. unclean: 1 while open. low_water: every event up to it has jobs. last_seq: the last one given, where its event may be
-- deleted. ping: the time of the last one.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('epoch', 0), ('unclean', 0), ('low_water', 0), ('last_seq', 0), ('ping', 0);
