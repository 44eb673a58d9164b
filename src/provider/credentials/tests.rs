//! Credentials against a token server on a real socket that misbehaves as they do: what is sent, how often it is asked, and what is said of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::error::{Fault, KeyFault};
use super::*;
use crate::clock;
use crate::config::{Asserted, Credentials as Config, Token};
use crate::outbound::{self, Trust};

const RSA: &str = include_str!("keys/rsa.pem");
const CANARY: &str = "canary-credentials-5e1f";

/// What the server does with one request.
enum Act {
    Answer(u16, String),
    /// Keeps silent until the client leaves.
    Hang,
    /// Closes the connection in the middle of its answer.
    Break,
    Redirect(String),
}

type Play = dyn Fn(usize, &str) -> Act + Send + Sync;

/// A token server; its requests as they came.
struct Server {
    url: String,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Server {
    /// `play` gets the number of the request, from 1, and its text.
    async fn start(play: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let requests: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let (kept, play): (_, Arc<Play>) = (Arc::clone(&requests), Arc::new(play));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&play)));
            }
        });
        Self { url, requests }
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn request(&self, number: usize) -> String {
        self.requests.lock().unwrap()[number - 1].clone()
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<std::sync::Mutex<Vec<String>>>, play: Arc<Play>) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole {
            break;
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&bytes[..count]),
        }
    }
    let text = String::from_utf8_lossy(&read).into_owned();
    let number = {
        let mut kept = kept.lock().unwrap();
        kept.push(text.clone());
        kept.len()
    };
    let answer = match play(number, &text) {
        Act::Answer(status, body) => format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
        Act::Redirect(to) => {
            format!(
                "HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        }
        Act::Break => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"acc".to_owned(),
        Act::Hang => {
            // Until the client leaves.
            _ = stream.read(&mut [0; 1]).await;
            return;
        }
    };
    _ = stream.write_all(answer.as_bytes()).await;
}

fn token(value: &str, more: &Value) -> Act {
    let mut answer = json!({ "access_token": value, "token_type": "Bearer" });
    for (name, value) in more.as_object().into_iter().flatten() {
        answer[name] = value.clone();
    }
    Act::Answer(200, answer.to_string())
}

/// A new token for each request: `token-1`, `token-2`, …
fn numbered(number: usize) -> Act {
    token(&format!("token-{number}"), &json!({ "expires_in": 3600 }))
}

fn secret(value: &str) -> Secret {
    Secret::new("SECRET", value.to_owned())
}

fn oauth2(url: &str) -> Config {
    Config::Token(Token::Client {
        token_url: url.into(),
        id: secret("the client"),
        secret: secret(CANARY),
        scope: Some("a b".into()),
        audience: None,
    })
}

/// Seconds after the start.
fn at(seconds: i64) -> Now {
    Now { wall: Millis(1_700_000_000_000 + seconds * 1000), steady: Millis(seconds * 1000) }
}

fn client() -> reqwest::Client {
    outbound::client(Duration::from_secs(30), Trust::Nobody).unwrap()
}

fn soon() -> Instant {
    clock::instant() + Duration::from_secs(20)
}

async fn header(credentials: &Credentials, seconds: i64) -> Result<String, CredentialsError> {
    let applied = credentials.apply(at(seconds), &client(), soon()).await?;
    let (name, value) = applied.header.unwrap();
    assert!(value.is_sensitive());
    Ok(format!("{name}: {}", value.to_str().unwrap()))
}

async fn fails(credentials: &Credentials, seconds: i64) -> CredentialsError {
    let error = header(credentials, seconds).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    error
}

fn once<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Waits until the condition holds, as long as the server still works.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn what_needs_no_token_is_on_every_request() {
    once(async {
        let check = async |config: Config, expected: &str| {
            let credentials = Credentials::new(Some(&config), "");
            assert_eq!(header(&credentials, 0).await.unwrap(), expected);
            let shown = format!("{:?}", credentials.apply(at(0), &client(), soon()).await.unwrap());
            assert!(!shown.contains("canary"), "{shown}");
        };
        check(Config::Bearer(secret("canary")), "authorization: Bearer canary").await;
        let header = Config::Header { name: "x-api-key".into(), value: secret("canary") };
        check(header, "x-api-key: canary").await;
        let basic = |password| Config::Basic { user: secret("Aladdin"), password };
        // RFC 7617, section 2.
        let password = Some(secret("open sesame"));
        check(basic(password), "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").await;
        check(basic(None), "authorization: Basic QWxhZGRpbjo=").await;
        let query = Config::Query { name: "key".into(), value: secret("a b&c") };
        let query = Credentials::new(Some(&query), "").apply(at(0), &client(), soon()).await;
        let (name, value) = query.unwrap().query.unwrap();
        assert_eq!((&*name, value.expose()), ("key", "a b&c"));
        let none = Credentials::new(None, "").apply(at(0), &client(), soon()).await.unwrap();
        assert!(none.header.is_none() && none.query.is_none() && none.token.is_none());
        let missing = Credentials::new(Some(&Config::Missing(vec!["A".into(), "B".into()])), "");
        let error = fails(&missing, 0).await;
        assert_eq!(
            (error.code(), &*error.to_string()),
            ("CONFIGURATION_ERROR", "`A`, `B` are not set")
        );
        let broken = Credentials::new(Some(&Config::Bearer(secret("canary\n"))), "");
        assert_eq!(
            fails(&broken, 0).await.to_string(),
            "the value of `SECRET` cannot stand in a header"
        );
    });
}

#[test]
fn a_stampede_on_two_workers_fetches_one_token() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        once(async {
            let server = Server::start(|number, _| numbered(number)).await;
            sender.send((server.url.clone(), Arc::clone(&server.requests))).unwrap();
            until(|| Arc::strong_count(&server.requests) <= 2).await;
        });
    });
    let (url, requests) = receiver.recv().unwrap();
    let credentials = Arc::new(Credentials::new(Some(&oauth2(&url)), ""));
    let worker = |credentials: Arc<Credentials>| {
        std::thread::spawn(move || {
            once(async { join_all((0..100).map(|_| header(&credentials, 0))).await })
        })
    };
    let workers = [worker(Arc::clone(&credentials)), worker(credentials)];
    for headers in workers.map(|worker| worker.join().unwrap()) {
        assert!(
            headers.iter().all(|header| header.as_deref() == Ok("authorization: Bearer token-1"))
        );
    }
    assert_eq!(requests.lock().unwrap().len(), 1);
    drop(requests);
    server.join().unwrap();
}

