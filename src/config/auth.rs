//! The `[auth.NAME]` tables: how callers of routes are told apart. Which keys belong to which kind, where an issuer's keys come from, and what tokens
//! will hardly match.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::{Spanned, Value};

use super::build::{Build, is_origin};
use super::check::{Key, span_of};
use super::env::is_variable_name;
use super::file::{self, Names, Written};
use super::read::quoted;
use super::secret::{Secret, SecretSet, is_value, unusable};
use super::{Auth, AuthKind, KeySource, SignedAuth, Variable};
use crate::frame::Frame;

/// The word with which a route says that anybody may call it.
const NOBODY: &str = "none";
/// Where issuers publish their keys, below their own URL.
const WELL_KNOWN: &str = "/.well-known/jwks.json";
/// Clocks of machines that keep time differ by less than a second; longer keeps dead tokens alive.
const LEEWAY_MAX: Duration = Duration::from_secs(300);
/// As Clerk's own libraries have it.
const LEEWAY: Duration = Duration::from_secs(5);
/// Characters of a shared token: 16 of chance cannot be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// All of them, in the order of the file.
pub(super) fn auths(
    build: &mut Build<'_>,
    written: &BTreeMap<Spanned<String>, file::Auth>,
) -> Vec<Auth> {
    let mut tables: Vec<(&Spanned<String>, &file::Auth)> = written.iter().collect();
    tables.sort_by_key(|(name, _)| name.span().start);
    let mut found = Vec::new();
    for (name, table) in tables {
        let shown = format!("[auth.{}]", quoted(name.get_ref()));
        found.extend(One { build, name, table, shown }.auth());
    }
    found
}

/// One table on its way.
struct One<'b, 'a, 'f> {
    build: &'b mut Build<'a>,
    name: &'f Spanned<String>,
    table: &'f file::Auth,
    /// `[auth.clerk]`.
    shown: String,
}

