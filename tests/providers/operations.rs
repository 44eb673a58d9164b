//! V22, V27, and of V1 and V16 what needs idempotency keys: operations of a descriptor of the team's own.

use serde_json::{Value, json as value};

use super::{PATIENT, TOLD, TWO_TRIES, answers, config, failed};
use crate::support::upstream::{Step, Upstream, answer, json};
use crate::support::{Project, Rhaiway, clerk_event, event, eventually, signed};

const DESCRIPTOR: &str = r#"
[idempotency]
header = "idempotency-key"
key_ttl = "24h"

[pages.cursor]
kind = "cursor"
items = ["/items"]
param = "cursor"
cursor = "/next"

[pages.url]
kind = "url"
items = ["/items"]
url = "/next"

[operations]
"things.retrieve" = { method = "GET", path = "/things/{id}", doc = "Gives a thing" }
"things.create" = { method = "POST", path = "/things", doc = "Makes a thing" }
"things.list" = { method = "GET", path = "/things", page = "cursor", doc = "Lists things" }
"others.list" = { method = "GET", path = "/others", page = "url", doc = "Lists others" }
"#;

const HANDLER: &str = r#"
webhook("clerk", "*", #{ retry: #{ max: 5, base: "1ms" } }, |event| { x.things.create(#{ of: event.data.id }); });
"#;

/// `/retrieve`, `/create`, `/things`, `/others`, and a handler that creates.
fn operating(upstream: &Upstream, more: &str) -> (Project, Rhaiway) {
    let more = format!("{more}\ndescriptor = \"providers/x.toml\"");
    let route = |verb: &str, name: &str, call: &str| {
        format!(
            "{verb}(\"/{name}\", #{{ auth: \"none\" }}, |req| {{ let seen = []; try {{ {call} }} catch (err) {{ return if type_of(err) == \"map\" {{ {TOLD} }} else {{ #{{ code: \"SCRIPT\", message: err, seen: seen }} }}; }} }});\n"
        )
    };
    let script = [
        route("post", "retrieve", "return #{ got: x.things.retrieve(req.json.id) };"),
        route("post", "create", "return #{ got: x.things.create(#{ a: 1 }) };"),
        route("get", "things", "for thing in x.things.list() { seen.push(thing); } return seen;"),
        route("get", "others", "for thing in x.others.list() { seen.push(thing); } return seen;"),
        HANDLER.to_owned(),
    ]
    .concat();
    let config = config(1, "development", &[("x", &upstream.url(), &more)]);
    let project = Project::with_config(&config, "");
    project.write("providers/x.toml", DESCRIPTOR);
    project.write("scripts/main.rhai", script);
    let rhaiway = project.start();
    (project, rhaiway)
}

fn post(rhaiway: &Rhaiway, path: &str, body: &Value) -> Value {
    rhaiway.post(path, &[("content-type", "application/json")], body.to_string().as_bytes()).json()
}

fn key_of(upstream: &Upstream, request: usize) -> String {
    let asked = upstream.requests();
    asked[request].header("idempotency-key").expect("it has a key").to_owned()
}

#[test]
fn v22_a_path_parameter_stays_in_its_segment_or_is_refused() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let (_project, rhaiway) = operating(&upstream, PATIENT);
    let rows = [
        (value!("a"), "/things/a"),
        (value!(7), "/things/7"),
        (value!("../admin"), "/things/..%2Fadmin"),
        (value!("a/b"), "/things/a%2Fb"),
        (value!("?x=1"), "/things/%3Fx%3D1"),
        (value!("%2e"), "/things/%252e"),
        (value!("a#b c\r\nd"), "/things/a%23b%20c%0D%0Ad"),
    ];
    for (number, (id, expected)) in rows.iter().enumerate() {
        assert_eq!(post(&rhaiway, "/retrieve", &value!({ "id": id }))["got"]["n"], 1, "{id}");
        assert_eq!(upstream.requests()[number].path, *expected);
    }
    for (id, code, part) in [
        (value!(""), "SCRIPT", "`id` is empty"),
        (value!(null), "SCRIPT", "`id` is ()"),
        (value!({}), "SCRIPT", "`id` is a string or a whole number"),
        (value!(".."), "INVALID_REQUEST", "`id`"),
        (value!("."), "INVALID_REQUEST", "`id`"),
    ] {
        failed(&post(&rhaiway, "/retrieve", &value!({ "id": id })), code, part);
    }
    assert_eq!(upstream.requests().len(), rows.len());
}

