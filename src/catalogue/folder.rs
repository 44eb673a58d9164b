//! The codes of a folder of scripts, 0221 to 0234: what the loader says beyond Rhai, and what does not go together with config or with
//! another file. Each page whose example is a script is proven through `rhaiway check` by `tests/cli.rs`.

/// Code and page, in the order of the codes.
pub(crate) const PAGES: &[(&str, &str)] = &[
    ("E0221", include_str!("E0221.md")),
    ("E0222", include_str!("E0222.md")),
    ("E0223", include_str!("E0223.md")),
    ("E0224", include_str!("E0224.md")),
    ("E0225", include_str!("E0225.md")),
    ("E0226", include_str!("E0226.md")),
    ("E0227", include_str!("E0227.md")),
    ("E0228", include_str!("E0228.md")),
    ("E0231", include_str!("E0231.md")),
    ("E0232", include_str!("E0232.md")),
    ("E0233", include_str!("E0233.md")),
    ("E0234", include_str!("E0234.md")),
];
