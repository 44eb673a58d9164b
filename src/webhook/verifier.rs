//! Interprets a scheme: verifies a delivery against every secret of its webhook, and signs one as the sender would. It works on the raw
//! bytes, before anything is decoded, looks at bounded headers only, and its refusals hold facts, never a secret or the payload.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use super::scheme::{Piece, Place, Scheme, Signing, Timestamp, in_family};
use super::signature::{Key, Problem, Signature};
use crate::clock::Millis;
use crate::config::{Secret, SecretSet};
use crate::json::Found;

/// Bytes of a signature's header, at most. Sixteen signatures of the longest kind need 1.2 KiB.
pub(crate) const HEADER_LENGTH_MAX: usize = 8 * 1024;
/// Signatures of one header that are compared; those after them are not looked at. Senders put two there while a secret is rotated.
pub(crate) const SIGNATURES_MAX: usize = 16;
/// Characters of a delivery's id, at most: what is kept of each delivery for weeks.
pub(crate) const ID_LENGTH_MAX: usize = 256;

/// What verifying needs of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    /// As they came.
    pub(crate) headers: &'a HeaderMap,
    /// The raw bytes.
    pub(crate) body: &'a [u8],
}

/// A delivery that its sender has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified<'a> {
    /// Which secret it was signed with; `None` where the scheme signs nothing.
    pub(crate) secret: Option<Matched<'a>>,
    /// The sender's own id, where the scheme has it in a header; `Verifier::delivery_id` looks into the body too.
    pub(crate) delivery_id: Option<&'a str>,
    /// When, by the sender's clock.
    pub(crate) signed_at: Option<Millis>,
}

/// The secret that a signature was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matched<'a> {
    /// Its place among the webhook's secrets that are set, the newest being 0.
    pub(crate) index: usize,
    /// The variable that holds it.
    pub(crate) variable: &'a str,
}

