//! Who calls a route, through the front door: what is presented, what is answered, and an issuer whose server of keys has a bad day. The
//! claims and the forms of tokens have their edges beside the code; here each kind of fault shows its answer.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
#[cfg(debug_assertions)]
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};

#[cfg(debug_assertions)]
use crate::support::Clock;
use crate::support::{
    Connection, ISSUER, KeyServer, PUBLIC_PEM, Project, Publishes, Response, Rhaiway, SigningKey,
    encode, eventually, now, request,
};

const SCRIPT: &str = r#"
get("/me", #{ auth: "clerk" }, |req| req.auth);
get("/open", #{ auth: "none" }, |req| #{ auth: req.auth });
post("/body", #{ auth: "clerk", max_body: "1KiB" }, |req| req.text);
post("/orders", #{ auth: "clerk", idempotency: "idempotency-key" }, |req| #{ of: req.auth.user_id, id: uuid() });
"#;

/// `[auth.clerk]` with keys from there, and lines of its own.
fn config(url: &str, more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[auth.clerk]\nkind = \"clerk\"\nissuer = \"{ISSUER}\"\njwks_url = \"{url}\"\n{more}\n"
    )
}

fn project(keys: &KeyServer) -> Project {
    Project::with_config(&config(&keys.url(), ""), SCRIPT)
}

fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(address, "GET", path, headers, b"")
}

fn me(rhaiway: &Rhaiway, token: &str) -> Response {
    get(rhaiway.address(), "/me", &[("authorization", &format!("Bearer {token}"))])
}

/// What the table of answers promises for each refusal.
fn is_refused(answer: &Response, code: &str) {
    let (status, error, challenge) = match code {
        "UNAUTHORIZED" => (401, "Unauthorized", Some("Bearer")),
        "INVALID_TOKEN" => (401, "Invalid token", Some("Bearer error=\"invalid_token\"")),
        "TOKEN_EXPIRED" => (
            401,
            "Token expired",
            Some("Bearer error=\"invalid_token\", error_description=\"The token expired\""),
        ),
        "SERVICE_UNAVAILABLE" => {
            (503, "Service temporarily unavailable. Please try again later.", None)
        }
        "CONFIGURATION_ERROR" => (500, "Configuration error. Please contact support.", None),
        other => panic!("{other}"),
    };
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json(), json!({ "error": error, "code": code }));
    assert_eq!(answer.header("www-authenticate"), challenge);
    assert!(answer.header("x-request-id").is_some());
}

#[test]
fn a_caller_is_known_by_its_token_and_scripts_see_who_it_is() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    is_refused(&rhaiway.get("/me"), "UNAUTHORIZED");
    assert_eq!(keys.fetches(), 0, "nothing is fetched before somebody presents a token");
    let claims = json!({ "sub": "user_1", "email": "ada@example.com", "userId": "user_1", "firstName": "Ada", "lastName": "Lovelace", "big": 12345678901234567890_u64 });
    let answer = me(&rhaiway, &SigningKey::one().token_with(json!({}), claims));
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = answer.json();
    for (name, value) in [
        ("user_id", "user_1"),
        ("email", "ada@example.com"),
        ("first_name", "Ada"),
        ("last_name", "Lovelace"),
    ] {
        assert_eq!(seen[name], value, "{seen}");
    }
    for (name, value) in [
        ("userId", "user_1"),
        ("firstName", "Ada"),
        ("iss", ISSUER),
        ("big", "12345678901234567890"),
    ] {
        assert_eq!(seen["claims"][name], value, "{seen}");
    }
    let plain = me(&rhaiway, &SigningKey::one().token("user_2")).json();
    assert_eq!((&plain["user_id"], &plain["email"]), (&json!("user_2"), &Value::Null));
    assert_eq!(rhaiway.get("/open").json(), json!({ "auth": null }));
    assert_eq!(keys.fetches(), 1);
}

