//! How a provider is told who calls: `api_key_env` and the table `auth` of `[providers.NAME]`, as written and as meant. Exactly one way is named,
//! with all that belongs to it. A secret that is missing leaves the provider not configured; what contradicts itself is refused.

use std::ops::Range;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::build::{Build, is_origin};
use super::check::{Key, span_of};
use super::file::Written;
use super::read::quoted;
use super::secret::{Secret, unusable};
use super::secret_variable::{NoSecret, Wanted};
use crate::frame::Frame;
use crate::header;

/// `auth = { … }` as written: one of these ways.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    /// The variable that holds a token, sent as `Authorization: Bearer …`. Default: none.
    pub(super) bearer_env: Option<Written>,
    /// The name of a header that carries the value of `value_env`. Default: none.
    pub(super) header: Option<Written>,
    /// The name of a query parameter that carries the value of `value_env`. Default: none.
    pub(super) query: Option<Written>,
    /// The variable that holds the value for `header` or `query`. Required with either, no default.
    pub(super) value_env: Option<Written>,
    /// The variable that holds the user's name of HTTP's basic authentication. Default: none.
    pub(super) basic_user_env: Option<Written>,
    /// The variable that holds the password that goes with it. Default: none, an empty password.
    pub(super) basic_password_env: Option<Written>,
    /// OAuth 2 client credentials: tokens are fetched, kept and renewed. Default: none.
    pub(super) oauth2: Option<Spanned<OAuth2>>,
    /// A GitHub App and its installation. Default: none.
    pub(super) github_app: Option<Spanned<GithubApp>>,
    /// A token for a signed assertion, as Google's service accounts get theirs. Default: none.
    pub(super) jwt_bearer: Option<Spanned<JwtBearer>>,
}

/// `auth.oauth2` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OAuth2 {
    /// Where tokens are fetched: `https://login.example.com/oauth/token`. Required.
    pub(super) token_url: Option<Written>,
    /// The variable that holds the client's id. Required.
    pub(super) client_id_env: Option<Written>,
    /// The variable that holds the client's secret. Required.
    pub(super) client_secret_env: Option<Written>,
    /// Scopes with blanks between them. Default: none.
    pub(super) scope: Option<Written>,
    /// Whom the token is for, where the server asks for it. Default: none.
    pub(super) audience: Option<Written>,
}

/// `auth.github_app` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GithubApp {
    /// The App ID or the client ID, from the page of the app. Required.
    pub(super) app_id: Option<Written>,
    /// The variable that holds the private key, as the PEM file that GitHub gives. Required.
    pub(super) private_key_env: Option<Written>,
    /// The number of the installation. Required.
    pub(super) installation_id: Option<Written>,
}

/// `auth.jwt_bearer` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JwtBearer {
    /// Where tokens are fetched: `https://oauth2.googleapis.com/token`. Required.
    pub(super) token_url: Option<Written>,
    /// Who asks: the address of the service account. Required.
    pub(super) issuer: Option<Written>,
    /// The user on whose behalf. Default: none.
    pub(super) subject: Option<Written>,
    /// The variable that holds the private key as PEM. Required.
    pub(super) private_key_env: Option<Written>,
    /// Scopes with blanks between them. Default: none.
    pub(super) scope: Option<Written>,
    /// Whom the assertion is for. Default: `token_url`.
    pub(super) audience: Option<Written>,
}

/// How a provider is told who calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Credentials {
    /// `api_key_env`: as the provider's descriptor says.
    Key(Secret),
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// A header of the provider's own.
    Header {
        /// In lower case.
        name: Box<str>,
        /// All of its value.
        value: Secret,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// A secret by itself where there is no password.
        user: Secret,
        /// `None`: the empty one.
        password: Option<Secret>,
    },
    /// A parameter in the query.
    Query {
        /// As the provider calls it.
        name: Box<str>,
        /// Its value, not encoded.
        value: Secret,
    },
    /// A token that is fetched first.
    Token(Token),
    /// Variables that are not set or of no use: nothing can be called.
    Missing(Vec<Box<str>>),
}

