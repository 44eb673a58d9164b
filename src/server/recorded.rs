//! Answers that are given once: to deliveries that their script answers (`respond = "script"`), and to requests with an idempotency key. Take the turn →
//! look it up → run → commit event, effects and answer → answer. Whoever comes again hears what was recorded; after a failure nothing is, and
//! the next one runs.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use ring::digest::{Context as Digest, SHA256};

use super::answer::{self, Problem};
use super::body::Body;
use super::caller;
use super::delivery;
use super::route::{self, Asked, Ended, Ran};
use super::router::Context;
use super::turns::{Joined, Of, Turn};
use super::{Client, Counted};
use crate::clock;
use crate::generation::{Match, Pinned};
use crate::inbox::Pass;
use crate::payload::Payload;
use crate::script::api::respond::Answer;
use crate::script::handler::Method;
use crate::store::{
    AnswerKey, Answered, AnsweredEvent, Answering, Attempt, Known, NewEvent, PlannedJob, Recorded,
    StoreError,
};
use crate::webhook::Webhook;

/// Bytes of a body that is kept with its answer. What is larger belongs into a document, not into each answer.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the headers beside it: what clients and proxies take of an answer's head.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes of an idempotency key; a UUID has 36.
const KEY_BYTES_MAX: usize = 255;
/// Who stands in line gives up after so many times the time of one run: the one before may take one, and the one before that is seldom as slow.
const PATIENCE: u32 = 2;

/// What an answer is an answer to.
pub(super) struct Once {
    key: AnswerKey,
    digest: [u8; 32],
}

/// What is committed beside a run's effects.
struct Keeps {
    /// `None`: nothing tells it from another, so no answer is kept.
    once: Option<Once>,
    /// The delivery with its job; `None`: it is a request.
    event: Option<AnsweredEvent>,
}

/// By what a request is known, and whose it is: a key belongs to its caller, so nobody gets another's answer by a key that was guessed or copied.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    /// Holds the key.
    pub(super) header: &'a str,
    /// `None`: anybody may call, and all of them share their keys.
    pub(super) caller: Option<&'a caller::Known>,
}

impl Once {
    /// What tells it from every other.
    pub(super) fn name(&self) -> String {
        format!("{}\n{}", self.key.scope, self.key.key)
    }

    /// By the header that a registration names; `None`: the request has none, and every one is another.
    pub(super) async fn of_request(
        whose: Whose<'_>,
        method: Method,
        path: &str,
        parts: &Parts,
        body: &Payload,
    ) -> Result<Option<Self>, Problem> {
        let Some(key) = key(whose.header, &parts.headers)? else { return Ok(None) };
        let key = whose.owned(key);
        let scope = format!("{} {path}", method.word()).into();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        // None of the parts before the body has a line break.
        let head = [method.word().as_bytes(), b"\n", target.as_bytes(), b"\n"];
        let digest = body.digest(digest_of(&head)).await.map_err(|error| {
            tracing::error!("the body of a request to `{scope}` cannot be read: {error}");
            Problem::Unavailable
        })?;
        let digest = finished(digest);
        Ok(Some(Self { key: AnswerKey { scope, key }, digest }))
    }

    /// By the provider's own id; `None`: it has none, and every one is another.
    fn of_delivery(event: &NewEvent) -> Option<Self> {
        let key = event.delivery_id.clone()?;
        let key = AnswerKey { scope: Arc::clone(&event.webhook), key };
        Some(Self { key, digest: sha256(&[&event.body]) })
    }

    fn turn(&self) -> Of {
        Of::Answer(self.key.clone())
    }

    /// What was answered before, if anything was.
    async fn known(&self, context: &Context<'_>) -> Result<Option<Known>, Problem> {
        let known = context.client.front.executor.reader.known(&self.key).await;
        known.map_err(|error| {
            let scope = &self.key.scope;
            tracing::error!(request = %context.id, "what was answered to `{scope}` could not be looked up: {error}");
            Problem::from(&error)
        })
    }

