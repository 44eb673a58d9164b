//! Order within a key, through the front door: rule 6, and what a crash, a poison event and a second script make of it.

use std::collections::BTreeMap;
use std::thread;

use serde_json::{Value, json};

use crate::support::{Project, Rhaiway, eventually, signed};

/// Says when a handler begins and ends, fails while the document of its event says so, and writes down what is done.
const SCRIPT: &str = r#"
webhook("clerk", |event| {
    let key = event.data.key;
    log.info(`begin ${key} ${event.data.n}`);
    if db.fail.get(`${key}-${event.data.n}`) != () { throw "told to fail"; }
    sleep("3ms");
    let done = db.done.get(key) ?? #{ list: [] };
    done.list.push(event.data.n);
    db.done.put(key, done);
    log.info(`end ${key} ${event.data.n}`);
});
put("/fail/{id}", #{ auth: "none" }, |req| { db.fail.put(req.params.id, #{}); });
delete("/fail/{id}", #{ auth: "none" }, |req| { db.fail.delete(req.params.id); });
get("/done/{id}", #{ auth: "none" }, |req| (db.done.get(req.params.id) ?? #{ list: [] }).list);
"#;
const ORDERED: &str = "ordered_by = \"/data/key\"\n";
const FAST: &str = "retry = { max = 1000, base = \"20ms\", cap = \"20ms\" }";
const SLOW: &str = "retry = { max = 5, base = \"1h\" }";
const NEVER: &str = "retry = { max = 0 }";

fn ordered(retry: &str) -> Project {
    Project::with_more(&format!("{ORDERED}{retry}"), SCRIPT)
}

fn id(key: &str, n: u32) -> String {
    format!("msg_{key}_{n}")
}

fn deliver(rhaiway: &Rhaiway, key: &str, n: u32) {
    let body = json!({ "type": "t", "data": { "key": key, "n": n } }).to_string();
    let answer = rhaiway.deliver(&signed(&id(key, n), body));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn ask(rhaiway: &Rhaiway, method: &str, path: &str) -> Value {
    let answer = crate::support::request(rhaiway.address(), method, path, &[], b"");
    assert!(answer.status < 300, "{method} {path}: {}", answer.text());
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

fn done(rhaiway: &Rhaiway, key: &str) -> Vec<u64> {
    let list = ask(rhaiway, "GET", &format!("/done/{key}"));
    list.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

fn all_done(rhaiway: &Rhaiway, key: &str, expected: &[u64]) {
    eventually(&format!("{key} is through"), || {
        (done(rhaiway, key).len() == expected.len()).then_some(())
    });
    assert_eq!(done(rhaiway, key), expected, "{key}");
}

/// `begin` and `end` lines of the log, as (word, key, number).
fn steps(rhaiway: &Rhaiway) -> Vec<(String, String, u32)> {
    let step = |line: &String| {
        let line: Value = serde_json::from_str(line).ok()?;
        let message = line["message"].as_str()?;
        let words: Vec<&str> = message.split(' ').collect();
        let [word @ ("begin" | "end"), key, n] = words[..] else { return None };
        Some((word.to_owned(), key.to_owned(), n.parse().ok()?))
    };
    rhaiway.log().iter().filter_map(step).collect()
}

/// How many keys were at work at once, at most; panics where one key was twice.
fn keys_at_once(steps: &[(String, String, u32)]) -> usize {
    let mut at_work: BTreeMap<&str, u32> = BTreeMap::new();
    let mut most = 0;
    for (word, key, n) in steps {
        if word == "begin" {
            let other = at_work.insert(key, *n);
            assert!(other.is_none_or(|other| other == *n), "{key}: {n} began within {other:?}");
        } else {
            at_work.remove(&**key);
        }
        most = most.max(at_work.len());
    }
    most
}

#[test]
fn rule_6_events_of_one_key_are_handled_one_at_a_time_in_order_while_others_run() {
    let project = ordered(FAST);
    let rhaiway = project.start();
    let keys: Vec<String> = (0..25).map(|key| format!("k{key}")).collect();
    thread::scope(|scope| {
        for key in &keys {
            let rhaiway = &rhaiway;
            scope.spawn(move || (0..8).for_each(|n| deliver(rhaiway, key, n)));
        }
    });
    for key in &keys {
        all_done(&rhaiway, key, &(0..8).collect::<Vec<u64>>());
    }
    assert!(keys_at_once(&steps(&rhaiway)) > 1, "keys run side by side");
}

#[test]
fn rule_6_a_waiting_retry_blocks_its_key_and_no_other() {
    let project = ordered(FAST);
    let rhaiway = project.start();
    ask(&rhaiway, "PUT", "/fail/a-0");
    (0..3).for_each(|n| deliver(&rhaiway, "a", n));
    project.wait_for_state(&id("a", 0), "retrying");
    deliver(&rhaiway, "b", 0);
    all_done(&rhaiway, "b", &[0]);
    let states = project.states();
    assert_eq!([&states[&id("a", 1)], &states[&id("a", 2)]], ["pending", "pending"]);
    assert!(!steps(&rhaiway).iter().any(|(_, key, n)| key == "a" && *n > 0), "none began");
    ask(&rhaiway, "DELETE", "/fail/a-0");
    all_done(&rhaiway, "a", &[0, 1, 2]);
}

#[test]
fn rule_6_a_dead_letter_does_not_block_its_key() {
    let project = ordered(NEVER);
    let rhaiway = project.start();
    ask(&rhaiway, "PUT", "/fail/a-0");
    (0..3).for_each(|n| deliver(&rhaiway, "a", n));
    all_done(&rhaiway, "a", &[1, 2]);
    project.wait_for_state(&id("a", 0), "dead");
}

#[test]
fn w25_a_poison_event_holds_its_key_until_it_is_dead_and_no_other_key() {
    let project = ordered("retry = { max = 3, base = \"20ms\", cap = \"20ms\" }");
    let rhaiway = project.start();
    ask(&rhaiway, "PUT", "/fail/a-0");
    (0..4).for_each(|n| deliver(&rhaiway, "a", n));
    deliver(&rhaiway, "b", 0);
    all_done(&rhaiway, "b", &[0]);
    let poison = project.wait_for_state(&id("a", 0), "dead");
    assert_eq!(poison["jobs"][0]["attempt"], 4);
    all_done(&rhaiway, "a", &[1, 2, 3]);
    let begun: Vec<u32> = steps(&rhaiway)
        .iter()
        .filter(|(word, key, _)| word == "begin" && key == "a")
        .map(|(.., n)| *n)
        .collect();
    assert_eq!(begun, [0, 0, 0, 0, 1, 2, 3], "the others waited for all of its attempts");
}

#[test]
fn rule_6_events_without_the_pointer_have_no_order() {
    let project = ordered(SLOW);
    let rhaiway = project.start();
    let unordered = |id: &str, key: Value| {
        let body = json!({ "type": "t", "data": { "key": key, "n": 1, "x": id } }).to_string();
        assert_eq!(rhaiway.deliver(&signed(id, body)).status, 200);
    };
    ask(&rhaiway, "PUT", "/fail/-1");
    unordered("msg_1", Value::Null);
    project.wait_for_state("msg_1", "retrying");
    ask(&rhaiway, "DELETE", "/fail/-1");
    unordered("msg_2", Value::Null);
    eventually("the second went past the first", || {
        let state = project.states().get("msg_2").cloned()?;
        (state != "pending").then_some(())
    });
    project.wait_for_state("msg_1", "retrying");
}

#[test]
fn rule_1_each_script_has_its_own_order() {
    let project = ordered(SLOW);
    project.write(
        "scripts/other.rhai",
        r#"
        webhook("clerk", |event| {
            let seen = db.seen.get(event.data.key) ?? #{ list: [] };
            seen.list.push(event.data.n);
            db.seen.put(event.data.key, seen);
        });
        get("/seen/{id}", #{ auth: "none" }, |req| (db.seen.get(req.params.id) ?? #{ list: [] }).list);
        "#,
    );
    let rhaiway = project.start();
    let seen = || ask(&rhaiway, "GET", "/seen/a");
    ask(&rhaiway, "PUT", "/fail/a-0");
    (0..4).for_each(|n| deliver(&rhaiway, "a", n));
    eventually("the other script is through", || (seen() == json!([0, 1, 2, 3])).then_some(()));
    assert_eq!(done(&rhaiway, "a"), Vec::<u64>::new());
    let waiting = project.event_of(&id("a", 2));
    let states: Vec<&Value> =
        waiting["jobs"].as_array().unwrap().iter().map(|job| &job["state"]).collect();
    assert_eq!(states, ["pending", "done"]);
    // What came later goes past as well.
    deliver(&rhaiway, "a", 4);
    eventually("so does what comes now", || (seen() == json!([0, 1, 2, 3, 4])).then_some(()));
    ask(&rhaiway, "DELETE", "/fail/a-0");
    project.write("scripts/main.rhai", format!("{SCRIPT}\n// saved again"));
    all_done(&rhaiway, "a", &[0, 1, 2, 3, 4]);
}

#[test]
fn rule_6_order_survives_kill_9() {
    let project = ordered(FAST);
    let rhaiway = project.start();
    ask(&rhaiway, "PUT", "/fail/a-0");
    ask(&rhaiway, "PUT", "/fail/b-2");
    for key in ["a", "b", "c"] {
        (0..6).for_each(|n| deliver(&rhaiway, key, n));
    }
    all_done(&rhaiway, "b", &[0, 1]);
    rhaiway.kill();
    let rhaiway = project.start();
    deliver(&rhaiway, "a", 6);
    ask(&rhaiway, "DELETE", "/fail/b-2");
    all_done(&rhaiway, "b", &[0, 1, 2, 3, 4, 5]);
    all_done(&rhaiway, "c", &[0, 1, 2, 3, 4, 5]);
    assert_eq!(done(&rhaiway, "a"), Vec::<u64>::new());
    ask(&rhaiway, "DELETE", "/fail/a-0");
    all_done(&rhaiway, "a", &[0, 1, 2, 3, 4, 5, 6]);
    keys_at_once(&steps(&rhaiway));
}

#[test]
fn rule_4_a_dead_letter_that_is_delivered_again_takes_its_place_at_the_end() {
    let project = ordered("retry = { max = 0, base = \"20ms\" }");
    let rhaiway = project.start();
    ask(&rhaiway, "PUT", "/fail/a-0");
    (0..2).for_each(|n| deliver(&rhaiway, "a", n));
    all_done(&rhaiway, "a", &[1]);
    project.wait_for_state(&id("a", 0), "dead");
    ask(&rhaiway, "DELETE", "/fail/a-0");
    deliver(&rhaiway, "a", 0);
    deliver(&rhaiway, "a", 2);
    eventually("all three are through", || (done(&rhaiway, "a").len() == 3).then_some(()));
    assert_eq!(done(&rhaiway, "a"), [1, 0, 2]);
}
