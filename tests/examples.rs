//! The scripts of `examples/`, as they ship, in the real binary: a debounce, a saga with its way back, an approval that waits for days. What
//! they promise in their comments is tried here, kill -9 included.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Clock, Connection, Project, Rhaiway, SECRET, Signed, eventually, render, request,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What the world around the examples holds, and what they have written.
const WORLD: &str = r#"
put("/stock/{id}", #{ auth: "none" }, |req| { db.stock.put(req.params.id, req.json); });
put("/accounts/{id}", #{ auth: "none" }, |req| { db.accounts.put(req.params.id, req.json); });
put("/carriers/{id}", #{ auth: "none" }, |req| { db.carriers.put(req.params.id, req.json); });
get("/world", #{ auth: "none" }, |req| #{
    pieces: db.stock.get("chair")?.pieces,
    balance: db.accounts.get("ada")?.balance,
    parcels: db.parcels.count(),
});
get("/built", #{ auth: "none" }, |req| db.pages.list().map(|page| [page.id, page.shows, page.builds]));
get("/messages", #{ auth: "none" }, |req| db.messages.list(#{ order_by: "at" }).map(|message| `${message.to}: ${message.text}`));
"#;

/// The folder of the examples, on a free port, with its clock in the test's hand.
struct Shop {
    project: Project,
    clock: Clock,
}

impl Shop {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let config = fs::read_to_string(folder.join("config.toml")).unwrap();
        let config = format!("[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{config}");
        let project = Project::with_config(&config, "");
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "rhai") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                project.write(&name, fs::read(&path).unwrap());
            }
        }
        project.write("world.rhai", WORLD);
        project.write(".dev.vars", format!("SHOP_WEBHOOK_SECRET={SECRET}\n"));
        let clock = Clock::new(&project);
        Self { project, clock }
    }

    fn start(&self) -> Rhaiway {
        self.clock.start(&self.project)
    }

    fn armed(&self, failpoint: &str) -> Command {
        let mut command = self.clock.command(&self.project);
        command.env("RHAIWAY_FAILPOINT", failpoint);
        command
    }

    fn scheduled(&self) -> u64 {
        self.project.admin("/v1/status")["scheduled"].as_u64().unwrap()
    }

    fn sign(&self, id: &str, kind: &str, data: &Value) -> Signed {
        self.clock.signed(id, json!({ "type": kind, "data": data }).to_string())
    }

    /// Delivers, and waits until it is handled.
    fn deliver(&self, rhaiway: &Rhaiway, id: &str, kind: &str, data: &Value) {
        assert_eq!(post(rhaiway, &self.sign(id, kind, data)), Some(200));
        self.project.wait_for_state(id, "done");
    }

    /// The newest event of a topic.
    fn topic(&self, topic: &str) -> Option<Value> {
        let source = format!("on:{topic}");
        self.project.stored().into_iter().find(|event| event["webhook"] == *source)
    }

    /// The newest event of a topic, once it stands so.
    fn wait_for_topic(&self, topic: &str, state: &str) -> Value {
        eventually(&format!("{topic} is {state}"), || {
            self.topic(topic).filter(|event| event["state"] == *state)
        })
    }

    fn replay(&self, event: &str) {
        let mut stream = UnixStream::connect(self.project.at("data/rhaiway.sock")).unwrap();
        let request = render("POST", &format!("/v1/events/{event}/replay"), &[], b"");
        stream.write_all(&request).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
}

/// The status that the sender saw, if the process lived to answer.
fn post(rhaiway: &Rhaiway, delivery: &Signed) -> Option<u16> {
    let headers = [
        ("content-type", "application/json"),
        ("webhook-id", &*delivery.id),
        ("webhook-timestamp", &*delivery.timestamp),
        ("webhook-signature", &*delivery.signature),
    ];
    let mut connection = Connection::try_open(rhaiway.address()).ok()?;
    connection.send(&render("POST", "/api/webhooks/shop", &headers, &delivery.body)).ok()?;
    connection.read().ok().map(|answer| answer.status)
}

fn put(rhaiway: &Rhaiway, path: &str, document: &Value) {
    let answer = request(rhaiway.address(), "PUT", path, &[], document.to_string().as_bytes());
    assert!(answer.status < 300, "{}", answer.text());
}

#[test]
fn the_examples_pass_check_without_a_word() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config.toml");
    let project = Project::new("");
    let mut command = project.command(&["check", "--config", config.to_str().unwrap()]);
    let output = command.env("SHOP_WEBHOOK_SECRET", SECRET).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "3 scripts checked, 0 errors, 0 warnings\n");
}

