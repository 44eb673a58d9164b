//! How JSON from outside is read, by one set of rules: a byte order mark is dropped, integers outside i64 become text with their exact
//! digits, 127 levels pass and 128 do not, and of equal keys the last one wins. `prepare` makes text of bytes, `scan` checks the whole
//! of it and picks out a few values without building a tree, `part` cuts out one. No error repeats the payload.

use std::borrow::Cow;
use std::fmt;

mod pointer;
mod scan;
mod part;
mod key;

pub(crate) use self::key::Is;
pub(crate) use self::part::part;
pub(crate) use self::pointer::{Pointer, PointerError};
pub(crate) use self::scan::{Found, scan};

/// Levels of arrays and objects that one text may have: what serde_json lets pass.
pub(crate) const LEVELS_MAX: usize = 127;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// `i64::MAX` has 19 digits: a shorter integer fits always, a longer one never.
const I64_DIGITS: usize = 19;

/// Why a text is not JSON that we take, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// The first byte that no UTF-8 has there.
    #[error("not UTF-8 at {0}")]
    NotUtf8(At),
    /// Nothing, or nothing but blanks.
    #[error("empty where JSON is expected")]
    Empty,
    /// Where the first array or object opens that is one too many.
    #[error("nested deeper than {LEVELS_MAX} levels at {0}")]
    TooDeep(At),
    /// serde_json's own words for it, which name a line and a column and none of the text.
    #[error("{0}")]
    Syntax(serde_json::Error),
}

/// A place in a text, both from 1. Columns count bytes, of the text as `prepare` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    line: usize,
    column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} column {}", self.line, self.column)
    }
}

/// The body as the text that every reader of JSON gets: without byte order mark, and with integers outside i64 as strings.
/// It does not say that the text is valid; where nothing has to change, nothing is copied.
pub(crate) fn prepare(bytes: &[u8]) -> Result<Cow<'_, str>, JsonError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError::NotUtf8(place(bytes, error.valid_up_to())))?;
    Ok(if has_long_digits(bytes) { quote_wide_integers(text) } else { Cow::Borrowed(text) })
}

/// The text without the blanks between its tokens, as most programs write JSON. It does not check anything.
pub(crate) fn compact(text: &[u8]) -> Vec<u8> {
    let mut in_string = false;
    let mut escaped = false;
    let kept = text.iter().copied().filter(|byte| {
        let kept = in_string || !byte.is_ascii_whitespace();
        in_string ^= *byte == b'"' && !escaped;
        escaped = in_string && *byte == b'\\' && !escaped;
        kept
    });
    kept.collect()
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_syntax() && error.to_string().starts_with("recursion limit exceeded") {
            return Self::TooDeep(At { line: error.line(), column: error.column() });
        }
        Self::Syntax(error)
    }
}

fn place(bytes: &[u8], index: usize) -> At {
    let before = &bytes[..index.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    At { line, column }
}

/// Whether 19 digits stand side by side anywhere. Such a run covers a byte at each distance of 19, so only those are looked at.
fn has_long_digits(bytes: &[u8]) -> bool {
    let digits =
        |part: &mut dyn Iterator<Item = &u8>| part.take_while(|byte| byte.is_ascii_digit()).count();
    (I64_DIGITS - 1..bytes.len()).step_by(I64_DIGITS).any(|index| {
        bytes[index].is_ascii_digit() && {
            let before = digits(&mut bytes[..index].iter().rev().take(I64_DIGITS));
            let after = digits(&mut bytes[index..].iter().take(I64_DIGITS));
            before + after >= I64_DIGITS
        }
    })
}

/// The text with each integer outside i64 in quotes. Valid text stays valid and invalid text invalid: a token that is a whole integer
/// becomes a whole string, except where it stands as a key.
fn quote_wide_integers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut quoted = String::new();
    let mut copied = 0;
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'"' => index = after_string(bytes, index),
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                let rest = &bytes[index..];
                let length = rest.iter().take_while(|byte| is_part_of_token(**byte)).count();
                if is_wide_integer(&rest[..length]) && !is_key(&rest[length..]) {
                    quoted.push_str(&text[copied..index]);
                    quoted.push('"');
                    quoted.push_str(&text[index..index + length]);
                    quoted.push('"');
                    copied = index + length;
                }
                index += length;
            }
            _ => index += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted.push_str(&text[copied..]);
    Cow::Owned(quoted)
}

fn is_part_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Where the string that opens at `index` is over; the end where it never is.
fn after_string(bytes: &[u8], index: usize) -> usize {
    let mut index = index + 1;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'"' => return index + 1,
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    bytes.len()
}