impl One<'_, '_, '_> {
    fn auth(mut self) -> Option<Auth> {
        self.check_name();
        if self.table.kind.is_none() {
            self.required(
                "kind",
                "say how callers are known: `kind = \"clerk\"`, `\"jwt\"` or `\"token\"`",
            );
        }
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "kind" };
        let kinds = ["clerk", "jwt", "token"];
        let kind = self.build.check.choice(key, self.table.kind.as_ref(), &kinds)?;
        self.check_keys(kind);
        let kind = match kind {
            "token" => AuthKind::Token(self.tokens()),
            kind => AuthKind::Signed(self.signed(kind == "clerk")),
        };
        Some(Auth { name: self.name.get_ref().as_str().into(), kind })
    }

    fn check_name(&mut self) {
        let name = self.name.get_ref();
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        let label = if name == NOBODY {
            "a route says `auth: \"none\"` where anybody may call it"
        } else if name.is_empty() || name.len() > 64 || !name.chars().all(is_part) {
            "a to z, 0 to 9, `_`, `-` and `.`, at most 64 of them"
        } else {
            return;
        };
        let title = format!("`{}` cannot be the name of an [auth] table", quoted(name));
        let place = self.build.check.report.place(self.name.span(), label);
        self.build.check.report.problems.push(Frame::error("E0102", title).at(place));
    }

    /// Keys of another kind would be thought to count.
    fn check_keys(&mut self, kind: &str) {
        let Some(kind_span) = span_of(self.table.kind.as_ref()) else { return };
        let table = self.table;
        let signed = [
            ("issuer", span_of(table.issuer.as_ref())),
            ("jwks_url", span_of(table.jwks_url.as_ref())),
            ("jwt_key_env", span_of(table.jwt_key_env.as_ref())),
            ("audience", span_of(table.audience.as_ref())),
            ("authorized_parties", span_of(table.authorized_parties.as_ref())),
            ("leeway", span_of(table.leeway.as_ref())),
        ];
        let shared = [("token_env", span_of(table.token_env.as_ref()))];
        let foreign = if kind == "token" { signed.as_slice() } else { &shared };
        for (name, span) in foreign {
            if let Some(span) = span {
                let title =
                    format!("`{name}` in {} does not go with `kind = \"{kind}\"`", self.shown);
                let one = (span.clone(), "this belongs to another kind");
                self.build.check.contradiction(title, one, (kind_span.clone(), "this is the kind"));
            }
        }
    }

    fn signed(&mut self, is_clerk: bool) -> SignedAuth {
        let table = self.table;
        let issuer = self.issuer(is_clerk).unwrap_or_default();
        let audience = self.audience();
        if !is_clerk && table.audience.is_none() && table.authorized_parties.is_none() {
            let title =
                format!("{} takes every token of its issuer, whomever it is for", self.shown);
            let report = &mut self.build.check.report;
            let frame = Frame::warning("E0130", title).at(report.place(self.name.span(), ""));
            report.notes.push(frame.help("name who tokens must be for: `audience = \"…\"`"));
        }
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "leeway" };
        let bounds = Duration::ZERO..=LEEWAY_MAX;
        let leeway = self.build.check.duration(key, table.leeway.as_ref(), bounds);
        SignedAuth {
            is_clerk,
            keys: self.keys(&issuer),
            issuer,
            audience,
            authorized_parties: self.authorized_parties(),
            leeway: leeway.unwrap_or(LEEWAY),
        }
    }

    fn issuer(&mut self, is_clerk: bool) -> Option<Box<str>> {
        let table = self.table;
        if table.issuer.is_none() {
            self.required(
                "issuer",
                "say who signs the tokens, as their `iss` does: `issuer = \"https://…\"`",
            );
        }
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "issuer" };
        let (issuer, span) = self.url(key, table.issuer.as_ref())?;
        let host = issuer.split('/').nth(2).unwrap_or_default();
        let hint = if is_clerk && issuer.ends_with('/') {
            "Clerk's issuers have no slash at their end"
        } else if !is_clerk && host.ends_with(".auth0.com") && !issuer.ends_with('/') {
            "Auth0's issuers end with a slash"
        } else if host.chars().any(char::is_uppercase) {
            "issuers write their host in lower case"
        } else {
            return Some(issuer.into());
        };
        let title = format!("tokens will hardly name the `issuer` of {}", self.shown);
        let report = &mut self.build.check.report;
        let frame = Frame::warning("E0130", title).at(report.place(span, hint));
        report
            .notes
            .push(frame.note("it is compared letter by letter with the `iss` of each token"));
        Some(issuer.into())
    }

    /// Where the keys come from. Those of a variable need no network.
    fn keys(&mut self, issuer: &str) -> KeySource {
        let table = self.table;
        let shown = self.shown.clone();
        let own = match (&table.jwks_url, &table.jwt_key_env) {
            (Some(url), Some(variable)) => {
                let title = format!("`jwks_url` and `jwt_key_env` in {shown} do not go together");
                let (url, variable) =
                    ((url.span(), "one of them"), (variable.span(), "or the other"));
                self.build.check.contradiction(title, url, variable);
                None
            }
            (None, Some(_)) => return KeySource::Pem(self.public_key()),
            (Some(_), None) => {
                let key = Key { table: &shown, name: "jwks_url" };
                self.url(key, table.jwks_url.as_ref()).map(|(url, _)| url.into())
            }
            (None, None) => None,
        };
        let default = || format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/')).into();
        KeySource::Url(own.unwrap_or_else(default))
    }

    /// An absolute URL; in the clear for this machine, and in development.
    fn url<'w>(
        &mut self,
        key: Key<'_>,
        written: Option<&'w Written>,
    ) -> Option<(&'w str, Range<usize>)> {
        let must = "a URL, such as `\"https://clerk.example.com\"`";
        let (url, span) = self.build.check.text(key, written, must)?;
        let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))
        else {
            return self.build.check.reject(key, span, must, "it begins with `https://`");
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let origin = &url[..url.len() - rest.len() + authority.len()];
        let is_odd = |c: char| !c.is_ascii_graphic() || "?#\\@\"<>^`{|}".contains(c);
        if !is_origin(&origin.to_ascii_lowercase()) || rest.contains(is_odd) {
            return self.build.check.reject(key, span, must, "a host and perhaps a path, no query");
        }
        if url.starts_with("http:") && !self.build.development && !is_this_machine(authority) {
            let title = format!("production needs `https://` in `{}` of {}", key.name, self.shown);
            let label = "whoever stands between could put keys of their own there";
            let help = "issuers are reached by https";
            self.build.check.not_in_production(title, span.clone(), label, help);
        }
        Some((url, span))
    }

    fn audience(&mut self) -> Vec<Box<str>> {
        let must = "a name, or a list of names, such as `\"https://api.example.com\"`";
        let Some(written) = &self.table.audience else { return Vec::new() };
        let names = match written.get_ref() {
            Value::Array(items) => items.iter().map(|item| item.as_str().map(Box::from)).collect(),
            Value::String(name) => Some(vec![name.as_str().into()]),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_) => None,
        };
        let is_list =
            |names: &Vec<Box<str>>| !names.is_empty() && names.iter().all(|name| !name.is_empty());
        let key = Key { table: &self.shown, name: "audience" };
        let names = names.filter(is_list);
        names.or_else(|| self.build.check.reject(key, written.span(), must, "")).unwrap_or_default()
    }

    fn authorized_parties(&mut self) -> Vec<Box<str>> {
        let must = "a list of origins, such as `[\"https://app.example.com\"]`";
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "authorized_parties" };
        let table = self.table;
        let parties = self.build.check.texts(key, table.authorized_parties.as_ref(), must);
        let mut kept = Vec::new();
        for (party, span) in parties.unwrap_or_default() {
            let label = match party.strip_suffix('/') {
                _ if party.is_empty() => "there is nothing in it",
                Some(_) if party.contains("://") => "an origin has no slash at its end",
                _ => {
                    kept.push(party.into());
                    continue;
                }
            };
            let _: Option<()> = self.build.check.reject(key, span, must, label);
        }
        kept
    }

    fn public_key(&mut self) -> SecretSet {
        let must = "the name of a variable, such as `\"CLERK_JWT_KEY\"`";
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "jwt_key_env" };
        let written = self.build.check.text(key, self.table.jwt_key_env.as_ref(), must);
        let mut secrets = SecretSet::default();
        if let Some((name, span)) = written {
            let purpose = format!("public key of auth `{}`", self.name.get_ref());
            self.variables(key, vec![(name, span)], &purpose, &mut secrets);
        }
        secrets
    }

    fn tokens(&mut self) -> SecretSet {
        let mut secrets = SecretSet::default();
        let Some(written) = &self.table.token_env else {
            self.required(
                "token_env",
                "name the variable that holds the token: `token_env = \"BACKEND_TOKEN\"`",
            );
            return secrets;
        };
        let names: Vec<(&str, Range<usize>)> = match written.get_ref() {
            Names::One(name) => vec![(name, written.span())],
            Names::Many(names) => {
                names.iter().map(|name| (name.get_ref().as_str(), name.span())).collect()
            }
        };
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "token_env" };
        if names.is_empty() {
            let must = "the name of a variable, or a list of names";
            let _: Option<()> =
                self.build.check.reject(key, written.span(), must, "this list is empty");
        }
        let purpose = format!("token of auth `{}`", self.name.get_ref());
        self.variables(key, names, &purpose, &mut secrets);
        secrets
    }

    /// Looks them up. Where none of them can be used, that is said once.
    fn variables(
        &mut self,
        key: Key<'_>,
        names: Vec<(&str, Range<usize>)>,
        purpose: &str,
        secrets: &mut SecretSet,
    ) {
        let said = self.build.check.report.notes.len();
        let first = names.first().cloned();
        for (index, name) in names.into_iter().enumerate() {
            self.variable(key, name, purpose, index == 0, secrets);
        }
        let is_said = self.build.check.report.notes.len() > said;
        if let Some((name, span)) = first.filter(|_| secrets.set.is_empty() && !is_said) {
            let title = format!("`{}` is not set ({purpose})", quoted(name));
            self.note(
                title,
                span,
                "until then its routes are answered with 500 CONFIGURATION_ERROR",
            );
        }
    }

    /// Looks one variable up.
    fn variable(
        &mut self,
        key: Key<'_>,
        (name, span): (&str, Range<usize>),
        purpose: &str,
        required: bool,
        secrets: &mut SecretSet,
    ) {
        if !is_variable_name(name) || is_value(name) {
            let title = format!("`{}` in {} takes the name of a variable", key.name, self.shown);
            let report = &mut self.build.check.report;
            let place = report.place(span, "a name has letters, digits and `_`");
            let help = "keep the value in the environment or in `.dev.vars`";
            report.problems.push(Frame::error("E0111", title).at(place).help(help));
            return;
        }
        let is_key = key.name == "jwt_key_env";
        let found = self.build.variables.find(name, self.build.development);
        let value = found.and_then(|(value, _)| value);
        let why = match found {
            Some((None, _)) => Some("it is not UTF-8"),
            // A key has several lines, and what else is wrong with it is told where it is read.
            Some((Some(value), _)) if is_key => value.trim().is_empty().then_some("it is empty"),
            Some((Some(value), _)) => unusable(value),
            None => None,
        };
        let source = found.map(|(_, source)| source);
        self.build.asked.push(Variable {
            name: name.into(),
            purpose: purpose.to_owned(),
            required,
            source,
            unusable: why,
        });
        let in_dev_vars = || self.build.variables.in_dev_vars(name);
        if source.is_none() && !self.build.development && in_dev_vars() {
            let title =
                format!("`{name}` stands only in `.dev.vars`, which production does not read");
            let help = "set it in the environment of the process or in `.env`";
            self.build.check.not_in_production(title, span, "", help);
        } else if let (Some(why), Some(source)) = (why, source) {
            let title = format!("`{name}` from {source} is not used as a {purpose}: {why}");
            self.note(title, span, "its value is never shown");
        } else if value.is_some_and(|value| !is_key && value.chars().count() < TOKEN_CHARACTERS_MIN)
        {
            let title = format!("`{name}` is short for a {purpose}: such a token can be guessed");
            self.note(title, span, "`openssl rand -hex 32` makes one that cannot");
        }
        match value.filter(|_| why.is_none()) {
            Some(value) => secrets.set.push(Secret::new(name, value.to_owned())),
            None => secrets.missing.push(name.into()),
        }
    }

    fn note(&mut self, title: String, span: Range<usize>, note: &str) {
        let report = &mut self.build.check.report;
        let frame = Frame::warning("E0110", title).at(report.place(span, "")).note(note);
        report.notes.push(frame);
    }

    /// Notes that a key without a default is not there; not where the table is torn already.
    fn required(&mut self, key: &str, help: &str) {
        let report = &mut self.build.check.report;
        let path = ["auth".to_owned(), self.name.get_ref().clone()];
        if report.torn.iter().any(|torn| torn.starts_with(&path)) {
            return;
        }
        let frame = Frame::error("E0112", format!("{} has no `{key}`", self.shown))
            .at(report.place(self.name.span(), ""))
            .help(help);
        report.problems.push(frame);
    }
}

/// `localhost` or a loopback address, perhaps with a port.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
