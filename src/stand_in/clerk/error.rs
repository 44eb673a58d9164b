//! Clerk's errors: `{"errors":[{message,long_message,code,meta}],"clerk_trace_id"}`
//! (<https://clerk.com/docs/guides/development/errors/backend-api>).

use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ids::Ids;

/// An error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    long_message: String,
    meta: Option<Value>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: &str,
        long_message: &str,
    ) -> Self {
        let (message, long_message) = (message.to_owned(), long_message.to_owned());
        Self { status, code, message, long_message, meta: None }
    }

    pub(super) fn not_found(what: &str, id: &str) -> Self {
        let long_message = format!("No {what} was found with id {id}");
        Self::new(StatusCode::NOT_FOUND, "resource_not_found", "Resource not found", &long_message)
    }

    pub(super) fn no_such_path() -> Self {
        let message = "Resource not found";
        let long_message = "The resource associated with the supplied path could not be found.";
        Self::new(StatusCode::NOT_FOUND, "resource_not_found", message, long_message)
    }

    pub(super) fn missing(param: &str) -> Self {
        let long_message = format!("{param} must be included.");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "form_param_missing", "is missing", &long_message).about(param)
    }

    pub(super) fn bad_param(param: &str) -> Self {
        let long_message =
            format!("{param} does not match one of the allowed values for parameter {param}");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "form_param_value_invalid", "is invalid", &long_message).about(param)
    }

    /// Of a parameter.
    pub(super) fn about(self, param: &str) -> Self {
        Self { meta: Some(json!({ "param_name": param })), ..self }
    }

    pub(super) fn to_answer(&self, ids: &mut Ids) -> Answer {
        let mut error = json!({
            "message": self.message,
            "long_message": self.long_message,
            "code": self.code,
        });
        if let Some(meta) = &self.meta {
            error["meta"] = meta.clone();
        }
        let trace = ids.hex("", 32);
        Answer::json(self.status, &json!({ "errors": [error], "clerk_trace_id": trace }))
            .with("clerk-trace-id", &trace)
    }
}

/// What is said with a status when nothing more is known.
pub(super) fn general(status: StatusCode) -> Problem {
    let (code, message, long_message) = match status.as_u16() {
        401 => (
            "clerk_key_invalid",
            "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.",
            "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.",
        ),
        403 => (
            "authorization_invalid",
            "Unauthorized request",
            "You are not authorized to perform this request",
        ),
        404 => ("resource_not_found", "Resource not found", "The resource could not be found."),
        429 => (
            "too_many_requests",
            "Too many requests. Please try again in a bit.",
            "Too many requests, retry later",
        ),
        500.. => (
            "internal_clerk_error",
            "Oops, an unexpected error occurred",
            "There was an internal error on our servers. We've been notified and are working on fixing it.",
        ),
        _ => ("form_param_invalid", "is invalid", "The request could not be carried out."),
    };
    Problem::new(status, code, message, long_message)
}
