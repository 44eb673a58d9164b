//! `rhaiway send WEBHOOK TYPE`: posts sample events to a webhook, signed as its sender would sign them. This is the command's core: it
//! returns what happened and prints nothing. A sent event cannot be told from a real one, but that its body says `example`.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Url;

use crate::clock;
use crate::config::{Config, Webhook};
use crate::json;
use crate::outbound::{self, OutboundError, Trust};
use crate::webhook::sample;
use crate::webhook::scheme::{Payload, Scheme};
use crate::webhook::signature::Problem;
use crate::webhook::verifier::{self, ID_LENGTH_MAX, Message};

mod sent;

pub(crate) use self::sent::{NoAnswer, Outcome, Post, Sent};

/// Posts that are under way at once: enough to fill a commit of the inbox, few enough for any limit of connections.
const CONNECTIONS: usize = 8;
/// A webhook that is answered after its handler has run may take as long as the longest usual run.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer that are kept to be shown.
const ANSWER_MAX: usize = 16 * 1024;
/// Bytes of `--data`, as no webhook takes more.
const DATA_MAX: u64 = 64 * 1024 * 1024;

/// Post a correctly signed sample event
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// The webhook, as config.toml names it
    pub(crate) webhook: String,
    /// The type of the event, such as `user.created`
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// Post this body instead of the sample; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// How many, each with its own id [default: 1]
    #[arg(long, hide_default_value = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// Sign another body than is sent; the answer must be 401
    #[arg(long)]
    pub(crate) bad_signature: bool,
    /// The delivery's id; sent twice it is a duplicate
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Post here, not to `listen` and the webhook's path
    #[arg(long)]
    pub(crate) url: Option<Url>,
    /// Print one JSON object for each post
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("there is no webhook `{name}` in config{}; there {}", meant(nearest.as_deref()), there(known))]
    UnknownWebhook { name: Box<str>, known: Vec<Box<str>>, nearest: Option<Box<str>> },
    #[error("webhook `{webhook}` has scheme `{scheme}`, which does not exist")]
    UnknownScheme { webhook: Box<str>, scheme: Box<str> },
    #[error("there is no sample of type `{kind}` for webhook `{webhook}`{}; {}", meant(*nearest), samples(known))]
    NoSample {
        webhook: Box<str>,
        kind: Box<str>,
        known: Vec<&'static str>,
        nearest: Option<&'static str>,
    },
    #[error(
        "webhook `{webhook}` has no secret to sign with: set {} in the environment or in `.dev.vars`",
        list(variables)
    )]
    NoSecret { webhook: Box<str>, variables: Vec<Box<str>> },
    #[error("cannot sign for webhook `{webhook}`: {problem}")]
    BadSecret { webhook: Box<str>, problem: Problem },
    #[error(
        "webhook `{webhook}` has scheme `{scheme}`, which signs nothing: there is no signature to spoil"
    )]
    NothingToSpoil { webhook: Box<str>, scheme: &'static str },
    #[error("an id is 1 to {ID_LENGTH_MAX} characters of visible ASCII")]
    BadId,
    #[error("scheme `{0}` has its id inside the body: write it there, and use --data")]
    IdInBody(&'static str),
    #[error("cannot read {}: {error}", path.display())]
    Data { path: PathBuf, error: io::Error },
    #[error("{} has more than {DATA_MAX} bytes", path.display())]
    LongData { path: PathBuf },
    #[error("`{0}` is not an address to post to")]
    BadUrl(Box<str>),
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("nothing listens at {0}; start it with `rhaiway run`")]
    NothingListens(Url),
}

/// Posts what the arguments ask for.
pub(crate) async fn run(args: &SendArgs, config: &Config) -> Result<Sent, SendError> {
    post(plan(args, &config.webhooks, config.server.listen)?).await
}

/// Everything that is to be sent, checked.
struct Plan<'a> {
    args: &'a SendArgs,
    webhook: &'a Webhook,
    scheme: &'static Scheme,
    url: Url,
    /// In place of the sample.
    data: Option<Bytes>,
}

/// One request, ready to go.
struct Signed {
    id: String,
    headers: HeaderMap,
    body: Bytes,
}

