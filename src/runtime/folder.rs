//! The scripts folder as it is now: which files are scripts, which are modules, what is skipped and why. It only reads; symlinks that leave
//! the folder, pipes and devices are never opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::frame::Frame;
use crate::script::diagnose::{SOURCE_BYTES_MAX, source, too_long};
use crate::script::handler::Sources;
use crate::script::refusal;

/// Files looked at; more is not a folder of scripts.
const FILES_MAX: usize = 10_000;
/// Folders within folders, below `lib`.
const DEPTH_MAX: usize = 16;

/// A look at the folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// By name, as in `scripts/NAME.rhai`; a file that cannot be a script, with the frame that says why.
    pub(crate) scripts: BTreeMap<Arc<str>, Result<Arc<str>, Frame>>,
    /// By path below the folder, `lib/…`.
    pub(crate) modules: Arc<Sources>,
    /// Modules that cannot be read; whoever imports them fails.
    pub(crate) unreadable: Vec<Frame>,
    /// What was passed over, and why.
    pub(crate) skipped: Vec<String>,
}

/// The folder is there, and what is in it cannot be seen: nothing is known of any script, so nothing may change.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be listed: {error}", folder.display())]
pub(crate) struct Unlisted {
    /// As config names it.
    pub(crate) folder: PathBuf,
    /// In the system's words.
    pub(crate) error: io::Error,
}

/// What tells that nothing has changed, without reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<(PathBuf, u64, Option<SystemTime>)>);

/// Reads everything. A folder that does not exist is an empty one.
pub(crate) fn read(folder: &Path) -> Result<Folder, Unlisted> {
    let mut look = Folder::default();
    let mut modules = Sources::new();
    for (path, file) in files(folder, &mut look.skipped)? {
        let below = file.strip_prefix(folder).unwrap_or(&file);
        let shown = as_typed(folder, below);
        let text = text(&path, &shown).map_err(|frame| *frame);
        if below.components().count() == 1 {
            let name = below.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            look.scripts.insert(name.into(), text);
        } else {
            let below = below.to_str().unwrap_or_default();
            match text {
                Ok(text) => _ = modules.insert(below.into(), text),
                Err(frame) => look.unreadable.push(frame),
            }
        }
    }
    look.modules = Arc::new(modules);
    Ok(look)
}

/// `scripts/clerk.rhai`, as the reader would type it.
pub(crate) fn as_typed(folder: &Path, below: &Path) -> String {
    let name = folder.file_name().map_or(folder, Path::new);
    name.join(below).display().to_string()
}

/// Names, lengths and times of the same files.
pub(crate) fn fingerprint(folder: &Path) -> Fingerprint {
    let of = |(path, file): (PathBuf, PathBuf)| {
        let metadata = fs::metadata(&path).ok()?;
        Some((file, metadata.len(), metadata.modified().ok()))
    };
    let files = files(folder, &mut Vec::new()).unwrap_or_default();
    Fingerprint(files.into_iter().filter_map(of).collect())
}

/// Scripts and modules: the path to open, and where it is named.
fn files(folder: &Path, skipped: &mut Vec<String>) -> Result<Vec<(PathBuf, PathBuf)>, Unlisted> {
    let root = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mut found = Vec::new();
    collect(&root, folder, &mut found, skipped)?;
    collect_below_lib(&root, &folder.join("lib"), &mut found, skipped)?;
    // In the order of names, so that it is the same files that are too many.
    found.sort();
    if found.len() > FILES_MAX {
        skipped.push(format!(
            "{} of {} files in `{}`: more than {FILES_MAX} are not read",
            found.len() - FILES_MAX,
            found.len(),
            folder.display()
        ));
        found.truncate(FILES_MAX);
    }
    Ok(found)
}

fn collect_below_lib(
    root: &Path,
    lib: &Path,
    found: &mut Vec<(PathBuf, PathBuf)>,
    skipped: &mut Vec<String>,
) -> Result<(), Unlisted> {
    let mut waiting = vec![(lib.to_owned(), 1)];
    while let Some((folder, depth)) = waiting.pop() {
        collect(root, &folder, found, skipped)?;
        for entry in entries(&folder)? {
            // Not through links: a loop of them has no end.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && depth < DEPTH_MAX && !is_hidden(&entry.file_name().to_string_lossy()) {
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(())
}

fn collect(
    root: &Path,
    folder: &Path,
    found: &mut Vec<(PathBuf, PathBuf)>,
    skipped: &mut Vec<String>,
) -> Result<(), Unlisted> {
    for entry in entries(folder)? {
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            skipped.push(format!("{}: its name is not UTF-8", path.display()));
            continue;
        };
        if !name.ends_with(".rhai") || is_hidden(name) {
            continue;
        }
        if !is_plain(name) {
            let shown = path.display().to_string();
            skipped.push(format!(
                "{}: a script's name has letters, digits, `_` and `-` only",
                shown.escape_debug()
            ));
            continue;
        }
        match target(root, &path) {
            Ok(Some(target)) => found.push((target, path)),
            Ok(None) => {}
            Err(reason) => skipped.push(format!("{}: {reason}", path.display())),
        }
    }
    Ok(())
}

/// What is in a folder. One that is gone, or was never there, has nothing in it.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, Unlisted> {
    match fs::read_dir(folder).and_then(Iterator::collect) {
        Ok(entries) => Ok(entries),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(Unlisted { folder: folder.to_owned(), error }),
    }
}

