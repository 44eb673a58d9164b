//! The architecture as a table, and what the files promise each other: who may name whom, which crate is named where, that each file says what it
//! is for, and that every config key and every error code is explained. It is edited in the same commit as the structure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Small words that many use, and that use nothing else of ours but each other.
const LEAVES: [&str; 17] = [
    "backoff",
    "catalogue",
    "clock",
    "failpoint",
    "frame",
    "header",
    "histogram",
    "id",
    "json",
    "memory",
    "multipart",
    "outbound",
    "payload",
    "rate",
    "redact",
    "schedule",
    "units",
];

/// What each module may name beside the leaves, and so what it can never do. A row may only name rows above it, so there are no cycles,
/// except for what `EXCEPTIONS` says. `runtime` and `cli` compose and may name all above; nobody may name them.
const MAY_NAME: [(&str, &[&str]); 15] = [
    ("config", &[]),
    // Knows tokens and keys, and nothing of requests but what they present.
    ("auth", &["config"]),
    // Cannot run code.
    ("store", &[]),
    // Gets its sources as text and asks with values: of `store` it knows documents and effects as data, and it does no I/O.
    ("script", &["store"]),
    // Cannot run a handler: the store wakes the dispatcher when it has committed.
    ("webhook", &["config", "store"]),
    // Of scripts it knows the calls that they ask for, as data; of the store the form of JSON.
    ("provider", &["config", "script", "store"]),
    // A third party: it knows nothing of the rest but how webhooks are signed.
    ("stand_in", &["config", "webhook"]),
    // Joins and checks.
    ("generation", &["auth", "config", "provider", "script", "webhook"]),
    ("execution", &["config", "generation", "provider", "script", "store"]),
    // Does not answer HTTP.
    ("inbox", &["execution", "generation", "script", "store"]),
    // Does not retry.
    (
        "server",
        &["auth", "config", "execution", "generation", "inbox", "script", "store", "webhook"],
    ),
    // Not needed by what it shows.
    ("admin", &["inbox", "server", "store"]),
    (
        "runtime",
        &[
            "admin",
            "auth",
            "config",
            "execution",
            "generation",
            "inbox",
            "provider",
            "script",
            "server",
            "store",
            "webhook",
        ],
    ),
    (
        "cli",
        &["admin", "config", "generation", "runtime", "script", "stand_in", "store", "webhook"],
    ),
    ("main", &["cli"]),
];

/// Single paths that a module names although the table does not let it name the module: who, what, why.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "script",
    "webhook::request",
    "the form in which a delivery's head is stored, which `event` is read from",
)];

/// Parts of a module that one may not name although it may name the module.
const CLOSED: [(&str, &str, &[&str]); 1] =
    [("script", "store", &["Store", "Reader", "sqlite", "memory"])];

/// Crates with a shape of their own, and the only folders or files that name them.
const CRATES: [(&str, &[&str]); 13] = [
    ("rhai", &["script/"]),
    ("corosensei", &["script/coroutine.rs"]),
    ("rusqlite", &["store/sqlite/"]),
    ("axum", &["server/", "admin/", "webhook/", "cli/send/"]),
    ("reqwest", &["outbound/", "provider/", "auth/fetch.rs", "admin/client.rs", "cli/send/"]),
    ("clap", &["cli/"]),
    ("anyhow", &["cli/"]),
    ("tracing_subscriber", &["cli/logging.rs"]),
    ("notify", &["runtime/watch.rs"]),
    // The table of schemes is a TOML file in the binary, and so are descriptors.
    ("toml", &["config/", "provider/descriptor/", "webhook/scheme.rs"]),
    ("annotate_snippets", &["frame.rs"]),
    ("dotenvy", &["config/env.rs"]),
    ("quick_xml", &["script/api/xml/"]),
];

