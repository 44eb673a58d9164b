//! Who calls a route: from what a request presents to a caller, or to the reason why there is none. It looks at a request's head only, so nobody
//! pays for the body of a stranger. What a token says of itself never decides how it is judged: issuer, keys and algorithms come from config.

use std::sync::Arc;

use crate::clock;
use crate::config::{self, AuthKind, KeySource};

mod presented;
mod token;
mod jwt;
mod claims;
mod key;
mod key_set;
mod pem;
mod cache;
mod fetch;

pub(crate) use self::presented::Presented;

use self::cache::{Cache, NoKey};
use self::claims::Expected;
use self::jwt::Jwt;
use self::key::Key;
use self::token::Tokens;

/// One way to tell callers apart: an `[auth.NAME]` table with the keys that it needs.
pub(crate) struct Auth {
    /// Its name in config.
    pub(crate) name: Box<str>,
    way: Way,
    /// The variables that config names and that hold nothing usable; where there is one and nothing beside it, nobody can be told apart.
    unset: Vec<Box<str>>,
}

enum Way {
    Signed { expected: Expected, keys: Keys, takes_cookie: bool },
    Shared(Tokens),
}

enum Keys {
    /// Of config: no network.
    Given(Option<Box<Key>>),
    /// Of the issuer.
    Fetched(Arc<Cache>),
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `sub` of its token; for a shared token the name of the table.
    pub(crate) user_id: Box<str>,
    /// What the token says of it; JSON as `json::prepare` gives it.
    pub(crate) claims: Box<str>,
    /// Where the claims name one.
    pub(crate) email: Option<Box<str>>,
    /// `first_name`, `firstName` or `given_name` of the claims.
    pub(crate) first_name: Option<Box<str>>,
    /// `last_name`, `lastName` or `family_name` of the claims.
    pub(crate) last_name: Option<Box<str>>,
}

