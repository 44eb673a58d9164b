//! An error with its place in a file: what rustc shows, as text for people and as JSON for tools. Everything that can point at a line
//! of config or of a script is told this way. It only draws; codes are explained in `catalogue/`.

use std::ops::Range;

/// One problem, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) severity: Severity,
    /// A page of the catalogue, such as `E0201`.
    pub(crate) code: &'static str,
    /// What happened, in a sentence without a full stop. Backticks for what can be typed.
    pub(crate) title: String,
    pub(crate) place: Option<Place>,
    /// What to do about it: `help:` lines.
    pub(crate) help: Vec<String>,
    /// What else is true: `note:` lines, such as which version is still being served.
    pub(crate) notes: Vec<String>,
}

/// Whether it stops something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As the reader would type it: `scripts/clerk.rhai`.
    pub(crate) path: String,
    /// The whole text of the file.
    pub(crate) source: std::sync::Arc<str>,
    /// Bytes of the source that are at fault.
    pub(crate) span: Range<usize>,
    /// What to say under the marked bytes; may be empty.
    pub(crate) label: String,
}
