//! OpenAI's errors: `{"error":{message,type,param,code}}`, and what its statuses mean
//! (<https://platform.openai.com/docs/guides/error-codes>).

use hyper::StatusCode;
use serde_json::json;

use super::super::answer::Answer;
use super::reply::Usage;

/// What one operation comes to: an answer, and the tokens that it used where it uses any.
pub(super) type Outcome = Result<(Answer, Option<Usage>), Problem>;

/// An error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = "invalid_request_error";
        Self { status, message: message.into(), kind, param: None, code: None }
    }

    /// A parameter that cannot be so.
    pub(super) fn bad(message: impl Into<String>, param: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).with_param(param)
    }

    /// A parameter that is not there.
    pub(super) fn missing(param: &str) -> Self {
        Self::bad(format!("Missing required parameter: '{param}'."), param)
            .with_code("missing_required_parameter")
    }

    pub(super) fn with_param(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn to_answer(&self) -> Answer {
        let Self { status, message, kind, param, code } = self;
        let error = json!({ "message": message, "type": kind, "param": param, "code": code });
        Answer::json(*status, &json!({ "error": error }))
    }
}

/// What is said with a status when nothing more is known.
pub(super) fn general(status: StatusCode) -> Problem {
    let (message, kind, code) = match status.as_u16() {
        401 => (
            "Incorrect API key provided: sk-x****.",
            "invalid_request_error",
            Some("invalid_api_key"),
        ),
        403 => (
            "Country, region, or territory not supported",
            "request_forbidden",
            Some("unsupported_country_region_territory"),
        ),
        429 => (
            "Rate limit reached for requests. Limit: 3 / min. Please try again in 20s. Visit https://platform.openai.com/account/rate-limits to learn more.",
            "requests",
            Some("rate_limit_exceeded"),
        ),
        503 => (
            "The server is currently overloaded with other requests. Sorry about that! You can retry your request, or contact us through our help center at help.openai.com if the error persists.",
            "service_unavailable_error",
            None,
        ),
        500.. => (
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
            None,
        ),
        _ => ("The request could not be carried out.", "invalid_request_error", None),
    };
    Problem { status, message: message.to_owned(), kind, param: None, code }
}
