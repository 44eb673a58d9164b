//! `every`, with the clocks moved by hand: rule 18, and what downtime, a clock that is set, summer time and a saved script make of it.
//!
//! What does not come cannot be waited for. So a script has its `TICKER` last: timers are looked at in the order of their registrations, and once
//! the ticker has run, those above it have been judged at the same moment.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Clock, Project, Rhaiway, clerk_event, eventually, request};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const HOUR_MS: i64 = 3_600_000;

const TICKER: &str = "every(\"10m\", |event| ());";

/// A clock in hand, and an instance.
struct Timed {
    project: Project,
    clock: Clock,
}

impl Timed {
    fn new(script: &str) -> Self {
        Self::with_more("", script)
    }

    fn with_more(more: &str, script: &str) -> Self {
        let project = Project::with_more(more, &format!("{script}\n{TICKER}"));
        let clock = Clock::new(&project);
        Self { project, clock }
    }

    fn start(&self) -> Rhaiway {
        self.clock.start(&self.project)
    }

    /// Saves another version, ticker included, and waits until it serves.
    fn save(&self, rhaiway: &Rhaiway, script: &str) {
        let before = rhaiway.generation(&self.project);
        self.project.write("scripts/main.rhai", format!("{script}\n{TICKER}"));
        eventually("it serves", || (rhaiway.generation(&self.project) > before).then_some(()));
    }

    /// The events of a timer of `scripts/main.rhai`, oldest first.
    fn of(&self, expression: &str) -> Vec<Value> {
        let source = format!("every:main/{expression}");
        let mut events = self.project.stored();
        events.retain(|event| event["webhook"] == *source);
        events.reverse();
        events
    }

    fn count(&self, expression: &str) -> usize {
        self.of(expression).len()
    }

    /// So many events of a timer, all of them at their end.
    fn wait_for(&self, expression: &str, count: usize) {
        eventually(&format!("{count} of {expression}"), || {
            let events = self.of(expression);
            let ended =
                |event: &Value| ["done", "dead"].contains(&event["state"].as_str().unwrap());
            (events.len() >= count && events.iter().all(ended)).then_some(())
        });
        assert_eq!(self.count(expression), count, "{expression}");
    }

    /// Ten minutes pass or more, the ticker has run, and what is above it was judged.
    fn pass(&self, duration: Duration) {
        assert!(duration >= 10 * MINUTE);
        let ticks = self.count("10m");
        self.clock.advance(duration);
        self.wait_for("10m", ticks + 1);
    }
}

/// When each event of a timer was to be, in milliseconds, as its handler saw it.
fn scheduled(rhaiway: &Rhaiway, name: &str) -> Vec<i64> {
    let seen = rhaiway.get(&format!("/seen/{name}")).json();
    serde_json::from_value(seen).expect("a list of times")
}

