//! The codes of topics that have one side only, 0238 and 0239: `check` says them when it has all scripts. `tests/examples.rs` runs the pages.

/// Code and page, in the order of the codes.
pub(super) const PAGES: &[(&str, &str)] =
    &[("E0238", include_str!("E0238.md")), ("E0239", include_str!("E0239.md"))];
