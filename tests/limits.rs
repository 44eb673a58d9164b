//! `rate_limit` of routes: how often one caller may ask, over all workers and across reloads.

use crate::support::{Project, Response, Rhaiway, eventually, request};

const CONFIG: &str =
    "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\ntrusted_proxies = [\"127.0.0.1/32\"]\n";

fn script(rate: &str, text: &str) -> String {
    format!(r#"post("/ask", #{{ auth: "none", rate_limit: {rate} }}, |req| "{text}");"#)
}

/// Asks from an address, on a connection of its own and so on any worker.
fn ask(rhaiway: &Rhaiway, from: &str) -> Response {
    request(rhaiway.address(), "POST", "/ask", &[("x-forwarded-for", from)], b"")
}

/// How many of as many as that are answered.
fn answered(rhaiway: &Rhaiway, from: &str, asked: usize) -> usize {
    (0..asked).filter(|_| ask(rhaiway, from).status == 200).count()
}

#[test]
fn a_caller_who_asks_too_often_hears_429_and_when_to_come_again() {
    let project = Project::with_config(CONFIG, &script("\"20/h\"", "hello"));
    let rhaiway = project.start();
    assert_eq!(answered(&rhaiway, "10.0.0.1", 30), 20, "over all workers");
    let refused = ask(&rhaiway, "10.0.0.1");
    assert_eq!((refused.status, refused.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
    let seconds = refused.json()["retryAfter"].as_u64().unwrap();
    assert!((1..=180).contains(&seconds), "{seconds}");
    assert_eq!(refused.header("retry-after"), Some(seconds.to_string().as_str()));
    let message = "Too many requests. Please wait a moment and try again.";
    assert_eq!(refused.json()["error"], message);
    assert_eq!(ask(&rhaiway, "10.0.0.2").status, 200, "another caller");
}

#[test]
fn all_rates_of_a_list_hold_and_a_caller_who_waited_is_answered() {
    let project = Project::with_config(CONFIG, &script(r#"["1/s", "3/h"]"#, "hello"));
    let rhaiway = project.start();
    for _ in 0..3 {
        eventually("it is answered", || (ask(&rhaiway, "10.0.0.1").status == 200).then_some(()));
    }
    let refused = eventually("the second is over", || {
        let refused = ask(&rhaiway, "10.0.0.1");
        (refused.json()["retryAfter"].as_u64().unwrap() > 60).then_some(refused)
    });
    assert_eq!(refused.status, 429);
}

#[test]
fn a_saved_script_keeps_the_counts_unless_its_rate_has_changed() {
    let project = Project::with_config(CONFIG, &script("\"5/h\"", "first"));
    let rhaiway = project.start();
    assert_eq!(answered(&rhaiway, "10.0.0.1", 10), 5);
    let mut from = 0;
    let mut save = |rate: &str, text: &str| {
        project.write("scripts/main.rhai", script(rate, text));
        eventually("it serves", || {
            // Each from an address that nobody asked from before.
            from += 1;
            let answer = ask(&rhaiway, &format!("10.1.{}.{}", from / 250, from % 250));
            (answer.text() == text).then_some(())
        });
    };
    save("\"5/h\"", "second");
    assert_eq!(ask(&rhaiway, "10.0.0.1").status, 429);
    save("\"6/h\"", "third");
    assert_eq!(answered(&rhaiway, "10.0.0.1", 10), 6);
}

#[test]
fn a_rate_that_is_none_is_refused_and_the_units_are_named() {
    for (rate, said) in [
        ("20", "s, min, h, d"),
        ("\"20\"", "`20/s`"),
        ("\"often\"", "`100/min`"),
        ("[]", "1 to 4 rates"),
        ("true", "a rate such as"),
    ] {
        let project = Project::with_config(CONFIG, &script(rate, "hello"));
        let checked = project.run(&["check"]);
        let text = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(1), "{rate}: {text}");
        assert!(text.contains(said), "{rate}: {text}");
    }
}