#[test]
fn client_credentials_go_into_the_header_and_where_that_is_refused_into_the_body() {
    once(async {
        let server = Server::start(|number, request| {
            if request.contains("authorization: ") {
                return Act::Answer(401, json!({ "error": "invalid_client" }).to_string());
            }
            numbered(number)
        })
        .await;
        let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
        assert_eq!(header(&credentials, 0).await.unwrap(), "authorization: Bearer token-2");
        let first = server.request(1);
        let expected = basic("the+client", CANARY);
        assert!(first.starts_with("POST /token ") && first.contains(&expected), "{first}");
        assert!(first.ends_with("\r\n\r\ngrant_type=client_credentials&scope=a+b"), "{first}");
        let second = server.request(2);
        let expected = format!("&scope=a+b&client_id=the+client&client_secret={CANARY}");
        assert!(second.ends_with(&expected), "{second}");
        // It is known from now on.
        assert_eq!(header(&credentials, 4000).await.unwrap(), "authorization: Bearer token-3");
        assert_eq!(server.asked(), 3);
    });
}

#[test]
fn a_token_is_renewed_before_its_end_while_calls_go_on() {
    once(async {
        let server = Server::start(|number, _| numbered(number)).await;
        let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
        for seconds in [0, 3000, 3539] {
            assert_eq!(
                header(&credentials, seconds).await.unwrap(),
                "authorization: Bearer token-1"
            );
        }
        assert_eq!(server.asked(), 1);
        // 60 s before its end: this call has the old one, and the next comes beside it.
        assert_eq!(header(&credentials, 3540).await.unwrap(), "authorization: Bearer token-1");
        until(|| server.asked() == 2).await;
        while header(&credentials, 3541).await.unwrap() != "authorization: Bearer token-2" {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(server.asked(), 2);
        // The machine slept: nothing is begun with a token that ended.
        assert_eq!(header(&credentials, 9000).await.unwrap(), "authorization: Bearer token-3");
    });
}

#[test]
fn how_long_a_token_is_good_is_read_whatever_it_is_written_as() {
    // The second at which a token that was asked for at 0 is still used, and at which it is not.
    let check = |more: Value, used: i64, ended: i64| {
        once(async {
            let server =
                Server::start(move |number, _| token(&format!("token-{number}"), &more)).await;
            let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
            header(&credentials, 0).await.unwrap();
            assert_eq!(header(&credentials, used).await.unwrap(), "authorization: Bearer token-1");
            until(|| server.asked() >= 1).await;
            let applied = credentials.apply(at(ended), &client(), soon()).await.unwrap();
            assert_ne!(applied.header.unwrap().1, "Bearer token-1");
        });
    };
    check(json!({ "expires_in": 100 }), 79, 95);
    check(json!({ "expires_in": "100" }), 79, 95);
    check(json!({ "expires_in": 100.5 }), 79, 96);
    check(json!({}), 239, 295);
    check(json!({ "expires_in": "soon" }), 239, 295);
    check(json!({ "expires_in": 0 }), 0, 1);
    check(json!({ "expires_in": -5 }), 0, 1);
    check(json!({ "expires_in": 1e300 }), 86_000, 86_400);
    check(json!({ "expires_in": u64::MAX }), 86_000, 86_400);
}

#[test]
fn an_endpoint_that_fails_is_told_and_left_alone_for_a_while() {
    let check = |act: fn() -> Act, fault: Fault| {
        once(async {
            let server = Server::start(move |_, _| act()).await;
            let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
            let error = fails(&credentials, 0).await;
            let retry_after = Duration::from_secs(1);
            assert_eq!(error, CredentialsError::Unavailable { fault, retry_after });
            assert_eq!(error.code(), "SERVICE_UNAVAILABLE");
            let errors = join_all((0..50).map(|_| fails(&credentials, 0))).await;
            assert!(errors.iter().all(|error| error.retry_after() == Some(retry_after)));
            assert_eq!(server.asked(), 1);
            // Twice as long after the second failure.
            fails(&credentials, 1).await;
            fails(&credentials, 2).await;
            assert_eq!(server.asked(), 2);
            fails(&credentials, 3).await;
            assert_eq!(server.asked(), 3);
        });
    };
    check(|| Act::Answer(500, format!("{{\"error\": \"{CANARY}\"}}")), Fault::Status(500));
    check(|| Act::Answer(400, "<html>".to_owned()), Fault::Status(400));
    check(|| Act::Answer(200, "<html>".to_owned()), Fault::NotJson);
    check(|| Act::Answer(200, String::new()), Fault::NotJson);
    check(|| Act::Answer(200, "{}".to_owned()), Fault::NoToken);
    check(|| Act::Answer(200, json!({ "access_token": "a\nb" }).to_string()), Fault::NoToken);
    check(
        || Act::Answer(200, json!({ "access_token": "a", "token_type": "mac" }).to_string()),
        Fault::NoToken,
    );
    check(|| Act::Answer(200, " ".repeat((64 << 10) + 1)), Fault::TooLarge);
    check(|| Act::Break, Fault::Broken);
    check(|| Act::Redirect("http://127.0.0.1:1/".to_owned()), Fault::Status(307));
}

#[test]
fn credentials_that_are_refused_are_an_error_of_configuration() {
    let check = |status: u16, word: Option<&'static str>, body: Value| {
        once(async {
            let body = body.to_string();
            let server = Server::start(move |_, _| Act::Answer(status, body.clone())).await;
            let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
            let error = fails(&credentials, 0).await;
            assert_eq!(error.code(), "CONFIGURATION_ERROR");
            let retry_after = Duration::from_secs(1);
            assert_eq!(error, CredentialsError::Refused { status, word, retry_after });
            let asked = server.asked();
            fails(&credentials, 0).await;
            assert_eq!(server.asked(), asked);
        });
    };
    check(400, Some("invalid_grant"), json!({ "error": "invalid_grant" }));
    check(400, Some("invalid_client"), json!({ "error": "invalid_client", "x": CANARY }));
    check(401, None, json!({ "error": CANARY }));
    check(401, None, json!({ "error": [1] }));
    check(403, None, json!("no"));
}