fn plan<'a>(
    args: &'a SendArgs,
    webhooks: &'a [Webhook],
    listen: SocketAddr,
) -> Result<Plan<'a>, SendError> {
    let webhook =
        webhooks.iter().find(|webhook| *webhook.name == args.webhook).ok_or_else(|| {
            let known: Vec<Box<str>> =
                webhooks.iter().map(|webhook| webhook.name.clone()).collect();
            let nearest = nearest(&args.webhook, known.iter().map(|name| &**name)).map(Into::into);
            SendError::UnknownWebhook { name: (*args.webhook).into(), known, nearest }
        })?;
    let name = || webhook.name.clone();
    let scheme = Scheme::named(&webhook.scheme).ok_or_else(|| SendError::UnknownScheme {
        webhook: name(),
        scheme: webhook.scheme.clone(),
    })?;
    if scheme.signing.is_none() && args.bad_signature {
        return Err(SendError::NothingToSpoil { webhook: name(), scheme: &scheme.name });
    }
    if scheme.signing.is_some() && webhook.secrets.set.is_empty() {
        return Err(SendError::NoSecret {
            webhook: name(),
            variables: webhook.secrets.missing.clone(),
        });
    }
    if let Some(id) = &args.id {
        if !verifier::is_id(id) {
            return Err(SendError::BadId);
        }
        if !scheme.has_id_header() {
            return Err(SendError::IdInBody(&scheme.name));
        }
    }
    let data = args.data.as_deref().map(read_data).transpose()?;
    let plan = Plan { args, webhook, scheme, url: url(args, webhook, listen)?, data };
    if plan.data.is_none() && plan.sample(1).is_none() {
        let known: Vec<&str> = sample::kinds(&webhook.name).collect();
        let nearest = nearest(&args.kind, known.iter().copied());
        return Err(SendError::NoSample {
            webhook: name(),
            kind: (*args.kind).into(),
            known,
            nearest,
        });
    }
    // The key is tried once before the first post, not at each of them.
    plan.signed(1)?;
    Ok(plan)
}

/// Sends all of it, a few at a time.
async fn post(plan: Plan<'_>) -> Result<Sent, SendError> {
    let trust = if plan.url.scheme() == "https" { Trust::System } else { Trust::Nobody };
    let client = outbound::client(TIMEOUT, trust)?;
    let started = clock::instant();
    let posts: Vec<Result<Post, SendError>> = stream::iter(1..=plan.args.count)
        .map(|number| {
            let (client, plan) = (&client, &plan);
            async move { Ok(post_one(client, &plan.url, plan.signed(number)?).await) }
        })
        .buffered(CONNECTIONS)
        .collect()
        .await;
    let posts = posts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let is_unheard =
        |post: &Post| matches!(post.outcome, Outcome::Failed { error: NoAnswer::NotConnected });
    if posts.iter().all(is_unheard) {
        return Err(SendError::NothingListens(plan.url));
    }
    let kind = (*plan.args.kind).into();
    Ok(Sent { kind, posts, took: started.elapsed(), spoilt: plan.args.bad_signature })
}

async fn post_one(client: &reqwest::Client, url: &Url, signed: Signed) -> Post {
    let started = clock::instant();
    let outcome = answer(client.post(url.clone()).headers(signed.headers).body(signed.body)).await;
    let outcome = outcome.unwrap_or_else(|error| Outcome::Failed {
        error: match error {
            error if error.is_connect() => NoAnswer::NotConnected,
            error if error.is_timeout() => NoAnswer::TimedOut,
            _ => NoAnswer::Broken,
        },
    });
    Post { id: signed.id.into(), outcome, latency: started.elapsed() }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Outcome, reqwest::Error> {
    let mut response = request.send().await?;
    let request_id = response
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .map(Into::into);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    let body = String::from_utf8_lossy(&body).into();
    Ok(Outcome::Answered { status: response.status().as_u16(), request_id, body })
}

impl Plan<'_> {
    fn sample(&self, number: u32) -> Option<Bytes> {
        // A duplicate is the same delivery again, so all copies with one id are equal.
        let number = if self.args.id.is_some() { 1 } else { number };
        sample::body(&self.webhook.name, &self.scheme.name, &self.args.kind, number).map(Into::into)
    }

    fn signed(&self, number: u32) -> Result<Signed, SendError> {
        let id = self.args.id.clone().unwrap_or_else(|| format!("msg_{}", clock::uuid().simple()));
        let body = self.data.clone().or_else(|| self.sample(number)).unwrap_or_default();
        let mut headers = HeaderMap::new();
        if let Some(secret) = self.webhook.secrets.set.first() {
            let bytes = if self.args.bad_signature {
                Bytes::from([&body[..], b" "].concat())
            } else {
                body.clone()
            };
            let message = Message { id: &id, at: clock::now(), body: &bytes };
            let signed = verifier::headers(self.scheme, secret, &message).map_err(|problem| {
                SendError::BadSecret { webhook: self.webhook.name.clone(), problem }
            })?;
            for (name, value) in signed {
                headers.insert(name, value.parse().map_err(|_| SendError::BadId)?);
            }
        }
        let is_json = self.scheme.payload == Payload::Json
            || json::prepare(&body).is_ok_and(|text| json::scan(&text, &[]).is_ok());
        let content_type = if is_json { "application/json" } else { "text/plain" };
        headers.insert("content-type", axum::http::HeaderValue::from_static(content_type));
        Ok(Signed { id, headers, body })
    }
}

