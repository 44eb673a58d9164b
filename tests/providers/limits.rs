//! V10 to V12: what a third party says of its limits, and of our key.

use std::time::Duration;

use serde_json::{Value, json as value};

use super::{PATIENT, TWO_TRIES, Table, answers, failed, get, post, start, start_with, timed};
use crate::support::now;
use crate::support::upstream::{Step, Upstream, answer, json};

/// A refusal with these headers, then an answer.
fn refusing(headers: &[(&str, &str)]) -> Upstream {
    let refusal = answer("429 Too Many Requests", headers, b"{}");
    Upstream::start(move |number| match number {
        0 => {
            vec![Step::Read, Step::Send(refusal.clone()), Step::Read, Step::Send(json("{\"n\":1}"))]
        }
        _ => answers(&json("{\"n\":1}")),
    })
}

/// As HTTP writes a moment that is so many seconds away.
fn date(seconds: i64) -> String {
    let at = jiff::Timestamp::from_second(now() + seconds).expect("a moment");
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[test]
fn v10_a_refusal_is_waited_for_as_its_retry_after_says() {
    let (soon, past) = (date(2), date(-3600));
    // What is said of the wait, and how long it is at least and at most, in milliseconds. Nothing said is a second.
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, Headers<'_>, u64, u64); 10] = [
        ("seconds", &[("retry-after", "2")], 1_900, 5_000),
        ("fraction", &[("retry-after", "0.3")], 290, 3_000),
        ("date", &[("retry-after", &soon)], 100, 5_000),
        ("past", &[("retry-after", &past)], 0, 900),
        ("zero", &[("retry-after", "0")], 0, 900),
        ("negative", &[("retry-after", "-1")], 900, 4_000),
        ("words", &[("retry-after", "abc")], 900, 4_000),
        ("absent", &[], 900, 4_000),
        ("twice", &[("retry-after", "0"), ("retry-after", "1800")], 0, 900),
        (
            "nonsense",
            &[
                ("ratelimit-remaining", "NaN"),
                ("ratelimit-reset", "-1"),
                ("x-ratelimit-reset", "0"),
            ],
            900,
            4_000,
        ),
    ];
    let upstreams: Vec<Upstream> = rows.iter().map(|(_, headers, ..)| refusing(headers)).collect();
    let urls: Vec<String> = upstreams.iter().map(Upstream::url).collect();
    let tables: Vec<Table<'_>> =
        rows.iter().zip(&urls).map(|((name, ..), url)| (*name, &**url, TWO_TRIES)).collect();
    let (_project, rhaiway) = start(&tables);
    std::thread::scope(|scope| {
        for ((name, _, least, most), upstream) in rows.iter().zip(&upstreams) {
            let rhaiway = &rhaiway;
            scope.spawn(move || {
                // A refusal was not done, so what must not be done twice is tried again as well.
                let (told, took) = timed(|| post(rhaiway, &format!("/{name}/post")));
                assert_eq!(told["got"]["n"], 1, "{name}: {told}");
                assert_eq!(upstream.requests().len(), 2, "{name}");
                assert!(took >= Duration::from_millis(*least), "{name}: {took:?}");
                assert!(took < Duration::from_millis(*most), "{name}: {took:?}");
            });
        }
    });
}