#[test]
fn a1_a2_a3_a_token_that_picks_its_algorithm_is_refused() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    let key = SigningKey::one();
    assert_eq!(me(&rhaiway, &key.token("user_1")).status, 200);
    for algorithm in ["none", "None", "nOnE", "HS256", "RS384", "PS256", "ES256"] {
        let token = key.token_with(json!({ "alg": algorithm }), json!({}));
        is_refused(&me(&rhaiway, &token), "INVALID_TOKEN");
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        is_refused(&me(&rhaiway, &format!("{unsigned}.")), "INVALID_TOKEN");
    }
    is_refused(&me(&rhaiway, &key.token_with(json!({ "alg": null }), json!({}))), "INVALID_TOKEN");
    for secret in [PUBLIC_PEM.as_bytes().to_vec(), PUBLIC_PEM.trim().into(), key.public_bytes()] {
        let token = key.token_with(json!({ "alg": "HS256" }), json!({}));
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), unsigned.as_bytes());
        is_refused(&me(&rhaiway, &format!("{unsigned}.{}", encode(tag))), "INVALID_TOKEN");
    }
    is_refused(
        &me(&rhaiway, &SigningKey::two().token_with(json!({ "kid": "one" }), json!({}))),
        "INVALID_TOKEN",
    );
}

#[test]
fn a4_a5_a6_what_a_header_says_leads_nowhere() {
    let keys = KeyServer::with_one();
    let elsewhere = KeyServer::start(Publishes::keys(&[SigningKey::two().jwk()]));
    let project = project(&keys);
    let rhaiway = project.start();
    let (key, thief) = (SigningKey::one(), SigningKey::two());
    let with = |header: Value| me(&rhaiway, &key.token_with(header, json!({})));
    assert_eq!(with(json!({ "kid": null })).status, 200, "there is one key");
    for kid in [
        json!("../../dev/null"),
        json!("' or 1=1 --"),
        json!(1),
        json!({}),
        json!("k".repeat(10_000)),
    ] {
        is_refused(&with(json!({ "kid": kid })), "INVALID_TOKEN");
    }
    for header in [
        json!({ "jku": elsewhere.url() }),
        json!({ "x5u": elsewhere.url() }),
        json!({ "jwk": thief.jwk() }),
        json!({ "x5c": ["AAAA"] }),
    ] {
        assert_eq!(with(header.clone()).status, 200, "it is not looked at: {header}");
        let mut named = header;
        named["kid"] = json!("one");
        is_refused(&me(&rhaiway, &thief.token_with(named, json!({}))), "INVALID_TOKEN");
    }
    assert_eq!(elsewhere.fetches(), 0);
    for header in [
        json!({ "crit": ["exp"] }),
        json!({ "b64": false, "crit": ["b64"] }),
        json!({ "b64": false }),
        json!({ "zip": "DEF" }),
    ] {
        is_refused(&with(header), "INVALID_TOKEN");
    }
}

