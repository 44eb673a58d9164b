//! The `[webhooks.NAME]` tables: their own values, their secrets, what contradicts itself and what clashes between two of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::build::{BODY, Build, TIMEOUT};
use super::check::{Key, span_of};
use super::env::is_variable_name;
use super::file::{self, Names};
use super::read::quoted;
use super::secret::{Secret, SecretSet, api_key, unusable};
use super::secret_variable::Wanted;
use super::{Respond, Webhook};
use crate::backoff::{Backoff, RETRY};
use crate::frame::{Frame, nearest};
use crate::json::Pointer;

/// Our own routes, which no webhook may take.
const RESERVED: [&str; 2] = ["/healthz", "/readyz"];

/// All webhooks, in the order of the file. `max_body` is the server's.
pub(super) fn webhooks(
    build: &mut Build<'_>,
    written: &BTreeMap<Spanned<String>, file::Webhook>,
    max_body: u64,
) -> Vec<Webhook> {
    let mut tables: Vec<(&Spanned<String>, &file::Webhook)> = written.iter().collect();
    tables.sort_by_key(|(name, _)| name.span().start);
    let mut taken: BTreeMap<String, (&str, Range<usize>)> = BTreeMap::new();
    let mut webhooks = Vec::new();
    for (name, table) in tables {
        let webhook =
            One { build, name, table, shown: format!("[webhooks.{}]", quoted(name.get_ref())) }
                .webhook(max_body);
        if let Some(span) = span_of(table.path.as_ref()) {
            no_clash(build, &mut taken, name.get_ref(), &webhook.path, span);
        }
        webhooks.push(webhook);
    }
    webhooks
}

/// Two webhooks with one path: only the first would ever be asked.
fn no_clash<'n>(
    build: &mut Build<'_>,
    taken: &mut BTreeMap<String, (&'n str, Range<usize>)>,
    name: &'n str,
    path: &str,
    span: Range<usize>,
) {
    if path.is_empty() {
        return;
    }
    // The names of parameters do not tell paths apart.
    let shape: Vec<&str> =
        path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
    let report = &mut build.check.report;
    if let Some((first, first_span)) = taken.get(&shape.join("/")) {
        let title =
            format!("webhooks `{}` and `{}` have the same path", quoted(first), quoted(name));
        let frame = Frame::error("E0107", title)
            .at(report.place(span, "and here"))
            .also(report.place(first_span.clone(), "first here"))
            .help("give each a path of its own");
        report.problems.push(frame);
    } else {
        taken.insert(shape.join("/"), (name, span));
    }
}

/// One table on its way.
struct One<'b, 'a, 'f> {
    build: &'b mut Build<'a>,
    name: &'f Spanned<String>,
    table: &'f file::Webhook,
    /// `[webhooks.clerk]`.
    shown: String,
}

