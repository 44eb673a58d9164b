//! The codes of what scripts ask of documents: 0237. `check` says it where there is a database to look at; `tests/documents.rs` makes one.

/// Code and page, in the order of the codes.
pub(super) const PAGES: &[(&str, &str)] = &[("E0237", include_str!("E0237.md"))];