#[test]
fn a7_a8_a9_a12_what_claims_get_wrong_is_answered_and_the_log_says_what() {
    let keys = KeyServer::with_one();
    let more = "authorized_parties = [\"http://localhost:5173\"]\naudience = [\"api\", \"app\"]";
    let rhaiway = Project::with_config(&config(&keys.url(), more), SCRIPT).start();
    let key = SigningKey::one();
    let now = now();
    let with = |mut claims: Value| {
        if claims.get("aud").is_none() {
            claims["aud"] = json!("api");
        }
        me(&rhaiway, &key.token_with(json!({}), claims))
    };
    for fine in [
        json!({}),
        json!({ "aud": ["x", "app"] }),
        json!({ "azp": null }),
        json!({ "iat": null, "nbf": null }),
        json!({ "exp": now - 1 }),
    ] {
        assert_eq!(with(fine.clone()).status, 200, "{fine}");
    }
    for expired in [now - 20, 1, 0] {
        is_refused(&with(json!({ "exp": expired })), "TOKEN_EXPIRED");
    }
    for wrong in [
        json!({ "exp": null }),
        json!({ "exp": (now + 60).to_string() }),
        json!({ "exp": 1e300 }),
        json!({ "exp": -1 }),
        json!({ "exp": now as f64 + 60.5 }),
        json!({ "nbf": now + 60 }),
        json!({ "iat": now + 60 }),
        json!({ "iss": format!("{ISSUER}/") }),
        json!({ "iss": ISSUER.to_uppercase() }),
        json!({ "iss": [ISSUER] }),
        json!({ "iss": null }),
        json!({ "aud": "other" }),
        json!({ "aud": [] }),
        json!({ "azp": "http://localhost:5174" }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": 1 }),
        json!({ "sub": "x".repeat(10_000) }),
        json!({ "sub": "a\u{0}b" }),
        json!({ "sts": "pending" }),
    ] {
        is_refused(&with(wrong), "INVALID_TOKEN");
    }
    rhaiway.wait_for_log("they are compared letter by letter, slash at the end included");
    rhaiway.wait_for_log("which is none of `authorized_parties`");
    let header = r#"{"alg":"RS256","kid":"one"}"#;
    let twice =
        format!(r#"{{"iss":"{ISSUER}","aud":"api","exp":{0},"sub":"a","sub":"b"}}"#, now + 60);
    is_refused(&me(&rhaiway, &key.sign(header, &twice)), "INVALID_TOKEN");
}

#[test]
fn a10_a11_a13_what_is_no_token_is_refused_without_a_fetch() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    let key = SigningKey::one();
    let good = key.token("user_1");
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let deep = format!(r#"{{"sub":"a","x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let header = r#"{"alg":"RS256","kid":"one"}"#;
    for wrong in [
        "x".to_owned(),
        "a.b".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        format!("{good}.x"),
        format!("{good}="),
        format!("{unsigned}."),
        format!("{unsigned}.+/+/"),
        "a".repeat(40_000),
        format!("{good} {good}"),
        key.sign(header, "[]"),
        key.sign(header, &deep),
        key.sign(header, "no json"),
    ] {
        is_refused(&me(&rhaiway, &wrong), "INVALID_TOKEN");
    }
    assert_eq!(keys.fetches(), 0);
    let huge = me(&rhaiway, &"a".repeat(100_000));
    assert_eq!(huge.status, 431);
    for forged in
        [encode([0; 256]), encode([0; 255]), encode([0xff; 256]), signature[..300].to_owned()]
    {
        is_refused(&me(&rhaiway, &format!("{unsigned}.{forged}")), "INVALID_TOKEN");
    }
    assert_eq!(me(&rhaiway, &good).status, 200);
}

#[test]
fn a17_a_token_comes_in_the_header_or_clerks_cookie_and_never_in_the_query() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    let (token, other) = (SigningKey::one().token("header"), SigningKey::one().token("cookie"));
    let with = |headers: &[(&str, &str)]| get(rhaiway.address(), "/me", headers);
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        assert_eq!(
            with(&[("authorization", &format!("{scheme} {token}"))]).json()["user_id"],
            "header"
        );
    }
    let cookie = format!("a=b; __session={other}; c=d");
    assert_eq!(with(&[("cookie", &cookie)]).json()["user_id"], "cookie");
    let both = [("authorization", &*format!("Bearer {token}")), ("cookie", &*cookie)];
    assert_eq!(with(&both).json()["user_id"], "header");
    is_refused(&with(&[("authorization", "Bearer x"), ("cookie", &cookie)]), "INVALID_TOKEN");
    is_refused(&with(&[("authorization", "Bearer"), ("cookie", &cookie)]), "UNAUTHORIZED");
    for nothing in [
        &[("authorization", "Basic x")][..],
        &[("authorization", "Bearer")],
        &[("cookie", "__session=")],
        &[],
    ] {
        is_refused(&with(nothing), "UNAUTHORIZED");
    }
    for query in ["access_token", "token", "__session", "authorization"] {
        is_refused(&rhaiway.get(&format!("/me?{query}={token}")), "UNAUTHORIZED");
    }
    let twice =
        with(&[("authorization", "Bearer x"), ("authorization", &format!("Bearer {token}"))]);
    assert_eq!(twice.status, 400);
}

#[test]
fn a_stranger_is_refused_before_the_body_is_read() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    let mut connection = Connection::open(rhaiway.address());
    let head = "POST /body HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n";
    connection.send(head.as_bytes()).unwrap();
    is_refused(&connection.read().unwrap(), "UNAUTHORIZED");
    let bearer = format!("Bearer {}", SigningKey::one().token("user_1"));
    let answer = rhaiway.post("/body", &[("authorization", &bearer)], &[b'x'; 2000]);
    assert_eq!(answer.status, 413, "one who may call hears of the body");
}

#[test]
fn a14_a_stampede_asks_the_issuer_once() {
    let keys =
        KeyServer::start(Publishes::Late(json!({ "keys": [SigningKey::one().jwk()] }).to_string()));
    let project = project(&keys);
    let rhaiway = project.start();
    let statuses = stampede(rhaiway.address(), &SigningKey::one().token("user_1"));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(keys.fetches(), 1);
}

