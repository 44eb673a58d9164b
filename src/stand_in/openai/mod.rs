//! OpenAI: chat completions and responses, whole or streamed, embeddings, models, moderations, images, transcriptions, files. It knows no language:
//! it says back what it was told, which is enough to see that each byte arrives. Written from <https://platform.openai.com/docs/api-reference>.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ids::Ids;
use super::objects::{self, Objects};
use super::request::Request;
use super::{Moment, behaviour::Room};

mod chat;
mod embeddings;
mod error;
mod files;
mod reply;
mod responses;

use self::error::{Outcome, Problem};
use self::files::Files;
use self::reply::Usage;

/// What it has: the name, and whose it is.
const MODELS: [&str; 11] = [
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-4.1",
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "omni-moderation-latest",
    "gpt-image-1",
    "whisper-1",
];
/// When all of its models were made, in seconds since the epoch.
const MODELS_CREATED: i64 = 1_754_000_000;
/// Of the tier that it puts everybody in; a request comes back in 6 ms, as real answers say.
const REQUESTS_PER_MINUTE: u32 = 10_000;
const TOKENS_PER_MINUTE: u32 = 2_000_000;
/// What keys begin with.
const KEY_PREFIX: &str = "sk-";
/// A dot of one pixel (PNG), which is all that it paints.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
/// Pictures of one request, as the reference has it.
const PICTURES_MAX: u64 = 10;

/// The stand-in for OpenAI.
#[derive(Default)]
pub(super) struct OpenAi {
    files: Files,
    /// Responses that `previous_response_id` may name, and that may be retrieved.
    responses: Objects,
}

impl OpenAi {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn answer(&mut self, request: &Request, ids: &mut Ids, moment: &Moment) -> Answer {
        let outcome = authorised(request).and_then(|()| self.dispatch(request, ids, moment));
        let (answer, usage) = match outcome {
            Ok(done) => done,
            Err(problem) => (problem.to_answer(), None),
        };
        with_headers(answer, usage, moment.room, ids)
    }

    fn dispatch(&mut self, request: &Request, ids: &mut Ids, moment: &Moment) -> Outcome {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["v1", "chat", "completions"]) => {
                chat::create(&body(request)?, ids, moment.seconds())
            }
            ("POST", ["v1", "responses"]) => {
                responses::create(&body(request)?, &mut self.responses, ids, moment.seconds())
            }
            ("GET", ["v1", "responses", id]) => {
                let found = self.responses.get(id).map(Answer::ok);
                found.map(|answer| (answer, None)).ok_or_else(|| responses::not_found(id))
            }
            ("DELETE", ["v1", "responses", id]) => {
                self.responses.remove(id).ok_or_else(|| responses::not_found(id))?;
                fine(&json!({ "id": id, "object": "response", "deleted": true }))
            }
            ("POST", ["v1", "embeddings"]) => embeddings::create(&body(request)?),
            ("GET", ["v1", "models"]) => {
                fine(&json!({ "object": "list", "data": MODELS.map(model).as_slice() }))
            }
            ("GET", ["v1", "models", id]) => fine(&model(known(id)?)),
            ("POST", ["v1", "moderations"]) => moderate(&body(request)?, ids),
            ("POST", ["v1", "images", "generations"]) => paint(&body(request)?, moment.seconds()),
            ("POST", ["v1", "audio", "transcriptions"]) => files::transcribe(request),
            ("POST", ["v1", "files"]) => self.files.create(request, ids, moment.seconds()),
            ("GET", ["v1", "files"]) => self.files.list(request),
            ("GET", ["v1", "files", id]) => self.files.retrieve(id),
            ("GET", ["v1", "files", id, "content"]) => self.files.content(id),
            ("DELETE", ["v1", "files", id]) => self.files.delete(id),
            (method, _) => Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!("Invalid URL ({method} {})", request.path),
            )),
        }
    }
}

/// An error of this status, in the words that OpenAI has for it.
pub(super) fn failure(status: StatusCode, ids: &mut Ids) -> Answer {
    with_headers(error::general(status).to_answer(), None, None, ids)
}

/// Too many requests; there is room after `wait`.
pub(super) fn limited(answer: Answer, wait: Duration) -> Answer {
    answer
        .with("x-ratelimit-remaining-requests", "0")
        .with("x-ratelimit-reset-requests", &reset(wait))
        .with("retry-after-ms", &wait.as_millis().max(1).to_string())
        .with("retry-after", &(wait.as_secs_f64().ceil().max(1.0)).to_string())
}

fn authorised(request: &Request) -> Result<(), Problem> {
    let Some(key) = request.bearer().filter(|key| !key.is_empty()) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API from your browser and are prompted for a username and password. You can obtain an API key from https://platform.openai.com/account/api-keys.",
        ));
    };
    if key.starts_with(KEY_PREFIX) {
        return Ok(());
    }
    // As the real one, it quotes the ends of the key.
    let start: String = key.chars().take(4).collect();
    let message = format!(
        "Incorrect API key provided: {start}****. You can find your API key at https://platform.openai.com/account/api-keys."
    );
    Err(Problem::new(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key"))
}

fn fine(value: &Value) -> Outcome {
    Ok((Answer::ok(value), None))
}

fn body(request: &Request) -> Result<Value, Problem> {
    request.json().ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
        )
    })
}

