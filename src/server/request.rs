//! What is the same for every request: its id, its path decoded, who sent it, its body read whole within a size and a time.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST};
use axum::http::{HeaderMap, Version};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use super::answer::Problem;
use crate::clock;
use crate::config::Cidr;
use crate::id::RequestId;

/// A client's own id of a request may have so many characters.
const ID_LENGTH_MAX: usize = 128;
/// Entries of `x-forwarded-for` that are looked at, from the right.
const FORWARDED_MAX: usize = 32;
/// Stands for an encoded `/` while paths are matched; a path that holds one itself is not served.
const SLASH: char = '\0';

/// `x-request-id` of the client where it is plain, else a fresh one.
pub(super) fn id(headers: &HeaderMap) -> Box<str> {
    let plain = |text: &str| {
        (1..=ID_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let own = headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|text| plain(text));
    own.map_or_else(|| RequestId(clock::uuid()).to_string().into(), Into::into)
}

/// What HTTP leaves to us to refuse (RFC 9112, section 3.2; RFC 9110, section 10.1.1): no host, or two values where one must be.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(Problem::BadRequest);
    }
    for name in [HOST, AUTHORIZATION, CONTENT_TYPE] {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Problem::BadRequest);
        }
    }
    match headers.get(EXPECT) {
        Some(expected) if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(Problem::ExpectationFailed)
        }
        _ => Ok(()),
    }
}

/// The path percent-decoded once, for matching; an encoded `/` stays inside its segment. `None`: no path that could be served.
pub(super) fn decoded_path(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        if byte != b'%' {
            decoded.push(byte);
            index += 1;
            continue;
        }
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        match u8::try_from(digit(index + 1)? * 16 + digit(index + 2)?).ok()? {
            0 => return None,
            b'/' => decoded.push(SLASH as u8),
            byte => decoded.push(byte),
        }
        index += 3;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The parameters of a decoded path, as scripts see them.
pub(super) fn params(found: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    found.iter().map(|(name, value)| ((*name).into(), value.replace(SLASH, "/").into())).collect()
}

/// Names in lower case, repeats joined by `, `.
pub(super) fn headers(headers: &HeaderMap) -> Vec<(Box<str>, Box<str>)> {
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let joined = |name| headers.get_all(name).iter().map(text).collect::<Vec<_>>().join(", ");
    headers.keys().map(|name| (name.as_str().into(), joined(name).into())).collect()
}

/// The whole body. Too long is refused before it is read, where its length is told; too slow when `timeout` is over.
pub(super) async fn body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let told = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    if told.is_some_and(|length| length > bytes_max) {
        return Err(Problem::PayloadTooLarge);
    }
    // Most bodies came with their head; those cost no timer.
    let mut reading = std::pin::pin!(collect(body, bytes_max));
    if let Some(read) = reading.as_mut().now_or_never() {
        return read;
    }
    match tokio::time::timeout(timeout, reading).await {
        Ok(read) => read,
        Err(_elapsed) => Err(Problem::RequestTimeout),
    }
}

async fn collect(mut body: Body, bytes_max: u64) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length: u64 = 0;
    while let Some(frame) = body.frame().await {
        // A body that breaks off, or is not framed as HTTP says, is no request.
        let frame = frame.map_err(|_broken| Problem::BadRequest)?;
        // Trailers are not headers, whatever they hold.
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > bytes_max {
            return Err(Problem::PayloadTooLarge);
        }
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Who sent it: the peer, or where the peer is a trusted proxy, the last address of `x-forwarded-for` that is not one.
pub(super) fn remote_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    if !trusted.iter().any(|range| range.contains(peer)) {
        return peer;
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(FORWARDED_MAX);
    let mut last = peer;
    for entry in entries {
        match entry.trim().parse() {
            Ok(address) if trusted.iter().any(|range| range.contains(address)) => last = address,
            Ok(address) => return address,
            Err(_) => return last,
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn h14_a_path_is_decoded_once_and_nothing_else_is_done_to_it() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(decoded_path(path).as_deref(), expected, "{path}")
        };
        check("/api/webhooks/clerk", Some("/api/webhooks/clerk"));
        check("/api/%77ebhooks/clerk", Some("/api/webhooks/clerk"));
        check("//api", Some("//api"));
        check("/x/../api", Some("/x/../api"));
        check("/%2e%2e/x", Some("/../x"));
        check("/a%2525", Some("/a%25"));
        check("/%00", None);
        check("/%zz", None);
        check("/%2", None);
        check("/%ff", None);
    }

    #[test]
    fn h15_an_encoded_slash_stays_in_its_segment() {
        let path = decoded_path("/users/a%2Fb").unwrap();
        assert_eq!(path.matches('/').count(), 2);
        assert_eq!(
            params(&[("id", path.rsplit('/').next().unwrap())]),
            [("id".into(), "a/b".into())]
        );
    }

    #[test]
    fn h22_an_id_of_the_client_is_kept_only_where_it_is_plain() {
        let check = |value: &[u8], kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_bytes(value).unwrap());
            assert_eq!(id(&headers).as_bytes() == value, kept, "{value:?}");
        };
        check(b"abc-1_2.3", true);
        check(&[b'a'; 128], true);
        check(&[b'a'; 129], false);
        check(b"", false);
        check(b"a b", false);
        check(b"a\xc3\xa4", false);
        assert!(id(&HeaderMap::new()).starts_with("req_"));
    }

    #[test]
    fn h23_forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let range = |text: &str, prefix| Cidr { address: text.parse().unwrap(), prefix };
        let trusted = [range("10.0.0.0", 8)];
        let check = |peer: &str, forwarded: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_str(forwarded).unwrap());
            let ip = remote_ip(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(ip.to_string(), expected, "{peer} {forwarded}");
        };
        check("192.0.2.1", "203.0.113.9", "192.0.2.1");
        check("10.0.0.1", "203.0.113.9", "203.0.113.9");
        check("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.7", "203.0.113.9");
        check("10.0.0.1", "garbage", "10.0.0.1");
        check("10.0.0.1", "203.0.113.9, garbage, 10.0.0.7", "10.0.0.7");
        check("10.0.0.1", &"10.0.0.2, ".repeat(1000), "10.0.0.1");
    }
}
