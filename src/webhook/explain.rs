//! Why a delivery was refused, in words for the log and the monitor. Where a body was changed on its way in a usual manner it says so
//! for certain: the signature then fits once the change is undone. It repeats neither a secret nor the payload.

use std::borrow::Cow;
use std::fmt;

use super::scheme::Scheme;
use super::verifier::{Delivery, Refused, Verifier};
use crate::json;

/// Bytes of a body for which changes are undone and tried; for longer ones that would cost more than the hint is worth.
const TRIED_BODY_MAX: usize = 64 * 1024;

/// A refusal, and what probably led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// The facts.
    pub(crate) refused: Refused,
    /// Where there is one.
    pub(crate) hint: Option<Hint>,
}

/// What to look at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Hint {
    /// For certain: this change, undone, makes the signature fit.
    #[error(
        "body changed on the way: the signature fits {0}; let nothing between the sender and here rewrite it"
    )]
    BodyChanged(Change),
    /// The signature alone cannot tell these two apart.
    #[error("either the secret is that of another endpoint, or body changed on the way")]
    SecretOrBody,
    /// The signature's header of another scheme is there.
    #[error("it carries `{header}`, as scheme `{scheme}` does")]
    OtherScheme {
        /// That scheme's name.
        scheme: &'static str,
        /// And its header.
        header: &'static str,
    },
    /// Senders sign each of their retries with its own time.
    #[error(
        "a delivery sent again is signed anew; this one was held back on its way or recorded, or a clock is wrong"
    )]
    OldOrClock,
    /// No honest delay makes a delivery come from the future.
    #[error("one of the two clocks is wrong")]
    Clock,
    /// A mistake that senders of one's own make.
    #[error("the sender has to write seconds")]
    Seconds,
}

/// A change of a body that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Change {
    /// JSON was read and written again, with blanks.
    #[error("once the blanks between its tokens are gone")]
    Spaced,
    /// As `echo` and text editors do.
    #[error("without the line break at its end")]
    LineBreakAdded,
    /// As what trims does.
    #[error("with a line break at its end")]
    LineBreakTaken,
    /// As what converts line ends does.
    #[error("with CR LF for its line breaks")]
    CarriageReturnsTaken,
    /// As some programs on Windows do.
    #[error("without the byte order mark at its start")]
    MarkAdded,
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.refused)?;
        self.hint.map_or(Ok(()), |hint| write!(formatter, "; {hint}"))
    }
}

/// What to say of a delivery that `verifier` has refused. It may verify again some five times: call it once for each refusal.
pub(crate) fn explain(
    verifier: &Verifier,
    delivery: &Delivery<'_>,
    refused: Refused,
) -> Explanation {
    let hint = match &refused {
        Refused::WrongSignature { .. } => {
            Some(undo(verifier, delivery).map_or(Hint::SecretOrBody, Hint::BodyChanged))
        }
        Refused::MissingHeader(_) => other_scheme(verifier.scheme, delivery),
        Refused::TooOld { .. } => Some(Hint::OldOrClock),
        Refused::TooNew { .. } => Some(Hint::Clock),
        Refused::TimestampInMilliseconds(_) => Some(Hint::Seconds),
        Refused::NotConfigured
        | Refused::RepeatedHeader(_)
        | Refused::UnreadableHeader(_)
        | Refused::LongHeader(_)
        | Refused::LongId(_)
        | Refused::NoTimestamp(_)
        | Refused::BadTimestamp(_)
        | Refused::NoSignature { .. } => None,
    };
    Explanation { refused, hint }
}

/// The change that, undone, makes the signature fit.
fn undo(verifier: &Verifier, delivery: &Delivery<'_>) -> Option<Change> {
    let body = delivery.body;
    if body.len() > TRIED_BODY_MAX {
        return None;
    }
    let before_line_break = body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n"));
    [
        (Change::Spaced, Some(json::compact(body).into())),
        (Change::LineBreakAdded, before_line_break.map(Cow::Borrowed)),
        (
            Change::LineBreakTaken,
            before_line_break.is_none().then(|| [body, b"\n"].concat().into()),
        ),
        (Change::CarriageReturnsTaken, with_carriage_returns(body)),
        (Change::MarkAdded, body.strip_prefix(b"\xef\xbb\xbf").map(Cow::Borrowed)),
    ]
    .into_iter()
    .find_map(|(change, undone)| verifier.would_match(delivery.headers, &undone?).then_some(change))
}

fn with_carriage_returns(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !body.contains(&b'\n') || body.contains(&b'\r') {
        return None;
    }
    Some(body.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]).into())
}