#[test]
fn v10_a_wait_that_is_too_long_is_thrown_and_the_route_says_when_to_come_again() {
    let for_ever = refusing(&[("retry-after", "1e9")]);
    let long = refusing(&[("retry-after", "30")]);
    let (_project, rhaiway) =
        start(&[("for_ever", &for_ever.url(), TWO_TRIES), ("long", &long.url(), TWO_TRIES)]);
    let told = get(&rhaiway, "/for_ever/get");
    failed(&told, "RATE_LIMIT_EXCEEDED", "it answered 429");
    assert_eq!(told["retry_after"], 3600, "an hour at most: {told}");
    failed(&get(&rhaiway, "/for_ever/get"), "RATE_LIMIT_EXCEEDED", "it has asked for a pause");

    let bare = rhaiway.get("/long/bare");
    assert_eq!((bare.status, bare.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
    let after = bare.json()["retryAfter"].as_u64().expect("a number");
    assert!((29..=30).contains(&after), "{after}");
    assert_eq!(bare.header("retry-after"), Some(&*after.to_string()));
    assert_eq!((for_ever.requests().len(), long.requests().len()), (1, 1));
}

#[test]
fn v10_headers_that_make_no_sense_close_nothing_and_are_not_believed() {
    let headers = [
        ("content-type", "application/json"),
        ("ratelimit-limit", "100"),
        ("ratelimit-remaining", "-1"),
        ("ratelimit-reset", "NaN"),
        ("x-ratelimit-reset", "0"),
        ("retry-after", "3600"),
    ];
    let upstream = Upstream::always(answers(&answer("200 OK", &headers, b"{\"n\":1}")));
    let (_project, rhaiway) = start(&[("x", &upstream.url(), PATIENT)]);
    let (_, took) = timed(|| {
        for _call in 0..3 {
            assert_eq!(get(&rhaiway, "/x/get")["got"]["n"], 1);
        }
    });
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn v11_a_limit_that_one_worker_hears_of_holds_for_all() {
    let refused =
        Upstream::always(answers(&answer("429 Slow Down", &[("retry-after", "600")], b"")));
    let down = Upstream::always(answers(&answer("503 Down", &[("retry-after", "600")], b"")));
    // Errors with status 200, as config tells them.
    let body = b"{\"ok\":false,\"error\":\"ratelimited\"}";
    let headers = [("content-type", "application/json"), ("retry-after", "600")];
    let hidden = Upstream::always(answers(&answer("200 OK", &headers, body)));
    let told_by = format!(
        "{PATIENT}\nerror_when = {{ pointer = \"/ok\", equals = false, code = \"/error\" }}"
    );
    let (_project, rhaiway) = start_with(
        2,
        &[
            ("refused", &refused.url(), PATIENT),
            ("down", &down.url(), PATIENT),
            ("hidden", &hidden.url(), &told_by),
        ],
        |_command| {},
    );
    for (name, upstream, code) in [
        ("refused", &refused, "RATE_LIMIT_EXCEEDED"),
        ("down", &down, "SERVICE_UNAVAILABLE"),
        ("hidden", &hidden, "RATE_LIMIT_EXCEEDED"),
    ] {
        // Each on a connection of its own: the system spreads them over both workers.
        for _call in 0..12 {
            let told = get(&rhaiway, &format!("/{name}/get"));
            failed(&told, code, "");
            let after = told["retry_after"].as_u64().unwrap_or_default();
            assert!((590..=600).contains(&after), "{name}: {told}");
        }
        assert_eq!(upstream.requests().len(), 1, "{name}");
    }
}

#[test]
fn v11_our_own_rate_holds_over_all_workers() {
    let upstream = Upstream::always(answers(&json("{}")));
    let more = format!("{PATIENT}\nrate_limit = \"2/h\"");
    let (_project, rhaiway) = start_with(2, &[("x", &upstream.url(), &more)], |_command| {});
    let answers: Vec<Value> = (0..8).map(|_| get(&rhaiway, "/x/get")).collect();
    let refused: Vec<&Value> = answers.iter().filter(|told| told["code"] != value!(null)).collect();
    for told in &refused {
        failed(told, "RATE_LIMIT_EXCEEDED", "our own `rate_limit`");
        assert!(told["retry_after"].as_u64().is_some_and(|after| after > 60), "{told}");
    }
    assert_eq!(upstream.requests().len() + refused.len(), 8);
    assert!(upstream.requests().len() <= 2, "{}", upstream.requests().len());
}

#[test]
fn v12_a_key_or_a_request_that_is_refused_is_neither_tried_again_nor_held_against_the_provider() {
    let of = |status: &str| Upstream::always(answers(&answer(status, &[], b"no")));
    let (unknown, forbidden) = (of("401 Unauthorized"), of("403 Forbidden"));
    let more = format!(
        "{TWO_TRIES}\nbreaker = {{ min_calls = 1, failure_rate = 0.01, open_for = \"1h\" }}"
    );
    let (_project, rhaiway) =
        start(&[("unknown", &unknown.url(), &more), ("forbidden", &forbidden.url(), &more)]);
    for _call in 0..5 {
        failed(&get(&rhaiway, "/unknown/get"), "CONFIGURATION_ERROR", "it answered 401: no");
        failed(&get(&rhaiway, "/forbidden/get"), "INVALID_REQUEST", "it answered 403: no");
    }
    assert_eq!((unknown.requests().len(), forbidden.requests().len()), (5, 5));
    let bare = rhaiway.get("/unknown/bare");
    assert_eq!((bare.status, bare.code().as_str()), (500, "CONFIGURATION_ERROR"));
    let bare = rhaiway.get("/forbidden/bare");
    assert_eq!((bare.status, bare.code().as_str()), (500, "SCRIPT_ERROR"));
    rhaiway.wait_for_log("forbidden GET /thing: it answered 403");
}