#[test]
fn a_token_that_a_provider_refused_is_fetched_anew_once() {
    once(async {
        let server = Server::start(|number, _| numbered(number)).await;
        let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
        let apply = |seconds| {
            let credentials = &credentials;
            async move {
                credentials.apply(at(seconds), &client(), soon()).await.unwrap().token.unwrap()
            }
        };
        // Two calls that saw the same 401.
        let (one, two) = (apply(0).await, apply(0).await);
        assert!(credentials.invalidate(one, at(1)));
        let next = apply(1).await;
        assert!(credentials.invalidate(two, at(1)));
        assert_eq!(apply(1).await, next);
        assert_eq!(server.asked(), 2);
        // The new one is refused as well: it is not the token.
        assert!(!credentials.invalidate(next, at(2)));
        assert_eq!(apply(2).await, next);
        assert_eq!(server.asked(), 2);
        assert!(credentials.invalidate(next, at(11)));
        apply(11).await;
        assert_eq!(server.asked(), 3);
    });
}

#[test]
fn each_waits_to_its_own_deadline_and_the_next_takes_over() {
    once(async {
        let hanging = Arc::new(AtomicUsize::new(1));
        let act = Arc::clone(&hanging);
        let server = Server::start(move |number, _| {
            if act.load(Ordering::Relaxed) == number { Act::Hang } else { numbered(number) }
        })
        .await;
        let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
        let client = client();
        let short = clock::instant() + Duration::from_millis(100);
        let calls =
            [credentials.apply(at(0), &client, short), credentials.apply(at(0), &client, soon())];
        let [first, second] = join_all(calls).await.try_into().unwrap();
        assert_eq!(first.unwrap_err(), CredentialsError::TimedOut);
        assert_eq!(second.unwrap().header.unwrap().1, "Bearer token-2");
        assert_eq!(server.asked(), 2);
    });
}

