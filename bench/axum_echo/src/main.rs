//! Bare axum on tokio's default runtime, one worker thread per core: what every other row of the table is compared with.
//! It reads the body and answers as the others answer. It verifies, parses and stores nothing. It is also the third party that the others call, and a
//! bare reqwest call of it: what a call costs without anything around it.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};

/// Between two chunks of a stream: 50 a second.
const CHUNK_PAUSE: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let app = axum::Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/api/webhooks/clerk", post(answer))
        .route("/api/wait", get(wait))
        .route("/api/call", get(call))
        .route("/upstream/v1/thing", get(thing))
        .route("/upstream/v1/stream", get(stream))
        .with_state(reqwest::Client::new());
    let address = format!("127.0.0.1:{}", std::env::var("PORT").unwrap_or("3000".into()));
    let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
    axum::serve(listener, app).await.expect("to serve");
}

async fn answer(body: Bytes) -> impl IntoResponse {
    std::hint::black_box(body);
    ([(CONTENT_TYPE, "application/json")], r#"{"received":true}"#)
}

/// The counterpart of the script that waits in `sleep`.
async fn wait() -> &'static str {
    tokio::time::sleep(Duration::from_millis(100)).await;
    "ok"
}

/// What a third party answers at once.
async fn thing() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        r#"{"id":"thing_1","object":"thing","amount":2000,"paid":true}"#,
    )
}

/// A call of it, and its answer.
async fn call(State(client): State<reqwest::Client>) -> impl IntoResponse {
    let url = format!("{}/v1/thing", std::env::var("UPSTREAM_URL").expect("UPSTREAM_URL"));
    let answer = client.get(url).send().await.expect("an answer").bytes().await.expect("a body");
    ([(CONTENT_TYPE, "application/json")], answer)
}

/// Chunks without end, each with the time at which it was sent, in nanoseconds since the epoch.
async fn stream() -> impl IntoResponse {
    let mut ticks = tokio::time::interval(CHUNK_PAUSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let chunks = futures_util::stream::unfold(ticks, |mut ticks| async move {
        ticks.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Some((Ok::<_, Infallible>(Bytes::from(format!("data: {now}\n\n"))), ticks))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks))
}
