//! The descriptors in the binary, held against what the providers publish: their operations, the shapes of their errors. And what a team's
//! own file may say.

use serde_json::{Value, json};

use super::error::{Judged, at};
use super::*;
use crate::provider::error::{What, of_status};

fn built_in(kind: &str) -> Arc<Descriptor> {
    Descriptor::built_in(ProviderKind::of(kind).unwrap())
}

fn kinds() -> impl Iterator<Item = &'static str> {
    ProviderKind::ALL.iter().map(|(_, word)| *word)
}

#[test]
fn every_built_in_descriptor_is_complete() {
    for kind in kinds() {
        let descriptor = built_in(kind);
        assert!(!descriptor.errors.message.is_empty() && !descriptor.errors.code.is_empty());
        for (name, operation) in &descriptor.operations {
            assert!(
                !operation.verb.is_safe()
                    || operation.idempotent && operation.repeat == Repeat::Safe,
                "{name}"
            );
            assert!(operation.page.is_none() || operation.verb == Verb::Get, "{name}");
            let last = name.rsplit('.').next().unwrap();
            assert!(last != "list" || operation.page.is_some(), "{kind} {name} has no pages");
        }
    }
    let counts = kinds().map(|kind| built_in(kind).operations.len());
    assert_eq!(counts.collect::<Vec<_>>(), [144, 181, 60, 0]);
}