impl One<'_, '_, '_> {
    fn webhook(mut self, max_body: u64) -> Webhook {
        const SECOND: Duration = Duration::from_secs(1);
        let table = self.table;
        self.check_name();
        let scheme = self.scheme();
        let secrets = self.secrets(&scheme);
        let shown = self.shown.clone();
        let key = |name| Key { table: &shown, name };
        let check = &mut self.build.check;
        let tolerance = (check)
            .duration(key("tolerance"), table.tolerance.as_ref(), SECOND..=86_400 * SECOND)
            .unwrap_or(300 * SECOND);
        let body = check.size(key("max_body"), table.max_body.as_ref(), BODY).unwrap_or(max_body);
        let timeout = check.duration(key("timeout"), table.timeout.as_ref(), TIMEOUT);
        let concurrency = check.whole(key("concurrency"), table.concurrency.as_ref(), 1..=100_000);
        let dedupe = check.choice(key("dedupe"), table.dedupe.as_ref(), &["on", "off"]);
        let place = check.report.place(self.name.span(), "");
        Webhook {
            name: self.name.get_ref().as_str().into(),
            path: self.path().unwrap_or_default(),
            scheme,
            secrets,
            tolerance,
            max_body: body,
            timeout,
            concurrency: concurrency.and_then(|number| usize::try_from(number).ok()),
            retry: self.retry(),
            dedupe: dedupe != Some("off"),
            ordered_by: self.ordered_by(),
            respond: self.respond(),
            place,
        }
    }

    fn check_name(&mut self) {
        let name = self.name.get_ref();
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_part) {
            let label = "a to z, 0 to 9, `_`, `-` and `.`, at most 64 of them";
            let frame =
                Frame::error("E0102", format!("`{}` cannot be a webhook's name", quoted(name)))
                    .at(self.build.check.report.place(self.name.span(), label));
            self.build.check.report.problems.push(frame);
        }
    }

    /// Notes that a key without a default is not there; not where the table is torn already.
    fn required(&mut self, key: &str, help: &str) {
        let report = &mut self.build.check.report;
        let path = ["webhooks".to_owned(), self.name.get_ref().clone()];
        if report.torn.iter().any(|torn| torn.starts_with(&path)) {
            return;
        }
        let frame = Frame::error(
            "E0112",
            format!("webhook `{}` has no `{key}`", quoted(self.name.get_ref())),
        )
        .at(report.place(self.name.span(), ""))
        .help(help);
        report.problems.push(frame);
    }

    fn path(&mut self) -> Option<Box<str>> {
        let must = "a path, such as `\"/webhooks/clerk\"`";
        let table = self.table;
        if table.path.is_none() {
            self.required("path", "say where it is posted to: `path = \"/webhooks/clerk\"`");
        }
        let key = Key { table: &self.shown, name: "path" };
        let (path, span) = self.build.check.text(key, table.path.as_ref(), must)?;
        if let Some(label) = wrong_path(path) {
            return self.build.check.reject(key, span, must, label);
        }
        if RESERVED.contains(&path) {
            let report = &mut self.build.check.report;
            let frame = Frame::error("E0107", format!("`{path}` is a path of our own"))
                .at(report.place(span, ""))
                .note("`/healthz` says that the process is alive, `/readyz` that it can take deliveries");
            report.problems.push(frame);
            return None;
        }
        Some(path.into())
    }

    fn scheme(&mut self) -> Box<str> {
        let table = self.table;
        if table.scheme.is_none() {
            self.required("scheme", "say how it is signed, such as `scheme = \"svix\"`");
        }
        let known: Vec<&str> =
            self.build.how.known_schemes.iter().copied().filter(|known| *known != "none").collect();
        let must = format!("a signature scheme: {}", known.join(", "));
        let key = Key { table: &self.shown, name: "scheme" };
        let Some((text, span)) = self.build.check.text(key, table.scheme.as_ref(), &must) else {
            return Box::default();
        };
        if text == "none" {
            self.unverified(span);
        } else if !known.contains(&text) {
            let label = nearest(text, known.iter().copied())
                .map_or_else(String::new, |known| format!("did you mean `{known}`?"));
            let _: Option<()> = self.build.check.reject(key, span, &must, label);
        }
        text.into()
    }

    fn unverified(&mut self, span: Range<usize>) {
        let name = quoted(self.name.get_ref());
        if self.build.development {
            let report = &mut self.build.check.report;
            let frame = Frame::warning("E0109", format!("webhook `{name}` is not verified"))
                .at(report.place(span, "anybody may post to it"))
                .note("production refuses this");
            report.notes.push(frame);
        } else {
            self.build.check.not_in_production(
                format!("production does not allow webhook `{name}` without verification"),
                span,
                "anybody could post to it",
                "name the scheme by which it is signed",
            );
        }
    }

    fn secrets(&mut self, scheme: &str) -> SecretSet {
        let mut secrets = SecretSet::default();
        let Some(written) = &self.table.secret_env else {
            if scheme != "none" {
                let help = "name the variable that holds the secret: `secret_env = \"CLERK_WEBHOOK_SECRET\"`";
                self.required("secret_env", help);
            }
            return secrets;
        };
        let names: Vec<(&str, Range<usize>)> = match written.get_ref() {
            Names::One(name) => vec![(name, written.span())],
            Names::Many(names) => {
                names.iter().map(|name| (name.get_ref().as_str(), name.span())).collect()
            }
        };
        if names.is_empty() {
            let key = Key { table: &self.shown, name: "secret_env" };
            let must = "the name of a variable, or a list of names";
            let _: Option<()> =
                self.build.check.reject(key, written.span(), must, "this list is empty");
        }
        let notes_before = self.build.check.report.notes.len();
        for (index, (name, span)) in names.iter().enumerate() {
            if names.iter().take(index).any(|(earlier, _)| earlier == name) {
                let key = Key { table: &self.shown, name: "secret_env" };
                let _: Option<()> = self.build.check.reject(
                    key,
                    span.clone(),
                    "a list of different names",
                    "this one stands there twice",
                );
            } else if self.build.names_a_variable(
                Key { table: &self.shown, name: "secret_env" },
                name,
                span.clone(),
                "CLERK_WEBHOOK_SECRET=…",
            ) {
                self.secret(name, span.clone(), index == 0, &mut secrets);
            }
        }
        let said = self.build.check.report.notes.len() > notes_before;
        if secrets.set.is_empty() && !secrets.missing.is_empty() && !said {
            self.no_secret(&secrets, written.span());
        }
        secrets
    }

    /// Looks one variable up.
    fn secret(&mut self, name: &str, span: Range<usize>, required: bool, secrets: &mut SecretSet) {
        let wanted = Wanted {
            name,
            span: span.clone(),
            purpose: format!("secret of webhook `{}`", self.name.get_ref()),
            required,
            unusable,
        };
        let Ok((value, source)) = self.build.secret_variable(wanted) else {
            secrets.missing.push(name.into());
            return;
        };
        if let Some((prefix, kind)) = api_key(&value) {
            let report = &mut self.build.check.report;
            let frame = Frame::warning(
                "E0111",
                format!("`{name}` from {source} looks like {kind} (`{prefix}…`)"),
            )
            .at(report.place(span, "a webhook's signing secret belongs here"))
            .help("copy the signing secret from the provider's page about webhooks");
            report.notes.push(frame);
        }
        secrets.set.push(Secret::new(name, value));
    }

    fn no_secret(&mut self, secrets: &SecretSet, span: Range<usize>) {
        let names: Vec<String> = secrets.missing.iter().map(|name| format!("`{name}`")).collect();
        let are = if names.len() == 1 { "is" } else { "are" };
        let title = format!(
            "webhook `{}` has no secret: {} {are} not set",
            self.name.get_ref(),
            names.join(", ")
        );
        let help = self.build.set_them();
        let report = &mut self.build.check.report;
        let frame = Frame::warning("E0110", title)
            .at(report.place(span, ""))
            .help(help)
            .note("until then its deliveries are answered with 500 CONFIGURATION_ERROR");
        report.notes.push(frame);
    }

    fn retry(&mut self) -> Backoff {
        const DEFAULT: Backoff = RETRY;
        let Some(written) = &self.table.retry else { return DEFAULT };
        let retry = written.get_ref();
        let key = |name| Key { table: &self.shown, name };
        let (millisecond, day) = (Duration::from_millis(1), Duration::from_secs(86_400));
        let check = &mut self.build.check;
        let max = check.whole(key("retry.max"), retry.max.as_ref(), 0..=1_000);
        let base = check.duration(key("retry.base"), retry.base.as_ref(), millisecond..=day);
        let cap = check.duration(key("retry.cap"), retry.cap.as_ref(), millisecond..=30 * day);
        let retry_as_meant = Backoff {
            max: max.and_then(|max| u32::try_from(max).ok()).unwrap_or(DEFAULT.max),
            base: base.unwrap_or(DEFAULT.base),
            cap: cap.unwrap_or(DEFAULT.cap),
        };
        if retry_as_meant.base > retry_as_meant.cap {
            let title = format!("`retry.base` in {} is longer than `retry.cap`", self.shown);
            let base =
                span_of(retry.base.as_ref()).map(|span| (span, "the first wait (default: 5s)"));
            let cap =
                span_of(retry.cap.as_ref()).map(|span| (span, "the longest wait (default: 1h)"));
            match (base, cap) {
                (Some(base), Some(cap)) => check.contradiction(title, base, cap),
                (Some((span, _)), None) => {
                    let frame = Frame::error("E0108", title)
                        .at(check.report.place(span, "`cap` is 1h by default"));
                    check.report.problems.push(frame);
                }
                (None, cap) => {
                    let span = cap.map_or_else(|| written.span(), |(span, _)| span);
                    let frame = Frame::error("E0108", title)
                        .at(check.report.place(span, "`base` is 5s by default"));
                    check.report.problems.push(frame);
                }
            }
        }
        retry_as_meant
    }

    fn ordered_by(&mut self) -> Option<Pointer> {
        let must = "a JSON pointer into the payload, such as `\"/data/id\"`";
        let key = Key { table: &self.shown, name: "ordered_by" };
        let (text, span) = self.build.check.text(key, self.table.ordered_by.as_ref(), must)?;
        match text.parse::<Pointer>() {
            Ok(pointer) => Some(pointer),
            Err(error) => self.build.check.reject(key, span, must, error.to_string()),
        }
    }

    /// Who answers, and whether anything is kept.
    fn respond(&mut self) -> Respond {
        let table = self.table;
        let key = |name| Key { table: &self.shown, name };
        let check = &mut self.build.check;
        let by_script = check.choice(key("respond"), table.respond.as_ref(), &["script"]).is_some();
        let stored = check.flag(key("store"), table.store.as_ref()).unwrap_or(true);
        let respond = if by_script { Respond::ByScript { stored } } else { Respond::WhenStored };
        let Some(store) = span_of(table.store.as_ref()).filter(|_| !stored) else {
            return respond;
        };
        if table.respond.is_none() {
            let title = format!("`store = false` in {} needs `respond = \"script\"`", self.shown);
            let frame = Frame::error("E0108", title).at(check
                .report
                .place(store.clone(), "nothing would be kept, and nothing answered by a handler"));
            check.report.problems.push(frame);
        }
        let kept = [
            ("retry", span_of(table.retry.as_ref())),
            ("dedupe", span_of(table.dedupe.as_ref())),
            ("ordered_by", span_of(table.ordered_by.as_ref())),
        ];
        for (name, span) in kept {
            if let Some(span) = span {
                let title = format!("`{name}` in {} does not go with `store = false`", self.shown);
                check.contradiction(
                    title,
                    (span, "this needs events that are kept"),
                    (store.clone(), "this keeps none"),
                );
            }
        }
        respond
    }
}

/// What is wrong with a webhook's path.
fn wrong_path(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some("it begins with `/`".to_owned());
    }
    if let Some(odd) = path.chars().find(|c| !c.is_ascii_graphic() || "?#\\\"<>^`|".contains(*c)) {
        return Some(match odd {
            '?' | '#' => format!("it ends before the `{odd}`: a path has no query"),
            odd => format!("{odd:?} stands in no path; write its bytes as `%XX`"),
        });
    }
    let mut names = Vec::new();
    for part in path.split('/').skip(1) {
        let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if part.contains(['{', '}']) {
                return Some("`{name}` stands between two slashes, for the whole part".to_owned());
            }
            if part.is_empty() && path != "/" && !path.ends_with('/') || path.contains("//") {
                return Some("there is nothing between two slashes".to_owned());
            }
            if part == "." || part == ".." {
                return Some("clients resolve `.` and `..` before they send".to_owned());
            }
            continue;
        };
        if !is_variable_name(name) {
            return Some("a parameter's name has letters, digits and `_`".to_owned());
        }
        if names.contains(&name) {
            return Some(format!("`{{{name}}}` stands there twice"));
        }
        names.push(name);
    }
    None
}
