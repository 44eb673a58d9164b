//! `url::…`: parts of addresses (RFC 3986) and query strings (the form encoding of the URL standard).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rhai::{Dynamic, ImmutableString, Map, Module};

use super::Signature;
use crate::script::builtins::ending::{Fallible, refused, reserve};
use crate::script::builtins::set;
use crate::script::value::{Buffer, Full, Kind, build, kind, to_text};

pub(super) const SIGNATURES: [Signature; 5] = [
    Signature {
        name: "url::encode",
        parameters: "text",
        returns: "string",
        does: "Encodes text as one part of a path or query: all but letters, digits and `-._~`",
    },
    Signature {
        name: "url::decode",
        parameters: "text",
        returns: "string",
        does: "Decodes `%xx`; a `+` stays a `+`",
    },
    Signature {
        name: "url::query",
        parameters: "map",
        returns: "string",
        does: "Writes `a=1&b=x`; an array repeats its key, `()` is left out",
    },
    Signature {
        name: "url::parse_query",
        parameters: "text",
        returns: "map",
        does: "Reads `a=1&b=x`; a key that is repeated becomes an array",
    },
    Signature {
        name: "url::parse",
        parameters: "text",
        returns: "map",
        does: "Takes an absolute URL apart: `scheme`, `host`, `port`, `path`, `query` (a map), `fragment`",
    },
];

/// RFC 3986, section 2.3: what never needs encoding.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What one more entry of a map may take.
const ENTRY_BYTES: usize = 500;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "encode", |text: &str| {
        build(|buffer| {
            utf8_percent_encode(text, ENCODED).try_for_each(|part| buffer.push_str(part))
        })
    });
    set(&mut module, "decode", decode);
    set(&mut module, "query", query);
    set(&mut module, "parse_query", parse_query);
    set(&mut module, "parse", parse);
    module
}

fn decode(text: &str) -> Fallible<ImmutableString> {
    reserve(text.len())?;
    let bad = text.match_indices('%').find(|(at, _)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if let Some((at, _)) = bad {
        return Err(refused(&format!("`%` without two hex digits behind it, at {at}")));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned().into()),
        Err(_) => Err(refused("what was decoded is not UTF-8 text")),
    }
}

fn query(map: &mut Map) -> Fallible<ImmutableString> {
    let mut pairs = Vec::new();
    for (key, value) in &*map {
        match kind(value) {
            Kind::Unit => {}
            Kind::Array => {
                let items = value.as_array_ref().map_err(refused)?;
                for item in items.iter() {
                    pairs.push((key.as_str(), word(key, item)?));
                }
            }
            _ => pairs.push((key.as_str(), word(key, value)?)),
        }
    }
    build(|buffer| {
        for (index, (key, value)) in pairs.iter().enumerate() {
            buffer.push_str(if index > 0 { "&" } else { "" })?;
            push_form(buffer, key)?;
            buffer.push('=')?;
            push_form(buffer, value)?;
        }
        Ok(())
    })
}

fn word(key: &str, value: &Dynamic) -> Fallible<String> {
    match kind(value) {
        Kind::Text => value.clone().into_string().map_err(refused),
        Kind::Bool | Kind::Int | Kind::Float | Kind::Char => Ok(to_text(value)),
        other => Err(refused(&format!("`{key}` cannot stand in a query: it is {}", other.words()))),
    }
}

fn push_form(buffer: &mut Buffer, text: &str) -> Result<(), Full> {
    form_urlencoded::byte_serialize(text.as_bytes()).try_for_each(|part| buffer.push_str(part))
}

fn parse_query(text: &str) -> Fallible<Map> {
    let text = text.strip_prefix('?').unwrap_or(text);
    let pairs = text.split('&').count();
    reserve(pairs.saturating_mul(ENTRY_BYTES).saturating_add(text.len()))?;
    let mut map = Map::new();
    for (key, value) in form_urlencoded::parse(text.as_bytes()) {
        let value = Dynamic::from(ImmutableString::from(value.as_ref()));
        match map.get_mut(key.as_ref()) {
            None => {
                map.insert(key.as_ref().into(), value);
            }
            Some(known) => {
                let mut values = match std::mem::take(known) {
                    first if first.is_string() => vec![first],
                    several => several.into_array().unwrap_or_default(),
                };
                values.push(value);
                *known = Dynamic::from_array(values);
            }
        }
    }
    Ok(map)
}

