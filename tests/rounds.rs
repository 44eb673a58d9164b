//! Rounds of chance. In each the real binary does a little of everything, is killed or fails at a place of `src/failpoint.rs`, is started again, and in
//! the end everything is accounted for: what was acknowledged is there once, and so is what came of it.
//!
//! Each round has a seed of its own, which is printed: `RHAIWAY_SEED` reruns that round alone, `RHAIWAY_ROUNDS` asks for more or fewer.

#![expect(
    clippy::print_stdout,
    reason = "a failure has to say how to see it again, and what came before"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::{Connection, Project, Response, Rhaiway, eventually, render, replay, signed};

const ROUNDS: u64 = 200;
/// A round mostly waits, for starts and for what is delayed.
const SIDE_BY_SIDE: usize = 10;
const CONNECTIONS: usize = 3;
const KEYS: u64 = 3;

/// Each run that is committed leaves `effects` of its own event, and what it emits says whose it is.
const MAIN: &str = r#"
webhook("clerk", "work", |event| {
    let ask = event.data;
    if ask.poison || event.attempt <= ask.fails {
        db.scrap.put(event.id, #{});
        emit("scrap", ask.id);
        throw "told to fail";
    }
    if ask.waits && now() < event.received_at + 30 { retry_later("10ms", "told to wait"); }
    db.effects.increment(`main ${event.id}`, "n", 1);
    let line = db.lines.get(`main ${ask.key}`) ?? #{ list: [] };
    line.list.push(ask.id);
    db.lines.put(`main ${ask.key}`, line);
    db.kept.put(ask.id, #{}, #{ ttl: "1h" });
    db.gone.put(ask.id, #{}, #{ ttl: "1ms" });
    emit("plain", ask.id);
    emit("once", ask.key, #{ id: ask.key });
    emit("keyed", ask, #{ key: ask.key });
    emit("later", ask.id, #{ delay: "30ms" });
    emit("last", ask, #{ key: ask.key, delay: "20ms", pending: "replace" });
    emit("first", ask, #{ key: ask.key, delay: "1h", pending: "keep" });
});
webhook("chat", |event| {
    db.effects.increment(`main ${event.id}`, "n", 1);
    emit("plain", event.data.id);
    response(#{ status: 202, body: token(event.data.id) })
});
post("/count/{id}", #{ auth: "none" }, |req| {
    db.counts.increment(req.params.id, "n", 1);
    emit("plain", req.params.id);
    status(202)
});
post("/once/{id}", #{ auth: "none", idempotency: "idempotency-key" }, |req| {
    db.counts.increment(req.params.id, "n", 1);
    emit("plain", req.params.id);
    status(202, token(req.params.id))
});
every("1s", |event| db.effects.increment(`main ${event.id}`, "n", 1));

fn token(id) {
    let token = uuid();
    db.tokens.put(id, #{ token: token });
    #{ token: token }
}
"#;
const OTHER: &str = r#"
webhook("clerk", |event| {
    db.effects.increment(`other ${event.id}`, "n", 1);
    let line = db.lines.get(`other ${event.data.key}`) ?? #{ list: [] };
    line.list.push(event.data.id);
    db.lines.put(`other ${event.data.key}`, line);
});
on_dead("clerk", |event, error| db.deaths.increment(event.data.id, "n", 1));
on("plain", |event| note(event));
on("once", |event| note(event));
on("later", |event| note(event));
on("scrap", |event| note(event));
on("keyed", |event| {
    db.effects.increment(`other ${event.id}`, "n", 1);
    let line = db.lines.get(`keyed ${event.data.key}`) ?? #{ list: [] };
    line.list.push(event.data.id);
    db.lines.put(`keyed ${event.data.key}`, line);
});
on("last", |event| {
    db.effects.increment(`other ${event.id}`, "n", 1);
    db.lines.put(`last ${event.data.key}`, #{ list: [event.data.id] });
});
fn note(event) {
    db.effects.increment(`other ${event.id}`, "n", 1);
    if !event.replayed { db.emitted.increment(`${event.type} ${event.data}`, "n", 1); }
}
get("/all", #{ auth: "none" }, |req| {
    let most = #{ limit: 1000 };
    #{
        effects: db.effects.list(most), lines: db.lines.list(most), emitted: db.emitted.list(most), counts: db.counts.list(most),
        tokens: db.tokens.list(most), deaths: db.deaths.list(most), scrap: db.scrap.list(most), kept: db.kept.list(most), gone: db.gone.list(most),
    }
});
"#;
const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2

[webhooks.clerk]
path = "/api/webhooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
ordered_by = "/data/key"
retry = { max = 6, base = "5ms", cap = "5ms" }

[webhooks.chat]
path = "/api/webhooks/chat"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
respond = "script"

[db.effects]
index = ["n"]
"#;

/// Places that a round may come by, with how often at least some of it is done.
const PLACES: [(&str, u64); 17] = [
    ("accept.begun", 8),
    ("accept.written", 8),
    ("accept.committed", 8),
    ("accept.answered", 8),
    ("attempt.started", 30),
    ("attempt.ended", 30),
    ("finish.begun", 40),
    ("finish.written", 40),
    ("finish.committed", 40),
    ("finish.answered", 40),
    ("route", 2),
    ("answer", 3),
    ("plan", 2),
    ("promote", 4),
    ("fire", 2),
    ("index", 1),
    ("declare", 1),
];
/// What only a start after an unclean stop comes by.
const CLAIMS: [(&str, u64); 4] =
    [("claim.begun", 4), ("claim.written", 4), ("claim.committed", 4), ("claim.answered", 4)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A delivery that is stored and handled.
    Work { key: u64, fails: u64, waits: bool, poison: bool },
    /// A delivery that its script answers.
    Chat,
    /// A request with a key.
    Once,
    /// A request without one: nobody can know what became of it when the answer is lost.
    Count,
}

/// One thing that somebody asks for, and what they know of it.
#[derive(Debug)]
struct Ask {
    id: String,
    kind: Kind,
    /// Sent again though it was acknowledged.
    doubled: bool,
    sent: bool,
    answer: Option<Value>,
}

impl Ask {
    fn new(n: u64, chance: &mut Rng) -> Self {
        let kind = match chance.u64(..8) {
            0 => Kind::Chat,
            1 => Kind::Once,
            2 => Kind::Count,
            _ => {
                let poison = chance.u64(..8) == 0;
                let fails = if chance.bool() { 0 } else { chance.u64(..3) };
                let waits = chance.u64(..6) == 0;
                Kind::Work { key: chance.u64(..KEYS), fails, waits, poison }
            }
        };
        // A poison event that is dead would begin anew.
        let doubled =
            chance.u64(..4) == 0 && !matches!(kind, Kind::Count | Kind::Work { poison: true, .. });
        Self { id: format!("ask_{n:03}"), kind, doubled, sent: false, answer: None }
    }

    fn request(&self) -> Vec<u8> {
        let deliver = |path: &str, data: Value| {
            let body = json!({ "type": "work", "data": data }).to_string();
            let signed = signed(&self.id, body);
            render("POST", path, &signed.headers(), &signed.body)
        };
        match self.kind {
            Kind::Work { key, fails, waits, poison } => {
                let key = format!("key_{key}");
                let data = json!({ "id": self.id, "key": key, "fails": fails, "waits": waits, "poison": poison });
                deliver("/api/webhooks/clerk", data)
            }
            Kind::Chat => deliver("/api/webhooks/chat", json!({ "id": self.id })),
            Kind::Once => {
                let key = [("idempotency-key", &*self.id)];
                render("POST", &format!("/once/{}", self.id), &key, b"")
            }
            Kind::Count => render("POST", &format!("/count/{}", self.id), &[], b""),
        }
    }

    /// Nothing more is to be done for it by who asked.
    fn is_settled(&self) -> bool {
        self.answer.is_some() || (self.kind == Kind::Count && self.sent)
    }

    /// Sends it, and again where it is to come twice; false where the connection is gone.
    fn send(&mut self, connection: &mut Connection) -> bool {
        for _ in 0..=usize::from(self.doubled) {
            self.sent = true;
            let sent = connection.send(&self.request()).and_then(|()| connection.read());
            let Ok(answer) = sent else { return false };
            self.hear(&answer);
        }
        true
    }

    fn hear(&mut self, answer: &Response) {
        let expected = if matches!(self.kind, Kind::Work { .. }) { 200 } else { 202 };
        if answer.status != expected {
            assert_eq!(answer.status, 503, "{self:?}: {}", answer.text());
            return;
        }
        let heard = if answer.body.is_empty() { Value::Null } else { answer.json() };
        if let Some(before) = &self.answer {
            assert_eq!(*before, heard, "{self:?} is answered as before");
        }
        self.answer = Some(heard);
    }
}

/// One round, from its seed.
struct Round {
    chance: Rng,
    project: Project,
    asks: Vec<Mutex<Ask>>,
}

impl Round {
    fn new(seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed);
        let project = Project::with_config(CONFIG, MAIN);
        project.write("scripts/other.rhai", OTHER);
        let asks = 8 + chance.u64(..12);
        let asks = (0..asks).map(|n| Mutex::new(Ask::new(n, &mut chance))).collect();
        Self { chance, project, asks }
    }

    fn run(mut self) {
        let first = self.failpoint(&PLACES, true);
        self.phase(&first);
        if self.chance.bool() {
            let mut places = PLACES.to_vec();
            places.extend(CLAIMS);
            let second = self.failpoint(&places, false);
            self.phase(&second);
        }
        let rhaiway = self.project.start();
        eventually("all is acknowledged", || {
            self.send(&rhaiway);
            self.asks.iter().all(|ask| ask.lock().unwrap().is_settled()).then_some(())
        });
        self.wait_until_quiet();
        if self.chance.u64(..4) == 0 {
            self.replay_one();
        }
        self.check(&rhaiway);
    }

    /// A place, a time and what is to happen there.
    fn failpoint(&mut self, places: &[(&str, u64)], may_fail: bool) -> String {
        let (place, most) = places[self.chance.usize(..places.len())];
        let count = 1 + self.chance.u64(..most);
        let phase = if place.contains('.') {
            ""
        } else {
            [".begun", ".written", ".committed"][self.chance.usize(..3)]
        };
        let action = if may_fail && self.chance.u64(..3) == 0 { "error" } else { "kill" };
        format!("{place}{phase}:{count}={action}")
    }

    /// An instance that is to fail somewhere, with everybody asking; whether or not it did, it is killed.
    fn phase(&mut self, failpoint: &str) {
        println!("  {failpoint}");
        let mut command = self.project.command(&["run"]);
        command.env("RHAIWAY_FAILPOINT", failpoint);
        let Some(rhaiway) = Rhaiway::try_start(command) else { return };
        self.send(&rhaiway);
        // Not a wait for something: what is delayed or fails gets to different points of its way.
        thread::sleep(std::time::Duration::from_millis(self.chance.u64(..80)));
        rhaiway.kill();
    }

    fn send(&self, rhaiway: &Rhaiway) {
        thread::scope(|scope| {
            for sender in 0..CONNECTIONS {
                scope.spawn(move || {
                    let Ok(mut connection) = Connection::try_open(rhaiway.address()) else {
                        return;
                    };
                    for ask in self.asks.iter().skip(sender).step_by(CONNECTIONS) {
                        let mut ask = ask.lock().unwrap();
                        if !ask.is_settled() && !ask.send(&mut connection) {
                            return;
                        }
                    }
                });
            }
        });
    }

    /// Everything but the timer has come to its end, and nothing waits for its time but what is an hour away.
    fn wait_until_quiet(&self) {
        let ended = |event: &Value| {
            matches!(event["state"].as_str(), Some("done" | "dead" | "ignored")) || is_timer(event)
        };
        let mut told = String::new();
        eventually("everything is at its end", || {
            let keys = self.keys_of_work().len() as u64;
            let status = self.project.admin("/v1/status");
            let mut left = self.project.stored();
            left.retain(|event| !ended(event));
            let (scheduled, pending) = (&status["scheduled"], &status["pending"]);
            let now = format!("{scheduled} of {keys} scheduled, {pending} pending: {left:?}");
            if now != told {
                println!("{now}");
                told = now;
            }
            // A dead event shows as such while what answers its death is still to come.
            (left.is_empty() && *scheduled == keys && *pending == 0).then_some(())
        });
    }

    /// Repeats one that is done: it begins anew, as another event.
    fn replay_one(&mut self) {
        let mut stored = self.project.stored();
        stored.retain(|event| event["webhook"] == "on:plain");
        if stored.is_empty() {
            return;
        }
        let event = &stored[self.chance.usize(..stored.len())];
        assert_eq!(replay(&self.project, event["id"].as_str().unwrap()), Some(202));
        eventually("it is repeated", || {
            let mut now = self.project.stored();
            now.retain(|event| event["webhook"] == "on:plain" && event["state"] == "done");
            (now.len() == stored.len() + 1).then_some(())
        });
    }

    /// The keys of which some event came to a good end.
    fn keys_of_work(&self) -> BTreeSet<u64> {
        let key = |ask: &Mutex<Ask>| match ask.lock().unwrap().kind {
            Kind::Work { key, poison: false, .. } => Some(key),
            _ => None,
        };
        self.asks.iter().filter_map(key).collect()
    }

    fn check(&self, rhaiway: &Rhaiway) {
        // The timer goes on: what is done is in what is read after it, and whose effect is seen is in what is read after that.
        let before = self.project.stored();
        let all = rhaiway.get("/all").json();
        let stored = self.project.stored();
        let found = Found { before, all, stored };
        found.check_effects();
        found.check_nothing_of_discarded_runs();
        let asks = self.asks.iter().map(|ask| ask.lock().unwrap());
        for ask in asks {
            found.check_ask(&ask);
        }
        for key in 0..KEYS {
            let of_key: BTreeMap<String, bool> = self
                .asks
                .iter()
                .filter_map(|ask| {
                    let ask = ask.lock().unwrap();
                    match ask.kind {
                        Kind::Work { key: of, poison, .. } if of == key => {
                            Some((ask.id.clone(), poison))
                        }
                        _ => None,
                    }
                })
                .collect();
            found.check_order(key, &of_key);
        }
    }
}

/// What is there in the end.
struct Found {
    before: Vec<Value>,
    all: Value,
    stored: Vec<Value>,
}

impl Found {
    /// The number that a collection's document holds; 0 where it is not there.
    fn number(&self, collection: &str, id: &str) -> u64 {
        let document = self.all[collection].as_array().unwrap().iter();
        let mut found = document.filter(|document| document["id"] == *id);
        found.next().map_or(0, |document| document["n"].as_u64().unwrap())
    }

    fn line(&self, id: &str) -> Vec<String> {
        let mut lines = self.all["lines"].as_array().unwrap().iter();
        let line = lines.find(|line| line["id"] == *id);
        let list = line.map_or(json!([]), |line| line["list"].clone());
        serde_json::from_value(list).unwrap()
    }

    /// Each run that ended well has its effect once, and no other has any.
    fn check_effects(&self) {
        let mut expected = BTreeSet::new();
        for event in &self.before {
            let (id, state) = (event["id"].as_str().unwrap(), event["state"].as_str().unwrap());
            let scripts: &[&str] = match (event["webhook"].as_str().unwrap(), state) {
                ("clerk", "done") => &["main", "other"],
                ("clerk", "dead") | ("on:plain" | "on:once" | "on:later", "done") => &["other"],
                ("on:keyed" | "on:last", "done") => &["other"],
                // Replaced by a later one before it began.
                ("on:last", "ignored") => &[],
                ("chat", "done") => &["main"],
                (timer, "done") if timer.starts_with("every:") => &["main"],
                (timer, _) if timer.starts_with("every:") => &[],
                other => panic!("{other:?} is no end of {event}"),
            };
            expected.extend(scripts.iter().map(|script| format!("{script} {id}")));
        }
        let timers: BTreeSet<&str> = self
            .stored
            .iter()
            .filter(|event| is_timer(event))
            .map(|event| event["id"].as_str().unwrap())
            .collect();
        for effect in self.all["effects"].as_array().unwrap() {
            assert_eq!(effect["n"], 1, "{effect}");
            let id = effect["id"].as_str().unwrap();
            let of_timer = id.strip_prefix("main ").is_some_and(|id| timers.contains(id));
            assert!(expected.remove(id) || of_timer, "{effect} is of no run that ended well");
        }
        assert!(expected.is_empty(), "no effect of {expected:?}");
    }

    fn check_nothing_of_discarded_runs(&self) {
        assert_eq!((&self.all["scrap"], &self.all["gone"]), (&json!([]), &json!([])));
        assert!(!self.stored.iter().any(|event| event["webhook"] == "on:scrap"));
        for emitted in self.all["emitted"].as_array().unwrap() {
            assert_eq!(emitted["n"], 1, "{emitted}");
        }
    }

    fn check_ask(&self, ask: &Ask) {
        let id = &*ask.id;
        let emitted = |topic: &str| self.number("emitted", &format!("{topic} {id}"));
        let mut events = self.stored.iter().filter(|event| event["delivery_id"] == *id);
        let token = || {
            let mut tokens = self.all["tokens"].as_array().unwrap().iter();
            tokens.find(|token| token["id"] == *id).map(|token| json!({ "token": token["token"] }))
        };
        match ask.kind {
            Kind::Work { poison, .. } => {
                let event = events.next().expect("it was acknowledged");
                assert_eq!(event["state"], if poison { "dead" } else { "done" }, "{event}");
                let deaths = self.number("deaths", id);
                assert!(
                    if poison { deaths >= 1 } else { deaths == 0 },
                    "{ask:?} died {deaths} times"
                );
                let expected = u64::from(!poison);
                assert_eq!((emitted("plain"), emitted("later")), (expected, expected), "{ask:?}");
                let kept = self.all["kept"].as_array().unwrap().iter();
                assert_eq!(kept.filter(|kept| kept["id"] == *id).count() as u64, expected);
            }
            Kind::Chat => {
                assert_eq!(events.next().expect("it was acknowledged")["state"], "done");
                assert_eq!((token(), emitted("plain")), (ask.answer.clone(), 1), "{ask:?}");
            }
            Kind::Once => {
                assert_eq!((token(), emitted("plain")), (ask.answer.clone(), 1), "{ask:?}");
                assert_eq!(self.number("counts", id), 1, "{ask:?}");
            }
            Kind::Count => {
                let counted = self.number("counts", id);
                assert!(counted <= 1 && (ask.answer.is_none() || counted == 1), "{ask:?}");
                assert_eq!(emitted("plain"), counted, "{ask:?}");
            }
        }
        assert_eq!(events.count(), 0, "{ask:?} is stored once");
    }

    /// In each script the events of a key came in the order of acceptance, and so did what they emitted.
    fn check_order(&self, key: u64, of_key: &BTreeMap<String, bool>) {
        let accepted: Vec<String> = self
            .stored
            .iter()
            .rev()
            .filter_map(|event| event["delivery_id"].as_str())
            .filter(|id| of_key.contains_key(*id))
            .map(str::to_owned)
            .collect();
        let ended_well: Vec<String> = accepted.iter().filter(|id| !of_key[*id]).cloned().collect();
        assert_eq!(self.line(&format!("other key_{key}")), accepted);
        assert_eq!(self.line(&format!("main key_{key}")), ended_well);
        assert_eq!(self.line(&format!("keyed key_{key}")), ended_well);
        let last: Vec<String> = ended_well.last().into_iter().cloned().collect();
        assert_eq!(self.line(&format!("last key_{key}")), last);
        let once = self.number("emitted", &format!("once key_{key}"));
        assert_eq!(once, u64::from(!ended_well.is_empty()));
    }
}

fn is_timer(event: &Value) -> bool {
    event["webhook"].as_str().unwrap().starts_with("every:")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}

/// Says how to see a failure again.
fn one(seed: u64) {
    println!("RHAIWAY_SEED={seed}");
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Round::new(seed).run())) {
        println!("RHAIWAY_SEED={seed} reruns the round that failed");
        resume_unwind(panic);
    }
}

#[test]
fn w14_rounds_of_random_work_with_a_kill_or_an_error_at_a_random_place_leave_everything_once() {
    if let Some(seed) = number("RHAIWAY_SEED") {
        return one(seed);
    }
    let (first, rounds) =
        (fastrand::u64(..u64::MAX / 2), number("RHAIWAY_ROUNDS").unwrap_or(ROUNDS));
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    one(first + round);
                }
            });
        }
    });
}
