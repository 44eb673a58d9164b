//! `jwt::…`: JSON Web Tokens (RFC 7519) signed with a shared secret (HS256, HS384, HS512). The caller says which algorithm it is; what a token
//! says of itself is compared with that and never followed. Everything that could be read in two ways is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rhai::{Dynamic, EvalAltResult, ImmutableString, Map, Module};
use ring::hmac::{self, Algorithm, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::named::{Named, wrong};
use super::{Signature, with_bytes};
use crate::clock::Millis;
use crate::script::builtins::ending::{Fallible, refused, reserve, thrown};
use crate::script::builtins::{lend, set};
use crate::script::current::given;
use crate::script::value::{Limits, Reason, build, from_json, to_json};
use crate::units;

pub(super) const SIGNATURES: [Signature; 3] = [
    Signature {
        name: "jwt::decode",
        parameters: "token",
        returns: "map",
        does: "Takes a token apart into `header`, `claims` and `signature`; it does not verify, so nothing in it is to be believed",
    },
    Signature {
        name: "jwt::sign",
        parameters: "claims, key, [options]",
        returns: "string",
        does: "Makes a token of a map of claims; `exp` and `nbf` are in seconds",
    },
    Signature {
        name: "jwt::verify",
        parameters: "token, key, [options]",
        returns: "map",
        does: "Gives the claims of a token that this key has signed and that is valid now; else throws `INVALID_TOKEN` or `TOKEN_EXPIRED`",
    },
];

/// By the name that stands in a header.
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("HS256", HMAC_SHA256), ("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512)];
const ALGORITHM_NAMES: &str = "\"HS256\", \"HS384\" or \"HS512\"";
/// The year 5138 in seconds, and 1973 in milliseconds: what is above was meant as milliseconds.
const SECONDS_MAX: i64 = 100_000_000_000;
/// Characters of a foreign word that an error repeats.
const SHOWN_MAX: usize = 64;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "decode", decode);
    set(&mut module, "sign", |claims: &mut Map, key: Dynamic| sign(claims, &key, Named::NONE));
    set(&mut module, "sign", |claims: &mut Map, key: Dynamic, options: Map| {
        sign(claims, &key, Named::of(&options, &["alg", "header"])?)
    });
    set(&mut module, "verify", |token: &str, key: Dynamic| verify(token, &key, Named::NONE));
    set(&mut module, "verify", |token: &str, key: Dynamic, options: Map| {
        verify(token, &key, Named::of(&options, &["alg", "at", "leeway", "ignore_time"])?)
    });
    module
}

fn decode(token: &str) -> Fallible<Map> {
    let Parts { header, claims, signature, .. } = Parts::of(token)?;
    let mut map = Map::new();
    map.insert("header".into(), object("its header is", header)?.into());
    map.insert("claims".into(), object("its claims are", claims)?.into());
    // It is shown as it stands, and has to be what it seems to be all the same.
    bytes("its signature is", signature)?;
    map.insert("signature".into(), signature.into());
    Ok(map)
}

fn sign(claims: &mut Map, key: &Dynamic, options: Named<'_>) -> Fallible<ImmutableString> {
    let (name, algorithm) = algorithm(options)?;
    let key = read_key(algorithm, key)?;
    for claim in ["exp", "nbf", "iat"] {
        let seconds = claims.get(claim).and_then(|value| value.as_int().ok());
        if seconds.is_some_and(|seconds| seconds > SECONDS_MAX) {
            return Err(refused(&format!(
                "`{claim}` is in seconds, not in milliseconds: `now() / 1000 + 3600` is in an hour"
            )));
        }
    }
    let header = header(name, options)?;
    let header = to_json(&header.into(), Limits::NONE)?;
    let claims = lend(claims, |claims| to_json(claims, Limits::NONE))?;
    let signed = build(|buffer| {
        for (before, part) in [("", &header), (".", &claims)] {
            buffer.push_str(before)?;
            buffer.reserve(part.len().div_ceil(3).saturating_mul(4))?;
            URL_SAFE_NO_PAD.encode_string(part, buffer.text_mut());
        }
        Ok(())
    })?;
    let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    build(|buffer| {
        buffer.push_str(&signed)?;
        buffer.push('.')?;
        buffer.push_str(&tag)
    })
}

