//! What of a configuration can change while it runs: a row for each key. From the rows come the comparison of two configurations, what is held
//! back until a restart, and the section "What changes live" of docs/configuration.md. A key without a row fails a test.

use super::{Auth, AuthKind, Config, KeySource, Provider, Respond, SecretSet, SignedAuth, Webhook};
use crate::units::print_size;

/// A key of config.toml.
struct Key {
    /// `server.listen`.
    name: &'static str,
    same: fn(&Config, &Config) -> bool,
    when: When,
}

/// When a change of a key counts.
enum When {
    /// With the next generation.
    Now,
    /// At the next start.
    Restart(Held),
}

/// How a value is held back.
struct Held {
    /// Lays the running value into a new configuration.
    keep: fn(&mut Config, &Config),
    /// The value for people.
    show: fn(&Config) -> String,
    /// Why it cannot change.
    why: &'static str,
}

/// A key of a `[providers.NAME]` table; every one of them changes live.
struct ProviderKey {
    name: &'static str,
    same: fn(&Provider, &Provider) -> bool,
}

/// A key of a `[webhooks.NAME]` table; every one of them changes live.
struct WebhookKey {
    name: &'static str,
    same: fn(&Webhook, &Webhook) -> bool,
}

/// A key of an `[auth.NAME]` table; every one of them changes live.
struct AuthKey {
    name: &'static str,
    same: fn(&Auth, &Auth) -> bool,
}

const fn live(name: &'static str, same: fn(&Config, &Config) -> bool) -> Key {
    Key { name, same, when: When::Now }
}

const KEYS: &[Key] = &[
    Key {
        name: "server.listen",
        same: |a, b| a.server.listen == b.server.listen,
        when: When::Restart(Held {
            keep: |new, running| new.server.listen = running.server.listen,
            show: |config| config.server.listen.to_string(),
            why: "the workers' sockets are bound to it",
        }),
    },
    Key {
        name: "server.workers",
        same: |a, b| a.server.workers == b.server.workers,
        when: When::Restart(Held {
            keep: |new, running| new.server.workers = running.server.workers,
            show: |config| config.server.workers.to_string(),
            why: "threads with their connections are not moved",
        }),
    },
    live("server.environment", |a, b| a.server.environment == b.server.environment),
    live("server.public_url", |a, b| a.server.public_url == b.server.public_url),
    live("server.max_body", |a, b| a.server.max_body == b.server.max_body),
    live("server.read_timeout", |a, b| a.server.read_timeout == b.server.read_timeout),
    live("server.shutdown_grace", |a, b| a.server.shutdown_grace == b.server.shutdown_grace),
    live("server.trusted_proxies", |a, b| a.server.trusted_proxies == b.server.trusted_proxies),
    live("cors.origins", |a, b| a.cors.origins == b.cors.origins),
    live("cors.methods", |a, b| a.cors.methods == b.cors.methods),
    live("cors.headers", |a, b| a.cors.headers == b.cors.headers),
    live("cors.credentials", |a, b| a.cors.credentials == b.cors.credentials),
    Key { name: "storage.url", same: |a, b| a.storage.path == b.storage.path, when: DATABASE },
    Key {
        name: "storage.url_env",
        // It is another way to say `url`, which tells of the change.
        same: |_, _| true,
        when: DATABASE,
    },
    live("storage.retention", |a, b| a.storage.retention == b.storage.retention),
    live("storage.max_pending", |a, b| a.storage.max_pending == b.storage.max_pending),
    live("scripts.dir", |a, b| a.scripts.dir == b.scripts.dir),
    live("scripts.cpu_budget", |a, b| a.scripts.cpu_budget == b.scripts.cpu_budget),
    Key {
        name: "scripts.memory_budget",
        same: |a, b| a.scripts.memory_budget == b.scripts.memory_budget,
        when: When::Restart(Held {
            keep: |new, running| new.scripts.memory_budget = running.scripts.memory_budget,
            show: |config| print_size(config.scripts.memory_budget),
            why: "the stacks that scripts run on are sized by it",
        }),
    },
    live("scripts.timeout", |a, b| a.scripts.timeout == b.scripts.timeout),
    Key {
        name: "scripts.max_runs",
        same: |a, b| a.scripts.max_runs == b.scripts.max_runs,
        when: When::Restart(Held {
            keep: |new, running| new.scripts.max_runs = running.scripts.max_runs,
            show: |config| config.scripts.max_runs.to_string(),
            why: "the workers' places are counted by it",
        }),
    },
    live("db.NAME.index", |a, b| a.db == b.db),
    Key {
        name: "admin.socket",
        same: |a, b| a.admin.socket == b.admin.socket,
        when: When::Restart(Held {
            keep: |new, running| new.admin.socket.clone_from(&running.admin.socket),
            show: |config| config.admin.socket.display().to_string(),
            why: "it is bound",
        }),
    },
];