/// 1,000 requests, 50 connections side by side.
fn stampede(address: SocketAddr, token: &str) -> Vec<u16> {
    let start = Arc::new(Barrier::new(50));
    let threads: Vec<_> = (0..50)
        .map(|_| {
            let (start, bearer) = (Arc::clone(&start), format!("Bearer {token}"));
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                start.wait();
                let bytes =
                    crate::support::render("GET", "/me", &[("authorization", &bearer)], b"");
                let mut ask = || {
                    connection.send(&bytes).unwrap();
                    connection.read().unwrap().status
                };
                (0..20).map(|_| ask()).collect::<Vec<_>>()
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

#[cfg(debug_assertions)]
#[test]
fn a14_a_thousand_unknown_names_are_one_fetch_a_minute() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let key = SigningKey::one();
    assert_eq!(me(&rhaiway, &key.token("user_1")).status, 200);
    clock.advance(Duration::from_secs(11));
    let unknown = key.token_with(json!({ "kid": "nobody" }), json!({}));
    for minute in 1..=2 {
        let statuses = stampede(rhaiway.address(), &unknown);
        assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
        assert_eq!(keys.fetches(), 1 + minute);
        clock.advance(Duration::from_secs(61));
    }
    assert_eq!(me(&rhaiway, &key.token("user_1")).status, 200);
}

/// Every way in which a server of keys has failed somebody.
fn bad_days(elsewhere: &KeyServer) -> Vec<Publishes> {
    let many: Vec<Value> = (0..500).map(|_| SigningKey::one().jwk()).collect();
    vec![
        Publishes::Status(500),
        Publishes::Status(404),
        Publishes::Text("<!doctype html><title>Sign in</title>".to_owned()),
        Publishes::Text(String::new()),
        Publishes::keys(&[]),
        Publishes::keys(&many),
        Publishes::Much,
        Publishes::Redirect(elsewhere.url()),
        Publishes::Nothing,
    ]
}

#[cfg(debug_assertions)]
#[test]
fn a15_where_no_key_set_can_be_had_the_answer_is_503_and_it_heals_by_itself() {
    let elsewhere = KeyServer::with_one();
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let token = SigningKey::one().token("user_1");
    for bad_day in bad_days(&elsewhere) {
        keys.publish(bad_day.clone());
        let fetches = keys.fetches();
        let answer = me(&rhaiway, &token);
        is_refused(&answer, "SERVICE_UNAVAILABLE");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(me(&rhaiway, &token).status, 503);
        assert_eq!(keys.fetches(), fetches + 1, "a failure holds for a moment: {bad_day:?}");
        assert_eq!(rhaiway.get("/open").status, 200);
        clock.advance(Duration::from_secs(6));
    }
    assert_eq!(elsewhere.fetches(), 0, "no redirect is followed");
    rhaiway.wait_for_log("redirects are not followed");
    keys.publish(Publishes::keys(&[SigningKey::one().jwk()]));
    assert_eq!(me(&rhaiway, &token).status, 200);
    rhaiway.wait_for_log("can be had again");
}

#[cfg(debug_assertions)]
#[test]
fn a15_a_bad_day_of_the_issuer_leaves_the_last_good_key_set() {
    let elsewhere = KeyServer::with_one();
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let token = SigningKey::one().token("user_1");
    assert_eq!(me(&rhaiway, &token).status, 200);
    for bad_day in bad_days(&elsewhere) {
        keys.publish(bad_day.clone());
        let fetches = keys.fetches();
        clock.advance(Duration::from_secs(11 * 60));
        assert_eq!(me(&rhaiway, &token).status, 200, "{bad_day:?}");
        // The fetch of the day before may still be on its way, and would be joined.
        eventually(&format!("it was tried: {bad_day:?}"), || {
            assert_eq!(me(&rhaiway, &token).status, 200, "{bad_day:?}");
            (keys.fetches() > fetches).then_some(())
        });
    }
    clock.advance(Duration::from_secs(25 * 60 * 60));
    assert_eq!(me(&rhaiway, &token).status, 503, "but not for ever");
}

#[cfg(debug_assertions)]
#[test]
fn a16_bad_keys_are_passed_over_a_new_key_works_at_once_and_a_removed_one_no_longer_than_the_cache()
{
    let (one, two) = (SigningKey::one(), SigningKey::two());
    let (mut enc, mut weak, mut private) = (two.jwk(), two.jwk(), two.jwk());
    enc["use"] = json!("enc");
    weak["n"] = json!(encode([0xff; 64]));
    private["d"] = json!("AAAA");
    let keys = KeyServer::start(Publishes::keys(&[
        enc,
        weak,
        private,
        json!({ "kty": "XYZ", "kid": "x" }),
        one.jwk(),
        one.jwk(),
    ]));
    let project = project(&keys);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    assert_eq!(me(&rhaiway, &one.token("user_1")).status, 200);
    for why in
        ["not for signatures", "2048 to 8192 bits", "private part", "type or curve", "same `kid`"]
    {
        rhaiway.wait_for_log(why);
    }
    clock.advance(Duration::from_secs(11));
    keys.publish(Publishes::keys(&[one.jwk(), two.jwk()]));
    assert_eq!(me(&rhaiway, &two.token("user_1")).status, 200, "the first token of a new key");
    assert_eq!(me(&rhaiway, &one.token("user_1")).status, 200);
    keys.publish(Publishes::keys(&[two.jwk()]));
    clock.advance(Duration::from_secs(10 * 60));
    is_refused(&me(&rhaiway, &one.token("user_1")), "INVALID_TOKEN");
    assert_eq!(me(&rhaiway, &two.token("user_1")).status, 200);
}

#[cfg(debug_assertions)]
#[test]
fn a16_keys_in_use_are_renewed_in_the_background() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let clock = Clock::new(&project);
    let rhaiway = clock.start(&project);
    let token = SigningKey::one().token("user_1");
    assert_eq!(me(&rhaiway, &token).status, 200);
    // Whoever had to wait for this would wait for ever.
    keys.publish(Publishes::Nothing);
    clock.advance(Duration::from_secs(6 * 60));
    assert_eq!(me(&rhaiway, &token).status, 200);
    eventually("it is fetched", || (keys.fetches() == 2).then_some(()));
}

#[test]
fn a_public_key_in_a_variable_needs_no_network_and_one_that_is_missing_is_named() {
    let config = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[auth.clerk]\nkind = \"clerk\"\nissuer = \"https://clerk.example.com\"\njwt_key_env = \"CLERK_JWT_KEY\"\n";
    let project = Project::with_config(config, SCRIPT);
    let (_, said) = project.expect(0, &["check"]);
    assert!(said.contains("E0110") && said.contains("CLERK_JWT_KEY"), "{said}");
    let rhaiway = project.start();
    let token = SigningKey::one().token("user_1");
    is_refused(&me(&rhaiway, &token), "CONFIGURATION_ERROR");
    rhaiway.wait_for_log("CLERK_JWT_KEY");
    assert_eq!(rhaiway.get("/open").status, 200);
    // It is set while all goes on, as Clerk's dashboard shows it and on one line.
    project.write(
        ".dev.vars",
        format!("CLERK_JWT_KEY='{}'\n", PUBLIC_PEM.trim().replace('\n', "\\n")),
    );
    eventually("the key is known", || (me(&rhaiway, &token).status == 200).then_some(()));
    is_refused(&rhaiway.get("/me"), "UNAUTHORIZED");
    is_refused(&me(&rhaiway, &SigningKey::two().token("user_1")), "INVALID_TOKEN");
    project.write(".dev.vars", "CLERK_JWT_KEY=no-key-canary\n");
    eventually("it is none", || (me(&rhaiway, &token).status == 500).then_some(()));
    let told = rhaiway.wait_for_log("is no public key in PEM");
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn a_shared_token_is_one_of_two_while_it_changes_and_says_who_calls_by_the_name_of_its_table() {
    let config = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[auth.backend]\nkind = \"token\"\ntoken_env = [\"NEW_TOKEN\", \"OLD_TOKEN\"]\n";
    let project =
        Project::with_config(config, "get(\"/me\", #{ auth: \"backend\" }, |req| req.auth);");
    let rhaiway = project.start();
    is_refused(&me(&rhaiway, "anything"), "CONFIGURATION_ERROR");
    project.write(".dev.vars", "NEW_TOKEN=new-0123456789abcdef\nOLD_TOKEN=old-0123456789abcdef\n");
    eventually("both are known", || {
        (me(&rhaiway, "old-0123456789abcdef").status == 200).then_some(())
    });
    let seen = me(&rhaiway, "new-0123456789abcdef").json();
    assert_eq!(
        seen,
        json!({ "user_id": "backend", "email": null, "first_name": null, "last_name": null, "claims": {} })
    );
    for wrong in ["x", "new-0123456789abcde", "new-0123456789abcdeF", "a.b.c"] {
        is_refused(&me(&rhaiway, wrong), "INVALID_TOKEN");
    }
    is_refused(&rhaiway.get("/me"), "UNAUTHORIZED");
    is_refused(
        &get(rhaiway.address(), "/me", &[("cookie", "__session=new-0123456789abcdef")]),
        "UNAUTHORIZED",
    );
    project.write(".dev.vars", "NEW_TOKEN=new-0123456789abcdef\n");
    eventually("the old one is refused", || {
        (me(&rhaiway, "old-0123456789abcdef").status == 401).then_some(())
    });
    let log = rhaiway.log().join("\n");
    assert!(!log.contains("0123456789abcdef"), "no token is in the log");
}

#[test]
fn config_changes_live_and_keys_that_were_fetched_stay() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    let token = SigningKey::one().token("user_1");
    assert_eq!(me(&rhaiway, &token).status, 200);
    let parties = "authorized_parties = [\"https://app.example.com\"]";
    project.write("config.toml", config(&keys.url(), parties));
    eventually("the party counts", || (me(&rhaiway, &token).status == 401).then_some(()));
    let told = rhaiway.wait_for_log("reloaded config");
    assert!(told.contains("auth.clerk.authorized_parties"), "{told}");
    project.write("config.toml", config(&keys.url(), "leeway = \"1s\""));
    eventually("it counts no more", || (me(&rhaiway, &token).status == 200).then_some(()));
    assert_eq!(keys.fetches(), 1, "the keys of a URL stay");
    // Without its table the route would be open: nothing of that version is served.
    project.write("config.toml", "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n");
    rhaiway.wait_for_log("E0235");
    assert_eq!(me(&rhaiway, &token).status, 200);
    is_refused(&rhaiway.get("/me"), "UNAUTHORIZED");
}

#[test]
fn a_recorded_answer_belongs_to_its_caller() {
    let keys = KeyServer::with_one();
    let project = project(&keys);
    let rhaiway = project.start();
    let order = |user: &str| {
        let bearer = format!("Bearer {}", SigningKey::one().token(user));
        rhaiway.post("/orders", &[("authorization", &bearer), ("idempotency-key", "k1")], b"{}")
    };
    let (first, again, other) = (order("user_1"), order("user_1"), order("user_2"));
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(other.header("idempotent-replayed"), None);
    assert_eq!((&first.json()["of"], &other.json()["of"]), (&json!("user_1"), &json!("user_2")));
    let nobody = rhaiway.post("/orders", &[("idempotency-key", "k1")], b"{}");
    is_refused(&nobody, "UNAUTHORIZED");
}

#[test]
fn any_issuer_of_tokens_serves_as_kind_jwt() {
    let keys = KeyServer::with_one();
    let config = config(&keys.url(), "audience = \"api\"").replace("\"clerk\"", "\"jwt\"");
    let rhaiway = Project::with_config(&config, SCRIPT).start();
    let key = SigningKey::one();
    let claims = json!({ "sub": "auth0|1", "aud": ["api", "other"], "given_name": "Ada", "family_name": "Lovelace" });
    let seen = me(&rhaiway, &key.token_with(json!({}), claims)).json();
    assert_eq!(
        (&seen["user_id"], &seen["first_name"], &seen["last_name"]),
        (&json!("auth0|1"), &json!("Ada"), &json!("Lovelace"))
    );
    is_refused(&me(&rhaiway, &key.token("auth0|1")), "INVALID_TOKEN");
    let cookie = format!("__session={}", key.token_with(json!({}), json!({ "aud": "api" })));
    is_refused(&get(rhaiway.address(), "/me", &[("cookie", &cookie)]), "UNAUTHORIZED");
}

#[test]
fn what_ships_starts_without_a_network_and_asks_for_a_caller() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("what ships");
    let config = read("config.toml").replace("127.0.0.1:8080", "127.0.0.1:0");
    let project = Project::with_config(&config, &read("scripts/clerk.rhai"));
    let rhaiway = project.start();
    is_refused(&rhaiway.get("/api/me"), "UNAUTHORIZED");
    is_refused(
        &get(rhaiway.address(), "/api/me", &[("authorization", "Bearer x")]),
        "INVALID_TOKEN",
    );
    rhaiway.wait_for_log("it has not three parts");
    // The keys of providers that are not set have a line each.
    assert_eq!(
        rhaiway.count_log("\"WARN\"") - rhaiway.count_log("is not set at config.toml"),
        1,
        "one line for the token that is none:\n{}",
        rhaiway.log().join("\n")
    );
}
