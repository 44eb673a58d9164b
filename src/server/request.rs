//! What is the same for every request: its id, its path decoded, who sent it, its body read whole within a size and a time.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::answer::{Methods, Problem};
use super::body::Body;
use crate::clock;
use crate::config::Cidr;
use crate::id::RequestId;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of a request's URI; browsers and proxies stop at less.
const URI_BYTES_MAX: usize = 16 << 10;
/// Bytes of all headers of a request, as names and values.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// No registered method is half as long.
const METHOD_LENGTH_MAX: usize = 32;
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
    let own =
        headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| plain(text));
    own.map_or_else(fresh_id, Into::into)
}

fn fresh_id() -> Box<str> {
    let mut id = String::with_capacity(RequestId::LENGTH);
    _ = write!(id, "{}", RequestId(clock::uuid()));
    id.into()
}

/// What HTTP leaves to us to refuse (RFC 9112, section 3.2; RFC 9110, section 10.1.1): a target that is no path, no host, two values where one
/// must be, more than is sensible.
pub(super) fn check(parts: &Parts) -> Result<(), Problem> {
    let Parts { method, uri, version, headers, .. } = parts;
    let is_path = uri.path().starts_with('/') || (uri.path() == "*" && method == Method::OPTIONS);
    if !is_path && method == Method::CONNECT {
        return Err(Problem::MethodNotAllowed(Methods::default()));
    }
    if !is_path || method.as_str().len() > METHOD_LENGTH_MAX {
        return Err(Problem::BadRequest);
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > URI_BYTES_MAX) {
        return Err(Problem::UriTooLong);
    }
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if bytes.sum::<usize>() >= HEADER_BYTES_MAX {
        return Err(Problem::HeadersTooLarge);
    }
    if *version == Version::HTTP_11 && !headers.contains_key(HOST) {
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
    fn text(value: &HeaderValue) -> Cow<'_, str> {
        String::from_utf8_lossy(value.as_bytes())
    }
    let joined = |name| {
        let mut values = headers.get_all(name).iter().map(text);
        let first = values.next().unwrap_or_default();
        values.fold(first, |joined, value| format!("{joined}, {value}").into())
    };
    headers.keys().map(|name| (name.as_str().into(), joined(name).into())).collect()
}

/// The whole body. Too long is refused before it is read, where its length is told; too slow when `timeout` is over.
pub(super) async fn body(body: Body, bytes_max: u64, timeout: Duration) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > bytes_max {
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
    while let Some(data) = piece(&mut body, &mut length, bytes_max).await? {
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

/// The next piece of a body; `length` is what came so far, this piece included.
pub(super) async fn piece(
    body: &mut Body,
    length: &mut u64,
    bytes_max: u64,
) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        // A body that breaks off, or is not framed as HTTP says, is no request.
        let frame = frame.map_err(|_broken| Problem::BadRequest)?;
        // Trailers are not headers, whatever they hold.
        let Ok(data) = frame.into_data() else { continue };
        *length += data.len() as u64;
        return if *length > bytes_max { Err(Problem::PayloadTooLarge) } else { Ok(Some(data)) };
    }
    Ok(None)
}

/// Who sent it: the peer, or where the peer is a trusted proxy, the last address of `x-forwarded-for` that is not one.
pub(super) fn remote_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|range| range.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let lines: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
    let entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut last = peer;
    for entry in entries.take(FORWARDED_MAX) {
        match forwarded(entry) {
            Some(address) if is_trusted(address) => last = address,
            Some(address) => return address,
            // What a trusted proxy did not write cannot be believed, nor anything before it.
            None => return last,
        }
    }
    last
}

/// One entry: an address, or with the port that some proxies add.
fn forwarded(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let address =
        text.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
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
        check("10.0.0.1", "203.0.113.9:4711", "203.0.113.9");
        check("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1");
        check("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9");
        check("10.0.0.1", &"10.0.0.2, ".repeat(1000), "10.0.0.1");
    }
}
