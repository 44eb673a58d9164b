//! Bare axum on tokio's default runtime, one worker thread per core: what every other row of the table is compared with.
//! It reads the body and answers as the others answer. It verifies, parses and stores nothing.

use std::time::Duration;

use axum::routing::{get, post};
use axum::{body::Bytes, http::header::CONTENT_TYPE, response::IntoResponse};

#[tokio::main]
async fn main() {
    let app = axum::Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/api/webhooks/clerk", post(answer))
        .route("/api/wait", get(wait));
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