#[test]
fn operations_are_asked_as_the_references_say() {
    for (kind, name, verb, path) in [
        ("clerk", "users.get", Verb::Get, "/v1/users/{user_id}"),
        ("clerk", "users.update_metadata", Verb::Patch, "/v1/users/{user_id}/metadata"),
        (
            "clerk",
            "organization_memberships.delete",
            Verb::Delete,
            "/v1/organizations/{organization_id}/memberships/{user_id}",
        ),
        ("stripe", "checkout.sessions.create", Verb::Post, "/v1/checkout/sessions"),
        ("stripe", "payment_intents.capture", Verb::Post, "/v1/payment_intents/{id}/capture"),
        ("stripe", "subscriptions.cancel", Verb::Delete, "/v1/subscriptions/{id}"),
        ("stripe", "invoices.void_invoice", Verb::Post, "/v1/invoices/{id}/void"),
        ("stripe", "billing_portal.sessions.create", Verb::Post, "/v1/billing_portal/sessions"),
        ("openai", "chat.completions.create", Verb::Post, "/chat/completions"),
        ("openai", "audio.transcriptions.create", Verb::Post, "/audio/transcriptions"),
        ("openai", "files.content", Verb::Get, "/files/{file_id}/content"),
    ] {
        let descriptor = built_in(kind);
        let operation = descriptor.operation(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((operation.verb, operation.path.to_string().as_str()), (verb, path), "{name}");
    }
    let repeat = |kind: &str, name: &str| built_in(kind).operation(name).unwrap().repeat;
    assert_eq!(repeat("stripe", "payment_intents.create"), Repeat::Stop);
    assert_eq!(repeat("openai", "chat.completions.create"), Repeat::Safe);
    assert_eq!(repeat("clerk", "users.create"), Repeat::Stop);
    assert_eq!(built_in("http").repeat, Repeat::Safe);
    let stripe = built_in("stripe");
    let idempotency = stripe.idempotency.as_ref().unwrap();
    assert_eq!(idempotency.key_ttl, Duration::from_secs(86_400));
    assert_eq!((&*idempotency.header, &*idempotency.verbs), ("idempotency-key", &[Verb::Post][..]));
}

/// Whose, with which status and body; our code, theirs, and what the message holds.
fn judge(kind: &str, status: u16, body: &Value, expected: Option<(What, &str, &str)>) {
    let judged = built_in(kind).errors.judge(status, Some(body), None);
    let Some((code, theirs, message)) = expected else { return assert_eq!(judged, None) };
    let Judged { what: found, theirs: code_found, message: text, .. } =
        judged.unwrap_or_else(|| panic!("{body}"));
    assert_eq!((found, code_found.as_deref()), (code, Some(theirs)), "{body}");
    assert!(text.as_deref().unwrap_or_default().contains(message), "{text:?}");
}

#[test]
fn clerks_published_errors_are_understood() {
    let error = |code: &str, short: &str, long: &str| {
        json!({ "errors": [{ "message": short, "long_message": long, "code": code, "meta": {} }],
            "clerk_trace_id": "0d2b3a5e" })
    };
    for (status, code, short, long, expected) in [
        (
            404,
            "resource_not_found",
            "not found",
            "No user was found with id user_1",
            What::NotFound,
        ),
        (
            401,
            "authentication_invalid",
            "Invalid authentication",
            "Unable to authenticate the request",
            What::NotConfigured,
        ),
        (
            422,
            "form_identifier_exists",
            "taken",
            "That email address is taken. Please try another.",
            What::Refused,
        ),
        (
            403,
            "authorization_invalid",
            "Unauthorized request",
            "You are not authorized",
            What::Refused,
        ),
        (
            429,
            "too_many_requests",
            "Too many requests",
            "Too many requests. Please try again in a bit.",
            What::RateLimited,
        ),
        (
            500,
            "internal_clerk_error",
            "Oops",
            "There was an internal error on our servers",
            What::Failing,
        ),
    ] {
        judge("clerk", status, &error(code, short, long), Some((expected, code, long)));
    }
    judge("clerk", 200, &json!({ "id": "user_1", "errors": [] }), None);
}

#[test]
fn stripes_published_errors_are_understood() {
    for (status, body, code, theirs, message) in [
        (
            402,
            json!({ "error": { "code": "card_declined", "decline_code": "insufficient_funds",
                "message": "Your card has insufficient funds.", "param": "", "type": "card_error" } }),
            What::Refused,
            "card_declined",
            "insufficient funds",
        ),
        (
            404,
            json!({ "error": { "code": "resource_missing", "message": "No such customer: 'cus_x'",
                "param": "customer", "type": "invalid_request_error" } }),
            What::NotFound,
            "resource_missing",
            "No such customer",
        ),
        (
            400,
            json!({ "error": { "message": "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                "type": "idempotency_error" } }),
            What::Conflict,
            "idempotency_error",
            "same parameters",
        ),
        (
            409,
            json!({ "error": { "code": "idempotency_key_in_use", "message": "There is currently another in-progress request",
                "type": "invalid_request_error" } }),
            What::Conflict,
            "idempotency_key_in_use",
            "in-progress",
        ),
        (
            429,
            json!({ "error": { "code": "rate_limit", "message": "Too many requests in a period of time.",
                "type": "invalid_request_error" } }),
            What::RateLimited,
            "rate_limit",
            "Too many",
        ),
        (
            401,
            json!({ "error": { "message": "Invalid API Key provided: sk_test_****", "type": "invalid_request_error" } }),
            What::NotConfigured,
            "invalid_request_error",
            "Invalid API Key",
        ),
        (
            500,
            json!({ "error": { "message": "An error occurred", "type": "api_error" } }),
            What::Failing,
            "api_error",
            "occurred",
        ),
    ] {
        judge("stripe", status, &body, Some((code, theirs, message)));
    }
}

#[test]
fn openais_published_errors_are_understood_and_an_empty_purse_is_no_rate_limit() {
    let error = |message: &str, kind: &str, code: Value| json!({ "error": { "message": message, "type": kind, "param": null, "code": code } });
    for (status, body, code, theirs) in [
        (
            401,
            error("Incorrect API key provided", "invalid_request_error", json!("invalid_api_key")),
            What::NotConfigured,
            "invalid_api_key",
        ),
        (
            429,
            error("Rate limit reached for gpt-5", "tokens", json!("rate_limit_exceeded")),
            What::RateLimited,
            "rate_limit_exceeded",
        ),
        (
            429,
            error(
                "You exceeded your current quota",
                "insufficient_quota",
                json!("insufficient_quota"),
            ),
            What::OverBudget,
            "insufficient_quota",
        ),
        (
            429,
            error("You exceeded your current quota", "insufficient_quota", json!("some_new_code")),
            What::OverBudget,
            "some_new_code",
        ),
        (
            404,
            error(
                "The model `gpt-9` does not exist",
                "invalid_request_error",
                json!("model_not_found"),
            ),
            What::NotFound,
            "model_not_found",
        ),
        (
            400,
            error(
                "This model's maximum context length",
                "invalid_request_error",
                json!("context_length_exceeded"),
            ),
            What::Refused,
            "context_length_exceeded",
        ),
        (
            503,
            error("The engine is overloaded", "server_error", Value::Null),
            What::Failing,
            "server_error",
        ),
    ] {
        judge("openai", status, &body, Some((code, theirs, "")));
    }
}

#[test]
fn errors_of_unknown_apis_are_looked_for_in_the_usual_places() {
    let problem = json!({ "type": "about:blank", "title": "Not Found", "detail": "No order 5", "status": 404 });
    judge("http", 404, &problem, Some((What::NotFound, "about:blank", "No order 5")));
    let oauth = json!({ "error": "invalid_grant", "error_description": "Bad code" });
    judge("http", 400, &oauth, Some((What::Refused, "invalid_grant", "Bad code")));
    let bare = built_in("http").errors.judge(503, None, None).unwrap();
    assert_eq!((bare.what, bare.message), (What::Failing, None));
    for (status, code) in [
        (408, What::Failing),
        (410, What::NotFound),
        (412, What::Conflict),
        (413, What::Refused),
        (425, What::Failing),
        (529, What::Failing),
    ] {
        assert_eq!(of_status(status), code, "{status}");
    }
}

/// The example of docs/providers.md.
fn slack() -> Descriptor {
    let page = include_str!("../../../docs/providers.md");
    let (_, text) = page.split_once("```toml\n# providers/slack.toml\n").unwrap();
    let text = text.split("```").next().unwrap();
    Descriptor::read("providers/slack.toml", text)
        .unwrap_or_else(|frames| panic!("{}", frames[0].render(false)))
}

#[test]
fn v11_the_example_of_the_documents_loads_and_finds_errors_behind_status_200() {
    let slack = slack();
    let body = json!({ "ok": false, "error": "channel_not_found" });
    let judged = slack.errors.judge(200, Some(&body), None).unwrap();
    assert_eq!(judged.what, What::NotFound);
    assert_eq!(judged.theirs.as_deref(), Some("channel_not_found"));
    let limited = json!({ "ok": false, "error": "ratelimited" });
    let limited = slack.errors.judge(200, Some(&limited), None).unwrap();
    assert_eq!(limited.what, What::RateLimited);
    let other =
        slack.errors.judge(200, Some(&json!({ "ok": false, "error": "new" })), None).unwrap();
    assert_eq!(other.what, What::Refused);
    assert_eq!(slack.errors.judge(200, Some(&json!({ "ok": true })), None), None);
    let list = slack.operation("conversations.list").unwrap();
    assert!(matches!(list.page.as_ref().unwrap().next, Next::Cursor { .. }));
    // What it leaves open is as in http.toml.
    assert_eq!(slack.form, built_in("http").form);
}

#[test]
fn the_example_of_the_catalogue_gives_its_code() {
    let page = crate::catalogue::page("E0121").unwrap();
    let (_, example) = page.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let text = format!("base_url = \"https://x.example\"\n{example}");
    let told = problems(&text);
    assert!(matches!(&told[..], [only] if only.starts_with("E0121 3:1 ")), "{told:?}");
}

/// The problems of a text, each as code, line and column, title and label.
fn problems(text: &str) -> Vec<String> {
    let frames = Descriptor::read("providers/x.toml", text).expect_err(text);
    let told = |frame: &Frame| {
        let place = frame.place.as_ref().unwrap();
        let (line, column) = place.line_column();
        format!("{} {line}:{column} {} | {}", frame.code, frame.title, place.label)
    };
    frames.iter().map(told).collect()
}

#[test]
fn everything_that_is_wrong_is_told_with_its_place() {
    let text = "base_ur = \"https://x.example\"\nencoding = \"jsn\"\n\n[operations]\n\
        \"a.get\" = { methd = \"GET\", path = \"/a\" }\n\"b.new\" = { method = \"GET\", path = \"/b\" }\n\
        \"c.list\" = { method = \"GET\", path = \"c\", page = \"al\" }\n\"d\" = { method = 5, path = \"/d\" }\n\
        \"d.e\" = { method = \"GET\", path = \"/d/{id\" }\n\n[pages.all]\nkind = \"whole\"\n";
    assert_eq!(
        problems(text),
        [
            "E0101 1:1 the file has no key `base_ur` | did you mean `base_url`?",
            "E0102 2:12 this must be one of `json`, `form`, `multipart` | did you mean `json`?",
            "E0101 5:13 `a.get` has no key `methd` | did you mean `method`?",
            "E0121 6:1 `b.new` cannot be the name of an operation | Rhai keeps `new` for itself, so it does not parse after a dot",
            "E0102 7:37 this must be a path, such as `\"/users/{id}\"` | a path begins with one `/`",
            "E0102 7:49 this must be one of `all` | did you mean `all`?",
            "E0121 8:1 `d` is an operation, and a resource too | there is `d.e`",
            "E0102 8:18 `method` in `d` has the wrong type | this must be text in quotes",
            "E0102 9:34 this must be a path, such as `\"/users/{id}\"` | write parameters as `{name}`, each with a name of its own",
        ]
    );
    assert!(problems("a = = 1")[0].starts_with("E0103 1:"));
}

#[test]
fn values_outside_their_bounds_are_refused() {
    for (text, code) in [
        ("base_url = \"https://user:pass@x.example\"", "E0102"),
        ("base_url = \"ftp://x\"", "E0102"),
        ("auth = \"berer\"", "E0102"),
        ("auth = { header = \"x y\" }", "E0102"),
        ("rate_limit = [\"100\"]", "E0102"),
        ("headers = { authorization = \"Bearer x\" }", "E0102"),
        ("headers = { x-a = \"b\\nc\" }", "E0102"),
        ("idempotency = { header = \"x-key\", key_ttl = \"24\" }", "E0102"),
        ("errors.status.42 = \"CONFLICT\"", "E0102"),
        ("errors.codes.a = \"conflict\"", "E0102"),
        ("errors.message = [\"error\"]", "E0102"),
        ("error_when = { pointer = \"/ok\", equals = [1] }", "E0102"),
        (
            "prices = { as_of = \"2026-06-21\", models = { m = { input = -1.0, output = 1.0 } } }",
            "E0102",
        ),
        ("pages.a = { kind = \"cursor\", param = \"after\" }", "E0102"),
    ] {
        let problems = problems(text);
        assert!(problems[0].starts_with(code), "{text}: {problems:?}");
    }
}

#[test]
fn a_pointer_names_a_value_of_an_answer() {
    let value = json!({ "a": [{ "b": 1 }], "": 2 });
    let get = |pointer: &str| at(&value, &pointer.parse().unwrap()).cloned();
    assert_eq!(get("/a/0/b"), Some(json!(1)));
    assert_eq!(get("/"), Some(json!(2)));
    assert_eq!(get(""), Some(value.clone()));
    for absent in ["/a/00/b", "/a/+0", "/a/1", "/a/0/b/c", "/x"] {
        assert_eq!(get(absent), None, "{absent}");
    }
}
