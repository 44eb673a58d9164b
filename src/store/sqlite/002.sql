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