/// Why a delivery is not believed. For the log and the monitor; its sender hears nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Its owner has to act, not the sender.
    #[error("no secret is set that could verify it")]
    NotConfigured,
    /// A header that the scheme cannot do without.
    #[error("the header `{0}` is missing or empty")]
    MissingHeader(&'static str),
    /// Two opinions of one thing, of which neither is believed.
    #[error("the header `{0}` is there more than once")]
    RepeatedHeader(&'static str),
    /// It could not be what a sender writes.
    #[error("the header `{0}` holds more than visible ASCII")]
    UnreadableHeader(&'static str),
    /// It is not even looked at.
    #[error("the header `{0}` has more than {HEADER_LENGTH_MAX} bytes")]
    LongHeader(&'static str),
    /// It could not be kept.
    #[error("the id in `{0}` has more than {ID_LENGTH_MAX} characters")]
    LongId(&'static str),
    /// Of schemes that have it in the signature's header.
    #[error("`{0}` holds no time of signing")]
    NoTimestamp(&'static str),
    /// Something else than up to ten digits.
    #[error("the time in `{0}` is not a whole number of seconds")]
    BadTimestamp(&'static str),
    /// Thirteen digits.
    #[error("the time in `{0}` is in milliseconds, and this scheme counts seconds")]
    TimestampInMilliseconds(&'static str),
    /// Perhaps recorded and sent again by somebody else.
    #[error("signed {} s ago, and {} s are tolerated", age.as_secs(), tolerance.as_secs())]
    TooOld {
        /// Since it was signed.
        age: Duration,
        /// As configured.
        tolerance: Duration,
    },
    /// Perhaps signed in advance.
    #[error("signed {} s in the future, and {} s are tolerated", ahead.as_secs(), tolerance.as_secs())]
    TooNew {
        /// Until the time that it was signed at.
        ahead: Duration,
        /// As configured.
        tolerance: Duration,
    },
    /// Nothing there that could be compared.
    #[error("`{header}` holds no signature that begins with `{prefix}`")]
    NoSignature {
        /// The header that was looked into.
        header: &'static str,
        /// What each signature of this scheme begins with.
        prefix: &'static str,
    },
    /// Another secret, another body, or another sender.
    #[error("the signature fits none of {secrets} secrets")]
    WrongSignature {
        /// How many were tried.
        secrets: usize,
    },
}

/// A scheme with the keys of one webhook.
pub(crate) struct Verifier {
    /// By which it verifies.
    pub(crate) scheme: &'static Scheme,
    keys: Box<[NamedKey]>,
    tolerance: Duration,
}

struct NamedKey {
    index: usize,
    variable: Box<str>,
    key: Key,
}

impl Verifier {
    /// Decodes every secret that can be one, and says what is wrong with the others; those verify nothing.
    pub(crate) fn new(
        scheme: &'static Scheme,
        secrets: &SecretSet,
        tolerance: Duration,
    ) -> (Self, Vec<Problem>) {
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        if let Some(signing) = &scheme.signing {
            for (index, secret) in secrets.set.iter().enumerate() {
                match Key::read(signing.algorithm, &signing.secret, secret) {
                    Ok(key) => {
                        keys.push(NamedKey { index, variable: secret.variable.clone(), key })
                    }
                    Err(problem) => problems.push(problem),
                }
            }
        }
        (Self { scheme, keys: keys.into(), tolerance }, problems)
    }

    /// Whether it can verify anything, which without a usable secret it cannot.
    pub(crate) fn is_configured(&self) -> bool {
        self.scheme.signing.is_none() || !self.keys.is_empty()
    }

    /// Whether the delivery is its sender's, at `now`.
    pub(crate) fn verify<'a>(
        &'a self,
        delivery: &Delivery<'a>,
        now: Millis,
    ) -> Result<Verified<'a>, Refused> {
        let Some(signing) = &self.scheme.signing else {
            return Ok(Verified { secret: None, delivery_id: None, signed_at: None });
        };
        if self.keys.is_empty() {
            return Err(Refused::NotConfigured);
        }
        let claim = Claim::read(self.scheme, signing, delivery.headers)?;
        let signed_at = match claim.timestamp {
            None => None,
            Some((header, text)) => Some(check_time(header, text, now, self.tolerance)?),
        };
        let secret = self.matching(signing, &claim, delivery.body)?;
        Ok(Verified { secret: Some(secret), delivery_id: claim.id, signed_at })
    }

    /// Whether the delivery would be its sender's if its body were this one. For explaining a refusal.
    pub(super) fn would_match(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        self.scheme.signing.as_ref().is_some_and(|signing| {
            Claim::read(self.scheme, signing, headers)
                .is_ok_and(|claim| self.matching(signing, &claim, body).is_ok())
        })
    }

    /// The sender's own id of a verified delivery, from its header or from what a scan of its body has found. One that could not be
    /// kept counts as none.
    pub(crate) fn delivery_id<'a>(
        &self,
        verified: &Verified<'a>,
        found: Option<&Found<'a>>,
    ) -> Option<Box<str>> {
        match (&verified.delivery_id, &self.scheme.id) {
            (Some(id), _) => Some((*id).into()),
            (None, Some(Place::Body(pointer))) => {
                let id = found?.get(*pointer)?.as_name()?;
                is_id(&id).then(|| id.into())
            }
            (None, Some(Place::Header(_)) | None) => None,
        }
    }

    fn matching(
        &self,
        signing: &'static Signing,
        claim: &Claim<'_>,
        body: &[u8],
    ) -> Result<Matched<'_>, Refused> {
        let mut seen = false;
        for NamedKey { index, variable, key } in &self.keys {
            let expected =
                sign(key, signing, claim.id, claim.timestamp.map(|(_, text)| text), body);
            for claimed in claim.signatures(signing) {
                seen = true;
                if expected.is(claimed.as_bytes()) {
                    return Ok(Matched { index: *index, variable });
                }
            }
        }
        Err(if seen {
            Refused::WrongSignature { secrets: self.keys.len() }
        } else {
            Refused::NoSignature { header: claim.header, prefix: &signing.prefix }
        })
    }
}

/// What a delivery to be signed is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// For schemes that have it in a header.
    pub(crate) id: &'a str,
    /// When it is signed.
    pub(crate) at: Millis,
    /// What is posted.
    pub(crate) body: &'a [u8],
}

/// The headers that the scheme's sender would put beside this body: none for a scheme that signs nothing. The first of several
/// families of headers is used.
pub(crate) fn headers(
    scheme: &'static Scheme,
    secret: &Secret,
    message: &Message<'_>,
) -> Result<Vec<(HeaderName, String)>, Problem> {
    let Some(signing) = &scheme.signing else { return Ok(Vec::new()) };
    let key = Key::read(signing.algorithm, &signing.secret, secret)?;
    let time = message.at.0.div_euclid(1000).to_string();
    let signature = sign(&key, signing, Some(message.id), Some(&time), message.body).to_text();
    let signature = format!("{}{signature}", signing.prefix);

    let mut headers = Vec::new();
    if let Some(Place::Header(names)) = &scheme.id {
        headers.extend(in_family(names, 0).map(|name| (name.clone(), message.id.to_owned())));
    }
    let value = match &signing.timestamp {
        Some(Timestamp::Item(prefix)) => format!("{prefix}{time}{}{signature}", signing.separator),
        Some(Timestamp::Header(names)) => {
            headers.extend(in_family(names, 0).map(|name| (name.clone(), time)));
            signature
        }
        None => signature,
    };
    headers.extend(in_family(&signing.signature, 0).map(|name| (name.clone(), value)));
    Ok(headers)
}

/// Whether a text can be a delivery's id: visible ASCII of a bounded length.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ID_LENGTH_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn sign(
    key: &Key,
    signing: &Signing,
    id: Option<&str>,
    timestamp: Option<&str>,
    body: &[u8],
) -> Signature {
    let parts = signing.content.iter().map(|piece| match piece {
        Piece::Id => id.unwrap_or_default().as_bytes(),
        Piece::Timestamp => timestamp.unwrap_or_default().as_bytes(),
        Piece::Body => body,
        Piece::Literal(text) => text.as_bytes(),
    });
    key.sign(parts, signing.encoding)
}

/// What the headers of a delivery claim; nothing of it is believed yet.
struct Claim<'a> {
    /// The header with the signatures, and its name.
    header: &'static str,
    signatures: &'a str,
    id: Option<&'a str>,
    /// The time as it is written, and the header's name.
    timestamp: Option<(&'static str, &'a str)>,
}