/// How a token is fetched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// OAuth 2 client credentials (RFC 6749, section 4.4).
    Client {
        /// Where.
        token_url: Box<str>,
        /// The client's name.
        id: Secret,
        /// Its password.
        secret: Secret,
        /// With blanks between them.
        scope: Option<Box<str>>,
        /// Not in the RFC; some servers demand it.
        audience: Option<Box<str>>,
    },
    /// A GitHub App's installation; the host is that of the provider's `base_url`.
    Installation {
        /// The `iss` of the assertion.
        app_id: Box<str>,
        /// Stands in the path.
        installation_id: Box<str>,
        /// PEM.
        private_key: Secret,
    },
    /// A token for an assertion (RFC 7523).
    Assertion(Asserted),
}

/// What an assertion says, and where it is taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asserted {
    /// Where.
    pub(crate) token_url: Box<str>,
    /// `iss`.
    pub(crate) issuer: Box<str>,
    /// `sub`.
    pub(crate) subject: Option<Box<str>>,
    /// PEM.
    pub(crate) private_key: Secret,
    /// With blanks between them.
    pub(crate) scope: Option<Box<str>>,
    /// `aud`.
    pub(crate) audience: Box<str>,
}

/// Whose credentials are read.
pub(super) struct Provider<'p> {
    /// The name as it stands in the file.
    pub(super) name: &'p Spanned<String>,
    /// `[providers.slack]`.
    pub(super) shown: &'p str,
}

/// The credentials of a provider. `None`: it has none, or what stands there is a problem by now.
pub(super) fn read(
    build: &mut Build<'_>,
    provider: Provider<'_>,
    api_key_env: Option<&Written>,
    auth: Option<&Spanned<Auth>>,
) -> Option<Credentials> {
    let auth_shown = format!("auth of {}", provider.shown);
    let mut one = One { build, provider, missing: Vec::new(), unset: Vec::new() };
    let (credentials, span) = match (api_key_env, auth) {
        (Some(key), Some(auth)) => {
            let title = format!("`api_key_env` and `auth` in {} do not go together", one.shown());
            let (key, auth) = ((key.span(), "one of them"), (auth.span(), "or the other"));
            one.build.check.contradiction(title, key, auth);
            return None;
        }
        (Some(key), None) => {
            let shown = one.shown().to_owned();
            (
                one.secret(&shown, "api_key_env", Some(key), unusable).map(Credentials::Key),
                key.span(),
            )
        }
        (None, Some(auth)) => (one.auth(&auth_shown, auth), auth.span()),
        (None, None) => return None,
    };
    one.tell_of_unset(span);
    if one.missing.is_empty() { credentials } else { Some(Credentials::Missing(one.missing)) }
}

/// One provider on its way.
struct One<'b, 'a, 'p> {
    build: &'b mut Build<'a>,
    provider: Provider<'p>,
    /// Variables without which it cannot be called.
    missing: Vec<Box<str>>,
    /// Those of them of which nothing has been said.
    unset: Vec<Box<str>>,
}

