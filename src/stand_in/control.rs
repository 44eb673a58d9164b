//! `/_stand_in/`: how a test or the demo tells a stand-in to misbehave, sees what came, has a webhook posted, and does what a person would do at the
//! third party (pay, sign in). These paths answer whatever the rest was told to do.

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::Answer;
use super::behaviour::Behaviour;
use super::request::Request;
use super::{Api, Shared, State, webhook};
use crate::clock;

/// Answers a request whose path has lost its beginning.
pub(super) async fn answer(path: &str, request: &Request, shared: &Shared) -> Answer {
    if request.method == Method::POST && path == "webhook" {
        return posted(request, shared).await.unwrap_or_else(|refusal| *refusal);
    }
    let state = &mut *shared.state();
    let answered = match (request.method.as_str(), path) {
        ("POST", "behave") => behave(request, state),
        ("GET", "requests") => {
            let since = request.number("since").ok().flatten().unwrap_or(0);
            Ok(state.recorded.to_json(since))
        }
        ("DELETE", "requests") => {
            state.recorded.clear();
            Ok(json!({ "count": 0 }))
        }
        ("POST", path) => acted(path, request, state),
        _ => Err(unknown()),
    };
    answered.map_or_else(|refusal| *refusal, |value| Answer::ok(&value))
}

fn behave(request: &Request, state: &mut State) -> Result<Value, Box<Answer>> {
    let behaviour: Behaviour = body(request)?;
    behaviour.check().map_err(|why| refused(StatusCode::BAD_REQUEST, why))?;
    state.behaviour = behaviour;
    Ok(json!({ "behaves": true }))
}

/// What a person does at one third party.
fn acted(path: &str, request: &Request, state: &mut State) -> Result<Value, Box<Answer>> {
    let State { api, ids, .. } = state;
    let bad = |why: String| refused(StatusCode::BAD_REQUEST, &why);
    match (api, path) {
        (Api::Clerk(clerk), "token") => {
            clerk.token(&body(request)?, ids, clock::now()).map_err(bad)
        }
        (Api::Clerk(clerk), "rotate") => Ok(clerk.rotate()),
        (Api::Stripe(stripe), "complete") => {
            let asked: Value = body(request)?;
            let id = asked["session"].as_str().unwrap_or_default();
            let seconds = clock::now().0.div_euclid(1000);
            stripe.complete(id, seconds, ids).map_err(bad)
        }
        (Api::Clerk(_) | Api::Stripe(_) | Api::OpenAi(_), _) => Err(unknown()),
    }
}

async fn posted(request: &Request, shared: &Shared) -> Result<Answer, Box<Answer>> {
    let order: webhook::Order = body(request)?;
    let prepared = webhook::prepare(order, shared.name, &mut shared.state().ids);
    let refuse =
        |error: webhook::WebhookError| refused(StatusCode::BAD_GATEWAY, &error.to_string());
    let said = webhook::post(prepared.map_err(refuse)?).await.map_err(refuse)?;
    Ok(Answer::ok(&said))
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Box<Answer>> {
    let text: &[u8] = if request.body.is_empty() { b"{}" } else { &request.body };
    serde_json::from_slice(text)
        .map_err(|error| refused(StatusCode::BAD_REQUEST, &format!("the body: {error}")))
}

fn unknown() -> Box<Answer> {
    let paths = "POST behave, GET and DELETE requests, POST webhook; of clerk POST token and rotate, of stripe POST complete";
    refused(StatusCode::NOT_FOUND, &format!("no such path below /_stand_in/; there are {paths}"))
}

fn refused(status: StatusCode, why: &str) -> Box<Answer> {
    Box::new(Answer::json(status, &json!({ "error": why })))
}
