//! The table of error codes: one page each, printed by `rhaiway docs CODE`. A new code is a row here and a file beside it.
//! 01xx: configuration. 02xx: scripts when they are loaded. 03xx: scripts when they run.

mod documents;
pub(crate) mod folder;
mod routes;
pub(crate) mod scripts;
mod topics;

/// Code and page, in the order of the codes.
const PAGES: &[(&str, &str)] = &[
    ("E0101", include_str!("E0101.md")),
    ("E0102", include_str!("E0102.md")),
    ("E0103", include_str!("E0103.md")),
    ("E0104", include_str!("E0104.md")),
    ("E0105", include_str!("E0105.md")),
    ("E0106", include_str!("E0106.md")),
    ("E0107", include_str!("E0107.md")),
    ("E0108", include_str!("E0108.md")),
    ("E0109", include_str!("E0109.md")),
    ("E0110", include_str!("E0110.md")),
    ("E0111", include_str!("E0111.md")),
    ("E0112", include_str!("E0112.md")),
    ("E0113", include_str!("E0113.md")),
    ("E0114", include_str!("E0114.md")),
    ("E0130", include_str!("E0130.md")),
];

fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES
        .iter()
        .chain(scripts::PAGES)
        .chain(folder::PAGES)
        .chain(routes::PAGES)
        .chain(documents::PAGES)
        .chain(topics::PAGES)
        .copied()
}

/// What a code means, as Markdown.
pub(crate) fn page(code: &str) -> Option<&'static str> {
    pages().find(|(known, _)| *known == code).map(|(_, page)| page)
}

/// All codes in their order, for `rhaiway docs` without one.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    let mut codes: Vec<&str> = pages().map(|(code, _)| code).collect();
    codes.sort_unstable();
    codes.into_iter()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_page_is_headed_by_its_code_and_short_enough_to_read() {
        assert!(codes().collect::<std::collections::BTreeSet<_>>().len() == codes().count());
        for code in codes() {
            let page = page(code).unwrap();
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
            let lines = page.lines().count();
            assert!((8..=30).contains(&lines), "{code} has {lines} lines");
        }
        assert_eq!(page("E9999"), None);
    }

    #[test]
    fn every_code_that_config_uses_has_a_page() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
        let mut used = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for (start, _) in source.match_indices("\"E0") {
                let code = source[start + 1..].split('"').next().unwrap();
                if code.len() != "E0000".len() {
                    continue;
                }
                assert!(page(code).is_some(), "{code} has no page");
                used += 1;
            }
        }
        assert!(used >= PAGES.len());
    }
}
