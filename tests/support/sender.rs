//! A sender that signs as Clerk does, through the official svix crate, so that nothing here depends on our own signing.

use std::time::{SystemTime, UNIX_EPOCH};

/// The secret of every test's webhook.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A delivery, signed.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
}

impl Signed {
    /// Its headers, with a content type.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        vec![
            ("content-type", "application/json"),
            ("svix-id", &self.id),
            ("svix-timestamp", &self.timestamp),
            ("svix-signature", &self.signature),
        ]
    }
}

/// Signed now, with `SECRET`.
pub(crate) fn signed(id: &str, body: impl Into<Vec<u8>>) -> Signed {
    signed_at(SECRET, id, now(), body)
}

/// Signed with any secret, at any time in seconds since the epoch.
pub(crate) fn signed_at(secret: &str, id: &str, at: i64, body: impl Into<Vec<u8>>) -> Signed {
    let body = body.into();
    let signature = svix::webhooks::Webhook::new(secret)
        .expect("a secret")
        .sign(id, at, &body)
        .expect("it signs");
    Signed { id: id.to_owned(), timestamp: at.to_string(), signature, body }
}

/// A `user.created` or the like, as small as Clerk's own would be for these fields.
pub(crate) fn clerk_event(kind: &str, user: &str, updated_at: i64) -> String {
    serde_json::json!({
        "type": kind,
        "object": "event",
        "data": {
            "id": user,
            "first_name": "Ada",
            "last_name": "Lovelace",
            "primary_email_address_id": "idn_1",
            "email_addresses": [{ "id": "idn_1", "email_address": format!("{user}@example.com") }],
            "updated_at": updated_at,
        },
    })
    .to_string()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test stands outside the program and has no clock of its own"
)]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it is before the end of time")
}
