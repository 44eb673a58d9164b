-- What orders an event; its place in line where that is not its seq; the event that it repeats.
ALTER TABLE events ADD COLUMN order_key TEXT;
ALTER TABLE events ADD COLUMN place INTEGER;
ALTER TABLE events ADD COLUMN replay_of BLOB;
CREATE INDEX events_replays ON events (replay_of) WHERE replay_of IS NOT NULL;

-- dead_job: the job of the event whose death this one answers. put_off_since: set while its handler asks for another time.
-- A pending job that waits for an earlier event of its key is due at the end of time.
ALTER TABLE jobs ADD COLUMN dead_job INTEGER;
ALTER TABLE jobs ADD COLUMN put_off_since INTEGER;

-- Events with an order key that are not at their end, in the order in which they have their turn. released: its turn has come.
CREATE TABLE lanes (
    webhook TEXT NOT NULL,
    order_key TEXT NOT NULL,
    place INTEGER NOT NULL,
    event INTEGER NOT NULL,
    released INTEGER NOT NULL,
    PRIMARY KEY (webhook, order_key, place, event)
) STRICT, WITHOUT ROWID;

-- What was emitted for a later time; it becomes an event when it is due.
CREATE TABLE scheduled (
    row INTEGER PRIMARY KEY,
    due_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    webhook TEXT NOT NULL,
    delivery_id TEXT,
    order_key TEXT,
    kind TEXT NOT NULL,
    request TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX scheduled_due ON scheduled (due_at);
CREATE INDEX scheduled_key ON scheduled (webhook, order_key) WHERE order_key IS NOT NULL;
CREATE UNIQUE INDEX scheduled_delivery ON scheduled (webhook, delivery_id) WHERE delivery_id IS NOT NULL;

-- From when on the next occurrence of each timer counts.
CREATE TABLE timers (
    timer TEXT PRIMARY KEY,
    counts_from INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Answers that are given again: of a webhook that its script answers (scope: its name, key: the delivery id), and of a route with an idempotency
-- header (scope: method and path as registered, key: the header's value). digest: SHA-256 of what was asked. headers: JSON, a list of pairs.
-- Rows are in the order of their commits, so retention needs no index.
CREATE TABLE answers (
    row INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    answered_at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX answers_key ON answers (scope, key);

-- A document may run out as a tombstone does: from then on the row is absence, whether or not it has a body.
ALTER TABLE documents RENAME COLUMN tombstone_until TO expires_at;
DROP INDEX documents_tombstones;
CREATE INDEX documents_expiring ON documents (expires_at) WHERE expires_at IS NOT NULL;

-- Fields that have an index. state: 0 being built, 1 ready, 2 being dropped, 3 being dropped and declared again since. cursor: the last id whose
-- document was looked at while it is being built.
CREATE TABLE document_indexes (
    collection TEXT NOT NULL,
    field TEXT NOT NULL,
    state INTEGER NOT NULL,
    cursor TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (collection, field)
) STRICT, WITHOUT ROWID;

-- One entry for each document and index, whether or not the document has run out. value: bytes that compare as the field's values do, since a
-- primary key takes no NULL and no table compares numbers, texts and booleans in the order that is promised (`store/order.rs`).
CREATE TABLE document_index (
    collection TEXT NOT NULL,
    field TEXT NOT NULL,
    value BLOB NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (collection, field, value, id)
) STRICT, WITHOUT ROWID;

-- version: a short digest of the script that ran. log: what its handler logged, as JSON, bounded; NULL where it logged nothing. An attempt that
-- succeeds at the first try has a row only for its log.
ALTER TABLE attempts ADD COLUMN version TEXT;
ALTER TABLE attempts ADD COLUMN log TEXT;