fn read_data(path: &std::path::Path) -> Result<Bytes, SendError> {
    let read = || -> io::Result<Vec<u8>> {
        let source: &mut dyn Read = if path.as_os_str() == "-" {
            &mut io::stdin()
        } else {
            &mut std::fs::File::open(path)?
        };
        let mut bytes = Vec::new();
        source.take(DATA_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| SendError::Data { path: path.into(), error })?;
    if bytes.len() as u64 > DATA_MAX {
        return Err(SendError::LongData { path: path.into() });
    }
    Ok(bytes.into())
}

/// Where to post: an address to listen on that means every address is reached on this machine.
fn url(args: &SendArgs, webhook: &Webhook, listen: SocketAddr) -> Result<Url, SendError> {
    if let Some(url) = &args.url {
        return match url.scheme() {
            "http" | "https" => Ok(url.clone()),
            _ => Err(SendError::BadUrl(url.as_str().into())),
        };
    }
    let here = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    let url = format!("http://{}{}", SocketAddr::new(here, listen.port()), webhook.path);
    Url::parse(&url).map_err(|_| SendError::BadUrl(url.into()))
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean `{nearest}`?)"))
}

fn there(known: &[Box<str>]) -> String {
    if known.is_empty() { "are none".to_owned() } else { format!("are {}", list(known)) }
}

fn samples(known: &[&str]) -> String {
    let samples = if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}", list(known))
    };
    format!("{samples}; any type goes with a body of your own: `--data FILE`")
}

