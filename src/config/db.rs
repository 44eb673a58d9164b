//! The `[db.NAME]` tables: which fields of a collection have an index. A collection need not exist; it does as soon as a document is in it.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::Collection;
use super::build::Build;
use super::check::Key;
use super::file;
use super::read::quoted;
use crate::frame::Frame;

/// Each index is written with each document, so a collection with more than these is one that should be two.
const FIELDS_MAX: usize = 16;
/// Bytes of a collection's name and of a field's, as scripts have it.
const NAME_MAX: usize = 512;

/// All of them, by name.
pub(super) fn collections(
    build: &mut Build<'_>,
    written: &BTreeMap<Spanned<String>, file::Documents>,
) -> BTreeMap<Box<str>, Collection> {
    let mut collections = BTreeMap::new();
    for (name, table) in written {
        check_name(build, name);
        let name = name.get_ref().as_str();
        collections.insert(name.into(), Collection { index: index(build, name, table) });
    }
    collections
}

fn check_name(build: &mut Build<'_>, name: &Spanned<String>) {
    let shown = name.get_ref();
    if shown.is_empty() || shown.len() > NAME_MAX || shown.contains(char::is_control) {
        let label = format!("1 to {NAME_MAX} bytes, none of them a control character");
        let title = format!("`{}` cannot be a collection's name", quoted(shown));
        let report = &mut build.check.report;
        let place = report.place(name.span(), label);
        report.problems.push(Frame::error("E0102", title).at(place));
    }
}

fn index(build: &mut Build<'_>, name: &str, table: &file::Documents) -> Vec<Box<str>> {
    let shown = format!("[db.{}]", quoted(name));
    let key = Key { table: &shown, name: "index" };
    let must = format!(
        "a list of up to {FIELDS_MAX} fields, such as `[\"status\", \"customer.id\"]`, each named once"
    );
    let fields = build.check.texts(key, table.index.as_ref(), &must).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (number, (field, span)) in (1..).zip(fields) {
        let is_path = field.len() <= NAME_MAX && field.split('.').all(|name| !name.is_empty());
        let label = if !is_path {
            "this is no field; one inside another is written with a dot between them"
        } else if number > FIELDS_MAX {
            "this is one too many"
        } else if !seen.insert(Box::from(field)) {
            "it is named before"
        } else {
            continue;
        };
        let _: Option<()> = build.check.reject(key, span, &must, label);
    }
    seen.into_iter().collect()
}