// The debounce.

fn product(n: u32) -> Value {
    json!({ "id": "chair", "name": "Chair <1>", "price": n, "updated_at": n })
}

fn built(rhaiway: &Rhaiway) -> Value {
    rhaiway.get("/built").json()
}

fn built_is(rhaiway: &Rhaiway, expected: &Value) {
    eventually(&format!("{expected} is built"), || (built(rhaiway) == *expected).then_some(()));
}

#[test]
fn a_hundred_changes_of_a_product_build_its_page_once_with_the_newest() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    for n in 0..100 {
        // Not in their order: 37 and 100 have no divisor in common.
        let delivery = shop.sign(&format!("msg_{n}"), "product.updated", &product(n * 37 % 100));
        assert_eq!(post(&rhaiway, &delivery), Some(200));
    }
    eventually("all are handled", || {
        let states = shop.project.states();
        (states.values().filter(|state| *state == "done").count() == 100).then_some(())
    });
    assert_eq!(built(&rhaiway), json!([]), "it has not rested yet");
    assert_eq!(shop.scheduled(), 2, "one for when it rests, one for when it never does");
    shop.clock.advance(Duration::from_secs(31));
    built_is(&rhaiway, &json!([["chair", 99, 1]]));
    eventually("nothing more is to come", || (shop.scheduled() == 0).then_some(()));
    let events = shop.project.stored();
    let built = events.iter().filter(|event| event["webhook"] == "on:product.rests").count();
    assert_eq!((events.len(), built), (101, 1));
    let page = rhaiway.get("/pages/chair");
    assert_eq!(page.text(), "<h1>Chair &lt;1&gt;</h1><p>99</p>");
    assert_eq!(rhaiway.get("/pages/table").status, 404);
}

#[test]
fn a_product_that_never_rests_gets_its_page_all_the_same() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    for n in 0..31 {
        shop.deliver(&rhaiway, &format!("msg_{n}"), "product.updated", &product(n));
        shop.clock.advance(Duration::from_secs(20));
    }
    eventually("it is built", || (built(&rhaiway)[0][2] == 1).then_some(()));
}

#[test]
fn a_page_that_waits_is_built_once_after_kill_9_and_not_at_all_for_a_product_that_is_gone() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    shop.deliver(&rhaiway, "msg_1", "product.updated", &product(1));
    let mut table = product(1);
    table["id"] = json!("table");
    shop.deliver(&rhaiway, "msg_2", "product.updated", &table);
    assert_eq!(shop.scheduled(), 4);
    shop.deliver(&rhaiway, "msg_3", "product.deleted", &json!({ "id": "table" }));
    assert_eq!(shop.scheduled(), 2);
    shop.deliver(&rhaiway, "msg_4", "product.updated", &table);
    assert_eq!(shop.scheduled(), 2, "an update that comes late does not bring it back");
    rhaiway.kill();
    // Both the rest and the overdue page are due, and one takes the other back.
    shop.clock.advance_unseen(HOUR);
    let rhaiway = shop.start();
    eventually("nothing more is to come", || (shop.scheduled() == 0).then_some(()));
    eventually("all has ended", || {
        let states = shop.project.stored();
        states
            .iter()
            .all(|event| ["done", "ignored"].contains(&event["state"].as_str().unwrap()))
            .then_some(())
    });
    assert_eq!(built(&rhaiway), json!([["chair", 1, 1]]));
}

// The saga.

fn order() -> Value {
    json!({ "id": "order_1", "article": "chair", "pieces": 2, "customer": "ada", "total": 50 })
}

/// Ten chairs, a hundred in the account, a carrier.
fn furnish(rhaiway: &Rhaiway, carrier: &Value) {
    put(rhaiway, "/stock/chair", &json!({ "pieces": 10 }));
    put(rhaiway, "/accounts/ada", &json!({ "balance": 100 }));
    put(rhaiway, "/carriers/default", carrier);
}

fn order_is(rhaiway: &Rhaiway, state: &str) -> Value {
    eventually(&format!("the order is {state}"), || {
        let answer = rhaiway.get("/orders/order_1");
        (answer.status == 200 && answer.json()["state"] == *state).then(|| answer.json())
    })
}