const DATABASE: When = When::Restart(Held {
    keep: |new, running| new.storage.path.clone_from(&running.storage.path),
    show: |config| config.storage.path.display().to_string(),
    why: "what is stored is there",
});

/// Whether a script answers.
fn by_script(webhook: &Webhook) -> bool {
    webhook.respond != Respond::WhenStored
}

/// Whether anything is kept of its events.
fn is_stored(webhook: &Webhook) -> bool {
    webhook.respond != Respond::ByScript { stored: false }
}

const WEBHOOK_KEYS: &[WebhookKey] = &[
    WebhookKey { name: "path", same: |a, b| a.path == b.path },
    WebhookKey { name: "scheme", same: |a, b| a.scheme == b.scheme },
    WebhookKey { name: "secret_env", same: |a, b| a.secrets == b.secrets },
    WebhookKey { name: "tolerance", same: |a, b| a.tolerance == b.tolerance },
    WebhookKey { name: "max_body", same: |a, b| a.max_body == b.max_body },
    WebhookKey { name: "timeout", same: |a, b| a.timeout == b.timeout },
    WebhookKey { name: "concurrency", same: |a, b| a.concurrency == b.concurrency },
    WebhookKey { name: "retry.max", same: |a, b| a.retry.max == b.retry.max },
    WebhookKey { name: "retry.base", same: |a, b| a.retry.base == b.retry.base },
    WebhookKey { name: "retry.cap", same: |a, b| a.retry.cap == b.retry.cap },
    WebhookKey { name: "dedupe", same: |a, b| a.dedupe == b.dedupe },
    WebhookKey { name: "ordered_by", same: |a, b| a.ordered_by == b.ordered_by },
    WebhookKey { name: "respond", same: |a, b| by_script(a) == by_script(b) },
    WebhookKey { name: "store", same: |a, b| is_stored(a) == is_stored(b) },
];