    /// What whoever comes again gets: the recorded answer, or where no script answered a delivery, what every duplicate gets.
    async fn again(
        &self,
        context: &Context<'_>,
        event: Option<&NewEvent>,
        known: Known,
    ) -> Response<Body> {
        match (known, event) {
            (Known::Event, Some(event)) => delivery::accept(context, event.clone()).await,
            (Known::Answer(recorded), Some(event)) => {
                if recorded.digest != self.digest {
                    delivery::say_differs(context, &event.webhook, event.delivery_id.as_deref());
                }
                answer::replayed(&recorded)
            }
            (Known::Answer(recorded), None) if recorded.digest == self.digest => {
                answer::replayed(&recorded)
            }
            // The scope of a route is no webhook's name, so no event is known under it.
            (Known::Answer(_) | Known::Event, None) => {
                Problem::IdempotencyMismatch.answer(&context.id)
            }
        }
    }
}

impl Whose<'_> {
    /// Neither a key nor the name of a table has a blank, so no two callers can be mixed up.
    fn owned(self, key: Box<str>) -> Box<str> {
        match self.caller {
            None => key,
            Some(known) => format!("{key} {} {}", known.auth, known.caller.user_id).into(),
        }
    }
}

/// Exactly one value of visible ASCII.
fn key(header: &str, headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_key = values.next().is_none()
        && (1..=KEY_BYTES_MAX).contains(&value.len())
        && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let key = value.to_str().ok().filter(|_| is_key);
    key.map(|key| Some(key.into())).ok_or(Problem::BadRequest)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    finished(digest_of(parts))
}

fn digest_of(parts: &[&[u8]]) -> Digest {
    let mut digest = Digest::new(&SHA256);
    parts.iter().for_each(|part| digest.update(part));
    digest
}