/// The regular file that a path leads to, within the folder.
fn target(root: &Path, path: &Path) -> Result<Option<PathBuf>, &'static str> {
    let resolved = match fs::canonicalize(path) {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if path.is_symlink() { Err("the link leads nowhere") } else { Ok(None) };
        }
        Err(_) => return Err("it cannot be resolved"),
    };
    if !resolved.starts_with(root) {
        return Err("it leads out of the scripts folder");
    }
    match fs::metadata(&resolved) {
        Ok(metadata) if metadata.is_file() => Ok(Some(resolved)),
        Ok(metadata) if metadata.is_dir() => Ok(None),
        Ok(_) => Err("it is not a regular file"),
        Err(_) => Ok(None),
    }
}

/// What editors leave: `.x.rhai.swp`, `#x.rhai#`, `x.rhai~`, `4913` (the last two do not end in `.rhai`).
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '#', '~'])
}

fn is_plain(name: &str) -> bool {
    let stem = name.trim_end_matches(".rhai");
    !stem.is_empty()
        && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn text(path: &Path, shown: &str) -> Result<Arc<str>, Box<Frame>> {
    let io = |error: io::Error| Box::new(refusal::unreadable(shown, &error.to_string()));
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > SOURCE_BYTES_MAX as u64 {
        return Err(too_long(shown, length));
    }
    file.take(SOURCE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    source(shown, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    #[test]
    fn o5_what_editors_leave_is_neither_loaded_nor_reported() {
        let leftovers =
            [".x.rhai.swp", "x.rhai~", "#x.rhai#", "4913", ".DS_Store", ".x.rhai", "notes.md"];
        let files: Vec<(&str, &[u8])> =
            leftovers.iter().map(|name| (*name, b"x".as_slice())).collect();
        let folder = folder(
            &[
                files.as_slice(),
                &[
                    ("a.rhai", b"1"),
                    ("lib/b.rhai", b"2"),
                    ("lib/deep/c.rhai", b"3"),
                    ("tests/t.rhai", b"4"),
                ],
            ]
            .concat(),
        );
        let look = read(folder.path()).unwrap();
        assert_eq!(look.scripts.keys().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(
            look.modules.keys().map(|path| &**path).collect::<Vec<_>>(),
            ["lib/b.rhai", "lib/deep/c.rhai"]
        );
        assert!(look.skipped.is_empty() && look.unreadable.is_empty(), "{look:?}");
    }

    #[test]
    fn s33_s38_sources_that_cannot_be_read_say_why() {
        let long = vec![b' '; SOURCE_BYTES_MAX + 1];
        let folder = folder(&[
            ("long.rhai", &long),
            ("nul.rhai", b"a\0b"),
            ("latin.rhai", b"ab\xe9"),
            ("bom.rhai", b"\xef\xbb\xbflet x = 1;"),
            ("crlf.rhai", b"1;\r\n2;"),
        ]);
        let look = read(folder.path()).unwrap();
        let check = |name: &str, expected: Result<&str, &str>| {
            let told = look.scripts[name].as_deref().map_err(|frame| frame.one_line());
            match expected {
                Ok(text) => assert_eq!(told, Ok(text)),
                Err(part) => {
                    assert!(told.as_ref().is_err_and(|told| told.contains(part)), "{told:?}")
                }
            }
        };
        check("long", Err("long.rhai` has 65537 bytes; a script may have 65536"));
        check("nul", Err("a NUL byte stands at offset 1"));
        check("latin", Err("byte 0xe9 at offset 2 is not UTF-8"));
        check("bom", Ok("let x = 1;"));
        check("crlf", Ok("1;\r\n2;"));
    }

    #[cfg(unix)]
    #[test]
    fn o9_links_out_of_the_folder_loops_and_pipes_are_skipped_with_a_word() {
        use std::os::unix::fs::symlink;
        let outside = folder(&[("secret.rhai", b"1")]);
        let folder = folder(&[("a.rhai", b"1")]);
        let at = |name: &str| folder.path().join(name);
        symlink(outside.path().join("secret.rhai"), at("out.rhai")).unwrap();
        symlink(at("loop.rhai"), at("loop.rhai")).unwrap();
        symlink(at("gone"), at("dangling.rhai")).unwrap();
        symlink(at("a.rhai"), at("alias.rhai")).unwrap();
        fs::create_dir(at("lib")).unwrap();
        symlink(folder.path(), at("lib/again")).unwrap();
        assert!(
            std::process::Command::new("mkfifo").arg(at("pipe.rhai")).status().unwrap().success()
        );
        fs::write(at("a b.rhai"), "1").unwrap();
        let look = read(folder.path()).unwrap();
        assert_eq!(look.scripts.keys().map(|name| &**name).collect::<Vec<_>>(), ["a", "alias"]);
        assert_eq!(look.skipped.len(), 5, "{:?}", look.skipped);
    }

    #[test]
    fn o9_of_ten_thousand_files_and_one_the_last_is_not_read_and_that_is_said() {
        let folder = folder(&[("z.rhai", b"1")]);
        for number in 0..FILES_MAX {
            fs::write(folder.path().join(format!("s{number}.rhai")), "").unwrap();
        }
        let look = read(folder.path()).unwrap();
        assert_eq!(look.scripts.len(), FILES_MAX);
        assert!(!look.scripts.contains_key("z"));
        assert!(look.skipped[0].starts_with("1 of 10001 files"), "{:?}", look.skipped);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_empty() {
        let folder = folder(&[]);
        let look = read(&folder.path().join("none")).unwrap();
        assert!(look.scripts.is_empty() && look.skipped.is_empty());
    }

    #[test]
    fn a_fingerprint_changes_with_the_files() {
        let folder = folder(&[("a.rhai", b"1")]);
        let before = fingerprint(folder.path());
        assert_eq!(before, fingerprint(folder.path()));
        fs::write(folder.path().join("a.rhai"), "12").unwrap();
        assert_ne!(before, fingerprint(folder.path()));
    }
}