/// What the token says of itself, with what the caller adds.
fn header(algorithm: &'static str, options: Named<'_>) -> Fallible<Map> {
    let mut header = Map::new();
    header.insert("typ".into(), "JWT".into());
    if let Some(more) = options.get("header") {
        let more = more.as_map_ref().map_err(|_| wrong("header", "a map", more))?;
        if more.contains_key("alg") || more.contains_key("crit") {
            return Err(refused("`alg` is an option of its own, and `crit` is not supported"));
        }
        header.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    header.insert("alg".into(), algorithm.into());
    Ok(header)
}

fn verify(token: &str, key: &Dynamic, options: Named<'_>) -> Fallible<Map> {
    let (name, algorithm) = algorithm(options)?;
    let key = read_key(algorithm, key)?;
    let time = Time::of(options)?;
    let parts = Parts::of(token)?;
    check_header(&object("its header is", parts.header)?, name)?;
    let signature = bytes("its signature is", parts.signature)?;
    hmac::verify(&key, parts.signed.as_bytes(), &signature)
        .map_err(|_| invalid("its signature is not that of this key"))?;
    let claims = object("its claims are", parts.claims)?;
    if let Some(time) = time {
        time.check(&claims)?;
    }
    Ok(claims)
}

fn check_header(header: &Map, expected: &str) -> Fallible<()> {
    let named = header.get("alg").and_then(|value| value.read_lock::<ImmutableString>());
    match named {
        Some(named) if *named == expected => {}
        Some(named) => {
            let named: String = named.chars().take(SHOWN_MAX).collect();
            return Err(invalid(&format!("its algorithm is `{named}`, not {expected}")));
        }
        None => return Err(invalid("its header names no algorithm")),
    }
    if header.contains_key("crit") {
        return Err(invalid("its header demands an extension (`crit`), and none is known"));
    }
    Ok(())
}

/// The time that a token is held against.
struct Time {
    now: Millis,
    leeway: Duration,
}

impl Time {
    /// `None`: the caller does not care.
    fn of(options: Named<'_>) -> Fallible<Option<Self>> {
        let what = "a duration such as \"30s\"";
        let leeway = match options.text("leeway", what)? {
            Some(text) => units::parse_duration(&text)
                .map_err(|error| refused(&format!("the option `leeway`: {error}")))?,
            None => Duration::ZERO,
        };
        if options.flag("ignore_time", false)? {
            return Ok(None);
        }
        let now = match options.get("at") {
            Some(at) => Millis(at.as_int().map_err(|_| wrong("at", "milliseconds", at))?),
            None => given("jwt::verify")?.now(),
        };
        Ok(Some(Self { now, leeway }))
    }

    fn check(&self, claims: &Map) -> Fallible<()> {
        if let Some(expires) = date(claims, "exp")?
            && self.now >= expires.plus(self.leeway)
        {
            return Err(thrown("TOKEN_EXPIRED", &format!("the token expired at {expires}")));
        }
        if let Some(begins) = date(claims, "nbf")?
            && self.now.plus(self.leeway) < begins
        {
            return Err(invalid(&format!("it is not valid before {begins}")));
        }
        Ok(())
    }
}

/// A claim that holds seconds since 1970, with or without a fraction.
fn date(claims: &Map, name: &str) -> Fallible<Option<Millis>> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Ok(seconds) = value.as_int() {
        return Ok(Some(Millis(seconds.saturating_mul(1000))));
    }
    match value.as_float() {
        Ok(seconds) => {
            let since = Duration::try_from_secs_f64(seconds);
            since.map(|since| Some(Millis(0).plus(since))).map_err(|_| no_date(name))
        }
        Err(_) => Err(no_date(name)),
    }
}

fn no_date(name: &str) -> Box<EvalAltResult> {
    invalid(&format!("its claim `{name}` is no time in seconds"))
}

/// The three parts of a token, still encoded.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// The first two with the dot between them.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Fallible<Self> {
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            (!claims.contains('.')).then_some(Self { header, claims, signature, signed })
        });
        parts.ok_or_else(|| invalid("a token has three parts with dots between them"))
    }
}

fn algorithm(options: Named<'_>) -> Fallible<(&'static str, Algorithm)> {
    let wanted = options.text("alg", ALGORITHM_NAMES)?;
    let wanted = wanted.as_deref().unwrap_or("HS256");
    ALGORITHMS
        .into_iter()
        .find(|(name, _)| *name == wanted)
        .ok_or_else(|| refused(&format!("the option `alg` takes {ALGORITHM_NAMES}")))
}

fn read_key(algorithm: Algorithm, key: &Dynamic) -> Fallible<Key> {
    with_bytes(key, |bytes| match bytes {
        [] => Err(refused("the key is empty")),
        bytes => Ok(Key::new(algorithm, bytes)),
    })?
}

fn bytes(subject: &str, part: &str) -> Fallible<Vec<u8>> {
    reserve(part.len())?;
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| invalid(&format!("{subject} not base64url without padding")))
}