const PROVIDER_KEYS: &[ProviderKey] = &[
    ProviderKey { name: "kind", same: |a, b| a.kind == b.kind },
    ProviderKey { name: "base_url", same: |a, b| a.base_url == b.base_url },
    // It is another way to say `base_url`, which tells of the change.
    ProviderKey { name: "base_url_env", same: |_, _| true },
    ProviderKey { name: "also", same: |a, b| a.also == b.also },
    ProviderKey { name: "private_network", same: |a, b| a.private_network == b.private_network },
    ProviderKey { name: "api_key_env", same: |a, b| a.credentials == b.credentials },
    // They are another way to say what `api_key_env` does, which tells of the change.
    ProviderKey { name: "auth.bearer_env", same: |_, _| true },
    ProviderKey { name: "auth.header", same: |_, _| true },
    ProviderKey { name: "auth.query", same: |_, _| true },
    ProviderKey { name: "auth.value_env", same: |_, _| true },
    ProviderKey { name: "auth.basic_user_env", same: |_, _| true },
    ProviderKey { name: "auth.basic_password_env", same: |_, _| true },
    ProviderKey { name: "auth.oauth2.token_url", same: |_, _| true },
    ProviderKey { name: "auth.oauth2.client_id_env", same: |_, _| true },
    ProviderKey { name: "auth.oauth2.client_secret_env", same: |_, _| true },
    ProviderKey { name: "auth.oauth2.scope", same: |_, _| true },
    ProviderKey { name: "auth.oauth2.audience", same: |_, _| true },
    ProviderKey { name: "auth.github_app.app_id", same: |_, _| true },
    ProviderKey { name: "auth.github_app.private_key_env", same: |_, _| true },
    ProviderKey { name: "auth.github_app.installation_id", same: |_, _| true },
    ProviderKey { name: "auth.jwt_bearer.token_url", same: |_, _| true },
    ProviderKey { name: "auth.jwt_bearer.issuer", same: |_, _| true },
    ProviderKey { name: "auth.jwt_bearer.subject", same: |_, _| true },
    ProviderKey { name: "auth.jwt_bearer.private_key_env", same: |_, _| true },
    ProviderKey { name: "auth.jwt_bearer.scope", same: |_, _| true },
    ProviderKey { name: "auth.jwt_bearer.audience", same: |_, _| true },
    ProviderKey { name: "headers", same: |a, b| a.headers == b.headers },
    ProviderKey { name: "descriptor", same: |a, b| a.descriptor == b.descriptor },
    ProviderKey {
        name: "error_when.pointer",
        same: |a, b| told(a, |w| &w.pointer) == told(b, |w| &w.pointer),
    },
    ProviderKey {
        name: "error_when.equals",
        same: |a, b| told(a, |w| &w.equals) == told(b, |w| &w.equals),
    },
    ProviderKey {
        name: "error_when.code",
        same: |a, b| told(a, |w| &w.code) == told(b, |w| &w.code),
    },
    ProviderKey {
        name: "error_when.message",
        same: |a, b| told(a, |w| &w.message) == told(b, |w| &w.message),
    },
    ProviderKey {
        name: "rate_limit",
        same: |a, b| a.resilience.rate_limit == b.resilience.rate_limit,
    },
    ProviderKey {
        name: "concurrency",
        same: |a, b| a.resilience.concurrency == b.resilience.concurrency,
    },
    ProviderKey { name: "timeout", same: |a, b| a.resilience.timeout == b.resilience.timeout },
    ProviderKey {
        name: "retry.max",
        same: |a, b| a.resilience.retry.max == b.resilience.retry.max,
    },
    ProviderKey {
        name: "retry.base",
        same: |a, b| a.resilience.retry.base == b.resilience.retry.base,
    },
    ProviderKey {
        name: "breaker.failure_rate",
        same: |a, b| {
            a.resilience.breaker.failure_rate.total_cmp(&b.resilience.breaker.failure_rate).is_eq()
        },
    },
    ProviderKey {
        name: "breaker.min_calls",
        same: |a, b| a.resilience.breaker.min_calls == b.resilience.breaker.min_calls,
    },
    ProviderKey {
        name: "breaker.open_for",
        same: |a, b| a.resilience.breaker.open_for == b.resilience.breaker.open_for,
    },
    ProviderKey { name: "budget", same: |a, b| a.spending.budgets == b.spending.budgets },
    ProviderKey {
        name: "fallback_model",
        same: |a, b| a.spending.fallback_model == b.spending.fallback_model,
    },
    ProviderKey { name: "prices", same: |a, b| a.spending.prices == b.spending.prices },
    ProviderKey { name: "max_response", same: |a, b| a.max_response == b.max_response },
];

/// A part of what tells an error.
fn told<'a, T>(provider: &'a Provider, part: fn(&'a super::ErrorWhen) -> &'a T) -> Option<&'a T> {
    provider.error_when.as_ref().map(part)
}

/// Whether two tables of one provider mean the same, secrets included.
pub(crate) fn same_provider(before: &Provider, now: &Provider) -> bool {
    before.name == now.name && PROVIDER_KEYS.iter().all(|key| (key.same)(before, now))
}

fn changed_providers(before: &Config, now: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    for provider in &now.providers {
        match before.providers.iter().find(|known| known.name == provider.name) {
            Some(known) => {
                let keys = PROVIDER_KEYS.iter().filter(|key| !(key.same)(known, provider));
                changed.extend(keys.map(|key| format!("providers.{}.{}", provider.name, key.name)));
            }
            None => changed.push(format!("providers.{}", provider.name)),
        }
    }
    let gone = |known: &&Provider| !now.providers.iter().any(|now| now.name == known.name);
    let gone = before.providers.iter().filter(gone);
    changed.extend(gone.map(|gone| format!("providers.{}", gone.name)));
    changed
}

/// The part of a table that tokens of an issuer need.
fn signed(auth: &Auth) -> Option<&SignedAuth> {
    match &auth.kind {
        AuthKind::Signed(signed) => Some(signed),
        AuthKind::Token(_) => None,
    }
}

fn tokens(auth: &Auth) -> Option<&SecretSet> {
    match &auth.kind {
        AuthKind::Token(tokens) => Some(tokens),
        AuthKind::Signed(_) => None,
    }
}