impl One<'_, '_, '_> {
    fn shown(&self) -> &str {
        self.provider.shown
    }

    fn auth(&mut self, shown: &str, written: &Spanned<Auth>) -> Option<Credentials> {
        let auth = written.get_ref();
        let way = self.the_one_way(shown, written)?;
        match way {
            "bearer_env" => {
                self.secret(shown, way, auth.bearer_env.as_ref(), unusable).map(Credentials::Bearer)
            }
            "header" => {
                let value = self.secret(shown, "value_env", auth.value_env.as_ref(), unusable);
                let name = self.header_name(shown, auth.header.as_ref());
                Some(Credentials::Header { name: name?, value: value? })
            }
            "query" => {
                let value = self.secret(shown, "value_env", auth.value_env.as_ref(), unusable);
                let name = self.plain(shown, way, auth.query.as_ref(), "a name, such as `\"key\"`");
                Some(Credentials::Query { name: name?, value: value? })
            }
            "basic_user_env" => self.basic(shown, auth),
            "oauth2" => self.client(auth.oauth2.as_ref()?.get_ref()),
            "github_app" => self.installation(auth.github_app.as_ref()?.get_ref()),
            _ => self.assertion(auth.jwt_bearer.as_ref()?.get_ref()),
        }
    }

    /// Which way is meant. Two ways, or a part of another way, are a contradiction.
    fn the_one_way(&mut self, shown: &str, written: &Spanned<Auth>) -> Option<&'static str> {
        let auth = written.get_ref();
        let ways: Vec<(&'static str, Range<usize>)> = [
            ("bearer_env", span_of(auth.bearer_env.as_ref())),
            ("header", span_of(auth.header.as_ref())),
            ("query", span_of(auth.query.as_ref())),
            ("basic_user_env", span_of(auth.basic_user_env.as_ref())),
            ("oauth2", span_of(auth.oauth2.as_ref())),
            ("github_app", span_of(auth.github_app.as_ref())),
            ("jwt_bearer", span_of(auth.jwt_bearer.as_ref())),
        ]
        .into_iter()
        .filter_map(|(way, span)| Some((way, span?)))
        .collect();
        let Some((way, span)) = ways.first().cloned() else {
            self.required(shown, "way to tell who calls", written.span(), "name one of `bearer_env`, `header` with `value_env`, `query` with `value_env`, `basic_user_env`, `oauth2`, `github_app`, `jwt_bearer`");
            return None;
        };
        let parts = [
            ("value_env", span_of(auth.value_env.as_ref()), way == "header" || way == "query"),
            (
                "basic_password_env",
                span_of(auth.basic_password_env.as_ref()),
                way == "basic_user_env",
            ),
        ];
        let parts = parts.into_iter().filter(|(.., belongs)| !belongs);
        let mut parts = parts.filter_map(|(part, span, _)| Some((part, span?)));
        let second = ways.get(1).cloned().or_else(|| parts.next_back());
        let Some((other, other_span)) = second else {
            return Some(way);
        };
        let title = format!("`{way}` and `{other}` in {shown} do not go together");
        self.build.check.contradiction(title, (other_span, "one of them"), (span, "or the other"));
        None
    }

    fn basic(&mut self, shown: &str, auth: &Auth) -> Option<Credentials> {
        let (key, user) = ("basic_user_env", auth.basic_user_env.as_ref());
        if auth.basic_password_env.is_none() {
            let user = self.secret(shown, key, user, unusable)?;
            return Some(Credentials::Basic { user, password: None });
        }
        let user = self.name(shown, key, user);
        let (key, password) = ("basic_password_env", auth.basic_password_env.as_ref());
        let password = self.secret(shown, key, password, unusable);
        Some(Credentials::Basic { user: user?, password: Some(password?) })
    }

    fn client(&mut self, written: &OAuth2) -> Option<Credentials> {
        let shown = &format!("auth.oauth2 of {}", self.shown());
        let id = self.name(shown, "client_id_env", written.client_id_env.as_ref());
        let secret =
            self.secret(shown, "client_secret_env", written.client_secret_env.as_ref(), unusable);
        let token_url = self.token_url(shown, written.token_url.as_ref());
        let scope = self.optional(shown, "scope", written.scope.as_ref());
        let audience = self.optional(shown, "audience", written.audience.as_ref());
        let (token_url, id, secret) = (token_url?, id?, secret?);
        Some(Credentials::Token(Token::Client { token_url, id, secret, scope, audience }))
    }

    fn installation(&mut self, written: &GithubApp) -> Option<Credentials> {
        let shown = &format!("auth.github_app of {}", self.shown());
        let key = written.private_key_env.as_ref();
        let private_key = self.secret(shown, "private_key_env", key, unusable_key);
        let must = "an id, such as `12345`";
        let app_id = self.plain(shown, "app_id", written.app_id.as_ref(), must);
        let installation_id =
            self.plain(shown, "installation_id", written.installation_id.as_ref(), must);
        // It becomes a part of a path.
        if let Some(id) =
            installation_id.as_ref().filter(|id| !id.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let span = span_of(written.installation_id.as_ref()).unwrap_or_default();
            let key = Key { table: shown, name: "installation_id" };
            let label = format!("`{}` is no number", quoted(id));
            return self.build.check.reject(key, span, "a number, such as `12345`", label);
        }
        let (app_id, installation_id, private_key) = (app_id?, installation_id?, private_key?);
        Some(Credentials::Token(Token::Installation { app_id, installation_id, private_key }))
    }

    fn assertion(&mut self, written: &JwtBearer) -> Option<Credentials> {
        let shown = &format!("auth.jwt_bearer of {}", self.shown());
        let key = written.private_key_env.as_ref();
        let private_key = self.secret(shown, "private_key_env", key, unusable_key);
        let token_url = self.token_url(shown, written.token_url.as_ref());
        let issuer = self.plain(shown, "issuer", written.issuer.as_ref(), "text");
        let subject = self.optional(shown, "subject", written.subject.as_ref());
        let scope = self.optional(shown, "scope", written.scope.as_ref());
        let audience = self.optional(shown, "audience", written.audience.as_ref());
        let (token_url, issuer, private_key) = (token_url?, issuer?, private_key?);
        let audience = audience.unwrap_or_else(|| token_url.clone());
        let asserted = Asserted { token_url, issuer, subject, private_key, scope, audience };
        Some(Credentials::Token(Token::Assertion(asserted)))
    }

    /// The secret in the variable that a key names.
    fn secret(
        &mut self,
        shown: &str,
        key: &str,
        written: Option<&Written>,
        unusable: fn(&str) -> Option<&'static str>,
    ) -> Option<Secret> {
        let (name, value) = self.variable(shown, key, written, unusable)?;
        Some(Secret::new(name, value))
    }

    /// The same for what goes with a secret and is none by itself.
    fn name(&mut self, shown: &str, key: &str, written: Option<&Written>) -> Option<Secret> {
        let (name, value) = self.variable(shown, key, written, unusable)?;
        Some(Secret::name(name, value))
    }

    /// The variable that a key names, and its value.
    fn variable<'w>(
        &mut self,
        shown: &str,
        key: &str,
        written: Option<&'w Written>,
        unusable: fn(&str) -> Option<&'static str>,
    ) -> Option<(&'w str, String)> {
        let Some(written) = written else {
            self.missing_key(shown, key);
            return None;
        };
        let at = Key { table: shown, name: key };
        let (name, span) = self.build.check.text(at, Some(written), "the name of a variable")?;
        if !self.build.names_a_variable(at, name, span.clone(), "API_KEY=…") {
            return None;
        }
        let purpose = format!("`{key}` of provider `{}`", self.provider.name.get_ref());
        let wanted = Wanted { name, span, purpose, required: true, unusable };
        match self.build.secret_variable(wanted) {
            Ok((value, _)) => return Some((name, value)),
            Err(NoSecret::Unset) => self.unset.push(name.into()),
            Err(NoSecret::Told) => {}
        }
        self.missing.push(name.into());
        None
    }

    /// Text that has to be there; a number does as well.
    fn plain(
        &mut self,
        shown: &str,
        key: &str,
        written: Option<&Written>,
        must: &str,
    ) -> Option<Box<str>> {
        let Some(written) = written else {
            self.missing_key(shown, key);
            return None;
        };
        if let Value::Integer(number) = written.get_ref() {
            return Some(number.to_string().into());
        }
        let key = Key { table: shown, name: key };
        let (text, span) = self.build.check.text(key, Some(written), must)?;
        if text.trim() != text || text.is_empty() || text.contains(char::is_control) {
            return self.build.check.reject(
                key,
                span,
                must,
                "this is empty, or has blanks around it",
            );
        }
        Some(text.into())
    }

    fn optional(&mut self, shown: &str, key: &str, written: Option<&Written>) -> Option<Box<str>> {
        self.plain(shown, key, Some(written?), "text")
    }

    fn header_name(&mut self, shown: &str, written: Option<&Written>) -> Option<Box<str>> {
        let (key, must) =
            (Key { table: shown, name: "header" }, "a header's name, such as `\"x-api-key\"`");
        let (name, span) = self.build.check.text(key, written, must)?;
        // What frames the request, or says where it goes, is the client's.
        const TAKEN: [&str; 5] =
            ["host", "content-length", "transfer-encoding", "connection", "content-type"];
        let lower = name.to_ascii_lowercase();
        if !header::is_name(name) || TAKEN.contains(&lower.as_str()) {
            return self.build.check.reject(key, span, must, "this cannot be one");
        }
        Some(lower.into())
    }

    fn token_url(&mut self, shown: &str, written: Option<&Written>) -> Option<Box<str>> {
        let must = "a URL, such as `\"https://login.example.com/oauth/token\"`";
        let key = Key { table: shown, name: "token_url" };
        let url = self.plain(shown, "token_url", written, must)?;
        let span = span_of(written).unwrap_or_default();
        let authority_from = url.find("://").map_or(0, |at| at + 3);
        let path_from =
            url[authority_from..].find(['/', '?']).map_or(url.len(), |at| authority_from + at);
        let origin = &url[..path_from];
        if !is_origin(origin) || url.contains([' ', '#', '\\']) {
            return self.build.check.reject(
                key,
                span,
                must,
                "`https://`, a host in lower case and a path",
            );
        }
        let host = &origin[authority_from..];
        let is_here = ["localhost", "127.0.0.1", "[::1]"].iter().any(|here| {
            host.strip_prefix(here).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        });
        if url.starts_with("http:") && !is_here && !self.build.development {
            self.build.check.not_in_production(
                format!("production needs a `token_url` with `https://` in {shown}"),
                span,
                "whoever listens on the way could read the secret",
                "write `https://`",
            );
            return None;
        }
        Some(url)
    }

    fn missing_key(&mut self, shown: &str, key: &str) {
        let span = self.provider.name.span();
        self.required(
            shown,
            &format!("`{key}`"),
            span,
            "docs/configuration.md shows each way whole",
        );
    }

    /// Notes that something is not there; not where the table is torn already.
    fn required(&mut self, shown: &str, what: &str, span: Range<usize>, help: &str) {
        let report = &mut self.build.check.report;
        let path = ["providers".to_owned(), self.provider.name.get_ref().clone()];
        if report.torn.iter().any(|torn| torn.starts_with(&path)) {
            return;
        }
        let frame = Frame::error("E0112", format!("{shown} has no {what}"))
            .at(report.place(span, ""))
            .help(help);
        report.problems.push(frame);
    }

    fn tell_of_unset(&mut self, span: Range<usize>) {
        if self.unset.is_empty() {
            return;
        }
        let names: Vec<String> = self.unset.iter().map(|name| format!("`{name}`")).collect();
        let are = if names.len() == 1 { "is" } else { "are" };
        let name = quoted(self.provider.name.get_ref());
        let title = format!("provider `{name}` has no key: {} {are} not set", names.join(", "));
        let help = self.build.set_them();
        let report = &mut self.build.check.report;
        let frame = Frame::warning("E0110", title)
            .at(report.place(span, ""))
            .help(help)
            .note("until then its calls fail with CONFIGURATION_ERROR");
        report.notes.push(frame);
    }
}

