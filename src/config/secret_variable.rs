//! The look-up of one variable that holds a secret: where it was found, why its value is as good as none, and what is said of both. No value is
//! ever repeated.

use std::ops::Range;

use super::Variable;
use super::build::Build;
use super::check::Key;
use super::env::{Source, is_variable_name};
use super::secret::is_value;
use crate::frame::Frame;

/// What is looked up.
pub(super) struct Wanted<'n> {
    /// The variable's name, as written.
    pub(super) name: &'n str,
    /// Where that stands.
    pub(super) span: Range<usize>,
    /// "secret of webhook `clerk`".
    pub(super) purpose: String,
    /// Whether something does not work without it.
    pub(super) required: bool,
    /// Why a value cannot serve.
    pub(super) unusable: fn(&str) -> Option<&'static str>,
}

/// What was said of a variable that gave no secret.
pub(super) enum NoSecret {
    /// Nothing: it is not set.
    Unset,
    /// Its value is of no use, and there is a frame that says why.
    Told,
}

impl Build<'_> {
    /// The value of a variable that can be used as a secret. Every look-up is noted for `check`.
    pub(super) fn secret_variable(
        &mut self,
        wanted: Wanted<'_>,
    ) -> Result<(String, Source), NoSecret> {
        let Wanted { name, span, purpose, required, unusable } = wanted;
        let found = self.variables.find(name, self.development);
        let why = match found {
            Some((None, _)) => Some("it is not UTF-8"),
            Some((Some(value), _)) => unusable(value),
            None => None,
        };
        let source = found.map(|(_, source)| source);
        self.asked.push(Variable { name: name.into(), purpose, required, source, unusable: why });
        match (found, why) {
            (Some((Some(value), source)), None) => Ok((value.to_owned(), source)),
            (Some((_, source)), why) => {
                let why = why.unwrap_or("it is not UTF-8");
                let report = &mut self.check.report;
                let title = format!("`{name}` from {source} is not used as a secret: {why}");
                let frame = Frame::warning("E0110", title)
                    .at(report.place(span, ""))
                    .note("its value is never shown");
                report.notes.push(frame);
                Err(NoSecret::Told)
            }
            (None, _) => {
                if !self.development && self.variables.in_dev_vars(name) {
                    self.check.not_in_production(
                        format!(
                            "`{name}` stands only in `.dev.vars`, which production does not read"
                        ),
                        span,
                        "",
                        "set it in the environment of the process or in `.env`",
                    );
                }
                Err(NoSecret::Unset)
            }
        }
    }

    /// Whether a text is the name of a variable; a problem where it is not. `example` is a line of an environment file.
    pub(super) fn names_a_variable(
        &mut self,
        key: Key<'_>,
        text: &str,
        span: Range<usize>,
        example: &str,
    ) -> bool {
        if is_variable_name(text) && !is_value(text) {
            return true;
        }
        let label = if text.contains("${") {
            "write the name alone; nothing is filled in here"
        } else if is_value(text) {
            "this looks like the secret itself"
        } else {
            "a name has letters, digits and `_`"
        };
        let report = &mut self.check.report;
        let title = format!("`{}` in {} takes the name of a variable", key.name, key.table);
        let frame = Frame::error("E0111", title)
            .at(report.place(span, label))
            .help(format!("keep the secret in the environment or in `.dev.vars`: `{example}`"));
        report.problems.push(frame);
        false
    }

    /// What to do about variables that are not set.
    pub(super) fn set_them(&self) -> String {
        let file = if self.development { "`.dev.vars`" } else { "`.env`" };
        format!("set it in the environment, or in {file} beside the configuration")
    }
}
