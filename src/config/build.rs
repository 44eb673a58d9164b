//! From as written to as meant: all validation of what one file can tell. Every problem is reported, each with its place; what
//! works but deserves a word becomes a note. Nothing here reads a file or the environment but `load`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::auth::auths;
use super::check::{Check, Key, span_of};
use super::db::collections;
use super::env::{Variables, is_variable_name};
use super::file::{self, File};
use super::fill::{expand, fill};
use super::providers::providers;
use super::read::{Report, parse, quoted, read_file, read_text};
use super::webhooks::webhooks;
use super::{Admin, Cidr, Config, Cors, Environment, Scripts, Server, Storage, Variable};
use crate::frame::Frame;
use crate::header;

/// What the caller knows that the file does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    /// `environment` is development, whatever the file says.
    pub(crate) development: bool,
    /// The signature schemes there are, without `none`.
    pub(crate) known_schemes: &'a [&'a str],
}

/// The configuration in a file, with the environment of this process and of the files beside it; or everything that is wrong.
pub(crate) fn load(path: &Path, how: How<'_>) -> Result<Config, Vec<Frame>> {
    let text = read_text(path).map_err(|error| vec![error.frame_with_line(path)])?;
    load_text(path, &text, &Variables::read(folder(path)), how)
}

/// The configuration in a text. `path` is for messages and for paths relative to its folder.
pub(crate) fn load_text(
    path: &Path,
    text: &str,
    variables: &Variables,
    how: How<'_>,
) -> Result<Config, Vec<Frame>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(path, text);
    let Some(mut table) = parse(text, &mut report) else { return Err(report.into_problems()) };
    let development = how.development || !says_production(&table, variables);
    report.problems.extend(variables.problems(development));
    let mut filled = fill(&mut table, variables, development, &mut report);
    let file = read_file(table, &mut report);
    let mut asked = std::mem::take(&mut filled.variables);
    let check = Check { report: &mut report, filled: &filled };
    let (folder, read_files) = (folder(path), Vec::new());
    let mut build =
        Build { check, variables, development, how, folder, asked: &mut asked, read_files };
    let config = build.config(path, &file);
    let read_files = build.read_files;
    tell_of_files(variables, &mut report);
    if report.problems.is_empty() {
        let files = files(path, variables).into_iter().chain(read_files).collect();
        Ok(Config { variables: asked, notes: report.notes, files, ..config })
    } else {
        Err(report.into_problems())
    }
}

/// What is to be said of files that hold one variable each. One that cannot be read is all that is wrong with its variable.
fn tell_of_files(variables: &Variables, report: &mut Report) {
    for (name, problem) in variables.file_problems() {
        let unset = format!("`{name}` is not set");
        report.problems.retain(|frame| frame.title != unset);
        report.problems.push(problem);
    }
    report.notes.extend(variables.file_notes());
}

/// Everything that a configuration is read from.
fn files(path: &Path, variables: &Variables) -> Vec<PathBuf> {
    let beside = [".env", ".dev.vars"].map(|name| folder(path).join(name));
    std::iter::once(path.to_owned()).chain(beside).chain(variables.files()).collect()
}