/// A part that holds a JSON object, in which no name comes twice.
fn object(subject: &str, part: &str) -> Fallible<Map> {
    let bytes = bytes(subject, part)?;
    let not_json = |error: &str| invalid(&format!("{subject} {error}"));
    let text = str::from_utf8(&bytes).map_err(|_| not_json("not UTF-8"))?;
    let value = from_json(text, Limits::NONE).map_err(|error| match error.reason {
        Reason::Memory => error.into(),
        _ => not_json(&error.to_string()),
    })?;
    let map: Map = value.try_cast().ok_or_else(|| not_json("no JSON object"))?;
    let names = serde_json::Deserializer::from_str(text).deserialize_map(Names);
    if !names.is_ok_and(|count| count == map.len()) {
        return Err(not_json("ambiguous: a name comes twice"));
    }
    Ok(map)
}

/// Counts the names of an object.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = usize;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

fn invalid(why: &str) -> Box<EvalAltResult> {
    thrown("INVALID_TOKEN", &format!("the token is not valid: {why}"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use crate::script::builtins::testing::{check, run_with};

    /// RFC 7515, appendix A.1, and its key.
    const RFC_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const RFC_KEY: &str = "base64::decode_url_blob(\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow\")";

    fn token(header: &str, claims: &str) -> String {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.AAAA", encoded(header), encoded(claims))
    }

    fn check_invalid(call: &str, reason: &str) {
        check(call, &format!("INVALID_TOKEN: the token is not valid: {reason}"));
    }

    #[test]
    fn a_token_of_the_rfc_is_taken_apart_and_verified() {
        let claims = r#"#{"exp": 1300819380, "http://example.com/is_root": true, "iss": "joe"}"#;
        check(
            &format!("jwt::decode(\"{RFC_TOKEN}\")"),
            &format!(
                r#"#{{"claims": {claims}, "header": #{{"alg": "HS256", "typ": "JWT"}}, "signature": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}}"#
            ),
        );
        let verify =
            |options: &str| format!("jwt::verify(\"{RFC_TOKEN}\", {RFC_KEY}, #{{ {options} }})");
        check(&verify("at: 1300819379999"), claims);
        check(&verify("ignore_time: true"), claims);
        let expired = "TOKEN_EXPIRED: the token expired at 2011-03-22T18:43:00.000Z";
        check(&verify("at: 1300819380000"), expired);
        check(&verify("at: 1300819389999, leeway: \"10s\""), claims);
        check(&verify("at: 1300819390000, leeway: \"10s\""), expired);
    }

    #[test]
    fn what_is_signed_is_verified_by_the_same_key_and_algorithm_only() {
        for alg in ["HS256", "HS384", "HS512"] {
            check(
                &format!(
                    "let t = jwt::sign(#{{ sub: \"é\", n: [1, ()] }}, \"k\", #{{ alg: \"{alg}\" }}); jwt::verify(t, \"k\", #{{ alg: \"{alg}\", at: 0 }})"
                ),
                "#{\"n\": [1, ()], \"sub\": \"é\"}",
            );
        }
        check_invalid(
            "jwt::verify(jwt::sign(#{}, \"k\"), \"K\", #{ at: 0 })",
            "its signature is not that of this key",
        );
        check_invalid(
            "jwt::verify(jwt::sign(#{}, \"k\", #{ alg: \"HS512\" }), \"k\", #{ at: 0 })",
            "its algorithm is `HS512`, not HS256",
        );
        check(
            "jwt::sign(#{ a: 1 }, \"secret\")",
            "\"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhIjoxfQ.57TF7smP9XDhIexBqPC-F1toZReYZLWb_YRU5tv0sxM\"",
        );
        check(
            "jwt::decode(jwt::sign(#{}, \"k\", #{ header: #{ kid: \"one\" } })).header",
            "#{\"alg\": \"HS256\", \"kid\": \"one\", \"typ\": \"JWT\"}",
        );
        check("const C = #{ a: 1 }; jwt::sign(C, \"k\"); C", "#{\"a\": 1}");
    }

    #[test]
    fn a_token_that_lies_about_its_algorithm_is_not_followed() {
        for (header, reason) in [
            (r#"{"alg":"none"}"#, "its algorithm is `none`, not HS256"),
            (r#"{"alg":"hs256"}"#, "its algorithm is `hs256`, not HS256"),
            (r#"{"alg":"RS256"}"#, "its algorithm is `RS256`, not HS256"),
            (r#"{"alg":["HS256"]}"#, "its header names no algorithm"),
            ("{}", "its header names no algorithm"),
            (
                r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
                "its header demands an extension (`crit`), and none is known",
            ),
            (r#"{"alg":"none","alg":"HS256"}"#, "its header is ambiguous: a name comes twice"),
            ("[]", "its header is no JSON object"),
            ("{", "its header is not JSON: EOF while parsing an object at line 1 column 1"),
        ] {
            check_invalid(
                &format!("jwt::verify(\"{}\", \"k\", #{{ at: 0 }})", token(header, "{}")),
                reason,
            );
        }
        // Without its signature it is no better.
        let unsigned = token(r#"{"alg":"HS256"}"#, "{}").replace("AAAA", "");
        check_invalid(
            &format!("jwt::verify(\"{unsigned}\", \"k\", #{{ at: 0 }})"),
            "its signature is not that of this key",
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let decode =
            |token: &str, reason: &str| check_invalid(&format!("jwt::decode(\"{token}\")"), reason);
        let three = "a token has three parts with dots between them";
        for token in ["", "a", "a.b", "a.b.c.d", "..."] {
            decode(token, three);
        }
        decode("..", "its header is not JSON: EOF while parsing a value at line 1 column 0");
        decode("e30=.e30.", "its header is not base64url without padding");
        decode("e30.e3 0.", "its claims are not base64url without padding");
        decode("e30.e31.", "its claims are not base64url without padding");
        decode("e30.e30.+/", "its signature is not base64url without padding");
        decode(
            &token("{}", r#"{"sub":"a","sub":"b"}"#),
            "its claims are ambiguous: a name comes twice",
        );
        decode(
            &token("{}", r#"{"sub":"a","s\u0075b":"b"}"#),
            "its claims are ambiguous: a name comes twice",
        );
        decode(&token("{}", "\"x\""), "its claims are no JSON object");
        decode(
            &token("{}", "{} {}"),
            "its claims are not JSON: trailing characters at line 1 column 4",
        );
    }

    #[test]
    fn times_of_a_token_are_seconds_and_are_held_against_the_time_given() {
        let verify = |claims: &str, at: i64| {
            format!("jwt::verify(jwt::sign({claims}, \"k\"), \"k\", #{{ at: {at} }})")
        };
        check(&verify("#{ nbf: 10 }", 10_000), "#{\"nbf\": 10}");
        check_invalid(
            &verify("#{ nbf: 10 }", 9_999),
            "it is not valid before 1970-01-01T00:00:10.000Z",
        );
        check(&verify("#{ exp: 10.5 }", 10_499), "#{\"exp\": 10.5}");
        check(
            &verify("#{ exp: 10.5 }", 10_500),
            "TOKEN_EXPIRED: the token expired at 1970-01-01T00:00:10.500Z",
        );
        check(
            &verify("#{ exp: -1 }", 0),
            "TOKEN_EXPIRED: the token expired at 1969-12-31T23:59:59.000Z",
        );
        for claims in ["#{ exp: \"10\" }", "#{ exp: () }", "#{ exp: -1.5 }", "#{ exp: 1e300 }"] {
            check_invalid(&verify(claims, 0), "its claim `exp` is no time in seconds");
        }
        check(
            &verify("#{ exp: 1769860800123 }", 0),
            "INVALID_ARGUMENT: `exp` is in seconds, not in milliseconds: `now() / 1000 + 3600` is in an hour",
        );
    }

    #[test]
    fn arguments_that_cannot_be_meant_say_what_can() {
        for (call, expected) in [
            ("jwt::sign(#{}, \"\")", "the key is empty"),
            ("jwt::sign(#{}, ())", "a string or a blob is needed, not (); is the field missing?"),
            (
                "jwt::sign(#{}, \"k\", #{ alg: \"none\" })",
                "the option `alg` takes \"HS256\", \"HS384\" or \"HS512\"",
            ),
            (
                "jwt::sign(#{}, \"k\", #{ alg: 256 })",
                "the option `alg` takes \"HS256\", \"HS384\" or \"HS512\", not an integer",
            ),
            (
                "jwt::sign(#{}, \"k\", #{ algorithm: 1 })",
                "there is no option `algorithm`; it takes `alg`, `header`",
            ),
            (
                "jwt::sign(#{}, \"k\", #{ header: #{ alg: \"none\" } })",
                "`alg` is an option of its own, and `crit` is not supported",
            ),
            (
                "jwt::verify(\"\", \"k\", #{ leeway: 5 })",
                "the option `leeway` takes a duration such as \"30s\", not an integer",
            ),
            (
                "jwt::verify(\"\", \"k\", #{ at: \"now\" })",
                "the option `at` takes milliseconds, not that",
            ),
        ] {
            check(call, &format!("INVALID_ARGUMENT: {expected}"));
        }
        check("jwt::sign(#{ f: || 1 }, \"k\")", "INVALID_VALUE: `f`: a function cannot be JSON");
    }

    #[test]
    fn s20_tokens_end_at_the_budget() {
        let sign = "let s = \"x\"; s.pad(1000000, 'x'); jwt::sign(#{ s: s }, \"k\")";
        assert_eq!(run_with(1_200_000, sign), "ended: Memory");
        let decode = format!("jwt::decode(\"{}.e30.\")", "x".repeat(2_000));
        assert_eq!(run_with(1_000, &decode), "ended: Memory");
    }
}
