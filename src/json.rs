//! How JSON from outside is read: BOM, digits past i64, depth, surrogates.
