//! Fetches one token: what is asked of an endpoint, and what its answer means. Nothing is repeated here but the client's secret in the body where
//! an endpoint refuses it in the header, since no setting says which of the two a server takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{CredentialsError, Fault};
use super::signing_key::SigningKey;
use super::{FETCH_TIMEOUT, Now, basic, sensitive};
use crate::config::{Asserted, Secret, Token};
use crate::redact::{Kept, keep};

/// Bytes of an answer; a token has a few thousand at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// An assertion begins so long ago: the other clock may be behind.
const ISSUED_BEFORE: i64 = 60;
/// Seconds that an assertion is good for; GitHub takes 10 minutes at most, the 60 s before included.
const ASSERTED_FOR: i64 = 540;
/// The words of RFC 6749, section 5.2: each says that our credentials, or what we ask for, are wrong.
const REFUSALS: [&str; 6] = [
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
];
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// How the tokens of one provider are fetched.
pub(super) enum Fetch {
    Client(Client),
    Installation { url: String, app_id: Box<str>, key: SigningKey },
    Assertion { asserted: Asserted, key: SigningKey },
}

/// OAuth 2 client credentials.
pub(super) struct Client {
    token_url: Box<str>,
    id: Secret,
    secret: Secret,
    scope: Option<Box<str>>,
    audience: Option<Box<str>>,
    /// The endpoint takes the secret in the body; not known before it has refused it in the header.
    in_body: AtomicBool,
}

/// A token and for how long it is good, where that was said.
pub(super) struct Fetched {
    pub(super) header: HeaderValue,
    pub(super) lifetime: Option<Duration>,
    /// Keeps it out of logs.
    pub(super) kept: Kept,
}

/// What an endpoint may say. GitHub has names of its own.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    expires_at: Option<String>,
}

impl Fetch {
    pub(super) fn new(token: &Token, base_url: &str) -> Result<Self, CredentialsError> {
        Ok(match token {
            Token::Client { token_url, id, secret, scope, audience } => Self::Client(Client {
                token_url: token_url.clone(),
                id: id.clone(),
                secret: secret.clone(),
                scope: scope.clone(),
                audience: audience.clone(),
                in_body: AtomicBool::new(false),
            }),
            Token::Installation { app_id, installation_id, private_key } => {
                let base = base_url.trim_end_matches('/');
                let url = format!("{base}/app/installations/{installation_id}/access_tokens");
                Self::Installation {
                    url,
                    app_id: app_id.clone(),
                    key: SigningKey::new(private_key)?,
                }
            }
            Token::Assertion(asserted) => Self::Assertion {
                asserted: asserted.clone(),
                key: SigningKey::new(&asserted.private_key)?,
            },
        })
    }

    pub(super) async fn fetch(
        &self,
        now: Now,
        client: &reqwest::Client,
    ) -> Result<Fetched, CredentialsError> {
        let answer = match self {
            Self::Client(fetch) => fetch.fetch(client).await?,
            Self::Installation { url, app_id, key } => {
                let assertion = key.sign(&times(now, json!({ "iss": app_id })))?;
                let _kept = keep(&assertion);
                // GitHub Docs, "Generating an installation access token for a GitHub App".
                let request = client
                    .post(url)
                    .header(AUTHORIZATION, bearer(&assertion)?)
                    .header(ACCEPT, "application/vnd.github+json")
                    .header("x-github-api-version", "2022-11-28");
                ask(request).await?
            }
            Self::Assertion { asserted, key } => {
                let assertion = key.sign(&claims(now, asserted))?;
                let _kept = keep(&assertion);
                let fields = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                    ("assertion", &assertion),
                ];
                ask(form(client, &asserted.token_url, &fields)).await?
            }
        };
        answer.fetched(now)
    }
}

impl Client {
    async fn fetch(&self, client: &reqwest::Client) -> Result<Answer, CredentialsError> {
        let in_body = self.in_body.load(Ordering::Relaxed);
        let asked = ask(self.request(client, in_body)).await;
        let Err(CredentialsError::Refused { status: 400 | 401, .. }) = asked else { return asked };
        let other = ask(self.request(client, !in_body)).await?;
        self.in_body.store(!in_body, Ordering::Relaxed);
        Ok(other)
    }

