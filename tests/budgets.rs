//! Budgets of providers, against the stand-in for OpenAI: what spends them, what is refused then and for how long, which model stands in, what outlives a
//! kill. Clocks stand at noon, so that no day ends in the middle of a test.

use std::process::Command;
use std::time::Duration;

use rusqlite::Connection as Database;
use serde_json::{Value, json};

use crate::support::{
    Clock, Connection, Project, Response, Rhaiway, StandIn, clerk_event, eventually, render,
};

const DAY_S: i64 = 86_400;
const NOON_S: i64 = 43_200;
const HALF_A_DAY: Duration = Duration::from_secs(12 * 3_600);

const SCRIPT: &str = r#"
post("/chat", #{ auth: "none" }, |req| ai.chat.completions.create(req.json));
post("/path", #{ auth: "none" }, |req| ai.post("/chat/completions", #{ json: req.json }));
post("/read", #{ auth: "none" }, |req| ai.chat.completions.create(req.json).message().content);
post("/vector", #{ auth: "none" }, |req| ai.embeddings.create(req.json).model);
post("/caught", #{ auth: "none" }, |req| {
    try {
        return ai.chat.completions.create(req.json);
    } catch (err) {
        return #{ code: err.code, after: err.retry_after, message: err.message };
    }
});
get("/models", #{ auth: "none" }, |req| ai.models.retrieve("gpt-5").id);
webhook("clerk", "user.created", |event| {
    db.answers.put(event.data.id, #{ text: ai.chat.completions.create(#{ model: "gpt-5", messages: [#{ role: "user", content: "2 words" }] }).choices[0].message.content });
});
webhook("clerk", "user.updated", |event| {
    ai.chat.completions.create(#{ model: "gpt-5", messages: [#{ role: "user", content: "2 words" }] }, #{ wait: false });
});
webhook("clerk", "session.created", #{ retry: #{ max: 2, base: "10ms" } }, |event| {
    ai.chat.completions.create(#{ model: "gpt-5", messages: [#{ role: "user", content: "85 words" }] });
    if event.attempt == 1 { throw "again"; }
});
get("/answers", #{ auth: "none" }, |req| db.answers.count());
"#;

/// A project whose provider is the stand-in, with these lines in its table.
struct Budgeted {
    project: Project,
    clock: Clock,
    openai: StandIn,
}

impl Budgeted {
    fn new(lines: &str) -> Self {
        let openai = StandIn::start("openai");
        let project = Project::with_more(&table(&openai, lines), SCRIPT);
        let clock = Clock::new(&project);
        clock.set_unseen(clock.now().div_euclid(DAY_S) * DAY_S + NOON_S);
        Self { project, clock, openai }
    }

    fn start(&self) -> Rhaiway {
        let mut command: Command = self.clock.command(&self.project);
        command.env("OPENAI_API_KEY", "sk-of-a-test").env("OTHER_KEY", "sk-of-another");
        self.project.start_as(command)
    }

    /// Saves config.toml with other lines in the table, and waits until they serve.
    fn reconfigure(&self, rhaiway: &Rhaiway, lines: &str) {
        let before = rhaiway.generation(&self.project);
        let text = std::fs::read_to_string(self.project.at("config.toml")).unwrap();
        let start = text.find("[providers.ai]").unwrap();
        let text = format!("{}{}", &text[..start], table(&self.openai, lines).trim_start());
        self.project.write("config.toml", text);
        eventually("it serves", || (rhaiway.generation(&self.project) > before).then_some(()));
    }

    /// Paths and bodies of what was asked to be made.
    fn asked(&self) -> Vec<Value> {
        let requests = self.openai.requests().into_iter();
        let posts = requests.filter(|request| request["method"] == "POST");
        posts
            .map(|request| serde_json::from_str(request["body"].as_str().unwrap()).unwrap())
            .collect()
    }
}

fn table(openai: &StandIn, lines: &str) -> String {
    let key = if lines.contains("api_key_env") { "" } else { "api_key_env = \"OPENAI_API_KEY\"\n" };
    format!(
        "\n[providers.ai]\nkind = \"openai\"\nbase_url = \"{}/v1\"\n{key}{lines}\n",
        openai.url()
    )
}

fn saying(words: u32) -> Value {
    json!({ "model": "gpt-5", "messages": [{ "role": "user", "content": format!("{words} words") }] })
}

fn post(rhaiway: &Rhaiway, path: &str, body: &Value) -> Response {
    rhaiway.post(path, &[("content-type", "application/json")], body.to_string().as_bytes())
}

/// A completion that has to go well; its tokens.
fn tokens(rhaiway: &Rhaiway, words: u32) -> u64 {
    let answer = post(rhaiway, "/chat", &saying(words));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["usage"]["total_tokens"].as_u64().expect("a number")
}

/// The last line of the log that holds `part`.
fn line(rhaiway: &Rhaiway, part: &str) -> Value {
    rhaiway.wait_for_log(part);
    let lines = rhaiway.log();
    let line = lines.iter().rev().find(|line| line.contains(part)).expect("it was waited for");
    serde_json::from_str(line).expect("a line of JSON")
}

fn is_refused_until_midnight(answer: &Response) {
    assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
    let after = answer.json()["retryAfter"].as_i64().expect("a number");
    assert!((NOON_S - 300..=NOON_S).contains(&after), "{after}");
    assert_eq!(answer.header("retry-after"), Some(&*after.to_string()));
}

#[test]
fn the_completion_that_spends_a_budget_is_answered_and_the_next_is_not_sent() {
    let budgeted = Budgeted::new("budget = \"100 tokens/day\"");
    let rhaiway = budgeted.start();
    let used = tokens(&rhaiway, 75);
    assert!((80..100).contains(&used), "{used}");
    rhaiway.wait_for_log("has used 80 % of its budget of 100 tokens/day");
    assert_eq!(line(&rhaiway, "ai chat.completions.create: 200")["tokens_used"], used);
    tokens(&rhaiway, 40);
    rhaiway.wait_for_log("has used up its budget of 100 tokens/day");

    is_refused_until_midnight(&post(&rhaiway, "/chat", &saying(1)));
    is_refused_until_midnight(&post(&rhaiway, "/path", &saying(1)));
    let caught = post(&rhaiway, "/caught", &saying(1)).json();
    assert_eq!(caught["code"], "BUDGET_EXCEEDED");
    assert!(caught["after"].as_i64().is_some_and(|after| after <= NOON_S), "{caught}");
    assert!(caught["message"].as_str().unwrap().contains("budget of 100 tokens/day"), "{caught}");
    assert_eq!(budgeted.asked().len(), 2, "what is refused is not sent");
    assert_eq!(rhaiway.get("/models").text(), "gpt-5", "what reads costs nothing");
    assert_eq!(rhaiway.count_log("has used 80 %"), 1);
    assert_eq!(rhaiway.count_log("has used up"), 1);

    budgeted.clock.advance(HALF_A_DAY);
    tokens(&rhaiway, 1);
}

#[test]
fn a_stream_spends_a_budget_whoever_reads_it_and_tells_its_tokens_at_its_end() {
    let mut asked = saying(90);
    asked["stream"] = true.into();
    let budgeted = Budgeted::new("budget = [\"100 tokens/hour\", \"190 tokens/day\"]");
    let rhaiway = budgeted.start();
    let streamed = post(&rhaiway, "/chat", &asked);
    assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let end = line(&rhaiway, "has streamed all of its answer");
    let used = end["tokens_used"].as_u64().expect("a number");
    assert_eq!((&end["level"], &end["success"]), (&json!("INFO"), &json!(true)), "{end}");
    assert!(streamed.text().contains(&format!("\"total_tokens\":{used}")), "{end}");
    assert!((95..=105).contains(&used), "{end}");
    assert_eq!(tokens_or_refusal(&rhaiway, used), 429);

    // The hour is over, the day is not.
    budgeted.clock.advance(Duration::from_secs(3_600));
    let read = post(&rhaiway, "/read", &asked);
    assert_eq!(read.status, 200, "{}", read.text());
    eventually("both streams are told", || {
        (rhaiway.count_log("has streamed all of its answer") == 2).then_some(())
    });
    assert_eq!(post(&rhaiway, "/chat", &saying(1)).status, 429);
}

/// Where the first stream has not spent the hour's budget to the last token, a word does.
fn tokens_or_refusal(rhaiway: &Rhaiway, used: u64) -> u16 {
    if used < 100 {
        tokens(rhaiway, 5);
    }
    post(rhaiway, "/chat", &saying(1)).status
}

#[test]
fn a_stream_that_nobody_reads_to_its_end_is_estimated() {
    let budgeted = Budgeted::new("budget = \"100 tokens/day\"");
    budgeted.openai.behave(&json!({ "chunk_delay_ms": 20 }));
    let rhaiway = budgeted.start();
    let mut asked = saying(5_000);
    asked["stream"] = true.into();
    asked["messages"][0]["name"] = "x".repeat(500).into();
    let body = asked.to_string();
    let mut connection = Connection::open(rhaiway.address());
    connection
        .send(&render("POST", "/chat", &[("content-type", "application/json")], body.as_bytes()))
        .unwrap();
    rhaiway.wait_for_log("began to answer");
    // A piece of an answer has been paid for.
    eventually("a piece comes", || {
        let mut byte = [0; 4096];
        let read = connection.stream().peek(&mut byte).ok()?;
        String::from_utf8_lossy(&byte[..read]).contains("data:").then_some(())
    });
    drop(connection);
    let end = line(&rhaiway, "was left before its end");
    assert_eq!((&end["success"], &end["estimated"]), (&json!(false), &json!(true)), "{end}");
    assert!(end["tokens_used"].as_u64().is_some_and(|used| used > 125), "{end}");
    assert_eq!(post(&rhaiway, "/chat", &saying(1)).status, 429);
}

#[test]
fn what_was_used_is_known_after_a_stop_and_after_a_kill() {
    let budgeted = Budgeted::new("budget = \"300 tokens/day\"");
    let rhaiway = budgeted.start();
    let mut used = tokens(&rhaiway, 240);
    rhaiway.wait_for_log("has used 80 %");
    rhaiway.stop();

    let rhaiway = budgeted.start();
    used += tokens(&rhaiway, 1);
    eventually("it is stored", || (stored(&budgeted.project) == used).then_some(()));
    rhaiway.kill();

    let rhaiway = budgeted.start();
    while used < 300 {
        used += tokens(&rhaiway, 1);
    }
    assert_eq!(post(&rhaiway, "/chat", &saying(1)).status, 429);
    rhaiway.wait_for_log("has used up");
    assert_eq!(rhaiway.count_log("has used 80 %"), 0, "it was told before");
}

/// Tokens in the database.
#[expect(clippy::disallowed_methods, reason = "another program than Rhaiway opens its file here")]
fn stored(project: &Project) -> u64 {
    let database = Database::open(project.at("data/rhaiway.db")).unwrap();
    let sum =
        "SELECT coalesce(sum(amount), 0) FROM usage WHERE provider = 'ai' AND unit = 'tokens'";
    let sum: i64 = database.query_row(sum, [], |row| row.get(0)).unwrap();
    sum.try_into().unwrap()
}

#[test]
fn from_80_percent_on_the_fallback_model_talks_and_at_the_end_nobody_does() {
    let budgeted = Budgeted::new("budget = \"200 tokens/day\"\nfallback_model = \"gpt-5-nano\"");
    let rhaiway = budgeted.start();
    let model = |path: &str, asked: &Value| post(&rhaiway, path, asked).json()["model"].clone();
    let is_of = |model: &Value, name: &str| {
        let text = model.as_str().expect("a model").to_owned();
        // The stand-in dates what it is asked, as the real one does.
        assert!(text == name || text.starts_with(&format!("{name}-20")), "{text} and not {name}");
    };
    is_of(&model("/chat", &saying(155)), "gpt-5");
    rhaiway.wait_for_log("from here on `gpt-5-nano` is asked in place of other models");
    is_of(&model("/chat", &saying(1)), "gpt-5-nano");
    is_of(&model("/path", &saying(1)), "gpt-5-nano");
    let asked = budgeted.asked();
    assert_eq!(asked[1]["model"], "gpt-5-nano");
    assert_eq!(asked[1]["messages"], saying(1)["messages"], "all else is as the script says");
    let vector = json!({ "model": "text-embedding-3-small", "input": "x" });
    let answer = post(&rhaiway, "/vector", &vector);
    assert_eq!((answer.status, answer.text()), (200, "text-embedding-3-small"));
    tokens(&rhaiway, 50);
    is_refused_until_midnight(&post(&rhaiway, "/chat", &saying(1)));
    is_refused_until_midnight(&post(&rhaiway, "/vector", &vector));
}

#[test]
fn a_rerun_is_given_what_another_model_would_be_asked_for_now() {
    let budgeted = Budgeted::new("budget = \"100 tokens/day\"\nfallback_model = \"gpt-5-nano\"");
    let rhaiway = budgeted.start();
    let delivery = budgeted.clock.signed("msg_1", clerk_event("session.created", "msg_1", 1));
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    let done = budgeted.project.wait_for_state("msg_1", "done");
    assert_eq!(done["jobs"][0]["attempt"], 2, "{done}");
    rhaiway.wait_for_log("is asked in place of other models");
    assert_eq!(budgeted.asked().len(), 1, "its answer was recorded, and paid for");
}

#[test]
fn what_stands_in_line_when_a_budget_is_spent_is_not_sent_and_what_is_under_way_is() {
    let budgeted = Budgeted::new("budget = \"5 tokens/day\"\nconcurrency = 2");
    budgeted.openai.behave(&json!({ "latency_ms": 300 }));
    let rhaiway = budgeted.start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..6).map(|_| scope.spawn(|| post(&rhaiway, "/chat", &saying(1)).status)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let sent = statuses.iter().filter(|status| **status == 200).count();
    assert!((1..=2).contains(&sent), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 6 - sent);
    assert_eq!(budgeted.asked().len(), sent);
}

#[test]
fn dollars_are_counted_by_the_prices_of_config_and_a_budget_that_changes_knows_what_was_used() {
    let prices = "prices = { \"gpt-5\" = { input = 10000.0, output = 10000.0 } }";
    let budgeted = Budgeted::new(&format!("budget = \"1 usd/day\"\n{prices}"));
    let rhaiway = budgeted.start();
    let used = tokens(&rhaiway, 99);
    assert!((100..200).contains(&used), "a token is a cent: {used}");
    is_refused_until_midnight(&post(&rhaiway, "/chat", &saying(1)));

    budgeted.reconfigure(&rhaiway, &format!("budget = \"2 usd/day\"\n{prices}"));
    tokens(&rhaiway, 1);
    // Another key and another unit: what was used stays used.
    budgeted.reconfigure(&rhaiway, "budget = \"50 tokens/month\"\napi_key_env = \"OTHER_KEY\"");
    assert_eq!(post(&rhaiway, "/chat", &saying(1)).status, 429);
    budgeted.reconfigure(&rhaiway, "");
    tokens(&rhaiway, 1);
}

#[test]
fn a_model_without_a_price_is_named_once_and_counts_in_tokens_all_the_same() {
    let descriptor = "[usage]\nmodel = \"/model\"\ntotal = [\"/usage/total_tokens\"]\n";
    let budgeted = Budgeted::new("");
    budgeted.project.write("own.toml", descriptor);
    let config = format!(
        "\n[providers.ai]\nkind = \"http\"\nbase_url = \"{}/v1\"\nauth = {{ bearer_env = \"OPENAI_API_KEY\" }}\ndescriptor = \"own.toml\"\nbudget = [\"0.01 usd/day\", \"100 tokens/day\"]\n",
        budgeted.openai.url()
    );
    let text = std::fs::read_to_string(budgeted.project.at("config.toml")).unwrap();
    let start = text.find("[providers.ai]").unwrap();
    budgeted.project.write("config.toml", format!("{}{}", &text[..start], config.trim_start()));
    let script = r#"post("/path", #{ auth: "none" }, |req| ai.post("/chat/completions", #{ json: req.json }));"#;
    budgeted.project.write("scripts/main.rhai", script);
    let rhaiway = budgeted.start();
    for _time in 0..2 {
        let answer = post(&rhaiway, "/path", &saying(45));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    rhaiway.wait_for_log("has no price, so its calls count for no budget in dollars");
    rhaiway.wait_for_log("has used up its budget of 100 tokens/day");
    assert_eq!(rhaiway.count_log("has no price"), 1);
    is_refused_until_midnight(&post(&rhaiway, "/path", &saying(1)));
}

#[test]
fn rule_12_a_job_parks_until_its_budget_begins_anew_unless_it_will_not_wait() {
    let budgeted = Budgeted::new("budget = \"50 tokens/day\"");
    let rhaiway = budgeted.start();
    tokens(&rhaiway, 60);
    let deliver = |id: &str, kind: &str| {
        let delivery = budgeted.clock.signed(id, clerk_event(kind, id, 1));
        assert_eq!(rhaiway.deliver(&delivery).status, 200);
    };
    deliver("msg_1", "user.created");
    let parked = budgeted.project.wait_for_state("msg_1", "parked");
    assert_eq!(parked["jobs"][0]["attempt"], 0, "{parked}");
    assert!(parked.to_string().contains("budget of 50 tokens/day"), "{parked}");
    deliver("msg_2", "user.updated");
    let failed = budgeted.project.wait_for_state("msg_2", "retrying");
    assert!(failed.to_string().contains("BUDGET_EXCEEDED"), "{failed}");
    assert_eq!(rhaiway.get("/answers").json(), 0);

    budgeted.clock.advance(HALF_A_DAY);
    budgeted.project.wait_for_state("msg_1", "done");
    assert_eq!(rhaiway.get("/answers").json(), 1);
}

#[test]
fn a_job_does_not_wait_for_longer_than_three_days() {
    let budgeted = Budgeted::new("budget = \"50 tokens/month\"");
    // The first of a month that is far away, whatever day it is.
    budgeted.clock.set_unseen(1_830_297_600 + NOON_S);
    let rhaiway = budgeted.start();
    tokens(&rhaiway, 60);
    let delivery = budgeted.clock.signed("msg_1", clerk_event("user.created", "msg_1", 1));
    assert_eq!(rhaiway.deliver(&delivery).status, 200);
    let failed = budgeted.project.wait_for_state("msg_1", "retrying");
    assert!(failed.to_string().contains("BUDGET_EXCEEDED"), "{failed}");
}

#[test]
fn a_budget_that_nothing_could_count_is_refused() {
    let check = |table: &str, expected: &[&str]| {
        let config = format!("[providers.other]\n{table}\n");
        let project = Project::with_config(&config, "");
        let (stdout, stderr) = project.expect(1, &["check"]);
        for part in expected {
            let said = format!("{stdout}{stderr}");
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    let cannot = "`budget` in [providers.other] cannot be kept: nothing says what its answers used";
    check("kind = \"stripe\"\nbudget = \"20 usd/day\"", &["E0108", cannot, "config.toml:3:10"]);
    check(
        "kind = \"http\"\nbase_url = \"https://example.com\"\nbudget = \"1 tokens/day\"",
        &[cannot, "`[usage]`"],
    );
    check(
        "kind = \"openai\"\nbudget = \"20 eur/day\"",
        &[
            "E0102",
            "`budget` in [providers.other] must be a budget",
            "the units are `tokens` and `usd`",
        ],
    );
}
