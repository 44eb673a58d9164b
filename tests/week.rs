//! A week in a minute: the real binary lives through seven days of a clock that is set by hand, hour by hour. It is killed, stopped, out of service,
//! fails to commit, gets broken and mended scripts and a changed config, all by chance; in the end every event is accounted for.
//!
//! The seed is printed, and `RHAIWAY_WEEK_SEED` reruns it.

#![expect(
    clippy::print_stdout,
    reason = "a failure has to say how to see it again, and what came before"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::{Clock, Connection, Project, Rhaiway, eventually, render};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;
const WEEK_S: i64 = 7 * 86_400;
/// Retries and what waits for a key have come to their end by then.
const SETTLED_HOURS: u64 = 48;
const KEYS: u64 = 4;

const MAIN: &str = r#"
webhook("clerk", "work", |event| handle(event));
webhook("clerk", "poison", #{ retry: #{ max: 3, base: "1h", cap: "2h" } }, |event| handle(event));
every("0 * * * *", |event| db.hourly.insert(`${event.data.scheduled_at}`, #{ at: now() }));
every("0 6 * * *", |event| db.daily.insert(`${event.data.scheduled_at}`, #{ at: now() }));
every("90m", |event| db.spaced.insert(event.id, #{ at: event.data.scheduled_at, started: event.received_at }));
on("later", |event| { db.kept.insert(event.data, #{ at: now() }); });

fn handle(event) {
    let ask = event.data;
    if ask.poison || event.attempt <= ask.fails { db.scrap.put(event.id, #{}); throw "told to fail"; }
    db.main.increment(ask.id, "n", 1);
    let line = db.lines.get(ask.key) ?? #{ list: [] };
    line.list.push(ask.id);
    db.lines.put(ask.key, line);
    if !event.replayed && db.promised.get(ask.id) == () {
        db.promised.insert(ask.id, #{ due: now() + ask.hours * 3600000 });
        emit("later", ask.id, #{ delay: `${ask.hours}h` });
    }
}
"#;
const OTHER: &str = r#"
webhook("clerk", |event| db.other.increment(event.data.id, "n", 1));
on_dead("clerk", |event, error| db.deaths.increment(event.data.id, "n", 1));
get("/hourly/{id}", #{ auth: "none" }, |req| #{ ran: db.hourly.get(req.params.id) != () });
get("/all", #{ auth: "none" }, |req| {
    let most = #{ limit: 1000 };
    #{
        hourly: db.hourly.list(most), daily: db.daily.list(most), spaced: db.spaced.list(most), kept: db.kept.list(most), promised: db.promised.list(most),
        main: db.main.list(most), other: db.other.list(most), lines: db.lines.list(most), deaths: db.deaths.list(most), scrap: db.scrap.list(most),
    }
});
"#;
/// A script that only handles, so that nothing else is missing while it is broken.
const THIRD: &str = r#"webhook("clerk", |event| db.third.increment(event.data.id, "n", 1));
get("/third", #{ auth: "none" }, |req| db.third.list(#{ limit: 1000 }));
"#;

fn config(support: u64) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 2

[storage]
retention = "2d"

[webhooks.clerk]
path = "/api/webhooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
ordered_by = "/data/key"
retry = {{ max = 20, base = "1h", cap = "6h" }}

[vars]
support = {support}
"#
    )
}

/// Where a commit fails or the process dies, in the life of one instance. After a lost answer of a commit only a restart brings the rest, so none is here.
const TROUBLE: [&str; 10] = [
    "accept.begun:2=error;finish.written:3=error",
    "fire.written:2=error;finish.begun:2=error",
    "fire.begun:3=error;accept.written:1=error",
    "promote.begun=error;plan.begun=error;retain.begun:2=error",
    "claim.written=error;claim.begun:3=error;promote.written:2=error",
    "finish.committed:4=kill",
    "fire.committed:3=kill",
    "fire.begun:4=kill",
    "accept.committed:2=kill",
    "promote.committed=kill;attempt.ended:5=kill",
];

/// A delivery, and what its sender knows.
struct Delivery {
    data: Value,
    /// In seconds since the epoch.
    sent_at: i64,
    acknowledged: bool,
}

impl Delivery {
    fn new(n: usize, sent_at: i64, chance: &mut Rng) -> Self {
        let poison = chance.u64(..12) == 0;
        let fails = if chance.u64(..3) == 0 { chance.u64(1..3) } else { 0 };
        let key = format!("key_{}", chance.u64(..KEYS));
        let hours = [1, 5, 30, 60][chance.usize(..4)];
        let data = json!({ "id": format!("msg_{n:04}"), "key": key, "fails": fails, "poison": poison, "hours": hours });
        Self { data, sent_at, acknowledged: false }
    }

    fn id(&self) -> &str {
        self.data["id"].as_str().unwrap()
    }

    fn is_poison(&self) -> bool {
        self.data["poison"] == true
    }

    fn body(&self) -> String {
        let kind = if self.is_poison() { "poison" } else { "work" };
        json!({ "type": kind, "data": self.data }).to_string()
    }
}

struct Week {
    chance: Rng,
    project: Project,
    clock: Clock,
    /// It may have ended by itself.
    rhaiway: Option<Rhaiway>,
    deliveries: Vec<Delivery>,
    /// When each hourly run was to be, in milliseconds.
    hourly: BTreeSet<i64>,
    /// Until when occurrences have been counted.
    counted_until: i64,
    saves: u64,
}

impl Week {
    fn new(seed: u64) -> Self {
        let project = Project::with_config(&config(0), MAIN);
        project.write("scripts/other.rhai", OTHER);
        project.write("scripts/third.rhai", THIRD);
        let clock = Clock::new(&project);
        // Half past, so that the minutes that the test itself takes make no hour.
        let until_half_past = (1_800 - clock.now()).rem_euclid(3_600);
        clock.advance_unseen(Duration::from_secs(until_half_past.unsigned_abs()));
        let counted_until = clock.now() * 1_000;
        let rhaiway = Some(clock.start(&project));
        let mut week = Self {
            chance: Rng::with_seed(seed),
            project,
            clock,
            rhaiway,
            deliveries: Vec::new(),
            hourly: BTreeSet::new(),
            counted_until,
            saves: 0,
        };
        // A timer counts from when it was first seen.
        week.wait("the timers are seen", |week| {
            let database = rusqlite::Connection::open(week.project.at("data/rhaiway.db")).ok()?;
            let seen = database.query_row("SELECT count(*) FROM timers", [], |row| row.get(0));
            (seen == Ok(3)).then_some(())
        });
        week
    }

    /// Asks again and again, and starts an instance anew that has ended by itself.
    fn wait<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        eventually(what, || {
            if self.rhaiway.as_mut().is_none_or(Rhaiway::has_ended) {
                self.start(None);
            }
            condition(self)
        })
    }

    fn start(&mut self, trouble: Option<&str>) {
        // Broken config ends a start, and only a start.
        self.project.write("config.toml", config(0));
        let mut command = self.clock.command(&self.project);
        if let Some(trouble) = trouble {
            command.env("RHAIWAY_FAILPOINT", trouble);
        }
        self.rhaiway = Rhaiway::try_start(command);
    }

    /// What a GET is answered, where somebody answers.
    fn get(&self, path: &str) -> Option<Value> {
        let address = self.rhaiway.as_ref()?.address();
        let mut connection = Connection::try_open(address).ok()?;
        connection.send(&render("GET", path, &[], b"")).ok()?;
        let answer = connection.read().ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// An hour passes with an instance there; the run of each hour is waited for, so that what was missed is known.
    fn hour(&mut self) {
        self.clock.advance_unseen(HOUR);
        self.expect_one();
    }

    /// The first hour that has come since the last time is run; further ones were missed with it.
    fn expect_one(&mut self) {
        let now = self.clock.now() * 1_000;
        let next = (self.counted_until / HOUR_MS + 1) * HOUR_MS;
        self.counted_until = now;
        if next > now {
            return;
        }
        self.hourly.insert(next);
        self.wait("the hourly run is made", |week| {
            (week.get(&format!("/hourly/{next}"))?["ran"] == true).then_some(())
        });
    }

    /// Sends what is not acknowledged yet, and something again that is.
    fn deliver(&mut self) {
        for n in 0..self.deliveries.len() {
            // Past a week it would be new.
            let is_known = self.clock.now() - self.deliveries[n].sent_at < WEEK_S - 7_200;
            let again = self.chance.u64(..40) == 0 && is_known && !self.deliveries[n].is_poison();
            if !self.deliveries[n].acknowledged || again {
                let status = self.post(n);
                assert!(matches!(status, None | Some(200 | 503)), "{status:?}");
                self.deliveries[n].acknowledged |= status == Some(200);
            }
        }
    }

    fn post(&self, n: usize) -> Option<u16> {
        let delivery = &self.deliveries[n];
        let signed = self.clock.signed(delivery.id(), delivery.body());
        let mut connection = Connection::try_open(self.rhaiway.as_ref()?.address()).ok()?;
        let request = render("POST", "/api/webhooks/clerk", &signed.headers(), &signed.body);
        connection.send(&request).ok()?;
        Some(connection.read().ok()?.status)
    }

    /// One thing that goes wrong, or nothing.
    fn disturb(&mut self) {
        match self.chance.u64(..24) {
            0 | 1 => self.end(true),
            2 => self.end(false),
            3 | 4 => {
                let (kill, hours) = (self.chance.bool(), self.chance.u32(1..7));
                self.end(kill);
                self.clock.advance_unseen(HOUR * hours);
                self.start(None);
                self.expect_one();
            }
            5 | 6 => {
                let (kill, trouble) = (self.chance.bool(), TROUBLE[self.chance.usize(..10)]);
                println!("  {trouble}");
                self.end(kill);
                self.start(Some(trouble));
            }
            7 => self.save("scripts/third.rhai", "webhook(\"clerk\", |event| {"),
            8 => self.save(
                "scripts/third.rhai",
                "webhook(\"clerk\", |event| { throw \"a bad day\"; });",
            ),
            9..12 => self.save("scripts/third.rhai", THIRD),
            12 => {
                let config = config(self.saves);
                self.save("config.toml", &config);
            }
            13 => self.save("config.toml", "[server"),
            14 => self.save("scripts/main.rhai", MAIN),
            _ => {}
        }
    }

    fn save(&mut self, name: &str, text: &str) {
        self.saves += 1;
        let comment = if name.ends_with("toml") { "#" } else { "//" };
        self.project.write(name, format!("{text}\n{comment} {}\n", self.saves));
    }

    /// kill -9 or a clean stop; it may be gone already.
    fn end(&mut self, kill: bool) {
        let Some(mut rhaiway) = self.rhaiway.take() else { return };
        if kill || rhaiway.has_ended() {
            rhaiway.kill();
        } else {
            rhaiway.signal("TERM");
            // A failpoint may end it on its way.
            rhaiway.wait();
        }
    }

    fn live(&mut self) {
        let begun = self.clock.now();
        while self.clock.now() - begun < WEEK_S {
            for _ in 0..self.chance.u64(..3) {
                let now = self.clock.now();
                let delivery = Delivery::new(self.deliveries.len(), now, &mut self.chance);
                self.deliveries.push(delivery);
            }
            let hour = (self.clock.now() - begun) / 3_600;
            println!("hour {hour}, {} deliveries", self.deliveries.len());
            self.deliver();
            self.disturb();
            self.hour();
        }
    }

    /// Everything is mended, and hours pass until what was accepted is at its end.
    fn settle(&mut self) {
        self.end(true);
        self.save("scripts/third.rhai", THIRD);
        self.start(None);
        for _ in 0..SETTLED_HOURS {
            self.deliver();
            self.hour();
            let is_open = |event: &Value| !matches!(event["state"].as_str(), Some("done" | "dead"));
            let all_acknowledged = self.deliveries.iter().all(|delivery| delivery.acknowledged);
            let left = self.project.stored().iter().filter(|event| is_open(event)).count();
            if all_acknowledged && left == 0 && self.is_quiet() {
                return;
            }
            println!("{left} are left");
        }
        let mut stored = self.project.stored();
        stored.retain(|event| !matches!(event["state"].as_str(), Some("done" | "dead")));
        panic!("after the week these have not ended: {stored:?}");
    }

    /// Neither a job nor an answer to a death is left over.
    fn is_quiet(&self) -> bool {
        let status = self.project.admin("/v1/status");
        status["pending"] == 0
    }

    fn check(&mut self) {
        let all = self.get("/all").expect("it runs");
        self.check_timers(&all);
        self.check_promises(&all);
        self.check_deliveries(&all);
        assert_eq!(all["scrap"], json!([]));
    }

    fn check_timers(&self, all: &Value) {
        assert_eq!(times(&all["hourly"]), self.hourly, "each hour once, of those missed the first");
        let first = self.hourly.first().unwrap();
        let day = 24 * HOUR_MS;
        let six = |n: i64| n * day + 6 * HOUR_MS;
        let days = (first / day - 1)..=(self.counted_until / day);
        let daily: BTreeSet<i64> =
            days.map(six).filter(|six| first <= six && *six <= self.counted_until).collect();
        assert_eq!(times(&all["daily"]), daily, "each day once, however late");
        let mut started: Vec<i64> = all["spaced"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["started"].as_i64().unwrap())
            .collect();
        started.sort_unstable();
        for pair in started.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap >= HOUR_MS * 3 / 2, "an interval of {gap} ms");
            // Two steps, or one after a time without an instance.
            assert!(gap <= 8 * HOUR_MS, "an interval of {gap} ms");
        }
    }

    /// What was promised for later has come when it was due, and not before; the rest is still to come.
    fn check_promises(&mut self, all: &Value) {
        let now = self.clock.now() * 1_000;
        let kept = numbers(&all["kept"], "at");
        let mut to_come = 0;
        for (id, due) in numbers(&all["promised"], "due") {
            match kept.get(&id) {
                Some(at) => assert!(*at >= due, "{id} came before its time"),
                None => {
                    assert!(due > now - 60_000, "{id} has not come");
                    to_come += 1;
                }
            }
        }
        assert_eq!(self.project.admin("/v1/status")["scheduled"], to_come);
        assert!(kept.len() > 20, "{}", kept.len());
    }

    fn check_deliveries(&mut self, all: &Value) {
        let mut events = self.project.stored();
        events.retain(|event| event["webhook"] == "clerk");
        let (main, other) = (numbers(&all["main"], "n"), numbers(&all["other"], "n"));
        let third = numbers(&self.get("/third").expect("it runs"), "n");
        let (promised, deaths) = (numbers(&all["promised"], "due"), numbers(&all["deaths"], "n"));
        for delivery in &self.deliveries {
            let (id, poison) = (delivery.id().to_owned(), delivery.is_poison());
            let stored: Vec<&Value> =
                events.iter().filter(|event| event["delivery_id"] == *id).collect();
            // What is older than ids are kept is known by its effects only.
            let is_kept = self.clock.now() - delivery.sent_at < WEEK_S - 3_600;
            assert!(stored.len() <= 1 && (stored.len() == 1 || !is_kept), "{id}: {stored:?}");
            for event in stored {
                assert_eq!(event["state"], if poison { "dead" } else { "done" }, "{event}");
            }
            assert_eq!(main.get(&id), (!poison).then_some(&1), "{id}");
            assert_eq!((other.get(&id), third.get(&id)), (Some(&1), Some(&1)), "{id}");
            assert_eq!(promised.contains_key(&id), !poison, "{id}");
            assert_eq!(deaths.contains_key(&id), poison, "{id}");
        }
        self.check_order(all, &events);
    }

    fn check_order(&self, all: &Value, events: &[Value]) {
        let of: BTreeMap<&str, &Delivery> =
            self.deliveries.iter().map(|delivery| (delivery.id(), delivery)).collect();
        for line in all["lines"].as_array().unwrap() {
            let accepted: Vec<&str> = events
                .iter()
                .rev()
                .map(|event| event["delivery_id"].as_str().unwrap())
                .filter(|id| of[id].data["key"] == line["id"] && !of[id].is_poison())
                .collect();
            let done = line["list"].as_array().unwrap();
            let of_these = &done[done.len().saturating_sub(accepted.len())..];
            assert_eq!(json!(of_these), json!(accepted), "{}", line["id"]);
        }
    }

    /// Payloads are gone after two days and ids are kept for seven; what comes after that is new.
    fn check_retention(&mut self) {
        let states = self.project.states();
        // One that needs no second attempt.
        let is_plain = |n: &usize| {
            let delivery = &self.deliveries[*n];
            let is_done = states.get(delivery.id()).is_some_and(|state| state == "done");
            is_done && delivery.data["fails"] == 0
        };
        let first = (0..self.deliveries.len()).find(is_plain).unwrap();
        let id = self.deliveries[first].id().to_owned();
        let has_body = |week: &Self, id: &str| week.project.event_of(id).get("body").is_some();
        self.wait("the oldest payload is gone", |week| (!has_body(week, &id)).then_some(()));
        let data =
            json!({ "id": "msg_new", "key": "key_new", "fails": 0, "poison": false, "hours": 1 });
        let new = Delivery { data, sent_at: self.clock.now(), acknowledged: false };
        self.deliveries.push(new);
        let new = self.deliveries.len() - 1;
        assert_eq!(self.post(new), Some(200));
        self.project.wait_for_state("msg_new", "done");
        assert!(has_body(self, "msg_new"));
        let count = |week: &Self| numbers(&week.get("/all").expect("it runs")["main"], "n")[&id];
        self.clock.advance_unseen(HOUR * 24 * 8);
        self.wait("the oldest event is gone", |week| {
            (!week.project.states().contains_key(&id)).then_some(())
        });
        assert_eq!(count(self), 1);
        assert_eq!(self.post(first), Some(200));
        self.wait("it is new and handled", |week| (count(week) == 2).then_some(()));
    }
}

/// The ids of documents, which are times.
fn times(documents: &Value) -> BTreeSet<i64> {
    let id = |document: &Value| document["id"].as_str().unwrap().parse().unwrap();
    documents.as_array().unwrap().iter().map(id).collect()
}

/// A number of each document, by its id.
fn numbers(documents: &Value, field: &str) -> BTreeMap<String, i64> {
    let number = |document: &Value| {
        (document["id"].as_str().unwrap().to_owned(), document[field].as_i64().unwrap())
    };
    documents.as_array().unwrap().iter().map(number).collect()
}

#[test]
fn w22_a_week_of_random_trouble_ends_with_every_event_accounted_for() {
    let seed = std::env::var_os("RHAIWAY_WEEK_SEED")
        .map_or_else(|| fastrand::u64(..), |seed| seed.to_str().unwrap().parse().unwrap());
    println!("RHAIWAY_WEEK_SEED={seed}");
    let mut week = Week::new(seed);
    week.live();
    week.settle();
    week.check();
    week.check_retention();
}
