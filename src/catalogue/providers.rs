//! The codes of providers: 0121 of a descriptor, 0241 to 0243 of scripts that call one.

/// Code and page, in the order of the codes.
pub(super) const PAGES: &[(&str, &str)] = &[
    ("E0121", include_str!("E0121.md")),
    ("E0241", include_str!("E0241.md")),
    ("E0242", include_str!("E0242.md")),
    ("E0243", include_str!("E0243.md")),
];
