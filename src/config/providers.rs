//! The `[providers.NAME]` tables: whom scripts call, where that is, and what tells its errors. How a provider is told who calls, and how hard it is
//! called, stand beside it (`credentials`, `resilience`).

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use toml::{Spanned, Value};
use url::Url;

use super::build::Build;
use super::check::Key;
use super::file;
use super::read::quoted;
use super::secret::{Secret, unusable};
use super::secret_variable::{NoSecret, Wanted};
use super::{
    BaseUrl, DescriptorFile, ErrorWhen, Provider, ProviderKind, budget, credentials, resilience,
};
use crate::frame::Frame;
use crate::header;
use crate::json::Pointer;

/// Words that scripts use for something else; a provider of that name could not be reached.
const RESERVED: [&str; 12] =
    ["db", "log", "vars", "event", "req", "json", "base64", "hex", "url", "hash", "hmac", "jwt"];
/// Prefixes that absolute URLs may have.
const ALSO_MAX: usize = 32;
/// Headers that every call carries.
const HEADERS_MAX: usize = 32;
/// An answer is held in memory as a whole: what a script's own memory can take.
const RESPONSE: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 30;
/// A descriptor is written by people: what is larger is not one.
const DESCRIPTOR_BYTES_MAX: u64 = 1 << 20;
/// Where config does not say.
const RESPONSE_DEFAULT: u64 = 10 << 20;

/// All providers, in the order of the file.
pub(super) fn providers(
    build: &mut Build<'_>,
    written: &BTreeMap<Spanned<String>, file::Provider>,
) -> Vec<Provider> {
    let mut tables: Vec<(&Spanned<String>, &file::Provider)> = written.iter().collect();
    tables.sort_by_key(|(name, _)| name.span().start);
    tables
        .into_iter()
        .map(|(name, table)| {
            let shown = format!("[providers.{}]", quoted(name.get_ref()));
            One { build, name, table, shown }.provider()
        })
        .collect()
}

/// One table on its way.
struct One<'b, 'a, 'f> {
    build: &'b mut Build<'a>,
    name: &'f Spanned<String>,
    table: &'f file::Provider,
    /// `[providers.stripe]`.
    shown: String,
}