/// An integer as JSON writes it that does not fit i64.
fn is_wide_integer(token: &[u8]) -> bool {
    let (digits, largest) = match token.strip_prefix(b"-") {
        Some(digits) => (digits, b"9223372036854775808"),
        None => (token, b"9223372036854775807"),
    };
    digits.len() >= I64_DIGITS
        && digits[0] != b'0'
        && digits.iter().all(u8::is_ascii_digit)
        && (digits.len() > I64_DIGITS || digits > &largest[..])
}

fn is_key(rest: &[u8]) -> bool {
    rest.trim_ascii_start().first() == Some(&b':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::scan::{POINTERS_MAX, Scalar};
    use super::*;

    fn pointers(texts: &[&str]) -> Vec<Pointer> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What a body gives at one pointer, as a debug text, or the error's text.
    fn at(body: &[u8], pointer: &str) -> String {
        let text = match prepare(body) {
            Ok(text) => text,
            Err(error) => return error.to_string(),
        };
        match scan(&text, &pointers(&[pointer])) {
            Ok(found) => {
                found.get(0).map_or_else(|| "nothing".to_owned(), |scalar| format!("{scalar:?}"))
            }
            Err(error) => error.to_string(),
        }
    }

    fn check(body: &str, pointer: &str, expected: &str) {
        assert_eq!(at(body.as_bytes(), pointer), expected, "{body} at {pointer}");
    }

    fn refused(body: &[u8]) -> String {
        match prepare(body).and_then(|text| scan(&text, &[]).map(drop)) {
            Ok(()) => {
                panic!("{:?} was accepted", String::from_utf8_lossy(&body[..body.len().min(80)]))
            }
            Err(error) => error.to_string(),
        }
    }

    fn accepted(body: &[u8]) {
        let text = prepare(body).unwrap();
        scan(&text, &[]).unwrap();
    }

    #[test]
    fn pointers_find_scalars_at_every_depth() {
        let body = r#"{"type":"user.created","data":{"id":"u1","n":7,"list":[{"id":"a"},{"id":"b"}],"x/y":true,"~":null},"":1.5}"#;
        for (pointer, expected) in [
            ("/type", r#"Text("user.created")"#),
            ("/data/id", r#"Text("u1")"#),
            ("/data/n", "Integer(7)"),
            ("/data/list/1/id", r#"Text("b")"#),
            ("/data/list/01/id", "nothing"),
            ("/data/list/+1/id", "nothing"),
            ("/data/list/2/id", "nothing"),
            ("/data/list/-/id", "nothing"),
            ("/data/x~1y", "Bool(true)"),
            ("/data/~0", "Null"),
            ("/", "Float(1.5)"),
            ("/data", "nothing"),
            ("/data/list", "nothing"),
            ("/data/id/deeper", "nothing"),
            ("", "nothing"),
        ] {
            check(body, pointer, expected);
        }
    }

    #[test]
    fn several_pointers_are_found_in_one_pass() {
        let found = scan(
            r#"{"a":{"b":1,"c":2},"d":"\u0041"}"#,
            &pointers(&["/a/c", "/a/b", "/d", "/a/b", "/e"]),
        )
        .unwrap();
        let integer = |number| Some(Scalar::Integer(number));
        assert_eq!(
            *found.0,
            [integer(2), integer(1), Some(Scalar::Text("A".into())), integer(1), None]
        );
        assert_eq!(found.get(9), None);
    }

    #[test]
    fn pointers_past_the_bound_are_never_found() {
        let many = vec!["/a".parse().unwrap(); POINTERS_MAX + 1];
        let found = scan(r#"{"a":1}"#, &many).unwrap();
        assert!(found.get(POINTERS_MAX - 1).is_some() && found.get(POINTERS_MAX).is_none());
    }

    #[test]
    fn p1_a_mebibyte_of_brackets_is_refused_at_the_level_that_is_one_too_deep() {
        let body = vec![b'['; 1 << 20];
        assert_eq!(refused(&body), "nested deeper than 127 levels at line 1 column 128");
    }

    #[test]
    fn p2_127_levels_pass_and_128_do_not() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
            let levels = open.matches(['[', '{']).count();
            let nested = |times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
            accepted(nested(LEVELS_MAX / levels).as_bytes());
            assert!(
                refused(nested(LEVELS_MAX / levels + 1).as_bytes())
                    .starts_with("nested deeper than 127 levels")
            );
            // Also below a pointer, where another visitor reads.
            let text = format!(r#"{{"a":{}}}"#, nested(LEVELS_MAX / levels));
            assert!(
                levels == 2
                    || matches!(scan(&text, &pointers(&["/a/b"])), Err(JsonError::TooDeep(_)))
            );
        }
    }

    #[test]
    fn p4_90_000_keys_are_read_once_each() {
        let body = |keys: usize| {
            let members: Vec<String> = (0..keys).map(|key| format!(r#""k{key}":{key}"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        check(&body(90_000), "/k89999", "Integer(89999)");
    }

    #[test]
    fn p5_of_equal_keys_the_last_one_wins_with_all_that_is_under_it() {
        check(r#"{"a":1,"a":2}"#, "/a", "Integer(2)");
        check(r#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b", "nothing");
        check(r#"{"a":{"b":1},"a":[]}"#, "/a/b", "nothing");
        check(r#"{"a":{"b":1},"a":3}"#, "/a/b", "nothing");
        check(r#"{"a":1,"a":{}}"#, "/a", "nothing");
        check(r#"{"a":1,"\u0061":2}"#, "/a", "Integer(2)");
    }

    #[test]
    fn p6_integers_outside_i64_become_text_with_their_exact_digits() {
        for (number, expected) in [
            ("18446744073709551615", r#"Text("18446744073709551615")"#),
            ("123456789012345678901234567890", r#"Text("123456789012345678901234567890")"#),
            ("9223372036854775808", r#"Text("9223372036854775808")"#),
            ("-9223372036854775809", r#"Text("-9223372036854775809")"#),
            ("9223372036854775807", "Integer(9223372036854775807)"),
            ("-9223372036854775808", "Integer(-9223372036854775808)"),
            ("1234567890123456789", "Integer(1234567890123456789)"),
            ("12345678901234567890.5", "Float(1.2345678901234567e19)"),
            ("12345678901234567890e1", "Float(1.2345678901234567e20)"),
            (r#""18446744073709551615""#, r#"Text("18446744073709551615")"#),
        ] {
            check(&format!(r#"{{"a":{number}}}"#), "/a", expected);
            check(&format!(r#"{{"a" : [ 0 , {number} ] }}"#), "/a/1", expected);
            check(number, "", expected);
        }
        assert!(matches!(prepare(br#"{"a":18446744073709551615}"#), Ok(Cow::Owned(_))));
        // An unprepared text loses no digits either, as far as serde_json shows them.
        let found = scan("[18446744073709551615]", &pointers(&["/0"])).unwrap();
        assert_eq!(found.get(0), Some(&Scalar::Text("18446744073709551615".into())));
    }

    #[test]
    fn digits_in_strings_are_left_alone_and_copy_nothing() {
        for body in [
            r#"{"a":"12345678901234567890123"}"#,
            r#"{"12345678901234567890123":1}"#,
            r#"{"a":"\"12345678901234567890123\\"}"#,
            r#"{"a":123456789012345678,"b":"x"}"#,
            r#"{"a":9223372036854775807}"#,
        ] {
            assert!(
                matches!(prepare(body.as_bytes()), Ok(Cow::Borrowed(text)) if text == body),
                "{body}"
            );
        }
    }

    #[test]
    fn wide_integers_do_not_make_bad_json_good() {
        for body in [
            "{18446744073709551615:1}",
            "{18446744073709551615 : 1}",
            "+18446744073709551615",
            "018446744073709551615",
            "--18446744073709551615",
            "18446744073709551615a",
            "1844674407370955161518446744073709551615.",
            "[18446744073709551615 18446744073709551615]",
            r#"["a"18446744073709551615]"#,
            r#"18446744073709551615"x""#,
            "\"18446744073709551615",
            "\"18446744073709551615\\",
        ] {
            refused(body.as_bytes());
        }
    }

    #[test]
    fn p7_a_number_past_f64_is_refused() {
        for body in ["1e400", "-1e400", r#"{"a":{"b":[1e400]}}"#] {
            assert!(refused(body.as_bytes()).starts_with("number out of range"), "{body}");
        }
    }

    #[test]
    fn p8_unusual_numbers_are_kept() {
        check("-0", "", "Float(-0.0)");
        check("1E2", "", "Float(100.0)");
        check("0.1", "", "Float(0.1)");
    }

    #[test]
    fn p9_what_only_looks_like_json_is_refused() {
        for body in [
            "NaN",
            "Infinity",
            "01",
            "+1",
            ".5",
            "1.",
            "[1,]",
            "[,1]",
            r#"{"a":1,}"#,
            "{'a':1}",
            "{a:1}",
            "/* a */ 1",
            "1 // a",
            "tru",
            "nul",
            "\"a\nb\"",
            r#""\x41""#,
            "[1",
            r#"{"a""#,
            "\"a",
        ] {
            refused(body.as_bytes());
        }
    }

    #[test]
    fn p10_bytes_that_are_not_utf8_are_refused_with_their_place() {
        assert_eq!(refused(b"{\"a\":\n  \"Zo\xeb\"}"), "not UTF-8 at line 2 column 6");
        assert_eq!(refused(b"\xff"), "not UTF-8 at line 1 column 1");
        assert_eq!(refused(b"\"\xed\xa0\x80\""), "not UTF-8 at line 1 column 2");
    }

    #[test]
    fn p11_one_byte_order_mark_is_dropped() {
        assert_eq!(at(b"\xef\xbb\xbf{\"a\":1}", "/a"), "Integer(1)");
        refused(b"\xef\xbb\xbf\xef\xbb\xbf1");
        assert_eq!(refused(b"\xef\xbb\xbf"), "empty where JSON is expected");
    }

    #[test]
    fn p12_nul_and_surrogate_pairs_are_characters_and_a_lone_surrogate_is_refused() {
        check(r#""\u0000""#, "", r#"Text("\0")"#);
        check(r#""\ud83d\ude00""#, "", "Text(\"😀\")");
        for body in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#"{"\ud800":1}"#,
            r#"{"a":["\ud800x"]}"#,
            r#""\ud800\ud800""#,
        ] {
            refused(body.as_bytes());
        }
    }

    #[test]
    fn p13_nothing_and_too_much_are_refused() {
        for body in ["", " ", "\n\t\r "] {
            assert_eq!(refused(body.as_bytes()), "empty where JSON is expected");
        }
        assert_eq!(refused(b"{} {}"), "trailing characters at line 1 column 4");
        assert_eq!(refused(b"{}\nx"), "trailing characters at line 2 column 1");
        accepted(b" {} \r\n");
    }

    #[test]
    fn p14_any_value_may_be_the_whole() {
        check("null", "", "Null");
        check("1", "", "Integer(1)");
        check(r#""x""#, "", r#"Text("x")"#);
        check("[]", "", "nothing");
    }

    #[test]
    fn p15_only_text_and_numbers_are_names() {
        for (scalar, name) in [
            (Scalar::Null, None),
            (Scalar::Bool(true), None),
            (Scalar::Integer(7), Some("7")),
            (Scalar::Float(1.5), Some("1.5")),
            (Scalar::Text("a*\n".into()), Some("a*\n")),
        ] {
            assert_eq!(scalar.as_name().as_deref(), name);
        }
    }

    #[test]
    fn compacting_keeps_what_stands_in_strings() {
        let text = "{\n  \"a b\" : [ 1, \"x \\\" y\\\\\" , \"\\\\ z\" ]\r\n}\t";
        assert_eq!(compact(text.as_bytes()), br#"{"a b":[1,"x \" y\\","\\ z"]}"#);
    }

    #[test]
    fn an_error_never_repeats_the_payload() {
        for body in [
            r#"{"secret":sesame}"#,
            "[sesame]",
            r#"{"a":"sesame\q"}"#,
            "sesame",
            r#"{"a":1 "sesame"}"#,
        ] {
            assert!(!refused(body.as_bytes()).contains("sesame"), "{body}");
        }
    }

    proptest! {
        #[test]
        fn whatever_serde_json_takes_is_taken_and_nothing_else(text in r#"[\[\]{}:,"\\a1e.u0\-+ \nd8]{0,24}"#) {
            let ours = prepare(text.as_bytes()).and_then(|text| scan(&text, &pointers(&["/a", "/0", ""])).map(drop)).is_ok();
            prop_assert_eq!(ours, serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }

        #[test]
        fn an_integer_of_any_length_keeps_its_digits(number in "-?[1-9][0-9]{0,40}", blanks in "[ \n]{0,3}") {
            let body = format!(r#"{{"x":"{number}","a":{blanks}{number}{blanks}}}"#);
            let text = prepare(body.as_bytes()).unwrap();
            let found = scan(&text, &pointers(&["/a"])).unwrap();
            prop_assert_eq!(found.get(0).and_then(Scalar::as_name), Some(Cow::Borrowed(&*number)));
        }

        #[test]
        fn long_digits_are_seen_wherever_they_stand(before in 0_usize..60, digits in 0_usize..60, after in 0_usize..60) {
            let text = format!("{}{}{}", "x".repeat(before), "7".repeat(digits), "x".repeat(after));
            prop_assert_eq!(has_long_digits(text.as_bytes()), digits >= I64_DIGITS);
        }
    }
}