fn check_world(rhaiway: &Rhaiway, pieces: u32, balance: u32, parcels: u32) {
    let expected = json!({ "pieces": pieces, "balance": balance, "parcels": parcels });
    assert_eq!(rhaiway.get("/world").json(), expected);
}

#[test]
fn an_order_goes_through_its_steps_once_also_when_it_is_placed_twice() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    furnish(&rhaiway, &json!({}));
    shop.deliver(&rhaiway, "msg_1", "order.placed", &order());
    shop.deliver(&rhaiway, "msg_2", "order.placed", &order());
    let shipped = order_is(&rhaiway, "shipped");
    assert_eq!(shipped["history"], json!(["reserved", "charged", "shipped"]));
    check_world(&rhaiway, 8, 50, 1);
}

#[test]
fn a_step_that_is_dead_is_undone_by_the_steps_before_it() {
    let check = |world: fn(&Rhaiway), history: Value, reason: &str| {
        let shop = Shop::new();
        let rhaiway = shop.start();
        furnish(&rhaiway, &json!({ "refuses": "chair" }));
        world(&rhaiway);
        let before = rhaiway.get("/world").json();
        shop.deliver(&rhaiway, "msg_1", "order.placed", &order());
        let cancelled = order_is(&rhaiway, "cancelled");
        assert_eq!(cancelled["history"], history);
        assert_eq!(cancelled["reason"], *reason);
        assert_eq!(rhaiway.get("/world").json(), before, "all is as it was");
    };
    check(
        |rhaiway| put(rhaiway, "/stock/chair", &json!({ "pieces": 1 })),
        json!(["failed", "cancelled"]),
        "1 of chair are left, and 2 are wanted",
    );
    check(
        |rhaiway| put(rhaiway, "/accounts/ada", &json!({ "balance": 49 })),
        json!(["reserved", "failed", "released", "cancelled"]),
        "the payment was declined",
    );
    check(
        |_rhaiway| {},
        json!(["reserved", "charged", "failed", "refunded", "released", "cancelled"]),
        "the carrier refuses chair",
    );
}

#[test]
fn a_provider_that_does_not_answer_is_asked_again_and_a_closed_carrier_waited_for() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    furnish(&rhaiway, &json!({ "closed": true }));
    put(&rhaiway, "/accounts/ada", &json!({ "balance": 100, "unreachable": true }));
    shop.deliver(&rhaiway, "msg_1", "order.placed", &order());
    shop.wait_for_topic("order.charge", "retrying");
    put(&rhaiway, "/accounts/ada", &json!({ "balance": 100 }));
    shop.clock.advance(HOUR);
    let waits = shop.wait_for_topic("order.ship", "retrying");
    assert_eq!(waits["error"], "the carrier is closed");
    check_world(&rhaiway, 8, 50, 0);
    put(&rhaiway, "/carriers/default", &json!({}));
    shop.clock.advance(HOUR);
    order_is(&rhaiway, "shipped");
    check_world(&rhaiway, 8, 50, 1);
}

#[test]
fn kill_9_between_any_two_steps_of_the_saga_repeats_none_and_loses_none() {
    // placed, reserve, charge, ship (dead), its `on_dead`, refund, release, cancel.
    const STEPS: u32 = 8;
    let places = (1..=STEPS)
        .flat_map(|step| ["finish.written", "finish.committed"].map(|at| format!("{at}:{step}")));
    for place in places {
        println!("{place}");
        let shop = Shop::new();
        let rhaiway = shop.project.start_as(shop.armed(&place));
        furnish(&rhaiway, &json!({ "refuses": "chair" }));
        let delivery = shop.sign("msg_1", "order.placed", &order());
        // It may be killed before the sender hears of it.
        post(&rhaiway, &delivery);
        assert_eq!(rhaiway.wait(), None, "{place}: it was to be killed");
        let rhaiway = shop.start();
        assert_eq!(post(&rhaiway, &delivery), Some(200), "{place}");
        let cancelled = order_is(&rhaiway, "cancelled");
        let expected =
            json!(["reserved", "charged", "failed", "refunded", "released", "cancelled"]);
        assert_eq!(cancelled["history"], expected, "{place}");
        check_world(&rhaiway, 10, 100, 0);
    }
}