#[test]
fn another_secret_makes_other_credentials_and_the_same_keep_their_token() {
    once(async {
        let server = Server::start(|number, _| numbered(number)).await;
        let config = oauth2(&server.url);
        let credentials = Arc::new(Credentials::new(Some(&config), "a"));
        header(&credentials, 0).await.unwrap();
        let same = credentials.renewed(Some(&oauth2(&server.url)), "a");
        assert!(Arc::ptr_eq(&credentials, &same));
        let Config::Token(Token::Client { token_url, id, scope, audience, .. }) = config else {
            panic!()
        };
        let rotated =
            Token::Client { token_url, id, secret: secret("canary-two"), scope, audience };
        let other = same.renewed(Some(&Config::Token(rotated)), "a");
        assert_eq!(header(&other, 0).await.unwrap(), "authorization: Bearer token-2");
        assert!(!Arc::ptr_eq(&other, &other.renewed(None, "a")));
    });
}

#[test]
fn a_github_app_and_a_service_account_sign_what_they_ask_with() {
    once(async {
        let server = Server::start(|_, request| {
            let ends_at = clock_text(1_700_000_000 + 3600);
            if request.starts_with("POST /v3/app/installations/42/access_tokens ") {
                Act::Answer(201, json!({ "token": "ghs_one", "expires_at": ends_at }).to_string())
            } else {
                token("ya29.one", &json!({ "expires_in": 3599 }))
            }
        })
        .await;
        let private_key = Secret::new("KEY", RSA.to_owned());
        let app = Token::Installation {
            app_id: "7".into(),
            installation_id: "42".into(),
            private_key: private_key.clone(),
        };
        let base = server.url.replace("/token", "/v3/");
        let app = Credentials::new(Some(&Config::Token(app)), &base);
        assert_eq!(header(&app, 0).await.unwrap(), "authorization: Bearer ghs_one");
        assert_eq!(header(&app, 3500).await.unwrap(), "authorization: Bearer ghs_one");
        let request = server.request(1);
        let assertion =
            request.split_once("authorization: Bearer ").unwrap().1.lines().next().unwrap();
        let times = json!({ "iss": "7", "iat": 1_699_999_940, "exp": 1_700_000_540 });
        assert_eq!(said(assertion), times);

        let asserted = Asserted {
            token_url: server.url.as_str().into(),
            issuer: "robot@example.com".into(),
            subject: None,
            private_key,
            scope: Some("a b".into()),
            audience: "https://example.com/token".into(),
        };
        let account = Credentials::new(Some(&Config::Token(Token::Assertion(asserted))), "");
        assert_eq!(header(&account, 0).await.unwrap(), "authorization: Bearer ya29.one");
        let request = server.request(2);
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let said = said(body.strip_prefix(grant).unwrap());
        assert_eq!(said["iss"], "robot@example.com");
        assert_eq!(said["scope"], "a b");
        assert_eq!(said["aud"], "https://example.com/token");
        assert!(said.get("sub").is_none());

        let no_key = Token::Installation {
            app_id: "7".into(),
            installation_id: "42".into(),
            private_key: Secret::new("KEY", CANARY.to_owned()),
        };
        let error = fails(&Credentials::new(Some(&Config::Token(no_key)), &base), 0).await;
        assert_eq!(
            error,
            CredentialsError::NoKey { variable: "KEY".into(), fault: KeyFault::NotPem }
        );
    });
}

fn clock_text(seconds: i64) -> String {
    Millis(seconds * 1000).to_string()
}

/// The claims of an assertion.
fn said(assertion: &str) -> Value {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = assertion.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[test]
fn x9_a_token_is_taken_out_of_what_is_logged() {
    once(async {
        let server = Server::start(|_, _| token("token-of-canary", &json!({}))).await;
        let credentials = Credentials::new(Some(&oauth2(&server.url)), "");
        header(&credentials, 0).await.unwrap();
        let redactor = crate::redact::current();
        assert_eq!(redactor.text("echo: token-of-canary"), "echo: [secret]");
        assert_eq!(redactor.text(CANARY), "[secret]");
        let sent = basic("the+client", CANARY);
        assert!(redactor.text(&sent).contains("[secret]"), "{sent}");
    });
}