impl<'a> Claim<'a> {
    fn read(
        scheme: &'static Scheme,
        signing: &'static Signing,
        headers: &'a HeaderMap,
    ) -> Result<Self, Refused> {
        let (family, header) = signing
            .signature
            .iter()
            .enumerate()
            .find(|(_, name)| headers.contains_key(*name))
            .or_else(|| signing.signature.iter().enumerate().next())
            .ok_or(Refused::NotConfigured)?;
        let signatures = required(headers, header)?;
        let id = match &scheme.id {
            Some(Place::Header(names)) => {
                let name = in_family(names, family).ok_or(Refused::NotConfigured)?;
                let id = required(headers, name)?;
                if id.len() > ID_LENGTH_MAX {
                    return Err(Refused::LongId(name.as_str()));
                }
                if !is_id(id) {
                    return Err(Refused::UnreadableHeader(name.as_str()));
                }
                Some(id)
            }
            Some(Place::Body(_)) | None => None,
        };
        let timestamp = match &signing.timestamp {
            None => None,
            Some(Timestamp::Header(names)) => {
                let name = in_family(names, family).ok_or(Refused::NotConfigured)?;
                Some((name.as_str(), required(headers, name)?))
            }
            Some(Timestamp::Item(prefix)) => {
                let item = items(signatures, signing.separator)
                    .find_map(|item| item.strip_prefix(&**prefix));
                Some((header.as_str(), item.ok_or(Refused::NoTimestamp(header.as_str()))?))
            }
        };
        Ok(Self { header: header.as_str(), signatures, id, timestamp })
    }