#[test]
fn a_dead_step_that_is_replayed_after_the_way_back_does_nothing() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    furnish(&rhaiway, &json!({ "refuses": "chair" }));
    shop.deliver(&rhaiway, "msg_1", "order.placed", &order());
    let cancelled = order_is(&rhaiway, "cancelled");
    // The carrier has thought better of it.
    put(&rhaiway, "/carriers/default", &json!({}));
    let dead = shop.wait_for_topic("order.ship", "dead");
    shop.replay(dead["id"].as_str().unwrap());
    shop.wait_for_topic("order.ship", "done");
    assert_eq!(rhaiway.get("/orders/order_1").json(), cancelled);
    check_world(&rhaiway, 10, 100, 0);
}

#[test]
fn a_way_back_that_is_stuck_says_so_and_goes_on_when_its_dead_letter_is_replayed() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    furnish(&rhaiway, &json!({ "refuses": "chair", "closed": true }));
    shop.deliver(&rhaiway, "msg_1", "order.placed", &order());
    shop.wait_for_topic("order.ship", "retrying");
    // The refund fails until its attempts are used up.
    put(&rhaiway, "/accounts/ada", &json!({ "balance": 50, "unreachable": true }));
    put(&rhaiway, "/carriers/default", &json!({ "refuses": "chair" }));
    let refund = eventually("the refund is dead", || {
        shop.clock.advance(HOUR);
        shop.topic("order.refund").filter(|event| event["state"] == "dead")
    });
    eventually("the order says so", || {
        rhaiway.get("/orders/order_1").json()["stuck"].is_string().then_some(())
    });
    assert!(rhaiway.count_log("an order is stuck on its way back") > 0);
    put(&rhaiway, "/accounts/ada", &json!({ "balance": 50 }));
    shop.replay(refund["id"].as_str().unwrap());
    order_is(&rhaiway, "cancelled");
    check_world(&rhaiway, 10, 100, 0);
}

// The approval.

fn ask(rhaiway: &Rhaiway, key: &str) -> String {
    let asked = json!({ "title": "A chair", "asker": "ada", "approver": "bob" }).to_string();
    let answer = rhaiway.post("/approvals", &[("idempotency-key", key)], asked.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn decide(rhaiway: &Rhaiway, id: &str, verb: &str) -> (u16, Value) {
    let answer = rhaiway.post(&format!("/approvals/{id}/{verb}"), &[], b"");
    (answer.status, answer.json())
}

fn state_is(rhaiway: &Rhaiway, id: &str, state: &str) {
    eventually(&format!("it is {state}"), || {
        (rhaiway.get(&format!("/approvals/{id}")).json()["state"] == *state).then_some(())
    });
}

fn messages_are(rhaiway: &Rhaiway, expected: &[&str]) {
    eventually(&format!("{expected:?} are told"), || {
        (rhaiway.get("/messages").json() == json!(expected)).then_some(())
    });
}

const ASKED: &str = "bob: ada asks: A chair";
const REMINDED: &str = "bob: still waiting: A chair";
const EXPIRED: &str = "ada: expired: A chair";

#[test]
fn an_approval_is_reminded_of_and_expires_days_later_also_after_kill_9() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    let id = ask(&rhaiway, "key-1");
    assert_eq!(ask(&rhaiway, "key-1"), id, "asked again it is the same request");
    messages_are(&rhaiway, &[ASKED]);
    assert_eq!(shop.scheduled(), 2);
    shop.clock.advance(DAY);
    messages_are(&rhaiway, &[ASKED, REMINDED]);
    rhaiway.kill();
    shop.clock.advance_unseen(DAY);
    let rhaiway = shop.start();
    state_is(&rhaiway, &id, "open");
    shop.clock.advance(DAY);
    state_is(&rhaiway, &id, "expired");
    messages_are(&rhaiway, &[ASKED, REMINDED, EXPIRED]);
    let (status, error) = decide(&rhaiway, &id, "approve");
    assert_eq!((status, &error["code"]), (409, &json!("CLOSED")), "{error}");
    messages_are(&rhaiway, &[ASKED, REMINDED, EXPIRED]);
}

#[test]
fn a_reminder_that_comes_too_late_says_nothing() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    let id = ask(&rhaiway, "key-1");
    rhaiway.kill();
    shop.clock.advance_unseen(4 * DAY);
    let rhaiway = shop.start();
    state_is(&rhaiway, &id, "expired");
    shop.wait_for_topic("approval.reminder", "done");
    messages_are(&rhaiway, &[ASKED, EXPIRED]);
}