/// Writes down what `event.data.scheduled_at` says, under a name.
const SEEN: &str = r#"
fn saw(name, event) {
    let seen = db.seen.get(name) ?? #{ times: [] };
    seen.times.push(event.data.scheduled_at);
    db.seen.put(name, seen);
}
get("/seen/{name}", #{ auth: "none" }, |req| (db.seen.get(req.params.name) ?? #{ times: [] }).times);
"#;

fn script(registrations: &str) -> String {
    format!("{SEEN}{registrations}")
}

fn set(rhaiway: &Rhaiway, method: &str, path: &str) {
    assert!(request(rhaiway.address(), method, path, &[], b"").status < 300);
}

#[test]
fn rule_18_the_first_run_comes_one_interval_after_the_timer_was_first_seen() {
    let timed = Timed::new(&script("every(\"1h\", |event| saw(\"hour\", event));"));
    let rhaiway = timed.start();
    timed.pass(50 * MINUTE);
    assert_eq!(timed.count("1h"), 0);
    timed.pass(11 * MINUTE);
    timed.wait_for("1h", 1);
    // From then on it counts from the last start, not from when that was due.
    timed.pass(59 * MINUTE);
    assert_eq!(timed.count("1h"), 1);
    timed.pass(10 * MINUTE);
    timed.wait_for("1h", 2);
    let times = scheduled(&rhaiway, "hour");
    let apart = times[1] - times[0];
    assert!((61 * 60_000..62 * 60_000).contains(&apart), "{apart}");
    assert_eq!(timed.of("1h")[0]["type"], "1h");
}

#[test]
fn rule_18_one_run_at_a_time_and_what_was_missed_meanwhile_is_one_run() {
    let held = r#"
        every("1h", |event| {
            log.info("begun");
            while db.hold.count() > 0 { sleep("50ms"); }
            db.ran.increment("hour", "times", 1);
        });
        put("/hold", #{ auth: "none" }, |req| { db.hold.put("hold", #{}); });
        delete("/hold", #{ auth: "none" }, |req| { db.hold.delete("hold"); });
    "#;
    let timed = Timed::new(held);
    let rhaiway = timed.start();
    set(&rhaiway, "PUT", "/hold");
    timed.pass(61 * MINUTE);
    rhaiway.wait_for_log("begun");
    for _ in 0..3 {
        timed.pass(2 * HOUR);
    }
    assert_eq!(timed.count("1h"), 1, "nothing begins beside a slow run, and nothing piles up");
    set(&rhaiway, "DELETE", "/hold");
    timed.wait_for("1h", 2);
    timed.pass(50 * MINUTE);
    assert_eq!(timed.count("1h"), 2);
}

#[test]
fn rule_18_after_days_without_power_one_missed_run_is_made_up() {
    let registrations = script(
        "every(\"1h\", |event| saw(\"hour\", event)); every(\"0 * * * *\", |event| saw(\"cron\", event));",
    );
    let timed = Timed::new(&registrations);
    let rhaiway = timed.start();
    timed.pass(61 * MINUTE);
    timed.wait_for("1h", 1);
    let by_cron = scheduled(&rhaiway, "cron").len();
    assert!((1..=2).contains(&by_cron), "{by_cron}");
    timed.wait_for("0 * * * *", by_cron);
    rhaiway.kill();
    timed.clock.advance_unseen(10 * DAY);
    let rhaiway = timed.start();
    timed.wait_for("10m", 2);
    timed.wait_for("1h", 2);
    timed.wait_for("0 * * * *", by_cron + 1);
    // The handler hears of the first that was missed.
    let times = scheduled(&rhaiway, "cron");
    assert_eq!(times[by_cron] - times[by_cron - 1], HOUR_MS);
    timed.pass(50 * MINUTE);
    assert_eq!(timed.count("1h"), 2, "it counts from the run that was made up");
    timed.pass(11 * MINUTE);
    timed.wait_for("1h", 3);
}

#[test]
fn rule_18_a_timer_stays_the_same_when_its_script_is_saved_or_another_is_put_above_it() {
    let hour = "every(\"1h\", |event| saw(\"hour\", event));";
    let timed = Timed::new(&script(hour));
    let rhaiway = timed.start();
    timed.pass(40 * MINUTE);
    let above = format!("// saved\nevery(\"2h\", |event| saw(\"two\", event));\n{hour}");
    timed.save(&rhaiway, &script(&above));
    timed.pass(21 * MINUTE);
    timed.wait_for("1h", 1);
    // And the new one counts from when it was first seen.
    timed.pass(90 * MINUTE);
    assert_eq!(timed.count("2h"), 0);
    timed.pass(10 * MINUTE);
    timed.wait_for("2h", 1);
}

#[test]
fn rule_18_two_equal_expressions_of_a_script_are_two_timers() {
    let twice = script(
        "every(\"1h\", |event| saw(\"first\", event)); every(\"1h\", |event| saw(\"second\", event));",
    );
    let timed = Timed::new(&twice);
    let rhaiway = timed.start();
    for count in 1..=2 {
        timed.pass(61 * MINUTE);
        timed.wait_for("1h", count);
        timed.wait_for("1h/1", count);
    }
    assert_eq!(scheduled(&rhaiway, "first").len(), 2);
    assert_eq!(scheduled(&rhaiway, "second").len(), 2);
}

#[test]
fn rule_18_an_every_that_was_removed_is_forgotten_and_one_of_a_broken_script_is_not() {
    let hour = script("every(\"1h\", |event| saw(\"hour\", event));");
    let timed = Timed::new(&hour);
    let rhaiway = timed.start();
    timed.pass(50 * MINUTE);
    timed.save(&rhaiway, "");
    timed.pass(20 * MINUTE);
    timed.save(&rhaiway, &hour);
    timed.pass(50 * MINUTE);
    assert_eq!(timed.count("1h"), 0, "it counts from when it was seen again");
    // 50 minutes of its hour have passed.
    rhaiway.kill();
    timed.project.write("scripts/main.rhai", "let x = ;");
    let rhaiway = timed.start();
    timed.save(&rhaiway, &hour);
    timed.pass(11 * MINUTE);
    timed.wait_for("1h", 1);
}

#[test]
fn rule_18_a_run_has_attempts_and_a_dead_letter_does_not_hold_up_the_next() {
    let failing = r#"
        every("1h", #{ retry: #{ max: 2, base: "1m", cap: "1m" } }, |event| {
            db.ran.increment("n", "n", 1);
            if event.attempt < 3 { log.info(`attempt ${event.attempt}`); }
            throw "no";
        });
        on_dead("main/1h", |event, error| db.dead.put(event.id, #{ attempts: error.attempts, at: event.data.scheduled_at }));
        get("/dead", #{ auth: "none" }, |req| db.dead.list());
    "#;
    let timed = Timed::new(failing);
    let rhaiway = timed.start();
    timed.clock.advance(61 * MINUTE);
    for attempt in 1..=2 {
        rhaiway.wait_for_log(&format!("attempt {attempt}"));
        eventually("it waits", || (timed.of("1h")[0]["attempts"] == attempt).then_some(()));
        timed.clock.advance(MINUTE);
    }
    timed.wait_for("1h", 1);
    assert_eq!(timed.of("1h")[0]["state"], "dead");
    eventually("its death is answered", || {
        (rhaiway.get("/dead").json()[0]["attempts"] == 3).then_some(())
    });
    timed.pass(HOUR);
    eventually("the next one begins", || (timed.count("1h") == 2).then_some(()));
}

/// Goes through days of Berlin hour by hour; when `30 2 * * *` ran, as minutes since the start, and how often `30 * * * *` did.
fn through(start: &str, hours: usize) -> Vec<i64> {
    let registrations = r#"
        every("30 2 * * *", #{ tz: "Europe/Berlin" }, |event| saw("night", event));
        every("30 * * * *", #{ tz: "Europe/Berlin" }, |event| saw("hourly", event));
    "#;
    let timed = Timed::new(&script(registrations));
    let begin: i64 = start.parse().expect("seconds");
    timed.clock.set_unseen(begin);
    let rhaiway = timed.start();
    timed.clock.advance(15 * MINUTE);
    for hour in 1..=hours {
        timed.clock.advance(if hour == 1 { 16 * MINUTE } else { HOUR });
        eventually("the hour has its run", || {
            (scheduled(&rhaiway, "hourly").len() == hour).then_some(())
        });
        // It is judged before the hourly one, and one at a time.
        eventually("the night's has ended", || {
            timed.project.stored().iter().all(|event| event["state"] == "done").then_some(())
        });
    }
    let hourly = scheduled(&rhaiway, "hourly");
    assert!(hourly.windows(2).all(|pair| pair[1] - pair[0] == HOUR_MS), "{hourly:?}");
    scheduled(&rhaiway, "night").iter().map(|time| (time / 1000 - begin) / 60).collect()
}

#[test]
fn o17_where_summer_time_begins_a_time_that_is_skipped_runs_once_when_the_gap_ends() {
    // 2030-03-30T12:00Z: 2:30 is 1:30Z before the change; that night the clock goes from 2:00 to 3:00 at 1:00Z; then it is 0:30Z.
    let nights = through("1901102400", 40);
    assert_eq!(nights, [13 * 60, 36 * 60 + 30]);
}

#[test]
fn o17_where_summer_time_ends_a_time_that_comes_twice_runs_the_first_time() {
    // 2030-10-26T12:00Z: that night it is 2:30 at 0:30Z and again at 1:30Z; the next at 1:30Z.
    let nights = through("1919246400", 40);
    assert_eq!(nights, [12 * 60 + 30, 37 * 60 + 30]);
}

#[test]
fn w22_a_clock_that_is_set_neither_stalls_a_timer_nor_makes_it_burst() {
    let registrations = script(
        "every(\"30m\", |event| saw(\"half\", event)); every(\"0 * * * *\", |event| saw(\"cron\", event));",
    );
    let timed = Timed::new(&registrations);
    // Ten past an hour.
    timed.clock.set_unseen(1_900_000_800 + 600);
    let rhaiway = timed.start();
    timed.pass(31 * MINUTE);
    timed.wait_for("30m", 1);
    timed.pass(31 * MINUTE);
    timed.wait_for("30m", 2);
    timed.wait_for("0 * * * *", 1);
    // 12 past the next hour. Back to 12 past: intervals go on from now, and the hour that comes again is the same hour.
    timed.clock.jump(-HOUR_MS);
    timed.pass(31 * MINUTE);
    timed.wait_for("30m", 3);
    timed.pass(31 * MINUTE);
    timed.wait_for("30m", 4);
    assert_eq!(timed.count("0 * * * *"), 1);
    // A day forward: one run of each, not as many as fit into the day.
    let ticks = timed.count("10m");
    timed.clock.jump(24 * HOUR_MS);
    timed.wait_for("10m", ticks + 1);
    timed.wait_for("30m", 5);
    timed.wait_for("0 * * * *", 2);
    timed.pass(20 * MINUTE);
    assert_eq!(timed.count("30m"), 5);
    timed.pass(11 * MINUTE);
    timed.wait_for("30m", 6);
    let times = scheduled(&rhaiway, "cron");
    assert!(times.is_sorted() && times.len() == timed.count("0 * * * *"), "{times:?}");
}

#[test]
fn w22_a_clock_that_is_set_moves_no_retry_and_no_order() {
    let failing = r#"
        webhook("clerk", #{ retry: #{ max: 3, base: "9d", cap: "9d" } }, |event| {
            if db.seen.count() == 0 && event.attempt == 1 { throw "not yet"; }
            let list = db.seen.get("order")?.list ?? [];
            list.push(event.id);
            db.seen.put("order", #{ list: list });
        });
        get("/order", #{ auth: "none" }, |req| db.seen.get("order")?.list ?? []);
    "#;
    let timed = Timed::with_more("ordered_by = \"/data/id\"\ntolerance = \"1d\"", failing);
    let rhaiway = timed.start();
    let deliver = |id: &str| {
        let delivery = timed.clock.signed(id, clerk_event("user.created", "user_1", 1));
        assert_eq!(rhaiway.deliver(&delivery).status, 200);
    };
    deliver("msg_1");
    timed.project.wait_for_state("msg_1", "retrying");
    timed.clock.jump(-HOUR_MS);
    deliver("msg_2");
    timed.clock.jump(25 * HOUR_MS);
    deliver("msg_3");
    timed.wait_for("10m", 1);
    let states = timed.project.states();
    assert_eq!((&*states["msg_1"], &*states["msg_2"]), ("retrying", "pending"), "{states:?}");
    timed.clock.jump(-24 * HOUR_MS);
    // It waits for at most nine days of time that passes, whatever the wall clock shows.
    timed.clock.advance(9 * DAY);
    timed.project.wait_for_state("msg_3", "done");
    let expected: Vec<Value> =
        ["msg_1", "msg_2", "msg_3"].map(|id| timed.project.event_of(id)["id"].clone()).to_vec();
    assert_eq!(rhaiway.get("/order").json(), json!(expected));
}