fn list<T: fmt::Display>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::State;
    use axum::http::{StatusCode, Uri};
    use clap::Parser;

    use super::*;
    use crate::backoff::Backoff;
    use crate::config::{Respond, Secret, SecretSet};
    use crate::webhook::verifier::{Delivery, Verifier};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SendArgs,
    }

    fn args(line: &str) -> SendArgs {
        Line::try_parse_from(["send"].into_iter().chain(line.split(' '))).unwrap().args
    }

    fn webhook(name: &str, scheme: &str, secrets: &[&str]) -> Webhook {
        let set: Vec<Secret> =
            secrets.iter().map(|text| Secret::new("HOOK_SECRET", (*text).to_owned())).collect();
        let missing = if set.is_empty() {
            vec!["HOOK_SECRET".into(), "HOOK_SECRET_PREVIOUS".into()]
        } else {
            Vec::new()
        };
        Webhook {
            name: name.into(),
            path: format!("/hooks/{name}").into(),
            scheme: scheme.into(),
            secrets: SecretSet { set, missing },
            tolerance: Duration::from_secs(300),
            max_body: 1 << 20,
            timeout: None,
            concurrency: None,
            retry: Backoff { max: 0, base: Duration::ZERO, cap: Duration::ZERO },
            dedupe: true,
            ordered_by: None,
            respond: Respond::WhenStored,
            place: crate::frame::Place {
                path: "config.toml".to_owned(),
                source: "".into(),
                span: 0..0,
                label: String::new(),
            },
        }
    }

    fn webhooks() -> [Webhook; 5] {
        [
            webhook("clerk", "svix", &[SECRET]),
            webhook("orders", "standard-webhooks", &[SECRET]),
            webhook("payments", "stripe", &["whsec_x"]),
            webhook("open", "none", &[]),
            webhook("unset", "svix", &[]),
        ]
    }

    fn listen() -> SocketAddr {
        ([127, 0, 0, 1], 8080).into()
    }

    fn refused(line: &str) -> String {
        let (args, webhooks) = (args(line), webhooks());
        match plan(&args, &webhooks, listen()) {
            Ok(plan) => panic!("{line} would post to {}", plan.url),
            Err(error) => error.to_string(),
        }
    }

    /// A server that verifies what comes to `/hooks/clerk` as Rhaiway does, and what it has got.
    struct Server {
        address: SocketAddr,
        got: Arc<Mutex<Vec<(String, Bytes)>>>,
    }

    #[derive(Clone)]
    struct Receiver {
        verifier: Arc<Verifier>,
        got: Arc<Mutex<Vec<(String, Bytes)>>>,
    }

    async fn receive(
        State(receiver): State<Receiver>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, String) {
        assert_eq!(uri.path(), "/hooks/clerk");
        assert_eq!(headers["content-type"], "application/json");
        let delivery = Delivery { headers: &headers, body: &body };
        match receiver.verifier.verify(&delivery, clock::now()) {
            Ok(verified) => {
                receiver
                    .got
                    .lock()
                    .unwrap()
                    .push((verified.delivery_id.unwrap().to_owned(), body.clone()));
                (StatusCode::OK, r#"{"received":true}"#.to_owned())
            }
            Err(_) => (StatusCode::UNAUTHORIZED, "no\u{1b}[2J".to_owned()),
        }
    }

    async fn serve() -> Server {
        let secrets = SecretSet {
            set: vec![Secret::new("HOOK_SECRET", SECRET.to_owned())],
            missing: Vec::new(),
        };
        let (verifier, _) =
            Verifier::new(Scheme::named("svix").unwrap(), &secrets, Duration::from_secs(300));
        let got = Arc::new(Mutex::new(Vec::new()));
        let receiver = Receiver { verifier: Arc::new(verifier), got: Arc::clone(&got) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(receive).with_state(receiver);
        tokio::spawn(axum::serve(listener, router).into_future());
        Server { address, got }
    }

    async fn send(line: &str, to: SocketAddr) -> Result<Sent, SendError> {
        let (args, webhooks) = (args(line), webhooks());
        post(plan(&args, &webhooks, to)?).await
    }

    #[tokio::test]
    async fn a_sample_is_signed_posted_and_accepted() {
        let server = serve().await;
        let sent = send("clerk user.created", server.address).await.unwrap();
        assert!(sent.is_fine(), "{sent}");
        let [post] = &*sent.posts else { panic!("{sent}") };
        let text = sent.to_string();
        assert!(
            text.starts_with("200 in ") && text.contains(r#"ms  {"received":true}  id msg_"#),
            "{text}"
        );
        let got = server.got.lock().unwrap();
        assert_eq!(*got[0].0, *post.id);
        assert_eq!(got[0].1, sample::body("clerk", "svix", "user.created", 1).unwrap());
    }

    #[tokio::test]
    async fn several_have_their_own_ids_and_bodies() {
        let server = serve().await;
        let sent = send("clerk user.created --count 40", server.address).await.unwrap();
        assert!(sent.is_fine());
        assert!(sent.to_string().starts_with("40 × user.created in "), "{sent}");
        let got = server.got.lock().unwrap();
        let distinct = |which: fn(&(String, Bytes)) -> Vec<u8>| {
            got.iter().map(which).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(
            (distinct(|(id, _)| id.clone().into()), distinct(|(_, body)| body.to_vec())),
            (40, 40)
        );
    }

    #[tokio::test]
    async fn with_an_id_all_are_the_same_delivery() {
        let server = serve().await;
        assert!(
            send("clerk user.created --count 3 --id msg_1", server.address)
                .await
                .unwrap()
                .is_fine()
        );
        let got = server.got.lock().unwrap();
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|delivery| *delivery == got[0] && delivery.0 == "msg_1"));
    }

    #[tokio::test]
    async fn a_spoilt_signature_is_fine_when_it_is_refused() {
        let server = serve().await;
        let mut sent =
            send("clerk user.created --bad-signature --count 2", server.address).await.unwrap();
        assert!(sent.is_fine());
        assert!(server.got.lock().unwrap().is_empty());
        sent.spoilt = false;
        assert!(!sent.is_fine());
        let text = sent.to_string();
        assert!(
            text.contains(": 2 × 401 (median ")
                && text.contains("\nthe first that should not be: 401 in "),
            "{text}"
        );
        // What the answer holds cannot steer the terminal.
        assert!(text.contains("no\u{fffd}[2J"));
    }

    #[tokio::test]
    async fn a_body_of_ones_own_is_posted_as_it_is_whatever_its_type() {
        let server = serve().await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{ \"type\": \"x\" }\n").unwrap();
        let sent =
            send(&format!("clerk no.such.type --data {}", file.path().display()), server.address)
                .await
                .unwrap();
        assert!(sent.is_fine(), "{sent}");
        assert_eq!(&server.got.lock().unwrap()[0].1[..], b"{ \"type\": \"x\" }\n");
    }

    #[tokio::test]
    async fn json_is_one_object_for_each_post() {
        let server = serve().await;
        let sent = send("clerk user.deleted --id msg_7 --json", server.address).await.unwrap();
        let mut line = serde_json::to_value(&sent.posts[0]).unwrap();
        assert!(line["latency_ms"].take().is_f64());
        let expected = r#"{"body":"{\"received\":true}","id":"msg_7","latency_ms":null,"request_id":null,"status":200}"#;
        assert_eq!(line.to_string(), expected);
    }

    #[tokio::test]
    async fn where_nothing_listens_the_command_to_start_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        let error = send("clerk user.created --count 3", free).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("nothing listens at http://{free}/hooks/clerk; start it with `rhaiway run`")
        );
    }

    #[test]
    fn what_cannot_be_sent_says_what_can() {
        for (line, expected) in [
            (
                "clrek user.created",
                "there is no webhook `clrek` in config (did you mean `clerk`?); there are `clerk`, `orders`, `payments`, `open`, `unset`",
            ),
            (
                "clerk user.creatd",
                "there is no sample of type `user.creatd` for webhook `clerk` (did you mean `user.created`?); there are `user.created`, \
                 `user.updated`, `user.deleted`, `session.created`, `session.ended`, `organization.created`, `organization.updated`, \
                 `organization.deleted`, `organizationMembership.created`; any type goes with a body of your own: `--data FILE`",
            ),
            (
                "payments invoice.paid",
                "there is no sample of type `invoice.paid` for webhook `payments`; there are none; any type goes with a body of your own: \
                 `--data FILE`",
            ),
            (
                "unset x",
                "webhook `unset` has no secret to sign with: set `HOOK_SECRET`, `HOOK_SECRET_PREVIOUS` in the environment or in `.dev.vars`",
            ),
            (
                "open x --bad-signature",
                "webhook `open` has scheme `none`, which signs nothing: there is no signature to spoil",
            ),
            (
                "payments x --id evt_1",
                "scheme `stripe` has its id inside the body: write it there, and use --data",
            ),
            ("clerk user.created --id ä", "an id is 1 to 256 characters of visible ASCII"),
            ("clerk user.created --url ftp://x/", "`ftp://x/` is not an address to post to"),
            (
                "clerk x --data /no/such/file",
                "cannot read /no/such/file: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(refused(line), expected);
        }
        let args = args("clerk x");
        let none = plan(&args, &[], listen()).map(drop).unwrap_err();
        assert_eq!(none.to_string(), "there is no webhook `clerk` in config; there are none");
        let broken = [webhook("clerk", "svix", &["whsec_!"])];
        let args = super::tests::args("clerk user.created");
        let error = plan(&args, &broken, listen()).map(drop).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot sign for webhook `clerk`: `HOOK_SECRET` is not a signing secret: `whsec_` and then base64; copy it again"
        );
    }

    #[test]
    fn an_address_that_means_all_is_reached_on_this_machine() {
        let webhooks = webhooks();
        let args = args("clerk user.created");
        for (listen, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/hooks/clerk"),
            ("0.0.0.0:80", "http://127.0.0.1/hooks/clerk"),
            ("[::]:8080", "http://[::1]:8080/hooks/clerk"),
            ("192.0.2.7:8080", "http://192.0.2.7:8080/hooks/clerk"),
        ] {
            assert_eq!(
                plan(&args, &webhooks, listen.parse().unwrap()).unwrap().url.as_str(),
                expected
            );
        }
        let elsewhere = super::tests::args("clerk user.created --url https://hooks.example.com/x");
        assert_eq!(
            plan(&elsewhere, &webhooks, listen()).unwrap().url.as_str(),
            "https://hooks.example.com/x"
        );
    }

    #[test]
    fn the_command_line_bounds_the_count() {
        for line in [
            "clerk",
            "clerk x --count 0",
            "clerk x --count 100001",
            "clerk x --count -1",
            "clerk x --url hooks",
        ] {
            assert!(
                Line::try_parse_from(["send"].into_iter().chain(line.split(' '))).is_err(),
                "{line}"
            );
        }
    }
}