#[test]
fn a_decision_takes_reminder_and_expiry_back_and_stands() {
    let shop = Shop::new();
    let rhaiway = shop.start();
    let id = ask(&rhaiway, "key-1");
    let (status, approved) = decide(&rhaiway, &id, "approve");
    assert_eq!((status, &approved["state"]), (200, &json!("approved")));
    assert_eq!(shop.scheduled(), 0);
    let approved_again = decide(&rhaiway, &id, "approve");
    assert_eq!(approved_again, (200, approved), "pressed twice it is one decision");
    let (status, error) = decide(&rhaiway, &id, "decline");
    assert_eq!((status, &error["code"]), (409, &json!("CLOSED")));
    messages_are(&rhaiway, &[ASKED, "ada: approved: A chair"]);

    // After the reminder, one is left to take back.
    let other = ask(&rhaiway, "key-2");
    shop.clock.advance(DAY);
    shop.wait_for_topic("approval.reminder", "done");
    assert_eq!(shop.scheduled(), 1);
    assert_eq!(decide(&rhaiway, &other, "decline").0, 200);
    assert_eq!(shop.scheduled(), 0);
    state_is(&rhaiway, &other, "declined");

    assert_eq!(decide(&rhaiway, "nothing", "approve").0, 404);
    let incomplete = rhaiway.post("/approvals", &[], br#"{"title":"A chair"}"#);
    assert_eq!((incomplete.status, incomplete.code()), (400, "MISSING".to_owned()));
}

// What `check` says of topics.

#[test]
fn check_names_topics_that_have_one_side_only() {
    let codes = |scripts: &[&str]| {
        let project = Project::new("webhook(\"clerk\", |event| ());");
        for (n, script) in scripts.iter().enumerate() {
            project.write(&format!("scripts/part_{n}.rhai"), script);
        }
        let (stdout, _) = project.expect(0, &["check", "--json"]);
        let text = |frame: &Value| {
            let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("code"), text("title"), frame["help"])
        };
        stdout.lines().map(|line| text(&serde_json::from_str(line).unwrap())).collect::<Vec<_>>()
    };
    let route = |body: &str| format!("get(\"/\", #{{ auth: \"none\" }}, |req| {{ {body} }});");
    let emits = route("emit(\"order.palced\", 1);");
    let handles = "on(\"order.placed\", |event| ());";

    let both = codes(&[&emits, handles]);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].starts_with("E0238") && both[0].contains("order.placed"), "{both:?}");
    assert!(both[1].starts_with("E0239") && both[1].contains("order.palced"), "{both:?}");

    // Another script's, a pattern, a computed topic, a module's.
    for scripts in [
        [&*route("emit(\"order.placed\", 1);"), handles],
        [&*emits, "on(\"order.*\", |event| ());"],
        [&*route("emit(`order.${req.id}`, 1);"), handles],
    ] {
        assert_eq!(codes(&scripts), Vec::<String>::new(), "{scripts:?}");
    }
    let project = Project::new(&format!("webhook(\"clerk\", |event| ()); {handles}"));
    project.write("scripts/lib/tell.rhai", "fn placed(id) { emit(\"order.placed\", id) }");
    let (_, stderr) = project.expect(0, &["check"]);
    assert!(stderr.contains("0 warnings"), "{stderr}");
    // What a broken script would emit or handle nobody knows.
    project.write("scripts/broken.rhai", "let x = ;");
    project.remove("scripts/lib/tell.rhai");
    let (_, stderr) = project.expect(1, &["check"]);
    assert!(!stderr.contains("E0239"), "{stderr}");
}

#[test]
fn the_pages_about_topics_hold_scripts_that_bring_their_codes() {
    for code in ["E0238", "E0239"] {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/catalogue/{code}.md"));
        let page = fs::read_to_string(page).unwrap();
        let example = page.split("```rhai\n").nth(1).unwrap().split("```").next().unwrap();
        let (stdout, _) = Project::new(example).expect(0, &["check", "--json"]);
        assert!(stdout.contains(code), "{code}: {stdout}");
    }
}