/// Why a value cannot be a private key. Whether it is one in truth is seen when it first signs.
fn unusable_key(value: &str) -> Option<&'static str> {
    if value.contains("ENCRYPTED") {
        return Some(
            "the key is encrypted; write it without a pass phrase: `openssl pkcs8 -topk8 -nocrypt`",
        );
    }
    if value.contains("CERTIFICATE") || value.contains("PUBLIC KEY") {
        return Some("this is what others may know; the private key belongs here");
    }
    if !value.contains("-----BEGIN ") || !value.contains("PRIVATE KEY-----") {
        return Some("it is no private key in PEM form (`-----BEGIN PRIVATE KEY-----`)");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::build::How;
    use super::super::check::Check;
    use super::super::env::{Source, Variables};
    use super::super::fill::Filled;
    use super::super::read::Report;
    use super::super::{Variable, file};
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\\ncanary\\n-----END PRIVATE KEY-----";
    const SET: &[(Source, &str, &str)] = &[
        (Source::DotEnv, "A", "canary-a"),
        (Source::DotEnv, "B", "canary-b"),
        (Source::DotEnv, "KEY", KEY),
        (Source::DotEnv, "BLANKS", "  "),
    ];

    #[derive(Deserialize)]
    struct File {
        providers: BTreeMap<Spanned<String>, Table>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Table {
        api_key_env: Option<Written>,
        auth: Option<Spanned<Auth>>,
    }

    /// What is said, problems before notes, and the credentials with the variables that they ask for.
    fn load(lines: &str, development: bool) -> (String, Option<Credentials>, Vec<Variable>) {
        let text = format!("[providers.x]\n{lines}\n");
        let (mut report, mut asked) = (Report::new(Path::new("c.toml"), &text), Vec::new());
        let file: File = toml::from_str(&text).unwrap();
        let (name, table) = file.providers.first_key_value().unwrap();
        let (filled, variables) = (Filled::default(), Variables::of(SET));
        let check = Check { report: &mut report, filled: &filled };
        let how = How { development, known_schemes: &[] };
        let folder = Path::new("");
        let mut build = Build {
            check,
            variables: &variables,
            development,
            how,
            folder,
            asked: &mut asked,
            read_files: Vec::new(),
        };
        let provider = Provider { name, shown: "[providers.x]" };
        let read = read(&mut build, provider, table.api_key_env.as_ref(), table.auth.as_ref());
        let said = report.problems.iter().chain(&report.notes).map(|frame| frame.render(false));
        (said.collect(), read, asked)
    }

    fn secret(variable: &str, value: &str) -> Secret {
        Secret::new(variable, value.to_owned())
    }

    #[test]
    fn each_way_is_read_with_what_belongs_to_it() {
        let check = |lines: &str, expected: Credentials| {
            let (said, read, asked) = load(lines, false);
            assert_eq!((said.as_str(), read), ("", Some(expected)), "{lines}");
            assert!(asked.iter().all(|asked| asked.required && asked.source.is_some()));
            assert!(!asked.is_empty());
        };
        let (a, b) = (secret("A", "canary-a"), secret("B", "canary-b"));
        check("api_key_env = \"A\"", Credentials::Key(a.clone()));
        check("auth = { bearer_env = \"A\" }", Credentials::Bearer(a.clone()));
        check(
            "auth = { header = \"X-Api-Key\", value_env = \"A\" }",
            Credentials::Header { name: "x-api-key".into(), value: a.clone() },
        );
        check(
            "auth = { query = \"key\", value_env = \"A\" }",
            Credentials::Query { name: "key".into(), value: a.clone() },
        );
        check(
            "auth = { basic_user_env = \"A\" }",
            Credentials::Basic { user: a.clone(), password: None },
        );
        check(
            "auth = { basic_user_env = \"A\", basic_password_env = \"B\" }",
            Credentials::Basic { user: a.clone(), password: Some(b.clone()) },
        );
        let token_url: Box<str> = "https://a.example/token?x=1".into();
        check(
            "[providers.x.auth.oauth2]\ntoken_url = \"https://a.example/token?x=1\"\nclient_id_env = \"A\"\nclient_secret_env = \"B\"\nscope = \"r w\"",
            Credentials::Token(Token::Client {
                token_url: token_url.clone(),
                id: a,
                secret: b,
                scope: Some("r w".into()),
                audience: None,
            }),
        );
        check(
            "auth.github_app = { app_id = 7, private_key_env = \"KEY\", installation_id = \"42\" }",
            Credentials::Token(Token::Installation {
                app_id: "7".into(),
                installation_id: "42".into(),
                private_key: secret("KEY", KEY),
            }),
        );
        check(
            "auth.jwt_bearer = { token_url = \"https://a.example/token?x=1\", issuer = \"me\", private_key_env = \"KEY\" }",
            Credentials::Token(Token::Assertion(Asserted {
                audience: token_url.clone(),
                token_url,
                issuer: "me".into(),
                subject: None,
                private_key: secret("KEY", KEY),
                scope: None,
            })),
        );
        assert_eq!(load("", false), (String::new(), None, Vec::new()));
    }

    #[test]
    fn what_contradicts_itself_or_is_not_whole_is_refused() {
        let check = |lines: &str, expected: &str| {
            let (said, read, _) = load(lines, false);
            assert!(said.starts_with("error") && said.contains(expected), "{lines}\n{said}");
            assert!(!said.contains("canary"), "{said}");
            assert_eq!(read, None);
        };
        check(
            "api_key_env = \"A\"\nauth = { bearer_env = \"A\" }",
            "`api_key_env` and `auth` in [providers.x] do not go together",
        );
        let auth =
            |inside: &str, expected: &str| check(&format!("auth = {{ {inside} }}"), expected);
        auth("", "auth of [providers.x] has no way to tell who calls");
        auth("value_env = \"A\"", "auth of [providers.x] has no way to tell who calls");
        auth(
            "bearer_env = \"A\", query = \"k\"",
            "`bearer_env` and `query` in auth of [providers.x] do not go together",
        );
        auth("bearer_env = \"A\", value_env = \"A\"", "`bearer_env` and `value_env` in");
        auth(
            "header = \"a\", value_env = \"A\", basic_password_env = \"B\"",
            "`header` and `basic_password_env` in",
        );
        auth("header = \"x-key\"", "auth of [providers.x] has no `value_env`");
        auth(
            "header = \"a b\", value_env = \"A\"",
            "`header` in auth of [providers.x] must be a header's name",
        );
        auth("header = \"Host\", value_env = \"A\"", "this cannot be one");
        auth(
            "bearer_env = 5",
            "`bearer_env` in auth of [providers.x] must be the name of a variable",
        );
        auth("bearer_env = \"sk_live_abcdefghijk\"", "this looks like the secret itself");
        auth("bearer_env = \"${A}\"", "write the name alone");
        auth("oauth2 = {}", "auth.oauth2 of [providers.x] has no `client_id_env`");
        let oauth2 = |url: &str| {
            format!(
                "oauth2 = {{ token_url = \"{url}\", client_id_env = \"A\", client_secret_env = \"B\" }}"
            )
        };
        for url in [
            "",
            "a.example/token",
            "ftp://a.example",
            "https://user:pw@a.example/",
            "https://a.example/#x",
        ] {
            auth(&oauth2(url), "`token_url` in auth.oauth2 of [providers.x] must be a URL");
        }
        auth(&oauth2("http://a.example/token"), "production needs a `token_url` with `https://`");
        auth(
            "github_app = { app_id = 1, private_key_env = \"KEY\", installation_id = \"a/b\" }",
            "`a/b` is no number",
        );
    }

    #[test]
    fn a_secret_that_is_missing_or_of_no_use_leaves_the_provider_not_configured() {
        let check = |lines: &str, missing: &[&str], expected: &str| {
            let (said, read, asked) = load(lines, true);
            assert!(said.starts_with("warning[E0110]") && said.contains(expected), "{said}");
            let missing = missing.iter().map(|name| (*name).into()).collect();
            assert_eq!(read, Some(Credentials::Missing(missing)));
            assert!(asked.iter().any(|asked| asked.source.is_none() || asked.unusable.is_some()));
        };
        check("api_key_env = \"NO\"", &["NO"], "provider `x` has no key: `NO` is not set");
        check(
            "auth = { basic_user_env = \"NO\", basic_password_env = \"NEITHER\" }",
            &["NO", "NEITHER"],
            "`NO`, `NEITHER` are not set",
        );
        check(
            "api_key_env = \"BLANKS\"",
            &["BLANKS"],
            "is not used as a secret: it holds only blanks",
        );
        check(
            "auth.github_app = { app_id = 1, private_key_env = \"A\", installation_id = 2 }",
            &["A"],
            "it is no private key in PEM form",
        );
        let here = "auth.oauth2 = { token_url = \"http://a.example/t\", client_id_env = \"NO\", client_secret_env = \"B\" }";
        check(here, &["NO"], "`NO` is not set");
    }

    #[test]
    fn keys_that_are_unknown_are_compared_with_those_there_are() {
        let path = |last: &[&str]| -> Vec<String> {
            ["providers", "x", "auth"].iter().chain(last).map(|part| (*part).to_owned()).collect()
        };
        assert!(file::keys(&path(&[])).unwrap().contains(&"bearer_env"));
        assert!(file::keys(&path(&["oauth2"])).unwrap().contains(&"token_url"));
        assert!(file::keys(&path(&["github_app"])).unwrap().contains(&"app_id"));
        assert!(file::keys(&path(&["jwt_bearer"])).unwrap().contains(&"issuer"));
        assert!(toml::from_str::<File>("[providers.x.auth]\nbearer = \"A\"").is_err());
    }
}