/// The model that a body names.
fn model_of(body: &Value) -> Result<&'static str, Problem> {
    match body["model"].as_str() {
        Some(name) => known(name),
        None => Err(Problem::missing("model")),
    }
}

fn known(name: &str) -> Result<&'static str, Problem> {
    MODELS.into_iter().find(|model| *model == name).ok_or_else(|| {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Problem::new(StatusCode::NOT_FOUND, message).with_code("model_not_found")
    })
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": MODELS_CREATED, "owned_by": "system" })
}

fn moderate(body: &Value, ids: &mut Ids) -> Outcome {
    let inputs: Vec<&Value> = match &body["input"] {
        Value::Array(inputs) => inputs.iter().collect(),
        Value::Null => return Err(Problem::missing("input")),
        one => vec![one],
    };
    let results: Vec<Value> = inputs
        .into_iter()
        .map(|input| {
            let text = input.as_str().or_else(|| input["text"].as_str()).unwrap_or_default();
            let flagged = text.to_ascii_lowercase().contains("kill");
            json!({
                "flagged": flagged,
                "categories": categories(|name| json!(flagged && name == "violence")),
                "category_scores": categories(|name| json!(if flagged && name == "violence" { 0.98 } else { 0.0001 })),
                "category_applied_input_types": categories(|_| json!(["text"])),
            })
        })
        .collect();
    fine(&json!({
        "id": ids.next("modr-", 29),
        "model": "omni-moderation-latest",
        "results": results,
    }))
}

fn categories(value: impl Fn(&str) -> Value) -> Value {
    let names = [
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/instructions",
        "self-harm/intent",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ];
    Value::Object(names.into_iter().map(|name| (name.to_owned(), value(name))).collect())
}

fn paint(body: &Value, seconds: i64) -> Outcome {
    if !body["prompt"].is_string() {
        return Err(Problem::missing("prompt"));
    }
    let count = body["n"].as_u64().unwrap_or(1);
    if !(1..=PICTURES_MAX).contains(&count) {
        let message = format!("Invalid 'n': expected a value between 1 and {PICTURES_MAX}.");
        return Err(Problem::bad(message, "n").with_code("integer_out_of_range"));
    }
    let pictures: Vec<Value> = (0..count).map(|_| json!({ "b64_json": PICTURE })).collect();
    let usage = json!({
        "total_tokens": 100,
        "input_tokens": 50,
        "output_tokens": 50,
        "input_tokens_details": { "text_tokens": 50, "image_tokens": 0 },
    });
    fine(&json!({ "created": seconds, "data": pictures, "usage": usage }))
}

fn with_headers(answer: Answer, usage: Option<Usage>, room: Option<Room>, ids: &mut Ids) -> Answer {
    let answer = answer
        .with("x-request-id", &ids.hex("req_", 32))
        .with("openai-version", "2020-10-01")
        .with("openai-organization", "stand-in")
        .with("openai-processing-ms", "12");
    if usage.is_none() && room.is_none() {
        return answer;
    }
    let requests = room.unwrap_or(Room {
        limit: REQUESTS_PER_MINUTE,
        remaining: REQUESTS_PER_MINUTE - 1,
        full_in: Duration::from_secs(60) / REQUESTS_PER_MINUTE,
    });
    let used = usage.map_or(0, Usage::total).min(TOKENS_PER_MINUTE);
    let tokens_full_in = Duration::from_secs(60) * used / TOKENS_PER_MINUTE;
    answer
        .with("x-ratelimit-limit-requests", &requests.limit.to_string())
        .with("x-ratelimit-remaining-requests", &requests.remaining.to_string())
        .with("x-ratelimit-reset-requests", &reset(requests.full_in))
        .with("x-ratelimit-limit-tokens", &TOKENS_PER_MINUTE.to_string())
        .with("x-ratelimit-remaining-tokens", &(TOKENS_PER_MINUTE - used).to_string())
        .with("x-ratelimit-reset-tokens", &reset(tokens_full_in))
}

/// As OpenAI writes a time: `6ms`, `1.5s`, `6m0s`.
fn reset(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{}s", time.as_secs_f64()),
        _ => format!("{}m{}s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// A list of OpenAI's, from newest to oldest, after the object that `after` names.
fn list(all: &Objects, request: &Request, limit_max: usize) -> Result<Value, Problem> {
    let limit = request.number("limit").ok().flatten().unwrap_or(limit_max.min(10_000));
    if !(1..=limit_max).contains(&limit) {
        let message = format!("Invalid 'limit': expected a value between 1 and {limit_max}.");
        return Err(Problem::bad(message, "limit").with_code("invalid_value"));
    }
    let page = objects::page_after(all.newest_first(), request.query("after"), limit);
    let page = page.map_err(|_| Problem::bad("Invalid 'after': no such object.", "after"))?;
    let id = |object: Option<&&Value>| object.map_or(Value::Null, |object| object["id"].clone());
    Ok(json!({
        "object": "list",
        "data": page.items,
        "first_id": id(page.items.first()),
        "last_id": id(page.items.last()),
        "has_more": page.has_more,
    }))
}

/// A server-sent event without a name.
fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (millis, expected) in
            [(0, "0ms"), (6, "6ms"), (1_000, "1s"), (1_500, "1.5s"), (360_000, "6m0s")]
        {
            assert_eq!(reset(Duration::from_millis(millis)), expected);
        }
    }
}