/// Asked before anything is filled, since it decides which files count; `.dev.vars` has no say in it.
fn says_production(table: &Spanned<DeTable<'_>>, variables: &Variables) -> bool {
    let written =
        table.get_ref().get("server").and_then(|server| server.get_ref().get("environment"));
    let Some(text) = written.and_then(|written| written.get_ref().as_str()) else { return false };
    let filled =
        expand(text, |name, _| Ok(variables.find(name, false).and_then(|(value, _)| value)));
    match filled {
        Ok(Some(filled)) => filled == "production",
        Ok(None) => text == "production",
        Err(_) => false,
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A run takes two of the 65,530 mappings that Linux allows a process, and two workers at least share those.
const RUNS_MAX: u64 = 16_000;

/// Wall time of one run: a handler that works longer than a day is a job for something else.
pub(super) const TIMEOUT: std::ops::RangeInclusive<Duration> =
    MILLISECOND..=Duration::from_secs(86_400);
/// Bytes of a body, which is held in memory as a whole.
pub(super) const BODY: std::ops::RangeInclusive<u64> = 1..=GIB;

/// Everything the conversion looks at.
pub(super) struct Build<'a> {
    pub(super) check: Check<'a>,
    pub(super) variables: &'a Variables,
    pub(super) development: bool,
    pub(super) how: How<'a>,
    pub(super) folder: &'a Path,
    /// Every variable that is asked for.
    pub(super) asked: &'a mut Vec<Variable>,
    /// Files that config names and that were read with it.
    pub(super) read_files: Vec<PathBuf>,
}

impl Build<'_> {
    fn config(&mut self, path: &Path, file: &File) -> Config {
        let server = self.server(&file.server);
        let webhooks = webhooks(self, &file.webhooks, server.max_body);
        if !self.development && self.variables.has_dev_vars() {
            let title = "`.dev.vars` is not read in production";
            self.check.report.notes.push(Frame::warning("E0109", title));
        }
        Config {
            path: path.to_owned(),
            server,
            cors: self.cors(&file.cors),
            storage: self.storage(&file.storage),
            scripts: self.scripts(&file.scripts),
            admin: self.admin(&file.admin),
            auth: auths(self, &file.auth),
            webhooks,
            providers: providers(self, &file.providers),
            db: collections(self, &file.db),
            vars: self.vars(&file.vars),
            variables: Vec::new(),
            notes: Vec::new(),
            files: Vec::new(),
        }
    }

    /// A path as config writes it: relative to the folder of config.toml.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn server(&mut self, server: &file::Server) -> Server {
        let key = |name| Key { table: "[server]", name };
        let check = &mut self.check;
        // Judged here, decided before: see `says_production`.
        check.choice(
            key("environment"),
            server.environment.as_ref(),
            &["development", "production"],
        );
        let workers = check.whole(key("workers"), server.workers.as_ref(), 0..=256).unwrap_or(0);
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Server {
            listen: self.listen(server).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            workers: usize::try_from(workers)
                .ok()
                .filter(|workers| *workers > 0)
                .unwrap_or_else(cores),
            environment: if self.development {
                Environment::Development
            } else {
                Environment::Production
            },
            public_url: self.public_url(server),
            max_body: self
                .check
                .size(key("max_body"), server.max_body.as_ref(), BODY)
                .unwrap_or(MIB),
            read_timeout: (self.check)
                .duration(
                    key("read_timeout"),
                    server.read_timeout.as_ref(),
                    10 * MILLISECOND..=HOUR,
                )
                .unwrap_or(30 * SECOND),
            shutdown_grace: (self.check)
                .duration(
                    key("shutdown_grace"),
                    server.shutdown_grace.as_ref(),
                    Duration::ZERO..=HOUR,
                )
                .unwrap_or(20 * SECOND),
            trusted_proxies: self.trusted_proxies(server),
        }
    }

    fn listen(&mut self, server: &file::Server) -> Option<SocketAddr> {
        let key = Key { table: "[server]", name: "listen" };
        let must = "an address and a port, such as `\"127.0.0.1:8080\"`";
        let (text, span) = self.check.text(key, server.listen.as_ref(), must)?;
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let label = match (host, port.parse::<u16>()) {
            ("", Ok(port)) => {
                format!(
                    "write `\"127.0.0.1:{port}\"` for this machine only, `\"0.0.0.0:{port}\"` for all"
                )
            }
            ("localhost", Ok(port)) => {
                format!("a name is no address; write `\"127.0.0.1:{port}\"`")
            }
            ("*", Ok(port)) => format!("write `\"0.0.0.0:{port}\"`"),
            _ if text.parse::<IpAddr>().is_ok() => "there is no port".to_owned(),
            _ => String::new(),
        };
        self.check.reject(key, span, must, label)
    }

    fn public_url(&mut self, server: &file::Server) -> Option<Box<str>> {
        let key = Key { table: "[server]", name: "public_url" };
        let must = "a URL without a path, such as `\"https://hooks.example.com\"`";
        let (text, span) = self.check.text(key, server.public_url.as_ref(), must)?;
        let url = text.strip_suffix('/').unwrap_or(text);
        if !is_origin(url) {
            return self.check.reject(key, span, must, "");
        }
        if !self.development && url.starts_with("http:") {
            self.check.not_in_production(
                "production needs a `public_url` with `https://`".to_owned(),
                span,
                "secrets and payloads would travel in the clear",
                "the world may reach a proxy by https, and the proxy this server by http",
            );
        }
        Some(url.into())
    }

    fn trusted_proxies(&mut self, server: &file::Server) -> Vec<Cidr> {
        let key = Key { table: "[server]", name: "trusted_proxies" };
        let must = "a list of ranges of addresses, such as `[\"10.0.0.0/8\"]`";
        let ranges =
            self.check.texts(key, server.trusted_proxies.as_ref(), must).unwrap_or_default();
        let mut cidrs = Vec::new();
        for (text, span) in ranges {
            match cidr(text) {
                Ok(cidr) => cidrs.push(cidr),
                Err(label) => {
                    let _: Option<()> = self.check.reject(key, span, must, label);
                }
            }
        }
        cidrs
    }

    fn cors(&mut self, cors: &file::Cors) -> Cors {
        let key = |name| Key { table: "[cors]", name };
        let credentials =
            self.check.flag(key("credentials"), cors.credentials.as_ref()).unwrap_or(false);
        let must = "a list of origins, such as `[\"https://app.example.com\"]`";
        let mut origins: Vec<Box<str>> = Vec::new();
        for (text, span) in
            self.check.texts(key("origins"), cors.origins.as_ref(), must).unwrap_or_default()
        {
            if text == "*" {
                if let Some(other) = span_of(cors.credentials.as_ref()).filter(|_| credentials) {
                    let title =
                        "`*` in `cors.origins` does not go with `credentials = true`".to_owned();
                    self.check.contradiction(
                        title,
                        (span.clone(), "name the origins"),
                        (other, "browsers refuse both"),
                    );
                }
                if !self.development {
                    self.check.not_in_production(
                        "production does not allow `*` in `cors.origins`".to_owned(),
                        span,
                        "any page could call the routes",
                        "name the origins of your own pages",
                    );
                }
            } else if !is_origin(text) {
                let label = match text.strip_suffix('/').filter(|rest| is_origin(rest)) {
                    Some(rest) => format!("an origin has no slash at its end; write `\"{rest}\"`"),
                    None => {
                        "an origin is `http://` or `https://`, a host and perhaps a port, no path"
                            .to_owned()
                    }
                };
                let _: Option<()> = self.check.reject(key("origins"), span, must, label);
                continue;
            }
            origins.push(text.into());
        }
        Cors { origins, credentials, methods: self.methods(cors), headers: self.headers(cors) }
    }

    fn methods(&mut self, cors: &file::Cors) -> Vec<Box<str>> {
        const KNOWN: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let key = Key { table: "[cors]", name: "methods" };
        let must = format!("a list of methods: {}", KNOWN.join(", "));
        let Some(list) = &cors.methods else { return vec!["GET".into(), "POST".into()] };
        let methods = list.get_ref().iter().filter_map(|item| {
            let (text, span) = self.check.text(key, Some(item), &must)?;
            let upper = text.to_uppercase();
            match KNOWN.iter().find(|known| **known == text) {
                Some(method) => Some((*method).into()),
                None if KNOWN.contains(&upper.as_str()) => {
                    self.check.reject(key, span, &must, format!("write `\"{upper}\"`"))
                }
                None => self.check.reject(key, span, &must, ""),
            }
        });
        methods.collect()
    }

    fn headers(&mut self, cors: &file::Cors) -> Vec<Box<str>> {
        let key = Key { table: "[cors]", name: "headers" };
        let must = "a list of header names, such as `[\"content-type\"]`";
        let Some(list) = &cors.headers else {
            return vec!["authorization".into(), "content-type".into()];
        };
        let headers = list.get_ref().iter().filter_map(|item| {
            let (text, span) = self.check.text(key, Some(item), must)?;
            if !header::is_name(text) {
                return self.check.reject(key, span, must, "this is no header name");
            }
            Some(text.to_ascii_lowercase().into())
        });
        headers.collect()
    }

    fn storage(&mut self, storage: &file::Storage) -> Storage {
        let key = |name| Key { table: "[storage]", name };
        if let (Some(url), Some(url_env)) = (&storage.url, &storage.url_env) {
            let title = "`url` and `url_env` in [storage] do not go together".to_owned();
            self.check.contradiction(
                title,
                (url_env.span(), "one of them"),
                (url.span(), "or the other"),
            );
        }
        Storage {
            path: self.database(storage).unwrap_or_else(|| self.folder.join("data/rhaiway.db")),
            retention: (self.check)
                .duration(key("retention"), storage.retention.as_ref(), MINUTE..=3_650 * DAY)
                .unwrap_or(30 * DAY),
            max_pending: (self.check)
                .whole(key("max_pending"), storage.max_pending.as_ref(), 1..=1_000_000_000)
                .unwrap_or(1_000_000),
        }
    }

    fn database(&mut self, storage: &file::Storage) -> Option<PathBuf> {
        let must = "`sqlite:` and a path, such as `\"sqlite:data/rhaiway.db\"`";
        let (url, span) = if storage.url_env.is_some() {
            let key = Key { table: "[storage]", name: "url_env" };
            let (name, span) =
                self.check.text(key, storage.url_env.as_ref(), "the name of a variable")?;
            if !is_variable_name(name) {
                let label = "this is no name; the URL itself belongs into `url`";
                return self.check.reject(key, span, "the name of a variable", label);
            }
            (self.variable(name, "`storage.url`", &span)?, span)
        } else {
            let key = Key { table: "[storage]", name: "url" };
            let (url, span) = self.check.text(key, storage.url.as_ref(), must)?;
            (url.to_owned(), span)
        };
        // The URL may hold a password: none of the messages repeats it.
        let key = Key {
            table: "[storage]",
            name: if storage.url_env.is_some() { "url_env" } else { "url" },
        };
        let Some(path) = url.strip_prefix("sqlite:") else {
            let postgres = url.starts_with("postgres:") || url.starts_with("postgresql:");
            let label = if postgres { "this version has SQLite only" } else { "" };
            return self.check.reject(key, span, must, label);
        };
        let path = match path.strip_prefix("//") {
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(relative) => {
                let label =
                    format!("two slashes announce a host; write `\"sqlite:{}\"`", quoted(relative));
                return self.check.reject(key, span, must, label);
            }
            None => path,
        };
        if path.is_empty() || path.contains([':', '?', '#', '\0']) {
            let label = "a path without `:`, `?` and `#`; a database in memory would lose events";
            return self.check.reject(key, span, must, label);
        }
        Some(self.folder.join(path))
    }

    /// The value of a variable without which nothing works.
    fn variable(
        &mut self,
        name: &str,
        purpose: &str,
        span: &std::ops::Range<usize>,
    ) -> Option<String> {
        let found = self.variables.find(name, self.development);
        self.asked.push(Variable {
            name: name.into(),
            purpose: purpose.to_owned(),
            required: true,
            source: found.map(|(_, source)| source),
            unusable: None,
        });
        let value = found.and_then(|(value, _)| value);
        if value.is_none() {
            let place = self.check.report.place(span.clone(), "");
            let mut frame = Frame::error("E0105", format!("`{name}` is not set")).at(place);
            if self.variables.in_dev_vars(name) {
                frame = frame.note(format!(
                    "`.dev.vars` has `{name}`, but production does not read that file"
                ));
            }
            self.check.report.problems.push(frame);
        }
        value.map(str::to_owned)
    }

    fn scripts(&mut self, scripts: &file::Scripts) -> Scripts {
        let key = |name| Key { table: "[scripts]", name };
        Scripts {
            dir: self.path(key("dir"), scripts.dir.as_ref(), "scripts"),
            cpu_budget: (self.check)
                .duration(key("cpu_budget"), scripts.cpu_budget.as_ref(), MILLISECOND..=MINUTE)
                .unwrap_or(250 * MILLISECOND),
            memory_budget: (self.check)
                .size(key("memory_budget"), scripts.memory_budget.as_ref(), MIB..=4 * GIB)
                .unwrap_or(32 * MIB),
            timeout: (self.check)
                .duration(key("timeout"), scripts.timeout.as_ref(), TIMEOUT)
                .unwrap_or(MINUTE),
            max_runs: (self.check)
                .whole(key("max_runs"), scripts.max_runs.as_ref(), 1..=RUNS_MAX)
                .and_then(|runs| usize::try_from(runs).ok())
                .unwrap_or(16_000),
        }
    }

    fn admin(&mut self, admin: &file::Admin) -> Admin {
        // sun_path of sockaddr_un: 108 bytes on Linux, 104 on others, one of them a zero.
        const SOCKET_BYTES_MAX: usize = 103;
        let key = Key { table: "[admin]", name: "socket" };
        let socket = self.path(key, admin.socket.as_ref(), "data/rhaiway.sock");
        let length = socket.as_os_str().len();
        if let Some(span) = span_of(admin.socket.as_ref()).filter(|_| length > SOCKET_BYTES_MAX) {
            let must =
                format!("at most {SOCKET_BYTES_MAX} bytes long, with the folder of config.toml");
            let _: Option<()> = self.check.reject(key, span, &must, format!("this makes {length}"));
        }
        Admin { socket }
    }

    /// A path, relative to the folder of config.toml.
    fn path(&mut self, key: Key<'_>, written: Option<&file::Written>, default: &str) -> PathBuf {
        let must = format!("a path, such as `\"{default}\"`");
        let path = match self.check.text(key, written, &must) {
            Some((text, span)) if text.is_empty() || text.contains('\0') => {
                self.check.reject(key, span, &must, "this is no path")
            }
            other => other.map(|(text, _)| text),
        };
        self.folder.join(path.unwrap_or(default))
    }

    fn vars(
        &mut self,
        vars: &BTreeMap<Spanned<String>, file::Written>,
    ) -> BTreeMap<Box<str>, serde_json::Value> {
        let mut plain = BTreeMap::new();
        for (name, written) in vars {
            match json(written.get_ref()) {
                Some(value) => {
                    plain.insert(name.get_ref().as_str().into(), value);
                }
                None => {
                    let key = Key { table: "[vars]", name: &quoted(name.get_ref()) };
                    let must = "text, a finite number, true or false, a list or a table of such";
                    let _: Option<()> = self.check.reject(key, written.span(), must, "");
                }
            }
        }
        plain
    }
}

