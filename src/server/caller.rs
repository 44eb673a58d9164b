//! Who calls a route, before anything of its body is read. A route that asks for a caller never runs without one: what cannot be told is refused.

use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::answer::Problem;
use super::router::Context;
use crate::auth::{Caller, Presented, Refusal};
use crate::script::api::request::CallerInput;
use crate::script::handler::{OPEN, Options};

/// A caller, with the table that knows it.
pub(super) struct Known {
    /// Of config.
    pub(super) auth: Box<str>,
    pub(super) caller: Caller,
}

impl Known {
    /// Who it is, where that is one person; a shared token stands for many.
    pub(super) fn user(&self) -> Option<&str> {
        (*self.caller.user_id != *self.auth).then_some(&*self.caller.user_id)
    }

    /// As scripts see it.
    pub(super) fn input(&self) -> CallerInput {
        let Caller { user_id, claims, email, first_name, last_name } = self.caller.clone();
        CallerInput { user_id, claims, email, first_name, last_name }
    }
}

/// The caller that a route's registration asks for; `None`: it lets anybody call.
pub(super) async fn identify(
    context: &Context<'_>,
    options: &Options,
    parts: &Parts,
) -> Result<Option<Known>, Problem> {
    let Some(name) = options.auth.as_deref().filter(|name| *name != OPEN) else { return Ok(None) };
    // Joining has refused names that no table has.
    let Some(auth) = context.generation.auth(name) else { return Err(Problem::NotConfigured) };
    match auth.identify(&presented(&parts.headers)).await {
        Ok(caller) => Ok(Some(Known { auth: name.into(), caller })),
        Err(refusal) => {
            say_refused(context, name, &refusal);
            Err(Problem::from(&refusal))
        }
    }
}

fn presented(headers: &HeaderMap) -> Presented<'_> {
    Presented {
        authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
        cookies: headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect(),
    }
}

/// That there is no token, or an old one, is everyday life; what a token got wrong is for whoever sets this up, and for nobody else.
fn say_refused(context: &Context<'_>, auth: &str, refusal: &Refusal) {
    let request = &context.id;
    match refusal {
        Refusal::Missing | Refusal::Expired => {
            tracing::debug!(%request, auth, "a request was refused by auth `{auth}`: {refusal}");
        }
        Refusal::Invalid(_) | Refusal::NoKeys => {
            tracing::warn!(%request, auth, "a request was refused by auth `{auth}`: {refusal}");
        }
        Refusal::NotConfigured(_) => {
            tracing::error!(%request, auth, "a request was refused, for auth `{auth}` is not configured: {refusal}");
        }
    }
}
