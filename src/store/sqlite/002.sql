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
