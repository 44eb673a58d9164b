//! How a provider is told who calls: a header or a query pair on each request. Where that is a token which has to be fetched, one is kept for all
//! workers. No secret and no token is in an error, a log or `Debug`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::clock::Millis;
use crate::config::{self, Secret};

mod error;
mod fetch;
mod signing_key;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use self::error::CredentialsError;
use self::fetch::Fetch;
pub(crate) use self::tokens::TokenId;
use self::tokens::Tokens;

/// The time, as whoever calls has read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// What the rest of the world goes by: for what an assertion says.
    pub(crate) wall: Millis,
    /// What nobody sets: for how long a token is good.
    pub(crate) steady: Millis,
}

/// The credentials of one provider, for all workers.
pub(crate) struct Credentials {
    /// What these were made of: another secret makes others, and drops the token.
    config: Option<config::Credentials>,
    base_url: Box<str>,
    way: Way,
}

enum Way {
    /// The same on every request.
    Fixed(Applied),
    Fetched(Arc<Tokens>),
    Unusable(CredentialsError),
}

/// What a request carries so that the provider knows who calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    /// Marked as sensitive.
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    /// Name and value of a query parameter, not yet encoded.
    pub(crate) query: Option<(Box<str>, Secret)>,
    /// Which token it is, for `invalidate`; `None`: nothing that could be fetched anew.
    pub(crate) token: Option<TokenId>,
}

impl Credentials {
    /// `config`: `None` for a provider that asks nobody who calls. `base_url`: the provider's, under which a GitHub App gets its tokens.
    pub(crate) fn new(config: Option<&config::Credentials>, base_url: &str) -> Self {
        let way = config.map_or(Way::Fixed(Applied::default()), |config| way(config, base_url));
        Self { config: config.cloned(), base_url: base_url.into(), way }
    }

    /// For a new configuration: the same ones with their token where nothing of them has changed, else others.
    pub(crate) fn renewed(
        self: &Arc<Self>,
        config: Option<&config::Credentials>,
        base_url: &str,
    ) -> Arc<Self> {
        if self.config.as_ref() == config && *self.base_url == *base_url {
            return Arc::clone(self);
        }
        Arc::new(Self::new(config, base_url))
    }

    /// What the next request carries. Waits for a token where there is none, until `deadline`. `client` must follow no redirect: a secret
    /// goes where config says and nowhere else.
    pub(crate) async fn apply(
        &self,
        now: Now,
        client: &reqwest::Client,
        deadline: Instant,
    ) -> Result<Applied, CredentialsError> {
        match &self.way {
            Way::Fixed(applied) => Ok(applied.clone()),
            Way::Unusable(error) => Err(error.clone()),
            Way::Fetched(tokens) => {
                let (value, id) = tokens.get(now, client, deadline).await?;
                Ok(Applied { header: Some((AUTHORIZATION, value)), query: None, token: Some(id) })
            }
        }
    }

    /// The provider has answered 401 to this token. Whether another try has a point: it would carry another token.
    pub(crate) fn invalidate(&self, token: TokenId, now: Now) -> bool {
        match &self.way {
            Way::Fetched(tokens) => tokens.invalidate(token, now),
            Way::Fixed(_) | Way::Unusable(_) => false,
        }
    }
}

fn way(config: &config::Credentials, base_url: &str) -> Way {
    use config::Credentials::{Basic, Bearer, Header, Key, Missing, Query, Token};
    let header = match config {
        Missing(variables) => {
            return Way::Unusable(CredentialsError::NotConfigured { variables: variables.clone() });
        }
        Query { name, value } => {
            let query = Some((name.clone(), value.clone()));
            return Way::Fixed(Applied { query, ..Applied::default() });
        }
        Token(token) => {
            return match Fetch::new(token, base_url) {
                Ok(fetch) => Way::Fetched(Arc::new(Tokens::new(fetch))),
                Err(error) => Way::Unusable(error),
            };
        }
        Key(secret) | Bearer(secret) => {
            in_header(AUTHORIZATION, &format!("Bearer {}", secret.expose()), &secret.variable)
        }
        Header { name, value } => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => in_header(name, value.expose(), &value.variable),
            Err(_) => Err(CredentialsError::no_header(&value.variable)),
        },
        Basic { user, password } => {
            let password = password.as_ref().map_or("", Secret::expose);
            in_header(AUTHORIZATION, &basic(user.expose(), password), &user.variable)
        }
    };
    match header {
        Ok(header) => Way::Fixed(Applied { header: Some(header), ..Applied::default() }),
        Err(error) => Way::Unusable(error),
    }
}

/// RFC 7617.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn in_header(
    name: HeaderName,
    value: &str,
    variable: &str,
) -> Result<(HeaderName, HeaderValue), CredentialsError> {
    sensitive(value).map(|value| (name, value)).ok_or_else(|| CredentialsError::no_header(variable))
}

/// `None`: no header can hold this.
fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// No token endpoint takes longer, and no call waits longer for one.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
