//! rhaiway send.