/// Another scheme whose signature is there in place of the one that is looked for.
fn other_scheme(own: &Scheme, delivery: &Delivery<'_>) -> Option<Hint> {
    Scheme::all().iter().filter(|scheme| scheme.name != own.name).find_map(|scheme| {
        let header = scheme
            .signing
            .as_ref()?
            .signature
            .iter()
            .find(|name| delivery.headers.contains_key(*name))?;
        Some(Hint::OtherScheme { scheme: &scheme.name, header: header.as_str() })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderMap;

    use super::*;
    use crate::clock::Millis;
    use crate::config::{Secret, SecretSet};
    use crate::webhook::verifier::{self, Message};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: Millis = Millis(1_790_000_000_000);

    fn headers(scheme: &str, at: Millis, body: &[u8]) -> HeaderMap {
        let secret = Secret::new("SECRET", SECRET.to_owned());
        let message = Message { id: "msg_1", at, body };
        let headers = verifier::headers(Scheme::named(scheme).unwrap(), &secret, &message).unwrap();
        headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()
    }

    /// What is said by scheme svix of these headers beside this body.
    fn said(headers: &HeaderMap, body: &[u8]) -> String {
        let secrets =
            SecretSet { set: vec![Secret::new("SECRET", SECRET.to_owned())], missing: Vec::new() };
        let (verifier, _) =
            Verifier::new(Scheme::named("svix").unwrap(), &secrets, Duration::from_secs(300));
        let delivery = Delivery { headers, body };
        let refused = verifier.verify(&delivery, NOW).unwrap_err();
        explain(&verifier, &delivery, refused).to_string()
    }

    fn changed(sent: &str, arrived: &str) -> String {
        said(&headers("svix", NOW, sent.as_bytes()), arrived.as_bytes())
    }

    #[test]
    fn w10_a_body_that_was_rewritten_on_the_way_is_recognised() {
        let sent = r#"{"a b":"x \" y","n":[1,2]}"#;
        for (sent, arrived, change) in [
            (sent, "{\n  \"a b\": \"x \\\" y\",\n  \"n\": [1, 2]\n}\n", Change::Spaced),
            (sent, r#"{"a b": "x \" y", "n": [1, 2]}"#, Change::Spaced),
            (r#"{"a": 1}"#, "{\"a\": 1}\n", Change::LineBreakAdded),
            (r#"{"a": 1}"#, "{\"a\": 1}\r\n", Change::LineBreakAdded),
            ("{\"a\": 1}\n", r#"{"a": 1}"#, Change::LineBreakTaken),
            ("{\r\n\"a\": 1}\r\n", "{\n\"a\": 1}\n", Change::CarriageReturnsTaken),
            (r#"{"a": 1}"#, "\u{feff}{\"a\": 1}", Change::MarkAdded),
        ] {
            let expected =
                format!("the signature fits none of 1 secrets; {}", Hint::BodyChanged(change));
            assert_eq!(changed(sent, arrived), expected, "{arrived:?}");
            assert!(expected.contains("body changed on the way"));
        }
    }

    #[test]
    fn w10_where_the_change_cannot_be_undone_both_causes_are_named() {
        for (sent, arrived) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#.to_owned()),
            (r#"{"a":1.0}"#, r#"{"a":1}"#.to_owned()),
            (r#"{"a":1}"#, format!("{}{}", r#"{"a":1}"#, " ".repeat(TRIED_BODY_MAX))),
            (r#"{"a":1}"#, String::new()),
        ] {
            assert_eq!(
                changed(sent, &arrived),
                "the signature fits none of 1 secrets; either the secret is that of another endpoint, or body changed on the way"
            );
        }
    }

    #[test]
    fn w1_a_time_outside_the_tolerance_is_told_with_both() {
        let at =
            |seconds: i64| said(&headers("svix", Millis(NOW.0 + seconds * 1000), b"{}"), b"{}");
        assert!(at(-301).starts_with("signed 301 s ago, and 300 s are tolerated; "));
        assert_eq!(
            at(86_400),
            "signed 86400 s in the future, and 300 s are tolerated; one of the two clocks is wrong"
        );
    }

    #[test]
    fn w1_milliseconds_are_told() {
        let mut headers = headers("svix", NOW, b"{}");
        headers.insert("svix-timestamp", "1790000000000".parse().unwrap());
        assert_eq!(
            said(&headers, b"{}"),
            "the time in `svix-timestamp` is in milliseconds, and this scheme counts seconds; the sender has to write seconds"
        );
    }

    #[test]
    fn a_delivery_of_another_scheme_is_recognised() {
        assert_eq!(
            said(&headers("stripe", NOW, b"{}"), b"{}"),
            "the header `svix-signature` is missing or empty; it carries `stripe-signature`, as scheme `stripe` does"
        );
        assert_eq!(
            said(&HeaderMap::new(), b"{}"),
            "the header `svix-signature` is missing or empty"
        );
    }

    #[test]
    fn nothing_that_is_said_repeats_secret_or_payload() {
        let said = changed(r#"{"password":"sesame"}"#, r#"{"password":"sesame!"}"#);
        assert!(!said.contains("sesame") && !said.contains("MfKQ9"));
    }
}