#[test]
fn each_module_names_only_what_the_table_lets_it_name() {
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.into_iter().collect();
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let module = module_of(&file);
        for path in paths_of(&text) {
            let target = path.split("::").next().expect("a first part");
            if target == module || LEAVES.contains(&target) {
                continue;
            }
            let excepted =
                EXCEPTIONS.iter().any(|(who, what, _)| *who == module && path.starts_with(what));
            let allowed = match table.get(module.as_str()) {
                Some(may) => may.contains(&target),
                None => false,
            };
            if !allowed && !excepted {
                faults.push(format!("{file} names crate::{path}"));
            }
            for (who, what, parts) in CLOSED {
                let rest = path.strip_prefix(&format!("{what}::"));
                let part = rest.and_then(|rest| rest.split("::").next());
                if who == module && part.is_some_and(|part| parts.contains(&part)) {
                    faults.push(format!("{file} names crate::{path}, which is closed to it"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_has_no_cycles_and_names_every_module() {
    let mut above: BTreeSet<&str> = BTreeSet::new();
    for (module, may) in MAY_NAME {
        for name in may {
            assert!(
                above.contains(name),
                "{module} may name {name}, which does not stand above it"
            );
        }
        above.insert(module);
    }
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    let declared: BTreeSet<&str> = main
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .chain(["main"])
        .collect();
    assert_eq!(declared, above.into_iter().chain(LEAVES).collect());
}

#[test]
fn groups_are_read_as_well_as_single_imports() {
    let check = |text: &str, expected: &[&str]| assert_eq!(paths_of(text), expected, "{text}");
    check("use crate::store::Seq;", &["store::Seq"]);
    check("use crate::{clock, store::{self, Seq}};", &["clock", "store", "store::Seq"]);
    check("use crate::{\n    a::{b, c::{d}},\n    e as f,\n};", &["a::b", "a::c::d", "e"]);
    check("let x = crate::units::print(1);", &["units::print"]);
    check("pub(crate) use self::x; // crate::y in words", &[]);
}

#[test]
fn each_crate_with_a_shape_of_its_own_is_named_in_its_place_only() {
    let mut faults = Vec::new();
    for (file, text) in sources() {
        for (name, places) in CRATES {
            let at_home = places.iter().any(|place| file.starts_with(place));
            if !at_home && names_crate(&text, name) {
                faults.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (name, _) in CRATES {
        let dependency = name.replace('_', "-");
        assert!(manifest.contains(&format!("\n{dependency} = ")), "{dependency} is no dependency");
    }
}

#[test]
fn scripts_do_no_input_or_output() {
    for (file, text) in sources()
        .into_iter()
        .filter(|(file, _)| file.starts_with("script/") && !file.starts_with("script/tests/"))
    {
        for door in ["std::fs", "std::net", "std::process", "tokio::net", "tokio::fs"] {
            assert!(!text.contains(door), "{file} names {door}");
        }
    }
}

#[test]
fn printing_happens_in_one_file() {
    for (file, text) in sources() {
        for door in ["println!(", "eprintln!(", "stdout()", "print!("] {
            let at_home = ["cli/output.rs", "cli/logging.rs"].contains(&file.as_str());
            assert!(at_home || !text.contains(door), "{file} has {door}");
        }
    }
}

#[test]
fn each_file_opens_by_saying_what_it_is_for() {
    for folder in ["src", "tests"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{}", path.display());
        }
    }
}

#[test]
fn each_key_of_the_configuration_is_in_config_toml() {
    let file = fs::read_to_string(root().join("src/config/file.rs")).unwrap();
    let keys: BTreeSet<&str> = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(": "))
        .filter(|(_, kind)| kind.starts_with("Option<"))
        .map(|(key, _)| key)
        .collect();
    assert!(keys.len() >= 30, "{keys:?}");
    let shipped = fs::read_to_string(root().join("config.toml")).unwrap();
    for key in keys {
        let set = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        let inside = shipped.contains(&format!("{key} = "));
        assert!(shipped.lines().any(set) || inside, "`{key}` is not in config.toml");
    }
}

#[test]
fn each_error_code_that_is_used_has_a_page_and_each_page_is_used() {
    let mut used = BTreeSet::new();
    for (file, text) in sources() {
        if !file.starts_with("catalogue/") {
            used.extend(codes(&text));
        }
    }
    let pages: BTreeSet<String> = fs::read_dir(root().join("src/catalogue"))
        .unwrap()
        .filter_map(|entry| {
            Some(entry.unwrap().file_name().to_str()?.strip_suffix(".md")?.to_owned())
        })
        .collect();
    assert_eq!(used, pages);
}

/// `"E0201"` and its like.
fn codes(text: &str) -> Vec<String> {
    let starts = text.match_indices("\"E0").map(|(start, _)| &text[start + 1..]);
    let code = |text: &str| {
        let code = text.split('"').next()?;
        (code.len() == 5 && code[1..].bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| code.to_owned())
    };
    starts.filter_map(code).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `src`, named from there, without its comments and without its tests.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut sources = Vec::new();
    for path in rust_files(&src) {
        let name = path
            .strip_prefix(&src)
            .expect("a file of this project")
            .to_str()
            .expect("a file of this project")
            .to_owned();
        let is_test = ["/tests.rs", "/testing.rs", "/conformance/", "/store/memory/"]
            .iter()
            .any(|part| name.contains(part));
        if is_test {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file of this project");
        let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
        let end = tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
        sources.push((name, without_comments(&text[..end])));
    }
    sources
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("// ").next().unwrap_or_default().to_owned();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(code)
        .collect::<Vec<_>>()
        .join("\n")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a file of this project") {
        let path = entry.expect("a file of this project").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn module_of(file: &str) -> String {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs").to_owned()
}

/// Whether a path of this crate is named: `rhai::` at its beginning, not `super::rhai::`.
fn names_crate(text: &str, name: &str) -> bool {
    text.match_indices(&format!("{name}::")).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"_:.\"".contains(before))
    })
}

/// What stands behind each `crate::`, groups taken apart.
fn paths_of(text: &str) -> Vec<String> {
    let text = without_comments(text);
    let mut paths = Vec::new();
    for (start, found) in text.match_indices("crate::") {
        let before = text[..start].chars().next_back();
        if before.is_none_or(|before| !before.is_alphanumeric() && before != '_') {
            expand(&text[start + found.len()..], "", &mut paths);
        }
    }
    paths
}

/// Reads one path or group at the beginning of `text`; gives back what follows it.
fn expand<'a>(text: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inside) = text.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match inside.strip_prefix('}') {
                Some(rest) => return rest,
                None if inside.is_empty() => return inside,
                None => inside = expand(inside, prefix, paths),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        // Something that is no path; one character further, so that reading ends.
        return text.get(text.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
    }
    let path = match (prefix, name) {
        (prefix, "self") => prefix.to_owned(),
        ("", name) => name.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    if let Some(further) = rest.strip_prefix("::") {
        return expand(further, &path, paths);
    }
    paths.push(path);
    if let Some(renamed) = rest.strip_prefix(" as ") {
        let end = renamed.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(renamed.len());
        rest = &renamed[end..];
    }
    rest
}