    fn request(&self, client: &reqwest::Client, in_body: bool) -> reqwest::RequestBuilder {
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        fields.extend(self.audience.as_deref().map(|audience| ("audience", audience)));
        if in_body {
            fields
                .extend([("client_id", self.id.expose()), ("client_secret", self.secret.expose())]);
            return form(client, &self.token_url, &fields);
        }
        // Both are encoded first (RFC 6749, section 2.3.1).
        let encoded =
            |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
        let value = basic(&encoded(self.id.expose()), &encoded(self.secret.expose()));
        let request = form(client, &self.token_url, &fields);
        match sensitive(&value) {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }
}

/// What an assertion says (RFC 7523, section 3); Google wants the scopes in it.
fn claims(now: Now, asserted: &Asserted) -> Value {
    let mut claims = json!({ "iss": asserted.issuer, "aud": asserted.audience });
    for (name, value) in [("sub", &asserted.subject), ("scope", &asserted.scope)] {
        if let Some(value) = value {
            claims[name] = json!(value);
        }
    }
    times(now, claims)
}

fn times(now: Now, mut claims: Value) -> Value {
    let seconds = now.wall.0.div_euclid(1000);
    claims["iat"] = json!(seconds - ISSUED_BEFORE);
    claims["exp"] = json!(seconds + ASSERTED_FOR);
    claims
}

fn bearer(token: &str) -> Result<HeaderValue, CredentialsError> {
    sensitive(&format!("Bearer {token}"))
        .ok_or_else(|| CredentialsError::unavailable(Fault::NoToken))
}

fn form(client: &reqwest::Client, url: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    client.post(url).header(CONTENT_TYPE, FORM).header(ACCEPT, "application/json").body(body)
}

/// One request, and an answer that gives a token.
async fn ask(request: reqwest::RequestBuilder) -> Result<Answer, CredentialsError> {
    let (status, body) =
        exchange(request.timeout(FETCH_TIMEOUT)).await.map_err(CredentialsError::unavailable)?;
    if (200..300).contains(&status) {
        return serde_json::from_slice(&body)
            .map_err(|_| CredentialsError::unavailable(Fault::NotJson));
    }
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    let word = said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str);
    let word = word.and_then(|word| REFUSALS.into_iter().find(|known| *known == word));
    // 404: the installation or the address is not there, and will not come by waiting.
    if word.is_some() || [401, 403, 404].contains(&status) {
        return Err(CredentialsError::Refused { status, word, retry_after: Duration::ZERO });
    }
    Err(CredentialsError::unavailable(Fault::Status(status)))
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), Fault> {
    let fault = |error: reqwest::Error| match error {
        error if error.is_timeout() => Fault::Slow,
        error if error.is_connect() => Fault::Unreachable,
        _ => Fault::Broken,
    };
    let mut response = request.send().await.map_err(fault)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status().as_u16(), body))
}

impl Answer {
    fn fetched(self, now: Now) -> Result<Fetched, CredentialsError> {
        let no_token = CredentialsError::unavailable(Fault::NoToken);
        let is_bearer =
            self.token_type.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let token = self.access_token.or(self.token).filter(|token| is_bearer && !token.is_empty());
        let token = token.ok_or(no_token)?;
        let lifetime = match (&self.expires_in, &self.expires_at) {
            (Some(seconds), _) => lifetime(seconds),
            (None, Some(time)) => time.parse::<jiff::Timestamp>().ok().map(|ends_at| {
                let left = ends_at.as_millisecond().saturating_sub(now.wall.0);
                Duration::from_millis(u64::try_from(left).unwrap_or(0))
            }),
            (None, None) => None,
        };
        Ok(Fetched { header: bearer(&token)?, lifetime, kept: keep(&token) })
    }
}

/// Some write the number of seconds as text, or with a fraction. Less than nothing is nothing; what is no number says nothing.
fn lifetime(seconds: &Value) -> Option<Duration> {
    let seconds = match seconds {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    if seconds.is_nan() {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}
