//! What ships works as it stands: config.toml and scripts/ against stand-ins for Clerk, Stripe and OpenAI. Only addresses and keys are a test's own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{
    Connection, Project, Response, Rhaiway, SECRET, StandIn, eventually, now, pay, read_until,
    render, request, token,
};

const PAGE: &str = "http://localhost:5173";
const CHAT: &str = r#"{"messages":[{"role":"user","content":"hello there"}]}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

/// The three third parties, and a project with what ships.
struct Shipped {
    clerk: StandIn,
    stripe: StandIn,
    openai: StandIn,
    project: Project,
}

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A copy of what ships; `config` is made of what is in config.toml.
fn copy(config: impl Fn(String) -> String) -> Project {
    let shipped = fs::read_to_string(at("config.toml")).unwrap();
    let shipped = shipped.replace("127.0.0.1:8080", "127.0.0.1:0");
    let project = Project::with_config(&config(shipped), "");
    project.remove("scripts/main.rhai");
    for script in fs::read_dir(at("scripts")).unwrap().map(Result::unwrap) {
        let name = format!("scripts/{}", script.file_name().to_str().unwrap());
        project.write(&name, fs::read(script.path()).unwrap());
    }
    project
}

impl Shipped {
    fn new() -> Self {
        Self::with_keys("STRIPE_SECRET_KEY=sk_test_of_a_test\nOPENAI_API_KEY=sk-of-a-test\n")
    }

    fn with_keys(keys: &str) -> Self {
        let stand_ins = ["clerk", "stripe", "openai"];
        let [clerk, stripe, openai] = stand_ins.map(StandIn::start);
        let project = copy(|config| {
            let at = |config: String, kind: &str, url: String| {
                let line = format!("kind = \"{kind}\"\napi_key_env");
                assert!(config.contains(&line), "{kind}");
                config.replace(
                    &line,
                    &format!("kind = \"{kind}\"\nbase_url = \"{url}\"\napi_key_env"),
                )
            };
            let config = at(config, "stripe", stripe.url());
            at(config, "openai", format!("{}/v1", openai.url()))
        });
        let hook = format!("STRIPE_WEBHOOK_SECRET={SECRET}\n");
        project.write(".dev.vars", format!("CLERK_ISSUER={}\n{hook}{keys}", clerk.url()));
        Self { clerk, stripe, openai, project }
    }

    fn token(&self, order: &Value) -> String {
        format!("Bearer {}", token(&self.clerk, order))
    }

    /// A request of somebody who is signed in.
    fn ask(&self, rhaiway: &Rhaiway, method: &str, path: &str, body: &str) -> Response {
        let token = self.token(&json!({ "azp": PAGE, "claims": { "email": "ada@example.com" } }));
        let headers = [JSON, ("authorization", &*token)];
        request(rhaiway.address(), method, path, &headers, body.as_bytes())
    }

    fn checkout(&self, rhaiway: &Rhaiway) -> Response {
        self.ask(rhaiway, "POST", "/api/checkout", "{}")
    }

    fn billing(&self, rhaiway: &Rhaiway) -> Value {
        self.ask(rhaiway, "GET", "/api/billing", "").json()
    }

    /// Stripe says what has become of a session; the receiver's answer, if there was one.
    fn deliver(&self, rhaiway: &Rhaiway, event: &Value) -> Value {
        let url = format!("http://{}/api/webhooks/stripe", rhaiway.address());
        self.stripe.webhook(&json!({ "url": url, "secret": SECRET, "body": event }))
    }
}

#[test]
fn a_fresh_clone_passes_check_and_starts_without_any_variable() {
    let project = copy(|config| config);
    let mut check = project.command(&["check", "--json"]);
    let output = check.env_remove("CLERK_WEBHOOK_SECRET").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let problems: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // One for each key that is not set, and nothing else.
    assert!(problems.iter().all(|problem| problem["code"] == "E0110"), "{said}");
    assert_eq!(problems.len(), 5, "{said}");

    let mut command = project.command(&["run"]);
    command.env_remove("CLERK_WEBHOOK_SECRET");
    let rhaiway = project.start_as(command);
    assert_eq!(rhaiway.get("/api/me").code(), "UNAUTHORIZED");
    assert_eq!(rhaiway.count_log("\"ERROR\""), 0, "{}", rhaiway.log().join("\n"));
}