/// A TOML value as a script sees it; a date is its text. `None` for numbers that are none.
fn json(value: &toml::Value) -> Option<serde_json::Value> {
    Some(match value {
        toml::Value::String(text) => serde_json::Value::from(text.as_str()),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        toml::Value::Table(table) => {
            let fields = table.iter().map(|(name, value)| Some((name.clone(), json(value)?)));
            serde_json::Value::Object(fields.collect::<Option<_>>()?)
        }
    })
}

/// `http://` or `https://`, a host in lower case, perhaps a port, and nothing else.
pub(super) fn is_origin(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    if let Some(rest) = rest.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else { return false };
        return host.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let is_host =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-' || c == '_';
    !host.is_empty() && host.chars().all(is_host) && port.is_none_or(is_port)
}

/// A range of addresses, or one address; what to write instead where it is neither.
fn cidr(text: &str) -> Result<Cidr, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "this is no address".to_owned())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(prefix) if prefix.starts_with('+') => return Err("this is no range".to_owned()),
        Some(prefix) => match prefix.parse::<u8>() {
            Ok(prefix) if prefix <= bits => prefix,
            _ => return Err(format!("behind the slash stands a number from 0 to {bits}")),
        },
    };
    let start = network(address, prefix);
    if start != address {
        return Err(format!("the range begins elsewhere; write `\"{start}/{prefix}\"`"));
    }
    Ok(Cidr { address, prefix })
}

/// The address with all bits behind the prefix off.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
    }
}
