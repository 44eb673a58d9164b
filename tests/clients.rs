//! `examples/openai-proxy`, as it ships, between an app and the stand-in for OpenAI: what the official clients rely on comes through as OpenAI said it.
//! `tests/official/openai` holds the clients themselves to it.

use serde_json::{Value, json};

use crate::support::{Project, Response, Rhaiway, StandIn, request};

const BEARER: (&str, &str) = ("authorization", "Bearer app-token-0123456789");

/// The example's folder, on a free port, with the stand-in in OpenAI's place.
fn start(openai: &StandIn) -> (Project, Rhaiway) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/openai-proxy");
    let config = std::fs::read_to_string(folder.join("config.toml")).unwrap();
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{config}base_url = \"{}/v1\"\n",
        openai.url()
    );
    let project = Project::with_config(&config, "");
    project.write("proxy.rhai", std::fs::read(folder.join("proxy.rhai")).unwrap());
    project.write(
        ".dev.vars",
        "APP_TOKEN=app-token-0123456789\nOPENAI_API_KEY=sk-of-a-test-0123456789\n",
    );
    let rhaiway = project.start();
    (project, rhaiway)
}

fn ask(rhaiway: &Rhaiway, body: &Value) -> Response {
    let headers = [BEARER, ("content-type", "application/json")];
    let body = body.to_string();
    request(rhaiway.address(), "POST", "/v1/chat/completions", &headers, body.as_bytes())
}

fn question() -> Value {
    json!({ "model": "gpt-5", "messages": [{ "role": "user", "content": "say hello" }] })
}

#[test]
fn a_completion_comes_back_with_openais_status_body_and_limits_and_openais_key_stays_here() {
    let openai = StandIn::start("openai");
    let (_project, rhaiway) = start(&openai);
    let answer = ask(&rhaiway, &question());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "chat.completion");
    assert_eq!(answer.json()["choices"][0]["message"]["role"], "assistant");
    assert!(answer.header("x-ratelimit-remaining-requests").is_some());
    let asked = &openai.requests()[0];
    let sent: Value = serde_json::from_str(asked["body"].as_str().unwrap()).unwrap();
    assert_eq!(sent, question(), "as the app asked");
    assert!(!asked.to_string().contains("app-token"), "{asked}");
    let stranger = request(rhaiway.address(), "POST", "/v1/chat/completions", &[], b"{}");
    assert_eq!(stranger.status, 401);
    assert_eq!(openai.requests().len(), 1);
}

#[test]
fn a_stream_comes_through_with_its_usage_and_its_end() {
    let openai = StandIn::start("openai");
    let (_project, rhaiway) = start(&openai);
    let mut asked = question();
    asked["stream"] = true.into();
    asked["stream_options"] = json!({ "include_usage": true });
    let answer = ask(&rhaiway, &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains("\"total_tokens\""), "{text}");
}

#[test]
fn an_error_is_openais_own_whether_a_stream_was_asked_for_or_not() {
    let openai = StandIn::start("openai");
    let (_project, rhaiway) = start(&openai);
    for stream in [false, true] {
        let wrong = json!({ "model": "gpt-5", "messages": [], "stream": stream });
        let direct = openai.ask(
            "POST",
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            &wrong.to_string(),
        );
        let through = ask(&rhaiway, &wrong);
        assert_eq!((through.status, through.json()), (direct.status, direct.json()), "{stream}");
        assert_eq!(through.status, 400);
    }
}

#[test]
fn a_limit_comes_through_with_the_time_to_wait_and_what_never_answers_looks_like_openai_too() {
    let openai = StandIn::start("openai");
    let (_project, rhaiway) = start(&openai);
    let fail = json!({ "status": 429, "times": 1, "headers": { "retry-after": "1" } });
    openai.behave(&json!({ "fail": fail }));
    let limited = ask(&rhaiway, &question());
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    assert!(limited.json()["error"]["message"].is_string(), "{}", limited.text());
    // The gate that it closed opens again.
    assert_eq!(ask(&rhaiway, &question()).status, 200);
    openai.behave(&json!({ "down": true }));
    let down = ask(&rhaiway, &question());
    assert_eq!((down.status, &down.json()["error"]["code"]), (503, &json!("SERVICE_UNAVAILABLE")));
    assert_eq!(down.json()["error"]["type"], "api_error");
}
