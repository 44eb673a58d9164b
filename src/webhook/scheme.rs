//! What a signature scheme is.