fn key_url(auth: &Auth) -> Option<&str> {
    match &signed(auth)?.keys {
        KeySource::Url(url) => Some(url),
        KeySource::Pem(_) => None,
    }
}

fn public_key(auth: &Auth) -> Option<&SecretSet> {
    match &signed(auth)?.keys {
        KeySource::Pem(key) => Some(key),
        KeySource::Url(_) => None,
    }
}

/// Whether a part of what tokens must say is the same.
fn same_part<T: PartialEq>(a: &Auth, b: &Auth, part: fn(&SignedAuth) -> &T) -> bool {
    signed(a).map(part) == signed(b).map(part)
}

const AUTH_KEYS: &[AuthKey] = &[
    AuthKey {
        name: "kind",
        same: |a, b| {
            signed(a).map(|signed| signed.is_clerk) == signed(b).map(|signed| signed.is_clerk)
        },
    },
    AuthKey { name: "issuer", same: |a, b| same_part(a, b, |signed| &signed.issuer) },
    AuthKey { name: "jwks_url", same: |a, b| key_url(a) == key_url(b) },
    AuthKey { name: "jwt_key_env", same: |a, b| public_key(a) == public_key(b) },
    AuthKey { name: "audience", same: |a, b| same_part(a, b, |signed| &signed.audience) },
    AuthKey {
        name: "authorized_parties",
        same: |a, b| same_part(a, b, |signed| &signed.authorized_parties),
    },
    AuthKey { name: "leeway", same: |a, b| same_part(a, b, |signed| &signed.leeway) },
    AuthKey { name: "token_env", same: |a, b| tokens(a) == tokens(b) },
];

/// A change that counts at the next start only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// `server.listen`.
    pub(crate) key: &'static str,
    /// Why it cannot change: "the workers' sockets are bound to it".
    pub(crate) why: &'static str,
    /// What runs, and what config says; `None` where a value came from the environment and so is not shown.
    pub(crate) values: Option<(String, String)>,
}

/// The names of all keys whose meaning differs: `server.max_body`, `webhooks.clerk.secret_env`, `vars.support_email`. Secrets are
/// compared and not named; a webhook that is new or gone is one name.
pub(crate) fn changed(before: &Config, now: &Config) -> Vec<String> {
    let keys = KEYS.iter().filter(|key| !(key.same)(before, now)).map(|key| key.name.to_owned());
    let tables =
        [changed_auths(before, now), changed_webhooks(before, now), changed_providers(before, now)];
    keys.chain(tables.into_iter().flatten()).chain(changed_vars(before, now)).collect()
}

/// Whether two tables of one webhook mean the same, secrets included.
pub(crate) fn same_webhook(before: &Webhook, now: &Webhook) -> bool {
    before.name == now.name && WEBHOOK_KEYS.iter().all(|key| (key.same)(before, now))
}

/// Lays the running values of what cannot change into a new configuration, and names what so waits for a restart.
pub(crate) fn hold_back(new: &mut Config, running: &Config) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    for key in KEYS.iter().filter(|key| !(key.same)(running, new)) {
        let When::Restart(held) = &key.when else { continue };
        let hidden = comes_from_outside(new, key.name) || comes_from_outside(running, key.name);
        let values = (!hidden).then(|| ((held.show)(running), (held.show)(new)));
        waiting.push(Waiting { key: key.name, why: held.why, values });
    }
    for key in KEYS {
        if let When::Restart(held) = &key.when {
            (held.keep)(new, running);
        }
    }
    waiting
}

/// A value that was filled from the environment is not repeated anywhere.
fn comes_from_outside(config: &Config, key: &str) -> bool {
    let purpose = format!("`{key}`");
    config.variables.iter().any(|variable| variable.purpose == purpose)
}

fn changed_webhooks(before: &Config, now: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    for webhook in &now.webhooks {
        match before.webhooks.iter().find(|known| known.name == webhook.name) {
            Some(known) => {
                let keys = WEBHOOK_KEYS.iter().filter(|key| !(key.same)(known, webhook));
                changed.extend(keys.map(|key| format!("webhooks.{}.{}", webhook.name, key.name)));
            }
            None => changed.push(format!("webhooks.{}", webhook.name)),
        }
    }
    let gone = |known: &&Webhook| !now.webhooks.iter().any(|webhook| webhook.name == known.name);
    changed
        .extend(before.webhooks.iter().filter(gone).map(|gone| format!("webhooks.{}", gone.name)));
    changed
}