fn parse(text: &str) -> Fallible<Map> {
    let not_absolute = || refused("not an absolute URL: `scheme://host/path` is expected");
    let (scheme, rest) = text.split_once("://").ok_or_else(not_absolute)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (rest, fragment) = split_before(rest, '#');
    let (rest, query) = split_before(rest, '?');
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    if !is_scheme || host.is_empty() {
        return Err(not_absolute());
    }
    reserve(text.len())?;
    let mut map = Map::new();
    map.insert("scheme".into(), scheme.to_ascii_lowercase().into());
    map.insert("host".into(), host.to_ascii_lowercase().into());
    map.insert("port".into(), port.map_or(Dynamic::UNIT, |port| i64::from(port).into()));
    map.insert("path".into(), if path.is_empty() { "/" } else { path }.into());
    map.insert("query".into(), parse_query(query.unwrap_or_default())?.into());
    map.insert("fragment".into(), fragment.map_or(Dynamic::UNIT, Into::into));
    Ok(map)
}

/// The text before the mark, and what stands behind it if there is one.
fn split_before(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Without a name and password, which belong in config; an IPv6 address keeps its brackets.
fn host_and_port(authority: &str) -> Fallible<(&str, Option<u16>)> {
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let host_end = place.rfind(']').map_or(0, |at| at + 1);
    match place[host_end..].find(':') {
        None => Ok((place, None)),
        Some(at) => {
            let (host, port) = place.split_at(host_end + at);
            match port[1..].parse() {
                Ok(port) => Ok((host, Some(port))),
                Err(_) if port.len() == 1 => Ok((host, None)),
                Err(_) => Err(refused("the port is not a number from 0 to 65535")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, run_with};

    #[test]
    fn parts_of_urls_are_encoded_and_decoded() {
        check(
            "[url::encode(\"a b/é?&=+-._~\"), url::decode(\"a%20b%C3%A9+\")]",
            r#"["a%20b%2F%C3%A9%3F%26%3D%2B-._~", "a bé+"]"#,
        );
        check(
            "url::decode(\"a%2\")",
            "INVALID_ARGUMENT: `%` without two hex digits behind it, at 1",
        );
        check("url::decode(\"%ff\")", "INVALID_ARGUMENT: what was decoded is not UTF-8 text");
    }

    #[test]
    fn query_strings_are_written_and_read() {
        check(
            "url::query(#{ a: 1, b: \"x y&é\", c: [1, true], d: (), e: 2.5 })",
            r#""a=1&b=x+y%26%C3%A9&c=1&c=true&e=2.5""#,
        );
        check(
            "url::query(#{ a: #{} })",
            "INVALID_ARGUMENT: `a` cannot stand in a query: it is a map",
        );
        check(
            "url::parse_query(\"?a=1&b=x+y%26&a=2&c&a=3\")",
            r#"#{"a": ["1", "2", "3"], "b": "x y&", "c": ""}"#,
        );
        check("url::parse_query(\"\")", "#{}");
        check("const Q = #{ a: 1 }; url::query(Q)", "\"a=1\"");
        assert_eq!(
            run_with(100_000, "let s = \"a\"; s.pad(1000, '&'); url::parse_query(s)"),
            "ended: Memory"
        );
    }

    #[test]
    fn urls_are_taken_apart() {
        let shown = |url: &str, expected: &str| check(&format!("url::parse(\"{url}\")"), expected);
        shown(
            "HTTPS://me:pw@Example.com:8443/a/b?x=1&y=2#top",
            r#"#{"fragment": "top", "host": "example.com", "path": "/a/b", "port": 8443, "query": #{"x": "1", "y": "2"}, "scheme": "https"}"#,
        );
        shown(
            "http://[::1]:80",
            r#"#{"fragment": (), "host": "[::1]", "path": "/", "port": 80, "query": #{}, "scheme": "http"}"#,
        );
        shown(
            "http://a?b",
            r#"#{"fragment": (), "host": "a", "path": "/", "port": (), "query": #{"b": ""}, "scheme": "http"}"#,
        );
        for url in ["", "/a", "http:a", "://a", "1http://a", "http://", "http:///a"] {
            shown(url, "INVALID_ARGUMENT: not an absolute URL: `scheme://host/path` is expected");
        }
        for url in ["http://a:x", "http://a:65536"] {
            shown(url, "INVALID_ARGUMENT: the port is not a number from 0 to 65535");
        }
    }
}