    fn signatures(&self, signing: &'static Signing) -> impl Iterator<Item = &'a str> {
        items(self.signatures, signing.separator)
            .filter_map(|item| item.strip_prefix(&*signing.prefix))
            .take(SIGNATURES_MAX)
    }
}

fn items(list: &str, separator: char) -> impl Iterator<Item = &str> {
    list.split(separator).map(str::trim)
}

/// The one value of a header. Two of them are two opinions of who signed, and neither is believed.
fn required<'a>(headers: &'a HeaderMap, name: &'static HeaderName) -> Result<&'a str, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Refused::MissingHeader(name.as_str()))?;
    if values.next().is_some() {
        return Err(Refused::RepeatedHeader(name.as_str()));
    }
    if value.len() > HEADER_LENGTH_MAX {
        return Err(Refused::LongHeader(name.as_str()));
    }
    match value.to_str() {
        Ok("") => Err(Refused::MissingHeader(name.as_str())),
        Ok(text) => Ok(text),
        Err(_) => Err(Refused::UnreadableHeader(name.as_str())),
    }
}

/// Checks a time of signing in both directions, in whole seconds as senders count them.
fn check_time(
    header: &'static str,
    text: &str,
    now: Millis,
    tolerance: Duration,
) -> Result<Millis, Refused> {
    // Ten digits last until the year 2286. Milliseconds have thirteen from 2001 on.
    let digits =
        text.bytes().all(|byte| byte.is_ascii_digit()) && matches!(text.len(), 1..=10 | 13);
    let number: i64 =
        if digits { text.parse().ok() } else { None }.ok_or(Refused::BadTimestamp(header))?;
    if text.len() == 13 {
        return Err(Refused::TimestampInMilliseconds(header));
    }
    let since = now.0.div_euclid(1000) - number;
    let distance = Duration::from_secs(since.unsigned_abs());
    match distance <= tolerance {
        true => Ok(Millis(number * 1000)),
        false if since > 0 => Err(Refused::TooOld { age: distance, tolerance }),
        false => Err(Refused::TooNew { ahead: distance, tolerance }),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::clock;
    use crate::json;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER_SECRET: &str = "whsec_YW5vdGhlciBzZWNyZXQgb2YgMjQgYnl0";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"type":"user.created","data":{"id":"user_1"}}"#;
    const NOW: Millis = Millis(1_790_000_000_000);
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn secrets(texts: &[&str]) -> SecretSet {
        let set = texts
            .iter()
            .zip(1..)
            .map(|(text, n)| Secret::new(&format!("SECRET_{n}"), (*text).to_owned()))
            .collect();
        SecretSet { set, missing: Vec::new() }
    }

    fn verifier(scheme: &str, texts: &[&str]) -> Verifier {
        Verifier::new(Scheme::named(scheme).unwrap(), &secrets(texts), TOLERANCE).0
    }

    /// Headers as a sender of this scheme puts them.
    fn signed(scheme: &str, secret: &str, message: &Message<'_>) -> HeaderMap {
        let secret = Secret::new("SECRET", secret.to_owned());
        let headers = headers(Scheme::named(scheme).unwrap(), &secret, message).unwrap();
        headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()
    }

    fn svix(at: Millis) -> HeaderMap {
        signed("svix", SECRET, &Message { id: ID, at, body: BODY })
    }

    /// What the svix scheme says of these headers beside `BODY`.
    fn verdict(headers: &HeaderMap) -> Result<String, Refused> {
        let verifier = verifier("svix", &[SECRET]);
        let verified = verifier.verify(&Delivery { headers, body: BODY }, NOW)?;
        Ok(verified.delivery_id.unwrap().to_owned())
    }

    fn with(name: &'static str, value: &[u8]) -> HeaderMap {
        let mut headers = svix(NOW);
        headers.insert(name, axum::http::HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[derive(Deserialize)]
    struct Vector {
        scheme: String,
        secret: String,
        headers: std::collections::BTreeMap<String, String>,
        now: i64,
        expect: String,
        reason: String,
        body: Option<String>,
        body_base64: Option<String>,
    }

    fn vectors(scheme: &str, json: &str) {
        let vectors: Vec<Vector> = serde_json::from_str(json).unwrap();
        assert!(vectors.iter().any(|vector| vector.expect == "valid"));
        for vector in vectors {
            let body = match (&vector.body, &vector.body_base64) {
                (Some(text), _) => text.clone().into_bytes(),
                (None, Some(encoded)) => BASE64.decode(encoded).unwrap(),
                (None, None) => panic!("a vector without body"),
            };
            let headers: HeaderMap = vector
                .headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect();
            let verifier = verifier(scheme, &[&vector.secret]);
            let verdict = verifier
                .verify(&Delivery { headers: &headers, body: &body }, Millis(vector.now * 1000));
            assert_eq!(
                verdict.is_ok(),
                vector.expect == "valid",
                "{}: {}: {verdict:?}",
                vector.scheme,
                vector.reason
            );
        }
    }

    #[test]
    fn the_vectors_of_each_scheme_come_out_as_they_say() {
        vectors("svix", include_str!("../../tests/vectors/svix.json"));
        vectors("standard-webhooks", include_str!("../../tests/vectors/standard-webhooks.json"));
        vectors("stripe", include_str!("../../tests/vectors/stripe.json"));
    }

    #[test]
    fn the_neutral_names_verify_under_svix_too_and_svix_names_only_there() {
        let neutral = signed("standard-webhooks", SECRET, &Message { id: ID, at: NOW, body: BODY });
        assert_eq!(verdict(&neutral), Ok(ID.to_owned()));
        let verifier = verifier("standard-webhooks", &[SECRET]);
        let headers = svix(NOW);
        assert_eq!(
            verifier.verify(&Delivery { headers: &headers, body: BODY }, NOW),
            Err(Refused::MissingHeader("webhook-signature"))
        );
    }

    #[test]
    fn one_delivery_uses_one_family_of_headers() {
        let mut headers = svix(NOW);
        headers.extend(signed(
            "standard-webhooks",
            OTHER_SECRET,
            &Message { id: "other", at: NOW, body: BODY },
        ));
        assert_eq!(verdict(&headers), Ok(ID.to_owned()));
        headers.remove("svix-id");
        assert_eq!(verdict(&headers), Err(Refused::MissingHeader("svix-id")));
    }

    #[test]
    fn each_header_is_needed() {
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            let mut headers = svix(NOW);
            headers.remove(name);
            assert_eq!(verdict(&headers), Err(Refused::MissingHeader(name)));
            assert_eq!(verdict(&with(name, b"")), Err(Refused::MissingHeader(name)));
        }
    }

    #[test]
    fn w1_a_timestamp_at_the_edge_of_the_tolerance_is_accepted_and_a_second_past_it_is_not() {
        for (seconds, expected) in [
            (-300, Ok(())),
            (300, Ok(())),
            (0, Ok(())),
            (-301, Err(Refused::TooOld { age: Duration::from_secs(301), tolerance: TOLERANCE })),
            (301, Err(Refused::TooNew { ahead: Duration::from_secs(301), tolerance: TOLERANCE })),
        ] {
            // However far the present second has gone.
            for millis in [0, 999] {
                let headers = svix(Millis(NOW.0 + seconds * 1000));
                let verifier = verifier("svix", &[SECRET]);
                let verdict = verifier
                    .verify(&Delivery { headers: &headers, body: BODY }, Millis(NOW.0 + millis));
                assert_eq!(verdict.map(drop), expected, "{seconds} s at {millis} ms");
            }
        }
    }

    #[test]
    fn w1_only_digits_are_a_time() {
        for text in [
            "-1790000000",
            "+1790000000",
            "1e9",
            "0x6ab1",
            "1790000000.0",
            "17900000000000000000",
            "soon",
            " 1790000000x",
            "１７",
            "179000000000",
            "17900000000000",
        ] {
            let verdict = verdict(&with("svix-timestamp", text.as_bytes()));
            assert!(
                matches!(
                    verdict,
                    Err(Refused::BadTimestamp("svix-timestamp") | Refused::UnreadableHeader(_))
                ),
                "{text}: {verdict:?}"
            );
        }
        assert_eq!(
            verdict(&with("svix-timestamp", b"")),
            Err(Refused::MissingHeader("svix-timestamp"))
        );
        assert!(matches!(verdict(&with("svix-timestamp", b"0")), Err(Refused::TooOld { .. })));
    }

    #[test]
    fn w1_a_time_in_milliseconds_is_refused_as_such() {
        assert_eq!(
            verdict(&with("svix-timestamp", b"1790000000000")),
            Err(Refused::TimestampInMilliseconds("svix-timestamp"))
        );
    }

    #[test]
    fn w7_every_secret_is_tried_and_the_one_that_matched_is_named() {
        let headers = svix(NOW);
        let matched = |texts: &[&str]| {
            let verifier = verifier("svix", texts);
            let secret =
                verifier.verify(&Delivery { headers: &headers, body: BODY }, NOW)?.secret.unwrap();
            Ok((secret.index, secret.variable.to_owned()))
        };
        assert_eq!(matched(&[SECRET, OTHER_SECRET]), Ok((0, "SECRET_1".to_owned())));
        assert_eq!(matched(&[OTHER_SECRET, SECRET]), Ok((1, "SECRET_2".to_owned())));
        assert_eq!(matched(&["whsec_", SECRET]), Ok((1, "SECRET_2".to_owned())));
        assert_eq!(matched(&[OTHER_SECRET]), Err(Refused::WrongSignature { secrets: 1 }));
    }

    #[test]
    fn w8_without_a_usable_secret_nothing_verifies() {
        let headers = svix(NOW);
        for texts in
            [&[][..], &[""], &["  "], &["whsec_"], &["\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""]]
        {
            let (verifier, problems) =
                Verifier::new(Scheme::named("svix").unwrap(), &secrets(texts), TOLERANCE);
            assert_eq!(problems.len(), texts.len());
            assert!(!verifier.is_configured());
            assert_eq!(
                verifier.verify(&Delivery { headers: &headers, body: BODY }, NOW),
                Err(Refused::NotConfigured),
                "{texts:?}"
            );
        }
    }

    #[test]
    fn w9_what_is_nearly_a_signature_is_none() {
        let right = svix(NOW)["svix-signature"].to_str().unwrap().to_owned();
        let bare = right.trim_start_matches("v1,");
        let wrong = Err(Refused::WrongSignature { secrets: 1 });
        let none = Err(Refused::NoSignature { header: "svix-signature", prefix: "v1," });
        for (value, expected) in [
            (right.clone(), Ok(ID.to_owned())),
            (format!("v1,{}", BASE64.encode([7; 32])), wrong.clone()),
            (format!("v1,{}", &bare[..40]), wrong.clone()),
            (format!("v1,{}", bare.trim_end_matches('=')), wrong.clone()),
            (format!("v1,{bare}="), wrong.clone()),
            ("v1,".to_owned(), wrong.clone()),
            (format!("v1,{}", bare.to_uppercase()), wrong),
            (bare.to_owned(), none.clone()),
            (format!("v2,{bare}"), none.clone()),
            (format!("v1a,{bare}"), none.clone()),
            (format!("V1,{bare}"), none),
        ] {
            assert_eq!(verdict(&with("svix-signature", value.as_bytes())), expected, "{value}");
        }
    }

    #[test]
    fn w9_hex_in_upper_case_is_refused() {
        let message = Message { id: "", at: NOW, body: BODY };
        let headers = signed("stripe", "whsec_raw", &message);
        let verifier = verifier("stripe", &["whsec_raw"]);
        let verify =
            |headers: &HeaderMap| verifier.verify(&Delivery { headers, body: BODY }, NOW).map(drop);
        assert_eq!(verify(&headers), Ok(()));
        let (time, signature) =
            headers["stripe-signature"].to_str().unwrap().split_once(",v1=").unwrap();
        let mut upper = HeaderMap::new();
        upper.insert(
            "stripe-signature",
            format!("{time},v1={}", signature.to_uppercase()).parse().unwrap(),
        );
        assert_eq!(verify(&upper), Err(Refused::WrongSignature { secrets: 1 }));
        upper.insert("stripe-signature", format!("v1={signature}").parse().unwrap());
        assert_eq!(verify(&upper), Err(Refused::NoTimestamp("stripe-signature")));
    }

    #[test]
    fn h16_two_headers_of_one_name_are_refused() {
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            for second in [svix(NOW)[name].clone(), "other".parse().unwrap()] {
                let mut headers = svix(NOW);
                headers.append(name, second);
                assert_eq!(verdict(&headers), Err(Refused::RepeatedHeader(name)));
            }
        }
    }

    #[test]
    fn h18_a_long_header_is_refused_and_of_many_signatures_a_few_are_compared() {
        let long = vec![b'v'; 64 * 1024];
        assert_eq!(
            verdict(&with("svix-signature", &long)),
            Err(Refused::LongHeader("svix-signature"))
        );

        let right = svix(NOW)["svix-signature"].to_str().unwrap().to_owned();
        let behind = |others: usize| format!("{}{right}", "v1,x ".repeat(others));
        assert_eq!(
            verdict(&with("svix-signature", behind(SIGNATURES_MAX - 1).as_bytes())),
            Ok(ID.to_owned())
        );
        let last = verdict(&with("svix-signature", behind(SIGNATURES_MAX).as_bytes()));
        assert_eq!(last, Err(Refused::WrongSignature { secrets: 1 }));
        // Items of other versions are not compared, so they do not count.
        let other_versions = format!("{}{right}", "v1a,x ".repeat(1000));
        assert_eq!(verdict(&with("svix-signature", other_versions.as_bytes())), Ok(ID.to_owned()));
    }

    #[test]
    fn h18_bytes_outside_ascii_are_refused() {
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            assert_eq!(verdict(&with(name, b"v1,\xc3\xa4")), Err(Refused::UnreadableHeader(name)));
        }
    }

    #[test]
    fn p16_an_id_is_bounded_and_visible() {
        let check = |id: &str| {
            let message = Message { id, at: NOW, body: BODY };
            verdict(&signed("svix", SECRET, &message))
        };
        assert_eq!(check(&"x".repeat(ID_LENGTH_MAX)), Ok("x".repeat(ID_LENGTH_MAX)));
        assert_eq!(check(&"x".repeat(ID_LENGTH_MAX + 1)), Err(Refused::LongId("svix-id")));
        assert_eq!(check("two words"), Err(Refused::UnreadableHeader("svix-id")));
    }

    #[test]
    fn p16_an_id_from_the_body_is_text_or_a_number_or_none() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(10 * 1024));
        for (body, expected) in [
            (r#"{"id":"evt_1"}"#, Some("evt_1")),
            (r#"{"id":7}"#, Some("7")),
            (r#"{"id":""}"#, None),
            (r#"{"id":null}"#, None),
            (r#"{"id":"a b"}"#, None),
            (r#"{}"#, None),
            (&long, None),
        ] {
            let verifier = verifier("stripe", &["whsec_raw"]);
            let headers =
                signed("stripe", "whsec_raw", &Message { id: "", at: NOW, body: body.as_bytes() });
            let verified = verifier
                .verify(&Delivery { headers: &headers, body: body.as_bytes() }, NOW)
                .unwrap();
            let found = json::scan(body, &verifier.scheme.pointers).unwrap();
            assert_eq!(
                verifier.delivery_id(&verified, Some(&found)).as_deref(),
                expected,
                "{body}"
            );
            assert_eq!(verifier.delivery_id(&verified, None), None);
        }
    }

    #[test]
    fn the_scheme_none_believes_everybody() {
        let verifier = verifier("none", &[]);
        assert!(verifier.is_configured());
        let headers = HeaderMap::new();
        let verified = verifier.verify(&Delivery { headers: &headers, body: BODY }, NOW).unwrap();
        assert_eq!(verified, Verified { secret: None, delivery_id: None, signed_at: None });
        assert_eq!(verifier.delivery_id(&verified, None), None);
        let secret = Secret::new("SECRET", SECRET.to_owned());
        let message = Message { id: ID, at: NOW, body: BODY };
        assert_eq!(super::headers(verifier.scheme, &secret, &message).unwrap(), []);
    }

    #[test]
    fn the_svix_library_signs_and_we_accept() {
        let library = ::svix::webhooks::Webhook::new(SECRET).unwrap();
        let signature = library.sign(ID, NOW.0 / 1000, BODY).unwrap();
        for brand in ["svix", "webhook"] {
            let headers: HeaderMap =
                [("id", ID), ("timestamp", "1790000000"), ("signature", &signature)]
                    .into_iter()
                    .map(|(name, value)| {
                        (format!("{brand}-{name}").parse().unwrap(), value.parse().unwrap())
                    })
                    .collect();
            assert_eq!(verdict(&headers), Ok(ID.to_owned()));
        }
    }

    #[test]
    fn we_sign_and_the_svix_library_accepts() {
        let library = ::svix::webhooks::Webhook::new(SECRET).unwrap();
        for scheme in ["svix", "standard-webhooks"] {
            let headers = signed(scheme, SECRET, &Message { id: ID, at: clock::now(), body: BODY });
            library.verify(BODY, &headers).unwrap();
            library.verify(b"{}", &headers).unwrap_err();
        }
    }

    const SIGNED_SCHEMES: [&str; 3] = ["svix", "standard-webhooks", "stripe"];

    fn key_text(scheme: &str, bytes: &[u8]) -> String {
        let encoded = BASE64.encode(bytes);
        if scheme == "stripe" {
            format!("whsec_{}", encoded.trim_end_matches('='))
        } else {
            format!("whsec_{encoded}")
        }
    }

    proptest! {
        #[test]
        fn what_we_sign_we_accept(
            scheme in proptest::sample::select(&SIGNED_SCHEMES[..]),
            key in proptest::collection::vec(any::<u8>(), 1..64),
            id in "[!-~]{1,256}",
            seconds in 0..9_999_999_999_i64,
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let secret = key_text(scheme, &key);
            let at = Millis(seconds * 1000);
            let headers = signed(scheme, &secret, &Message { id: &id, at, body: &body });
            let verifier = verifier(scheme, &[OTHER_SECRET, &secret]);
            let verified = verifier.verify(&Delivery { headers: &headers, body: &body }, at).unwrap();
            prop_assert_eq!(verified.secret.unwrap().index, 1);
            prop_assert_eq!(verified.signed_at, Some(at));
            prop_assert_eq!(verified.delivery_id, (scheme != "stripe").then_some(&*id));
        }

        #[test]
        fn any_flipped_bit_is_refused(
            scheme in proptest::sample::select(&SIGNED_SCHEMES[..]),
            body in proptest::collection::vec(any::<u8>(), 1..300),
            place in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let headers = signed(scheme, SECRET, &Message { id: ID, at: NOW, body: &body });
            let verifier = verifier(scheme, &[SECRET]);
            let mut changed = body.clone();
            changed[place.index(body.len())] ^= 1 << bit;
            let verdict = verifier.verify(&Delivery { headers: &headers, body: &changed }, NOW);
            prop_assert!(verdict.is_err());

            // The same for each header that is there. A flip may make a byte that no header can hold.
            for (name, value) in &headers {
                let mut bytes = value.as_bytes().to_vec();
                bytes[place.index(value.len())] ^= 1 << bit;
                let Ok(value) = axum::http::HeaderValue::from_bytes(&bytes) else { continue };
                let mut headers = headers.clone();
                headers.insert(name.clone(), value);
                let verdict = verifier.verify(&Delivery { headers: &headers, body: &body }, NOW);
                prop_assert!(verdict.is_err(), "{} {:?}", name, bytes);
            }
        }
    }
}