/// Why nobody is known to call. The words are for the log; the client hears which of these it is and no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request presents nothing.
    #[error("there is no token")]
    Missing,
    /// It presents something that is not what config asks for.
    #[error("{0}")]
    Invalid(Invalid),
    /// It was right once.
    #[error("the token has expired")]
    Expired,
    /// The variables that hold nothing usable.
    #[error("no usable value is set for {}", .0.join(", "))]
    NotConfigured(Vec<Box<str>>),
    /// None were fetched yet, or too long ago.
    #[error("the issuer's keys cannot be had")]
    NoKeys,
}

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    /// Not three parts of base64url, or not JSON where JSON belongs.
    #[error("{0}")]
    Form(&'static str),
    /// Its header.
    #[error("its algorithm is not one that its key is for")]
    Algorithm,
    /// No key of that name, after a look at the issuer.
    #[error("no key of the issuer has its `kid`")]
    UnknownKey,
    /// Several keys and no name.
    #[error("it names no key (`kid`), and the issuer has several")]
    NoKeyNamed,
    /// The key says so.
    #[error("its signature is not that of its key")]
    Signature,
    /// `exp`, `nbf`, `iat`.
    #[error("its `{0}` is no time in whole seconds")]
    Time(&'static str),
    /// `nbf`, `iat`.
    #[error("its `{0}` is in the future")]
    Early(&'static str),
    /// Both, so that a slash can be seen.
    #[error("its issuer is {found}, and config says \"{expected}\"{hint}")]
    Issuer {
        /// Quoted and cut.
        found: String,
        /// Of config.
        expected: Box<str>,
        /// Where they are nearly the same.
        hint: &'static str,
    },
    /// `aud`.
    #[error("its `aud` names none of `audience`")]
    Audience,
    /// `azp`.
    #[error("its `azp` is {0}, which is none of `authorized_parties`")]
    Party(String),
    /// `sub`.
    #[error("its `sub` cannot be a user's id")]
    Subject,
    /// `sts` of Clerk's tokens.
    #[error("its session is pending: the user has yet to do what signing in asks for")]
    Pending,
    /// A shared token.
    #[error("it is not the token that config knows")]
    Unknown,
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl Auth {
    /// All of a configuration, with what is wrong with values of their variables. Keys that were fetched for one of `before` are kept.
    pub(crate) fn all(
        tables: &[config::Auth],
        before: &[Arc<Self>],
    ) -> (Vec<Arc<Self>>, Vec<String>) {
        let mut flaws = Vec::new();
        let all = tables.iter().map(|table| Arc::new(Self::new(table, before, &mut flaws)));
        (all.collect(), flaws)
    }

    fn new(table: &config::Auth, before: &[Arc<Self>], flaws: &mut Vec<String>) -> Self {
        let mut unset = Vec::new();
        let way = match &table.kind {
            AuthKind::Token(secrets) => {
                unset.clone_from(&secrets.missing);
                Way::Shared(Tokens::new(secrets))
            }
            AuthKind::Signed(signed) => {
                let keys = match &signed.keys {
                    KeySource::Url(url) => Keys::Fetched(cache_of(url, before)),
                    KeySource::Pem(secrets) => {
                        unset.clone_from(&secrets.missing);
                        let read = secrets.set.first().map(|secret| (secret, pem::key(secret)));
                        Keys::Given(read.and_then(|(secret, key)| match key {
                            Ok(key) => Some(Box::new(key)),
                            Err(flaw) => {
                                let variable = &secret.variable;
                                flaws.push(format!("auth `{}`: `{variable}` {flaw}", table.name));
                                unset.push(variable.clone());
                                None
                            }
                        }))
                    }
                };
                let expected = Expected::of(signed);
                Way::Signed { expected, keys, takes_cookie: signed.is_clerk }
            }
        };
        Self { name: table.name.clone(), way, unset }
    }

    /// Who presents this. It waits where keys have to be fetched first, a few seconds at most.
    pub(crate) async fn identify(&self, presented: &Presented<'_>) -> Result<Caller, Refusal> {
        match &self.way {
            Way::Shared(tokens) => {
                let presented = presented.bearer()?;
                if tokens.is_empty() {
                    return Err(Refusal::NotConfigured(self.unset.clone()));
                }
                tokens.check(presented.ok_or(Refusal::Missing)?)?;
                Ok(Caller::named(&self.name))
            }
            Way::Signed { expected, keys, takes_cookie } => {
                if matches!(keys, Keys::Given(None)) {
                    return Err(Refusal::NotConfigured(self.unset.clone()));
                }
                let token = match presented.bearer()? {
                    None if *takes_cookie => presented.session(),
                    token => token,
                };
                let jwt = Jwt::take_apart(token.ok_or(Refusal::Missing)?)?;
                self.verify(&jwt, keys).await?;
                expected.check(&jwt, clock::now())
            }
        }
    }

    async fn verify(&self, jwt: &Jwt<'_>, keys: &Keys) -> Result<(), Refusal> {
        let clerk = matches!(&self.way, Way::Signed { takes_cookie: true, .. });
        let verify = |key: &Key| {
            if clerk && !key.is_for("RS256") { Err(Invalid::Algorithm) } else { key.verify(jwt) }
        };
        match keys {
            Keys::Given(None) => Err(Refusal::NotConfigured(self.unset.clone())),
            Keys::Given(Some(key)) => Ok(verify(key)?),
            Keys::Fetched(cache) => match cache.key(jwt.kid.as_deref()).await {
                Ok(found) => Ok(verify(found.key())?),
                Err(NoKey::Unknown) => Err(Invalid::UnknownKey.into()),
                Err(NoKey::Unnamed) => Err(Invalid::NoKeyNamed.into()),
                Err(NoKey::NoSet) => Err(Refusal::NoKeys),
            },
        }
    }
}

impl Caller {
    /// For a token that says nothing of who has it.
    fn named(name: &str) -> Self {
        let claims = "{}".into();
        Self { user_id: name.into(), claims, email: None, first_name: None, last_name: None }
    }
}

/// The keys of a URL are the same whoever asks for them.
fn cache_of(url: &str, before: &[Arc<Auth>]) -> Arc<Cache> {
    let cache = |auth: &Arc<Auth>| match &auth.way {
        Way::Signed { keys: Keys::Fetched(cache), .. } if cache.url() == url => {
            Some(Arc::clone(cache))
        }
        Way::Signed { .. } | Way::Shared(_) => None,
    };
    before.iter().find_map(cache).unwrap_or_else(|| Cache::new(url))
}

/// A foreign text as a log may repeat it: quoted, escaped and cut.
fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 100;
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    format!("{cut:?}")
}