impl One<'_, '_, '_> {
    fn provider(mut self) -> Provider {
        let table = self.table;
        self.check_name();
        let kind = self.kind();
        let shown = self.shown.clone();
        let key = |name| Key { table: &shown, name };
        let max_response = (self.build.check)
            .size(key("max_response"), table.max_response.as_ref(), RESPONSE)
            .unwrap_or(RESPONSE_DEFAULT);
        let private = self.build.check.flag(key("private_network"), table.private_network.as_ref());
        let provider = credentials::Provider { name: self.name, shown: &shown };
        let credentials = credentials::read(
            self.build,
            provider,
            table.api_key_env.as_ref(),
            table.auth.as_ref(),
        );
        let keys = resilience::Keys {
            rate_limit: table.rate_limit.as_ref(),
            concurrency: table.concurrency.as_ref(),
            timeout: table.timeout.as_ref(),
            retry: table.retry.as_ref(),
            breaker: table.breaker.as_ref(),
        };
        let resilience = resilience::read(&mut self.build.check, &shown, keys);
        let keys = budget::Keys {
            budget: table.budget.as_ref(),
            fallback_model: table.fallback_model.as_ref(),
            prices: table.prices.as_ref(),
        };
        let spending = budget::read(&mut self.build.check, &shown, keys);
        Provider {
            name: self.name.get_ref().as_str().into(),
            kind,
            base_url: self.base_url(kind),
            also: self.also(),
            private_network: private.unwrap_or(false),
            credentials,
            headers: self.headers(),
            descriptor: self.descriptor(kind),
            error_when: self.error_when(),
            max_response,
            resilience,
            spending,
        }
    }

    /// A script writes it as a variable.
    fn check_name(&mut self) {
        let name = self.name.get_ref();
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_name = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(is_part);
        let label = if RESERVED.contains(&name.as_str()) {
            "scripts have another use for this word"
        } else if is_name {
            return;
        } else {
            "scripts write it as a variable: a to z, then a to z, 0 to 9 and `_`, at most 64 of them"
        };
        let title = format!("`{}` cannot be a provider's name", quoted(name));
        let report = &mut self.build.check.report;
        let place = report.place(self.name.span(), label);
        report.problems.push(Frame::error("E0102", title).at(place));
    }

    /// Notes that a key without a default is not there; not where the table is torn already.
    fn required(&mut self, key: &str, help: &str) {
        let report = &mut self.build.check.report;
        let path = ["providers".to_owned(), self.name.get_ref().clone()];
        if report.torn.iter().any(|torn| torn.starts_with(&path)) {
            return;
        }
        let title = format!("provider `{}` has no `{key}`", quoted(self.name.get_ref()));
        let frame = Frame::error("E0112", title).at(report.place(self.name.span(), "")).help(help);
        report.problems.push(frame);
    }

    fn kind(&mut self) -> ProviderKind {
        let table = self.table;
        if table.kind.is_none() {
            let help = "say what it is: `kind = \"clerk\"`, `\"stripe\"`, `\"openai\"` or, for anything else, `\"http\"`";
            self.required("kind", help);
        }
        let known = ProviderKind::ALL.map(|(_, word)| word);
        let key = Key { table: &self.shown, name: "kind" };
        let word = self.build.check.choice(key, table.kind.as_ref(), &known);
        word.and_then(ProviderKind::of).unwrap_or(ProviderKind::Http)
    }

    fn base_url(&mut self, kind: ProviderKind) -> Option<BaseUrl> {
        let table = self.table;
        if let (Some(url), Some(url_env)) = (&table.base_url, &table.base_url_env) {
            let title =
                format!("`base_url` and `base_url_env` in {} do not go together", self.shown);
            let (first, second) = (url_env.span(), url.span());
            self.build.check.contradiction(title, (first, "one of them"), (second, "or the other"));
            return None;
        }
        if let Some(written) = &table.base_url_env {
            return self.base_url_env(written);
        }
        if table.base_url.is_none() {
            if kind == ProviderKind::Http {
                self.required(
                    "base_url",
                    "say where it is: `base_url = \"https://slack.com/api\"`",
                );
            }
            return None;
        }
        let must = BASE_URL;
        let key = Key { table: &self.shown, name: "base_url" };
        let (text, span) = self.build.check.text(key, table.base_url.as_ref(), must)?;
        match base_url(text) {
            Ok(url) => {
                self.unsafe_in_production(&url, span);
                Some(BaseUrl::Known(url))
            }
            Err(label) => {
                // Where it is wrong like this, it may hold a password or a key.
                if text.contains(['@', '?', '#']) {
                    self.build.check.report.hide(span.clone());
                }
                self.build.check.reject(key, span, must, label)
            }
        }
    }

    /// Keys and payloads would travel in the clear, unless it is this machine.
    fn unsafe_in_production(&mut self, url: &Url, span: Range<usize>) {
        if !self.build.development && url.scheme() == "http" && !is_this_machine(url) {
            self.build.check.not_in_production(
                format!("production needs a `base_url` with `https://` in {}", self.shown),
                span,
                "keys and payloads would travel in the clear",
                "write `https://`; plain HTTP is for this machine only",
            );
        }
    }

    fn base_url_env(&mut self, written: &file::Written) -> Option<BaseUrl> {
        let key = Key { table: &self.shown, name: "base_url_env" };
        let must = "the name of the variable that holds the URL";
        let (name, span) = self.build.check.text(key, Some(written), must)?;
        let name = name.to_owned();
        if !self.build.names_a_variable(key, &name, span.clone(), "SLACK_HOOK=https://…") {
            return None;
        }
        let wanted = Wanted {
            name: &name,
            span: span.clone(),
            purpose: format!("URL of provider `{}`", self.name.get_ref()),
            required: true,
            unusable,
        };
        let secret = match self.build.secret_variable(wanted) {
            Ok((value, _)) => Secret::new(&name, value),
            Err(NoSecret::Told) => return Some(BaseUrl::Missing(name.as_str().into())),
            Err(NoSecret::Unset) => {
                let title = format!(
                    "provider `{}` is not configured: `{name}` is not set",
                    self.name.get_ref()
                );
                let help = self.build.set_them();
                let report = &mut self.build.check.report;
                let frame = Frame::warning("E0110", title).at(report.place(span, "")).help(help);
                report.notes.push(frame);
                return Some(BaseUrl::Missing(name.as_str().into()));
            }
        };
        match base_url(secret.expose()) {
            Ok(_) => Some(BaseUrl::Secret(secret)),
            Err(label) => {
                let title = format!("`{name}` does not hold {BASE_URL}");
                let report = &mut self.build.check.report;
                let place = report.place(span, label);
                report.notes.push(
                    Frame::warning("E0110", title).at(place).note("its value is never shown"),
                );
                Some(BaseUrl::Missing(name.as_str().into()))
            }
        }
    }

    fn also(&mut self) -> Vec<Url> {
        let must =
            "a list of the beginnings of URLs, such as `[\"https://hooks.slack.com/commands/\"]`";
        let shown = self.shown.clone();
        let key = Key { table: &shown, name: "also" };
        let texts = self.build.check.texts(key, self.table.also.as_ref(), must).unwrap_or_default();
        let mut urls = Vec::new();
        for (number, (text, span)) in (1..).zip(texts) {
            match base_url(text) {
                Ok(url) if number <= ALSO_MAX => {
                    self.unsafe_in_production(&url, span);
                    urls.push(url);
                }
                Ok(_) => {
                    let label = format!("this is one too many; {ALSO_MAX} are allowed");
                    let _: Option<()> = self.build.check.reject(key, span, must, label);
                }
                Err(label) => {
                    if text.contains(['@', '?', '#']) {
                        self.build.check.report.hide(span.clone());
                    }
                    let _: Option<()> = self.build.check.reject(key, span, must, label);
                }
            }
        }
        urls
    }

    fn headers(&mut self) -> Vec<(Box<str>, Box<str>)> {
        let Some(written) = &self.table.headers else { return Vec::new() };
        let key = Key { table: &self.shown, name: "headers" };
        let must = format!(
            "a table of up to {HEADERS_MAX} headers, such as `{{ \"x-api-version\" = \"2026-01-01\" }}`, none with a secret"
        );
        let Value::Table(table) = written.get_ref() else {
            let _: Option<()> =
                self.build.check.reject(key, written.span(), &must, "this is no table");
            return Vec::new();
        };
        let mut headers = Vec::new();
        for (name, value) in table {
            let fits = value
                .as_str()
                .is_some_and(|value| value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let is_ours =
                ["authorization", "host", "content-length", "transfer-encoding", "connection"]
                    .contains(&name.to_ascii_lowercase().as_str());
            if !header::is_name(name) || !fits || is_ours || headers.len() == HEADERS_MAX {
                let label = format!("`{}` cannot stand here", quoted(name));
                let _: Option<()> = self.build.check.reject(key, written.span(), &must, label);
                continue;
            }
            headers.push((
                name.to_ascii_lowercase().into(),
                value.as_str().unwrap_or_default().into(),
            ));
        }
        headers
    }

    /// Read here, so that a change of it is a change of the configuration.
    fn descriptor(&mut self, kind: ProviderKind) -> Option<DescriptorFile> {
        let must = "the path of a descriptor, such as `\"providers/slack.toml\"`";
        let key = Key { table: &self.shown, name: "descriptor" };
        let (text, span) = self.build.check.text(key, self.table.descriptor.as_ref(), must)?;
        if kind != ProviderKind::Http {
            let label = "only `kind = \"http\"` takes one; the others bring their own";
            return self.build.check.reject(key, span, must, label);
        }
        if text.is_empty() {
            return self.build.check.reject(key, span, must, "this is empty");
        }
        let path = self.build.beside(text);
        self.build.read_files.push(path.clone());
        let too_long = fs::metadata(&path).is_ok_and(|file| file.len() > DESCRIPTOR_BYTES_MAX);
        let label = match fs::read_to_string(&path) {
            Ok(_) if too_long => format!("it has more than {DESCRIPTOR_BYTES_MAX} bytes"),
            Ok(text) => {
                let path = path.display().to_string().into();
                return Some(DescriptorFile { path, text: text.into() });
            }
            Err(error) => format!("it cannot be read: {error}"),
        };
        self.build.check.reject(key, span, must, label)
    }

    fn error_when(&mut self) -> Option<ErrorWhen> {
        let table = self.table.error_when.as_ref()?;
        let shown = format!("error_when of {}", self.shown);
        let written = table.get_ref();
        if written.pointer.is_none() || written.equals.is_none() {
            let key = Key { table: &self.shown, name: "error_when" };
            let must = "`{ pointer = \"/ok\", equals = false }`, with `code` and `message` as pointers where there are such";
            return self.build.check.reject(key, table.span(), must, "");
        }
        let pointer = self.pointer(&shown, "pointer", written.pointer.as_ref());
        let code = self.pointer(&shown, "code", written.code.as_ref());
        let message = self.pointer(&shown, "message", written.message.as_ref());
        let equals = written.equals.as_ref().and_then(|value| plain(value.get_ref()));
        Some(ErrorWhen { pointer: pointer?, equals: equals?, code, message })
    }

    fn pointer(
        &mut self,
        shown: &str,
        name: &str,
        written: Option<&file::Written>,
    ) -> Option<Pointer> {
        let key = Key { table: shown, name };
        let must = "a JSON pointer such as `\"/error\"`";
        let (text, span) = self.build.check.text(key, written, must)?;
        match text.parse() {
            Ok(pointer) => Some(pointer),
            Err(error) => {
                let error: crate::json::PointerError = error;
                self.build.check.reject(key, span, must, error.to_string())
            }
        }
    }
}

/// What a base URL must be, in words.
const BASE_URL: &str =
    "a URL without user, query and fragment, such as `\"https://slack.com/api\"`";

/// A URL that calls may begin with; without it why not.
fn base_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "this is no URL; it begins with `https://`")?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err("it begins with `https://`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user and no password; they belong into `auth`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("no `?` and no `#`; a call names its own `query`");
    }
    Ok(url)
}

/// Whether the URL names this machine by an address or as `localhost`.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A value that JSON can be compared with.
fn plain(value: &Value) -> Option<serde_json::Value> {
    match value {
        Value::Boolean(flag) => Some((*flag).into()),
        Value::String(text) => Some(text.as_str().into()),
        Value::Integer(number) => Some((*number).into()),
        Value::Float(number) => Some((*number).into()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