fn finished(digest: Digest) -> [u8; 32] {
    digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Answers a request with an idempotency key. One that is under way is not waited for: its client is told that it is.
pub(super) async fn request(context: &Context<'_>, once: Once, asked: Asked) -> Response<Body> {
    let Some(turn) = context.client.front.process.turns.take(once.turn()) else {
        return Problem::Conflict.answer(&context.id);
    };
    match once.known(context).await {
        Ok(None) => {
            let keeps = Keeps { once: Some(once), event: None };
            run(context, [Some(turn), None], None, asked, keeps).await
        }
        Ok(Some(known)) => once.again(context, None, known).await,
        Err(problem) => problem.answer(&context.id),
    }
}

/// Answers a delivery. A second one of the same id waits for the first one's answer, and one of the same order key for its turn.
pub(super) async fn delivery(
    context: &Context<'_>,
    webhook: &Arc<Webhook>,
    event: NewEvent,
) -> Response<Body> {
    match try_delivery(context, webhook, event).await {
        Ok(response) => response,
        Err(problem) => problem.answer(&context.id),
    }
}

async fn try_delivery(
    context: &Context<'_>,
    webhook: &Arc<Webhook>,
    event: NewEvent,
) -> Result<Response<Body>, Problem> {
    let generation = &context.generation;
    let found = generation.matches(&webhook.name, &event.kind).into_iter().next();
    let patience = PATIENCE * timeout(context, webhook, found.as_ref());
    let mut turns = [None, None];
    let once = Once::of_delivery(&event);
    if let Some(once) = &once {
        turns[0] = Some(wait(context, once.turn(), patience).await?);
        if let Some(known) = once.known(context).await? {
            return Ok(once.again(context, Some(&event), known).await);
        }
    }
    // Kept as one that nobody handles, or until a script loads that may.
    let Some(Match { handler, pattern }) = found else {
        return Ok(delivery::accept(context, event).await);
    };
    // Whoever waits for its order has the turn of its id, and never the other way round, so no two wait for each other.
    if let Some(key) = &event.order_key {
        let of = Of::Order { webhook: Arc::clone(&webhook.name), key: key.clone() };
        turns[1] = Some(wait(context, of, patience).await?);
    }
    let inbox = &context.client.front.inbox;
    let pass = inbox
        .enter_webhook(&webhook.name, webhook.concurrency)
        .map_err(|_closed| Problem::Unavailable)?;
    let script = Arc::clone(&generation.handler(handler).0.name);
    let job = PlannedJob { script, pattern: Some(pattern), dead_job: None };
    let asked = delivery::asked(webhook, event.clone(), handler);
    let keeps = Keeps { once, event: Some(AnsweredEvent { event, job, attempt: None }) };
    Ok(run(context, turns, pass, asked, keeps).await)
}

/// Wall time of the run that would answer.
fn timeout(context: &Context<'_>, webhook: &Webhook, found: Option<&Match>) -> Duration {
    let own = found.and_then(|found| context.generation.handler(found.handler).1.options.timeout);
    own.or(webhook.timeout).unwrap_or(context.generation.config.scripts.timeout)
}

/// The turn, as soon as it comes. A client that leaves while it stands in line just goes.
async fn wait(context: &Context<'_>, of: Of, patience: Duration) -> Result<Turn, Problem> {
    let place = match context.client.front.process.turns.join(of) {
        Joined::Now(turn) => return Ok(turn),
        Joined::Later(place) => place,
        Joined::Full => return Err(Problem::Unavailable),
    };
    tokio::select! {
        biased;
        turn = place => turn.map_err(|_gone| Problem::Unavailable),
        () = context.client.stream.left() => Err(Problem::Unavailable),
        () = tokio::time::sleep(patience) => Err(Problem::Unavailable),
    }
}

/// Runs it in a task of its own, which holds its turns and its place to its end, whoever hangs up meanwhile: a commit that was begun must be seen by
/// those who wait.
async fn run(
    context: &Context<'_>,
    turns: [Option<Turn>; 2],
    pass: Option<Pass>,
    asked: Asked,
    keeps: Keeps,
) -> Response<Body> {
    let (id, client) = (context.id.clone(), Rc::clone(context.client));
    let generation = Rc::clone(&context.generation);
    let task = tokio::task::spawn_local(async move {
        let _held = (turns, pass);
        run_here(id, &client, generation, asked, &keeps).await
    });
    task.await.unwrap_or_else(|_panicked| Problem::Script.answer(&context.id))
}

async fn run_here(
    id: Box<str>,
    client: &Rc<Client>,
    generation: Pinned,
    asked: Asked,
    keeps: &Keeps,
) -> Response<Body> {
    let _counted = Counted::new(&client.front.under_way);
    let context = &Context { id, client, generation };
    route::run(context, asked, async |answer, ran| keeps.commit(context, answer, ran).await).await
}

impl Keeps {
    /// Commits all of it or nothing. What somebody else has answered meanwhile is given instead.
    async fn commit(
        &self,
        context: &Context<'_>,
        answer: Answer,
        ran: Ran,
    ) -> Result<Ended, StoreError> {
        let event = self.event.as_ref().map(|answered| tried(context, answered.clone(), &ran));
        let effects = ran.effects;
        let (response, kept) = match &self.once {
            None => (answer::of_script(answer), None),
            Some(once) => {
                if let Err(too_large) = check_size(&answer) {
                    tracing::error!(request = %context.id, "an answer that is to be given again cannot be kept, and nothing of its run is: {too_large}");
                    return Ok(Ended::Answer(Problem::Script.answer(&context.id)));
                }
                let Some(recorded) = recorded(context, answer, once.digest).await else {
                    return Ok(Ended::Answer(Problem::Unavailable.answer(&context.id)));
                };
                (answer::of_recorded(&recorded), Some(recorded))
            }
        };
        let emits = effects.emits.clone();
        let answering = Answering {
            key: self.once.as_ref().map(|once| once.key.clone()),
            event,
            effects,
            answer: kept,
        };
        Ok(match (context.client.front.store.answer(answering).await?, &self.once) {
            (Answered::Yes(after), _) => {
                context.client.front.inbox.follow(&context.generation, after, emits);
                Ended::Answer(response)
            }
            (Answered::Known(known), Some(once)) => {
                let event = self.event.as_ref().map(|answered| &answered.event);
                Ended::Answer(once.again(context, event, known).await)
            }
            // Without a key nothing is known.
            (Answered::Conflict, _) | (Answered::Known(_), None) => Ended::Conflict,
        })
    }
}

/// The delivery with its only attempt, where that logged something.
fn tried(context: &Context<'_>, answered: AnsweredEvent, ran: &Ran) -> AnsweredEvent {
    if ran.log.is_empty() {
        return answered;
    }
    let script = context.generation.script(&answered.job.script);
    let attempt = Attempt {
        job: 0,
        attempt: 1,
        started_at: ran.started_at,
        ended_at: clock::now(),
        generation: context.generation.number,
        version: script.map(|script| Arc::clone(&script.version)),
        error: None,
        log: ran.log.clone(),
    };
    AnsweredEvent { attempt: Some(attempt), ..answered }
}

/// `None`: what it answers with cannot be read from disk, which the log has.
async fn recorded(context: &Context<'_>, answer: Answer, digest: [u8; 32]) -> Option<Recorded> {
    let Answer { status, content_type, headers, body } = answer;
    let read = body.read().await.inspect_err(|error| {
        tracing::error!(request = %context.id, "an answer that is to be given again cannot be read: {error}");
    });
    let content_type = content_type.map(|kind| ("content-type".into(), kind.into()));
    let headers = content_type.into_iter().chain(headers).collect();
    Some(Recorded { digest, status, headers, body: read.ok()?, answered_at: clock::now() })
}

/// Why an answer is too large to be kept.
fn check_size(answer: &Answer) -> Result<(), String> {
    let headers = answer.headers.iter().map(|(name, value)| name.len() + value.len());
    let (headers, body) = (headers.sum::<usize>(), answer.body.len());
    if body > BODY_BYTES_MAX {
        Err(format!("its body has {body} bytes, and {BODY_BYTES_MAX} (1MiB) are kept at most"))
    } else if headers > HEADER_BYTES_MAX {
        Err(format!(
            "its headers have {headers} bytes, and {HEADER_BYTES_MAX} (64KiB) are kept at most"
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};
    use futures_util::FutureExt as _;

    use super::*;

    fn once(target: &str, keys: &[&[u8]], body: &str) -> Result<Option<Once>, Problem> {
        let mut request = Request::builder().uri(target).body(()).unwrap();
        for key in keys {
            let value = HeaderValue::from_bytes(key).unwrap();
            request.headers_mut().append("idempotency-key", value);
        }
        let (parts, ()) = request.into_parts();
        let whose = Whose { header: "idempotency-key", caller: None };
        let body = Payload::from(body.to_owned());
        // What is in memory is not waited for.
        Once::of_request(whose, Method::Post, "/x/{id}", &parts, &body).now_or_never().unwrap()
    }

    #[test]
    fn a_key_is_one_value_of_visible_ascii() {
        let key = |keys: &[&[u8]]| {
            once("/x/1", keys, "").map(|once| once.map(|once| String::from(once.key.key)))
        };
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&[b"a~!-17"]), Ok(Some("a~!-17".to_owned())));
        assert_eq!(key(&[&[b'k'; 255]]), Ok(Some("k".repeat(255))));
        for wrong in
            [&[b"".as_slice()] as &[&[u8]], &[&[b'k'; 256]], &[b"a b"], &[b"\xe9"], &[b"a", b"a"]]
        {
            assert_eq!(key(wrong), Err(Problem::BadRequest), "{wrong:?}");
        }
    }

    #[test]
    fn another_target_or_body_is_another_request() {
        let digest =
            |target: &str, body: &str| once(target, &[b"k"], body).unwrap().unwrap().digest;
        let first = digest("/x/1?a=1", "{}");
        assert_eq!(first, digest("/x/1?a=1", "{}"));
        for (target, body) in [("/x/1?a=2", "{}"), ("/x/2?a=1", "{}"), ("/x/1?a=1", "{} ")] {
            assert_ne!(first, digest(target, body), "{target} {body}");
        }
        let once = once("/x/1", &[b"k"], "").unwrap().unwrap();
        assert_eq!(&*once.key.scope, "POST /x/{id}");
    }
}