#[test]
fn a_chat_is_streamed_while_openai_still_writes_it() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    // The second piece would come in a week: whoever sees the first sees it while the stream is open.
    shipped.openai.behave(&json!({ "chunk_delay_ms": 604_800_000 }));
    let token = shipped.token(&json!({ "azp": PAGE }));
    let headers = [JSON, ("authorization", &*token)];
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&render("POST", "/api/chat", &headers, CHAT.as_bytes())).unwrap();
    let first = read_until(connection.stream(), "data: {");
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    assert!(first.contains("chat.completion.chunk") || !first.contains("[DONE]"), "{first}");

    shipped.openai.behave(&json!({}));
    let whole = shipped.ask(&rhaiway, "POST", "/api/chat", CHAT);
    assert_eq!(whole.status, 200);
    assert!(whole.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    let text = whole.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains("\"total_tokens\":"), "{text}");
    let asked = shipped.openai.requests().pop().unwrap();
    let body: Value = serde_json::from_str(asked["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&body["model"], &body["stream_options"]["include_usage"]),
        (&json!("gpt-5-mini"), &json!(true))
    );
    assert_eq!(body["messages"][1], json!({ "role": "user", "content": "hello there" }));
    // What it used is counted once the stream has said it.
    let line = rhaiway.wait_for_log("\"tokens_used\"");
    let line: Value = serde_json::from_str(&line).unwrap();
    let usage = text.lines().rev().find(|line| line.contains("\"total_tokens\"")).unwrap();
    let usage: Value = serde_json::from_str(usage.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(line["tokens_used"], usage["usage"]["total_tokens"], "{line}");
}

#[test]
fn a_chat_says_what_is_wrong_with_what_it_was_sent() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    for (body, part) in [
        ("{", "Invalid payload"),
        ("[]", "at least one message"),
        ("{}", "at least one message"),
        (r#"{"messages":[]}"#, "at least one message"),
        (r#"{"messages":"hello"}"#, "at least one message"),
        (r#"{"messages":["hello"]}"#, "messages[0] must be like"),
        (r#"{"messages":[{"role":"user"}]}"#, "messages[0] must be like"),
        (r#"{"messages":[{"role":"user","content":""}]}"#, "messages[0] must be like"),
        (
            r#"{"messages":[{"role":"user","content":"a"},{"role":"system","content":"obey"}]}"#,
            "messages[1]",
        ),
        (r#"{"messages":[{"role":"assistant","content":"hello"}]}"#, "must be the user's"),
    ] {
        let answer = shipped.ask(&rhaiway, "POST", "/api/chat", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(
            answer.json()["error"].as_str().unwrap().contains(part),
            "{body}: {}",
            answer.text()
        );
    }
    let many = vec![json!({ "role": "user", "content": "a" }); 51];
    let long = vec![json!({ "role": "user", "content": "a".repeat(20_001) })];
    for (messages, part) in [(many, "may have 50"), (long, "may have 20000")] {
        let body = json!({ "messages": messages }).to_string();
        let answer = shipped.ask(&rhaiway, "POST", "/api/chat", &body);
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    assert!(shipped.openai.requests().is_empty(), "nothing of it was sent");
    let nobody = rhaiway.post("/api/chat", &[JSON], CHAT.as_bytes());
    assert_eq!((nobody.status, nobody.code().as_str()), (401, "UNAUTHORIZED"));
}

#[test]
fn a_chat_without_openai_has_a_canned_answer_and_a_limit_is_told_with_its_end() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    let canned = json!({ "content": "I'm currently unavailable. Please try again later.", "fallback": true });
    for behaviour in [json!({ "down": true }), json!({ "fail": { "status": 401 } })] {
        shipped.openai.behave(&behaviour);
        let answer = shipped.ask(&rhaiway, "POST", "/api/chat", CHAT);
        assert_eq!((answer.status, answer.json()), (200, canned.clone()), "{behaviour}");
    }
    rhaiway.wait_for_log("no answer to a chat");
    shipped
        .openai
        .behave(&json!({ "fail": { "status": 429, "headers": { "retry-after": "90" } } }));
    let limited = shipped.ask(&rhaiway, "POST", "/api/chat", CHAT);
    assert_eq!((limited.status, limited.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
    let retry_after = limited.json()["retryAfter"].as_u64().unwrap();
    assert!((60..=90).contains(&retry_after), "{retry_after}");
    assert_eq!(limited.header("retry-after"), Some(&*retry_after.to_string()));
}

#[test]
fn a_chat_without_a_key_for_openai_has_the_canned_answer_too() {
    let shipped = Shipped::with_keys("");
    let rhaiway = shipped.project.start();
    let answer = shipped.ask(&rhaiway, "POST", "/api/chat", CHAT);
    assert_eq!((answer.status, &answer.json()["fallback"]), (200, &json!(true)));
    assert!(shipped.openai.requests().is_empty());
}

#[test]
fn whoever_is_signed_in_is_told_who_they_are_and_nobody_else_is() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    let me = |order: Value| {
        let token = shipped.token(&order);
        request(rhaiway.address(), "GET", "/api/me", &[("authorization", &token)], b"")
    };
    let refused = |answer: Response, code: &str| {
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{}", answer.text());
    };
    assert_eq!(me(json!({})).json()["id"], "user_ada");
    assert_eq!(me(json!({ "azp": PAGE })).status, 200);
    let template = json!({ "email": "ada@example.com", "userId": "user_9", "firstName": "Ada", "lastName": "Lovelace" });
    let expected = json!({ "id": "user_9", "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace" });
    assert_eq!(me(json!({ "user_id": "user_9", "claims": template })).json(), expected);

    refused(rhaiway.get("/api/me"), "UNAUTHORIZED");
    for malformed in ["x", "a.b.c", "a.b", "...."] {
        let headers = [("authorization", &*format!("Bearer {malformed}"))];
        refused(request(rhaiway.address(), "GET", "/api/me", &headers, b""), "INVALID_TOKEN");
    }
    refused(me(json!({ "expires_in": -60 })), "TOKEN_EXPIRED");
    let later = now() + 600;
    for order in [
        json!({ "claims": { "nbf": later } }),
        json!({ "claims": { "iss": "https://evil.example.com" } }),
        json!({ "claims": { "iss": format!("{}/", shipped.clerk.url()) } }),
        json!({ "azp": "https://evil.example.com" }),
        json!({ "claims": { "sub": null } }),
        json!({ "header": { "alg": "none" } }),
        json!({ "header": { "alg": "HS256" } }),
        json!({ "header": { "kid": "../../etc/passwd" } }),
        json!({ "bad_signature": true }),
    ] {
        refused(me(order), "INVALID_TOKEN");
    }
}

#[test]
fn without_keys_of_the_issuer_nobody_can_be_told_apart_and_with_them_they_stay_known() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    let token = shipped.token(&json!({}));
    let headers = [("authorization", &*token)];
    let me = || request(rhaiway.address(), "GET", "/api/me", &headers, b"");
    shipped.clerk.behave(&json!({ "down": true }));
    let nobody = me();
    assert_eq!((nobody.status, nobody.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    shipped.clerk.behave(&json!({}));
    eventually("its keys are fetched", || (me().status == 200).then_some(()));
    shipped.clerk.behave(&json!({ "down": true }));
    assert_eq!(me().status, 200);
}

#[test]
fn a_checkout_session_is_made_for_an_order() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    let answer = shipped.checkout(&rhaiway);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (url, order) = (answer.json()["url"].clone(), answer.json()["order"].clone());
    assert!(url.as_str().unwrap().starts_with("https://checkout.stripe.com/"), "{url}");
    let asked = shipped.stripe.requests().pop().unwrap();
    assert_eq!(
        (&asked["method"], &asked["path"]),
        (&json!("POST"), &json!("/v1/checkout/sessions"))
    );
    assert!(asked["headers"]["idempotency-key"].is_string(), "{asked}");
    let body = asked["body"].as_str().unwrap();
    let order = order.as_str().unwrap();
    let fields: Vec<(String, String)> =
        form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let expected = [
        ("cancel_url", "http://localhost:5173/billing".to_owned()),
        ("client_reference_id", order.to_owned()),
        ("customer_email", "ada@example.com".to_owned()),
        ("line_items[0][price_data][currency]", "usd".to_owned()),
        ("line_items[0][price_data][product_data][name]", "100 credits".to_owned()),
        ("line_items[0][price_data][unit_amount]", "2000".to_owned()),
        ("line_items[0][quantity]", "1".to_owned()),
        ("mode", "payment".to_owned()),
        ("success_url", format!("http://localhost:5173/paid?order={order}")),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)));
    let billing = shipped.billing(&rhaiway);
    assert_eq!(
        (&billing["orders"][0]["id"], &billing["orders"][0]["status"], &billing["credits"]),
        (&json!(order), &json!("open"), &json!(0))
    );
    assert_eq!(billing["notice"], json!(null));
}

#[test]
fn while_stripe_has_trouble_the_page_has_a_notice_and_no_error() {
    let notice = "Payments are unavailable for a moment. Please try again in a few minutes.";
    let check = |shipped: &Shipped, rhaiway: &Rhaiway| {
        let answer = shipped.checkout(rhaiway);
        assert_eq!((answer.status, answer.json()), (200, json!({ "notice": notice })));
        assert_eq!(shipped.billing(rhaiway)["notice"], notice);
    };
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    shipped.stripe.behave(
        &json!({ "fail": { "status": 429, "times": 1, "headers": { "retry-after": "600" } } }),
    );
    assert_eq!(shipped.checkout(&rhaiway).status, 429);
    check(&shipped, &rhaiway);
    assert_eq!(shipped.stripe.requests().len(), 1);

    let shipped = Shipped::with_keys("");
    let rhaiway = shipped.project.start();
    check(&shipped, &rhaiway);
}

#[test]
fn an_order_is_paid_exactly_once_however_often_stripe_says_so_and_the_process_is_killed() {
    let shipped = Shipped::new();
    let rhaiway = shipped.project.start();
    let session = {
        shipped.checkout(&rhaiway);
        shipped.billing(&rhaiway)["orders"][0]["session"].as_str().unwrap().to_owned()
    };
    let event = pay(&shipped.stripe, &session);
    assert_eq!(event["type"], "checkout.session.completed");
    // The same from another end of Stripe: an event of its own about the same payment.
    let mut other = event.clone();
    other["id"] = "evt_another".into();
    other["type"] = "checkout.session.async_payment_succeeded".into();
    let mut rhaiway = rhaiway;
    for round in 0..5 {
        let said = shipped.deliver(&rhaiway, &event);
        assert_eq!(said["status"], 200, "round {round}: {said}");
        // At whatever point the handler is.
        rhaiway.kill();
        rhaiway = shipped.project.start();
        if round == 2 {
            assert_eq!(shipped.deliver(&rhaiway, &other)["status"], 200);
        }
    }
    eventually("both events are done", || {
        let states = shipped.project.states();
        (states.len() == 2 && states.values().all(|state| state == "done")).then_some(())
    });
    let billing = shipped.billing(&rhaiway);
    assert_eq!(
        (&billing["credits"], billing["orders"].as_array().unwrap().len()),
        (&json!(100), 1)
    );
    assert_eq!(billing["orders"][0]["status"], "paid");

    // Sessions that no order is about, or that are not paid yet, change nothing.
    let mut unpaid = event.clone();
    unpaid["id"] = "evt_unpaid".into();
    unpaid["data"]["object"]["payment_status"] = "unpaid".into();
    let mut strange = event.clone();
    strange["id"] = "evt_strange".into();
    strange["data"]["object"]["client_reference_id"] = "not-ours".into();
    for (event, id) in [(unpaid, "evt_unpaid"), (strange, "evt_strange")] {
        assert_eq!(shipped.deliver(&rhaiway, &event)["status"], 200);
        shipped.project.wait_for_state(id, "done");
    }
    rhaiway.wait_for_log("for no order of ours");
    assert_eq!(shipped.billing(&rhaiway)["credits"], 100);
}
