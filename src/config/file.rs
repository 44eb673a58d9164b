//! Configuration as written: plain structs whose values are still any TOML, each with its place. The doc of a field is the doc of its
//! key: what it is for, unit, default. Nothing is judged here but which keys there are; `build.rs` does the rest.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use toml::{Spanned, Value};

use super::{credentials, resilience};

/// A value and its place. It may be of any type, so that a wrong one is answered in our words and beside all others.
pub(super) type Written = Spanned<Value>;
/// A list and its place, its values with their own.
pub(super) type List = Spanned<Vec<Written>>;

/// The whole of `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Where to listen and for whom.
    pub(super) server: Server,
    /// Which pages in browsers may call the routes.
    pub(super) cors: Cors,
    /// Where events and documents are kept.
    pub(super) storage: Storage,
    /// Where the scripts are, and what one run of them may use.
    pub(super) scripts: Scripts,
    /// The door for `rhaiway events` and the like.
    pub(super) admin: Admin,
    /// How callers of routes are told apart, by a name of your own.
    pub(super) auth: BTreeMap<Spanned<String>, Auth>,
    /// Who posts webhooks, by a name of your own.
    pub(super) webhooks: BTreeMap<Spanned<String>, Webhook>,
    /// Whom scripts call, by a name of your own.
    pub(super) providers: BTreeMap<Spanned<String>, Provider>,
    /// What collections of documents need, by their names; all of it may be left out.
    pub(super) db: BTreeMap<Spanned<String>, Documents>,
    /// Plain values that scripts read as `vars.NAME`. No secrets.
    pub(super) vars: BTreeMap<Spanned<String>, Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    /// Address and port. Port 0 takes a free one. Default: `127.0.0.1:8080`.
    pub(super) listen: Option<Written>,
    /// Worker threads, 0 to 256. Default: 0, one per core.
    pub(super) workers: Option<Written>,
    /// `development` or `production`, which checks more strictly. Default: `development`.
    pub(super) environment: Option<Written>,
    /// How the world reaches this server, without a path: `https://hooks.example.com`. Default: none.
    pub(super) public_url: Option<Written>,
    /// Size of one request's body, 1B to 1GiB. Default: `1MiB`.
    pub(super) max_body: Option<Written>,
    /// Duration for reading one request, 10ms to 1h. Default: `30s`.
    pub(super) read_timeout: Option<Written>,
    /// Duration that running work gets at shutdown, 0s to 1h. Default: `20s`.
    pub(super) shutdown_grace: Option<Written>,
    /// Ranges of addresses (`10.0.0.0/8`) whose `X-Forwarded-For` and `-Proto` are believed. Default: none.
    pub(super) trusted_proxies: Option<List>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cors {
    /// Origins such as `https://app.example.com`, or `*`. Default: none, no cross-origin answers.
    pub(super) origins: Option<List>,
    /// Methods that may be called. Default: `GET`, `POST`.
    pub(super) methods: Option<List>,
    /// Request headers that may be sent. Default: `authorization`, `content-type`.
    pub(super) headers: Option<List>,
    /// Whether cookies may be sent, true or false. Default: false.
    pub(super) credentials: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Storage {
    /// `sqlite:PATH`, relative to the folder of config.toml. Default: `sqlite:data/rhaiway.db`.
    pub(super) url: Option<Written>,
    /// The variable that holds the URL, instead of `url`. Default: none.
    pub(super) url_env: Option<Written>,
    /// Duration for which finished events are kept, 1m to 3650d. Default: `30d`.
    pub(super) retention: Option<Written>,
    /// Events that may wait; above it webhooks get 503. At least 1. Default: 1000000.
    pub(super) max_pending: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scripts {
    /// The folder, relative to that of config.toml. Default: `scripts`.
    pub(super) dir: Option<Written>,
    /// CPU time of one run, 1ms to 1m. Default: `250ms`.
    pub(super) cpu_budget: Option<Written>,
    /// Memory that one run may hold at once, 1MiB to 4GiB. Default: `32MiB`.
    pub(super) memory_budget: Option<Written>,
    /// Wall time of one run, 1ms to 24h. Default: `60s`.
    pub(super) timeout: Option<Written>,
    /// Runs at once on one worker, branches of `parallel` included, 1 to 16000. Default: `16000`.
    pub(super) max_runs: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    /// The Unix socket, relative to the folder of config.toml. Default: `data/rhaiway.sock`.
    pub(super) socket: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    /// `clerk` (session tokens of Clerk), `jwt` (tokens of any issuer) or `token` (one that is shared). Required.
    pub(super) kind: Option<Written>,
    /// Who signs the tokens, letter by letter as their `iss` says it. Required unless the kind is `token`.
    pub(super) issuer: Option<Written>,
    /// Where the issuer's keys are fetched. Default: `/.well-known/jwks.json` of the issuer.
    pub(super) jwks_url: Option<Written>,
    /// The variable that holds the issuer's public key as PEM, instead of fetching keys. Default: none.
    pub(super) jwt_key_env: Option<Written>,
    /// Whom a token must be for (`aud`), a name or a list of which it must name one. Default: anybody.
    pub(super) audience: Option<Written>,
    /// Where a token may have been made (`azp`), a list. Default: anywhere.
    pub(super) authorized_parties: Option<List>,
    /// By how much the issuer's clock may differ, 0s to 5m. Default: `5s`.
    pub(super) leeway: Option<Written>,
    /// The variable that holds the shared token, or a list: the newest first. Required where the kind is `token`.
    pub(super) token_env: Option<Spanned<Names>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Webhook {
    /// Where it is posted to: `/webhooks/clerk`, with `{name}` for parameters. Required.
    pub(super) path: Option<Written>,
    /// How it is signed, such as `svix`; `none` in development only. Required.
    pub(super) scheme: Option<Written>,
    /// The variable that holds the secret, or a list: the newest first. Required unless the scheme is `none`.
    pub(super) secret_env: Option<Spanned<Names>>,
    /// How old or early a signature's time may be, 1s to 1d. Default: `5m`.
    pub(super) tolerance: Option<Written>,
    /// Size of one delivery's body, 1B to 1GiB. Default: `max_body` of `[server]`.
    pub(super) max_body: Option<Written>,
    /// Wall time of one run, 1ms to 24h. Default: `timeout` of `[scripts]`.
    pub(super) timeout: Option<Written>,
    /// Handlers that run at once, 1 to 100000. Default: no bound of its own.
    pub(super) concurrency: Option<Written>,
    /// When a failed handler is tried again.
    pub(super) retry: Option<Spanned<Retry>>,
    /// `on`: a delivery id is handled once. `off`: every delivery is. Default: `on`.
    pub(super) dedupe: Option<Written>,
    /// JSON pointer into the payload: events with the same value there are handled one at a time. Default: none, side by side.
    pub(super) ordered_by: Option<Written>,
    /// `script`: the handler's result is the answer. Default: 200 as soon as the event is stored.
    pub(super) respond: Option<Written>,
    /// `false`, with `respond = "script"` only: keep nothing of the event. Default: true.
    pub(super) store: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    /// Attempts after the first, 0 to 1000. Default: 20.
    pub(super) max: Option<Written>,
    /// Longest wait before the second attempt, 1ms to 1d; it doubles from there. Default: `5s`.
    pub(super) base: Option<Written>,
    /// No wait is longer, 1ms to 30d. Default: `1h`.
    pub(super) cap: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Documents {
    /// Fields by which `find`, `all` and `count` are quick: `customer.id`, up to 16. Default: none.
    pub(super) index: Option<List>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Provider {
    /// `clerk`, `stripe`, `openai`, or `http` for any other API. Required.
    pub(super) kind: Option<Written>,
    /// Where it is, such as `https://slack.com/api`. Default: where that provider is; required for `http`.
    pub(super) base_url: Option<Written>,
    /// The variable that holds the URL, where the URL itself is a secret. Default: none.
    pub(super) base_url_env: Option<Written>,
    /// Beginnings of further URLs that a call may name as a whole. Default: none.
    pub(super) also: Option<List>,
    /// Whether its name may lead to an address of a private network, true or false. Default: false, so that production refuses that.
    pub(super) private_network: Option<Written>,
    /// The variable that holds the key, of `clerk`, `stripe` and `openai`. Default: none, not configured.
    pub(super) api_key_env: Option<Written>,
    /// How it is told who calls, where that is no `api_key_env`.
    pub(super) auth: Option<Spanned<credentials::Auth>>,
    /// Headers that every call carries; no secrets. Default: none.
    pub(super) headers: Option<Written>,
    /// The file that names its operations, of `http` only. Default: none.
    pub(super) descriptor: Option<Written>,
    /// What tells an error that comes with status 200.
    pub(super) error_when: Option<Spanned<ErrorWhen>>,
    /// Calls in a time, `100/s`, or a list of such of which all hold. Default: as the provider publishes; `http`: none.
    pub(super) rate_limit: Option<Written>,
    /// Calls at once, over all workers, 1 to 20000. Default: 64.
    pub(super) concurrency: Option<Written>,
    /// Duration of one try, 1ms to 1d, cut to what is left of the run. Default: `60s`.
    pub(super) timeout: Option<Written>,
    /// When a try that failed is made again.
    pub(super) retry: Option<Spanned<resilience::Retry>>,
    /// When no call goes out any more, for a while.
    pub(super) breaker: Option<Spanned<resilience::Breaker>>,
    /// What its answers may use in a time of the calendar (UTC), `20 usd/day`, or a list of such of which all hold. Default: as much as there is.
    pub(super) budget: Option<Written>,
    /// The model that is asked in place of another from 80 % of a budget on. Default: none.
    pub(super) fallback_model: Option<Written>,
    /// US dollars a million tokens, by model: `{ "my-model" = { input = 1.0, output = 2.0, cached = 0.1 } }`. Default: as the provider publishes.
    pub(super) prices: Option<Written>,
    /// Size of one answer, 1KiB to 1GiB. Default: `10MiB`.
    pub(super) max_response: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ErrorWhen {
    /// JSON pointer to the value that tells: `/ok`. Required.
    pub(super) pointer: Option<Written>,
    /// The value there that makes it an error: `false`. Required.
    pub(super) equals: Option<Written>,
    /// JSON pointer to the error's code. Default: none.
    pub(super) code: Option<Written>,
    /// JSON pointer to a sentence for people. Default: none, the code.
    pub(super) message: Option<Written>,
}

/// The name of one variable, or a list of names.
#[derive(Debug)]
pub(super) enum Names {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Names;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a variable, or a list of names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Names, A::Error> {
                let mut list = Vec::new();
                while let Some(name) = names.next_element()? {
                    list.push(name);
                }
                Ok(Names::Many(list))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The keys of the table at `path`; `None` where a table may hold any key.
pub(super) fn keys(path: &[String]) -> Option<&'static [&'static str]> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [] => Some(keys_of::<File>()),
        ["server"] => Some(keys_of::<Server>()),
        ["cors"] => Some(keys_of::<Cors>()),
        ["storage"] => Some(keys_of::<Storage>()),
        ["scripts"] => Some(keys_of::<Scripts>()),
        ["admin"] => Some(keys_of::<Admin>()),
        ["auth", _] => Some(keys_of::<Auth>()),
        ["webhooks", _] => Some(keys_of::<Webhook>()),
        ["webhooks", _, "retry"] => Some(keys_of::<Retry>()),
        ["providers", _] => Some(keys_of::<Provider>()),
        ["providers", _, "retry"] => Some(keys_of::<resilience::Retry>()),
        ["providers", _, "breaker"] => Some(keys_of::<resilience::Breaker>()),
        ["providers", _, "error_when"] => Some(keys_of::<ErrorWhen>()),
        ["db", _] => Some(keys_of::<Documents>()),
        ["providers", _, "auth"] => Some(keys_of::<credentials::Auth>()),
        ["providers", _, "auth", "oauth2"] => Some(keys_of::<credentials::OAuth2>()),
        ["providers", _, "auth", "github_app"] => Some(keys_of::<credentials::GithubApp>()),
        ["providers", _, "auth", "jwt_bearer"] => Some(keys_of::<credentials::JwtBearer>()),
        _ => None,
    }
}

/// Every table with fixed keys, as `keys` takes it and as people write it.
pub(super) const TABLES: &[(&[&str], &str)] = &[
    (&["server"], "[server]"),
    (&["cors"], "[cors]"),
    (&["storage"], "[storage]"),
    (&["scripts"], "[scripts]"),
    (&["admin"], "[admin]"),
    (&["auth", "NAME"], "[auth.NAME]"),
    (&["webhooks", "NAME"], "[webhooks.NAME]"),
    (&["webhooks", "NAME", "retry"], "retry of [webhooks.NAME]"),
    (&["providers", "NAME"], "[providers.NAME]"),
    (&["providers", "NAME", "auth"], "auth of [providers.NAME]"),
    (&["providers", "NAME", "auth", "oauth2"], "auth.oauth2 of [providers.NAME]"),
    (&["providers", "NAME", "auth", "github_app"], "auth.github_app of [providers.NAME]"),
    (&["providers", "NAME", "auth", "jwt_bearer"], "auth.jwt_bearer of [providers.NAME]"),
    (&["providers", "NAME", "retry"], "retry of [providers.NAME]"),
    (&["providers", "NAME", "breaker"], "breaker of [providers.NAME]"),
    (&["providers", "NAME", "error_when"], "error_when of [providers.NAME]"),
    (&["db", "NAME"], "[db.NAME]"),
];

/// The field names that serde asks for: the same list that decides what is unknown.
fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Asked<'a>(&'a mut &'static [&'static str]);

    impl<'de> serde::Deserializer<'de> for Asked<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(serde::de::Error::custom("only the names are wanted"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only structs have names"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
            tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut fields: &'static [&'static str] = &[];
    // It always fails: the names have been noted by then.
    let _ = T::deserialize(Asked(&mut fields));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_keys() -> Vec<(&'static str, &'static str)> {
        let paths = TABLES.iter().map(|(path, shown)| (path.to_vec(), *shown));
        let paths = paths.chain([(Vec::new(), "the file")]);
        paths
            .flat_map(|(path, shown)| {
                let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
                keys(&path).unwrap().iter().map(move |key| (shown, *key))
            })
            .collect()
    }

    /// How the type of a key begins.
    const KINDS: [&str; 3] = [": Option<Written>", ": Option<List>", ": Option<Spanned<"];

    #[test]
    fn every_key_has_a_doc_that_says_its_default() {
        let sources = [
            include_str!("file.rs"),
            include_str!("credentials.rs"),
            include_str!("resilience.rs"),
        ];
        let lines: Vec<&str> =
            sources.iter().flat_map(|source| source.lines()).map(str::trim).collect();
        let mut seen = 0;
        for (index, line) in lines.iter().enumerate() {
            let Some(field) = line
                .strip_prefix("pub(super) ")
                .filter(|rest| KINDS.iter().any(|kind| rest.contains(kind)))
            else {
                continue;
            };
            let doc = lines[index - 1];
            assert!(doc.starts_with("/// "), "{field}");
            let whole = field.contains("Option<Spanned<") && !field.contains("Spanned<Names>");
            assert!(whole || doc.contains("Default: ") || doc.contains("Required"), "{field}");
            seen += 1;
        }
        assert_eq!(seen, all_keys().len() - keys(&[]).unwrap().len());
    }

    #[test]
    fn every_key_stands_in_the_shipped_file() {
        let shipped = include_str!("../../config.toml");
        for (table, key) in all_keys() {
            let written = shipped.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ', '[']);
                line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', ']', '.']))
                    || line.contains(&format!("{{ {key} = "))
                    || line.contains(&format!(", {key} = "))
            });
            assert!(written, "`{key}` of {table} is missing from config.toml");
        }
    }
}
