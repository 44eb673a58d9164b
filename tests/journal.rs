//! Outbound calls of handlers that run more than once: the same key where a call may have been made, no second effect, and what is on disk says what happened.

use serde_json::{Value, json};

use crate::support::{Project, Rhaiway, StandIn, clerk_event, signed};

/// Calls Stripe, then takes as long as it is told to.
fn script(sleep: &str) -> String {
    format!(
        r#"
        webhook("clerk", "*", |event| {{
            let customer = stripe.customers.create(#{{ metadata: #{{ user: event.data.id }} }});
            log.info("called");
            sleep("{sleep}");
            db.customers.increment(customer.id, "n", 1);
        }});
        get("/customers", #{{ auth: "none" }}, |req| db.customers.list());
        "#
    )
}

fn project(stripe: &StandIn, script: &str) -> Project {
    let more = format!(
        "retry = {{ max = 3, base = \"10ms\" }}\n[providers.stripe]\nkind = \"stripe\"\nbase_url = \"{}\"\napi_key_env = \"STRIPE_KEY\"\n",
        stripe.url()
    );
    let project = Project::with_more(&more, script);
    project.write(".dev.vars", "STRIPE_KEY=sk_test_of_a_journal\n");
    project
}

fn deliver(rhaiway: &Rhaiway) {
    let delivery = signed("msg_1", clerk_event("user.created", "user_1", 1));
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
}

/// The idempotency keys of the calls that came, the oldest first.
fn keys(stripe: &StandIn) -> Vec<String> {
    let posts = stripe.requests().into_iter().filter(|request| request["method"] == "POST");
    posts
        .map(|request| request["headers"]["idempotency-key"].as_str().expect("a key").to_owned())
        .collect()
}

fn customers(stripe: &StandIn) -> Vec<Value> {
    stripe.json(200, "GET", "/v1/customers", &Value::Null)["data"].as_array().unwrap().clone()
}

#[test]
fn w12_after_kill_9_in_the_handler_the_call_carries_the_same_key_and_no_effect_comes_twice() {
    let stripe = StandIn::start("stripe");
    let project = project(&stripe, &script("50s"));
    let rhaiway = project.start();
    deliver(&rhaiway);
    rhaiway.wait_for_log("called");
    rhaiway.kill();
    project.write("scripts/main.rhai", script("1ms"));
    let rhaiway = project.start();
    project.wait_for_state("msg_1", "done");
    let sent = keys(&stripe);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0], sent[1]);
    let made = customers(&stripe);
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(rhaiway.get("/customers").json(), json!([{ "id": made[0]["id"], "n": 1 }]));
}

#[test]
fn rule_13_a_retry_is_given_what_has_succeeded_and_calls_nobody() {
    let stripe = StandIn::start("stripe");
    let fails_once =
        script("1ms").replacen("sleep(", "if event.attempt == 1 { throw \"broken\"; } sleep(", 1);
    let project = project(&stripe, &fails_once);
    let rhaiway = project.start();
    deliver(&rhaiway);
    project.wait_for_state("msg_1", "done");
    assert_eq!(keys(&stripe).len(), 1);
    let made = customers(&stripe);
    assert_eq!(rhaiway.get("/customers").json(), json!([{ "id": made[0]["id"], "n": 1 }]));
}

#[test]
fn rule_14_a_lost_answer_keeps_the_key_and_a_refusal_takes_a_fresh_one() {
    for (behaviour, same) in [
        (json!({ "fail": { "status": 500, "times": 1 } }), true),
        (json!({ "lose": 1 }), true),
        (json!({ "fail": { "status": 400, "times": 1 } }), false),
    ] {
        let stripe = StandIn::start("stripe");
        stripe.behave(&behaviour);
        let project = project(&stripe, &script("1ms"));
        let config = std::fs::read_to_string(project.at("config.toml")).unwrap();
        project.write("config.toml", format!("{config}retry = {{ max = 0 }}\n"));
        let rhaiway = project.start();
        deliver(&rhaiway);
        project.wait_for_state("msg_1", "done");
        let sent = keys(&stripe);
        assert!(sent.len() >= 2, "{behaviour}: {sent:?}");
        let (first, last) = (&sent[0], &sent[sent.len() - 1]);
        assert_eq!(first == last, same, "{behaviour}: {sent:?}");
        assert_eq!(customers(&stripe).len(), 1, "{behaviour}");
        rhaiway.stop();
    }
}