#[test]
fn v27_a_list_that_has_no_end_or_leads_elsewhere_is_an_error() {
    let page = |next: &str| json(&format!("{{\"items\":[1],\"next\":\"{next}\"}}"));
    let elsewhere = Upstream::always(answers(&json("{\"items\":[9]}")));
    let away = page(&format!("{}/others", elsewhere.url()));
    let cursor = page("same");
    let upstream = Upstream::always(answers(&cursor));
    let (_project, rhaiway) = operating(&upstream, PATIENT);
    let told = rhaiway.get("/things").json();
    failed(&told, "SCRIPT", "list has no end");
    assert_eq!(told["seen"], value!([1, 1]));
    let asked = upstream.requests();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].path, "/things?cursor=same");

    let upstream = Upstream::always(answers(&away));
    let (_project, rhaiway) = operating(&upstream, PATIENT);
    failed(&rhaiway.get("/others").json(), "SERVICE_UNAVAILABLE", "so it was not asked for");
    assert_eq!((upstream.requests().len(), elsewhere.connections()), (1, 0));
}

#[test]
fn v1_v16_what_carries_a_key_is_tried_again_under_the_same_key() {
    // The first connection breaks without an answer, as one does that was closed while it was idle; the next try fails, the third succeeds.
    let upstream = Upstream::start(|number| match number {
        0 => vec![Step::Read, Step::Reset],
        _ => vec![
            Step::Read,
            Step::Send(answer("500 Oops", &[], b"")),
            Step::Read,
            Step::Send(json("{\"n\":1}")),
        ],
    });
    let (_project, rhaiway) = operating(&upstream, "retry = { max = 3, base = \"1ms\" }");
    assert_eq!(post(&rhaiway, "/create", &value!({}))["got"]["n"], 1);
    assert_eq!(upstream.requests().len(), 3);
    let keys = [0, 1, 2].map(|request| key_of(&upstream, request));
    assert!(
        keys[0].starts_with("rhaiway_") && keys[0] == keys[1] && keys[1] == keys[2],
        "{keys:?}"
    );
}

#[test]
fn v16_half_an_answer_to_what_carries_a_key_is_asked_for_again_as_config_says() {
    let upstream = Upstream::always(vec![
        Step::Read,
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
    ]);
    let (_project, rhaiway) = operating(&upstream, PATIENT);
    failed(&post(&rhaiway, "/create", &value!({})), "SERVICE_UNAVAILABLE", "the connection broke");
    assert_eq!(upstream.requests().len(), 1);
    let upstream = Upstream::always(vec![Step::Read, Step::Reset]);
    let (_project, rhaiway) = operating(&upstream, TWO_TRIES);
    failed(&post(&rhaiway, "/create", &value!({})), "SERVICE_UNAVAILABLE", "the connection broke");
    let requests = upstream.requests().len();
    assert!((2..=3).contains(&requests), "{requests}");
}

#[test]
fn rule_14_a_new_attempt_has_the_same_key_after_a_failure_and_a_fresh_one_after_a_refusal() {
    let upstream = Upstream::always(vec![
        Step::Read,
        Step::Send(answer("500 Oops", &[], b"")),
        Step::Read,
        Step::Send(answer("400 Bad Request", &[], b"")),
        Step::Read,
        Step::Send(json("{\"n\":1}")),
    ]);
    let (project, rhaiway) = operating(&upstream, PATIENT);
    assert_eq!(
        rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "user_1", 1))).status,
        200
    );
    eventually("it is done", || event(&project, "msg_1").filter(|event| event["state"] == "done"));
    let keys = [0, 1, 2].map(|request| key_of(&upstream, request));
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
}