fn changed_auths(before: &Config, now: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    for auth in &now.auth {
        match before.auth.iter().find(|known| known.name == auth.name) {
            Some(known) => {
                let keys = AUTH_KEYS.iter().filter(|key| !(key.same)(known, auth));
                changed.extend(keys.map(|key| format!("auth.{}.{}", auth.name, key.name)));
            }
            None => changed.push(format!("auth.{}", auth.name)),
        }
    }
    let gone = |known: &&Auth| !now.auth.iter().any(|auth| auth.name == known.name);
    changed.extend(before.auth.iter().filter(gone).map(|gone| format!("auth.{}", gone.name)));
    changed
}

fn changed_vars(before: &Config, now: &Config) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = before.vars.keys().chain(now.vars.keys()).collect();
    let changed = names.into_iter().filter(|name| before.vars.get(*name) != now.vars.get(*name));
    changed.map(|name| format!("vars.{name}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file;
    use super::super::{How, Source, Variables, load_text};
    use super::*;

    fn config(text: &str, variables: &[(Source, &str, &str)]) -> Config {
        let how = How { development: false, known_schemes: &["svix", "github"] };
        load_text(Path::new("config.toml"), text, &Variables::of(variables), how).unwrap()
    }

    /// Every key that config.toml may have, as a row names it.
    fn keys() -> Vec<String> {
        let of_table = |path: Vec<String>| {
            let keys = file::keys(&path).unwrap_or_default();
            keys.iter().map(move |key| [path.as_slice(), &[(*key).to_owned()]].concat())
        };
        let tables =
            file::TABLES.iter().map(|(path, _)| path.iter().map(|part| (*part).to_owned()));
        let keys = tables.flat_map(|path| of_table(path.collect()));
        // A key that is a table of its own, such as `retry`, is its keys.
        let is_table = |path: &Vec<String>| file::keys(path).is_some();
        keys.filter(|path| !is_table(path)).map(|path| path.join(".")).collect()
    }

    /// Every row, as `keys` names it, with why it waits for a restart.
    fn rows() -> Vec<(String, Option<&'static str>)> {
        let why = |when: &When| match when {
            When::Now => None,
            When::Restart(held) => Some(held.why),
        };
        let keys = KEYS.iter().map(|key| (key.name.to_owned(), why(&key.when)));
        let webhooks = WEBHOOK_KEYS.iter().map(|key| (format!("webhooks.NAME.{}", key.name), None));
        let providers =
            PROVIDER_KEYS.iter().map(|key| (format!("providers.NAME.{}", key.name), None));
        let auth = AUTH_KEYS.iter().map(|key| (format!("auth.NAME.{}", key.name), None));
        keys.chain(auth).chain(webhooks).chain(providers).collect()
    }

    #[test]
    fn every_key_of_the_file_is_said_to_change_live_or_to_wait_for_a_restart() {
        let (mut keys, rows) = (keys(), rows());
        let mut named: Vec<String> = rows.into_iter().map(|(name, _)| name).collect();
        keys.sort();
        named.sort();
        assert_eq!(keys, named, "a key of config/file.rs needs a row in config/live.rs");
        assert!(keys.len() >= 30);
    }

    #[test]
    fn the_documents_say_what_changes_live_and_what_waits_as_the_rows_do() {
        let line = |(name, why): &(String, Option<&'static str>)| match why {
            None => format!("| `{name}` | at once |"),
            Some(why) => format!("| `{name}` | at the next start: {why} |"),
        };
        let mut table: Vec<String> = rows().iter().map(line).collect();
        table.push("| `vars.NAME` | at once; scripts are loaded anew with it |".to_owned());
        let table = format!("| key | a change counts |\n|---|---|\n{}\n", table.join("\n"));
        let documents = include_str!("../../docs/configuration.md");
        assert!(documents.contains(&table), "docs/configuration.md must hold:\n{table}");
    }

    const WHOLE: &str = r#"
        [server]
        listen = "127.0.0.1:1"
        workers = 1
        [storage]
        url = "sqlite:a.db"
        [scripts]
        memory_budget = "32MiB"
        [admin]
        socket = "a.sock"
        [webhooks.a]
        path = "/a"
        scheme = "svix"
        secret_env = ["NEW", "OLD"]
        [webhooks.b]
        path = "/b"
        scheme = "github"
        secret_env = "B"
        [vars]
        word = "one"
    "#;
    const SECRETS: [(Source, &str, &str); 3] = [
        (Source::DotEnv, "NEW", "canary-1"),
        (Source::DotEnv, "OLD", "canary-2"),
        (Source::DotEnv, "B", "canary-3"),
    ];

    #[test]
    fn what_has_changed_is_told_by_its_keys_alone() {
        let before = config(WHOLE, &SECRETS);
        let check = |from: &str, to: &str, expected: &[&str]| {
            assert!(WHOLE.contains(from), "{from}");
            let now = config(&WHOLE.replace(from, to), &SECRETS);
            assert_eq!(changed(&before, &now), expected, "{from} → {to}");
        };
        check("[server]", "# a comment\n[server]\nmax_body = \"1MiB\"", &[]);
        check(
            "[server]",
            "[server]\nmax_body = \"2MiB\"",
            &[
                "server.max_body",
                // Both have the server's.
                "webhooks.a.max_body",
                "webhooks.b.max_body",
            ],
        );
        check("\"/a\"", "\"/c\"", &["webhooks.a.path"]);
        check("\"NEW\", \"OLD\"", "\"OLD\", \"NEW\"", &["webhooks.a.secret_env"]);
        check("\"B\"", "\"B\"\nretry = { cap = \"2h\" }", &["webhooks.b.retry.cap"]);
        check("[webhooks.b]", "[webhooks.c]", &["webhooks.c", "webhooks.b"]);
        check("word = \"one\"", "word = \"two\"\nother = 1", &["vars.other", "vars.word"]);
        let rotated = [(Source::DotEnv, "NEW", "canary-9"), SECRETS[1], SECRETS[2]];
        let now = config(WHOLE, &rotated);
        assert_eq!(changed(&before, &now), ["webhooks.a.secret_env"]);
        assert!(same_webhook(&before.webhooks[1], &now.webhooks[1]));
        assert!(!same_webhook(&before.webhooks[0], &now.webhooks[0]));
        assert_eq!(changed(&before, &config(WHOLE, &SECRETS[..2])), ["webhooks.b.secret_env"]);
    }

    #[test]
    fn what_cannot_change_keeps_its_value_and_says_both() {
        let running = config(WHOLE, &SECRETS);
        let text = WHOLE
            .replace("127.0.0.1:1", "127.0.0.1:2")
            .replace("workers = 1", "workers = 2")
            .replace("a.db", "b.db")
            .replace("32MiB", "64MiB")
            .replace("a.sock", "b.sock")
            .replace("\"one\"", "\"two\"");
        let mut new = config(&text, &SECRETS);
        let waiting = hold_back(&mut new, &running);
        let told: Vec<_> = waiting
            .iter()
            .map(|waits| (waits.key, waits.values.clone().unwrap()))
            .map(|(key, (running, written))| format!("{key} {running} {written}"))
            .collect();
        assert_eq!(
            told,
            [
                "server.listen 127.0.0.1:1 127.0.0.1:2",
                "server.workers 1 2",
                "storage.url a.db b.db",
                "scripts.memory_budget 32MiB 64MiB",
                "admin.socket a.sock b.sock",
            ]
        );
        assert_eq!(changed(&running, &new), ["vars.word"]);
    }

    #[test]
    fn a_value_that_came_from_the_environment_is_not_told() {
        let running = config(WHOLE, &SECRETS);
        let hidden = |text: &str, variable: (Source, &str, &str)| {
            let variables = [SECRETS[0], SECRETS[1], SECRETS[2], variable];
            let waiting = hold_back(&mut config(text, &variables), &running);
            assert_eq!(waiting.len(), 1, "{waiting:?}");
            assert_eq!(waiting[0].values, None);
        };
        let text = WHOLE.replace("url = \"sqlite:a.db\"", "url_env = \"URL\"");
        hidden(&text, (Source::DotEnv, "URL", "sqlite:canary.db"));
        let text = WHOLE.replace("127.0.0.1:1", "127.0.0.1:${PORT}");
        hidden(&text, (Source::DotEnv, "PORT", "4711"));
    }
}
