//! The codes of what routes say of their callers, 0235 and 0236.

/// Code and page, in the order of the codes.
pub(super) const PAGES: &[(&str, &str)] =
    &[("E0235", include_str!("E0235.md")), ("E0236", include_str!("E0236.md"))];
