//! The order key of an event: what `ordered_by` names in its payload. Events of one webhook with the same key are handled one at a time.

use ring::digest::{SHA256, digest};

use crate::json::{self, Pointer};

/// Bytes of a key that are kept as they are: names and ids are shorter. Of a longer one its digest stands for it.
const KEY_BYTES_MAX: usize = 256;

/// The key in a text that `json::scan` has checked: text as it is, a number as its digits, anything else as compact JSON. `None`: nothing is
/// there, or `null`, and the event has no order.
pub(super) fn key(text: &str, pointer: &Pointer) -> Option<Box<str>> {
    let part = json::part(text, pointer)?;
    let key = match part.as_bytes().first()? {
        b'n' => return None,
        b'"' => serde_json::from_str(part).ok()?,
        _ => String::from_utf8(json::compact(part.as_bytes())).ok()?,
    };
    Some(if key.len() <= KEY_BYTES_MAX { key.into() } else { digested(&key) })
}

fn digested(key: &str) -> Box<str> {
    let digits = digest(&SHA256, key.as_bytes());
    let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_6_a_key_is_the_value_that_the_pointer_names_and_null_or_nothing_is_none() {
        let check = |text: &str, expected: Option<&str>| {
            let found = key(text, &"/data/id".parse().unwrap());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check(r#"{"data":{"id":"user_1"}}"#, Some("user_1"));
        check(r#"{"data":{"id":"\u0041\"é"}}"#, Some("A\"é"));
        check(r#"{"data":{"id":""}}"#, Some(""));
        check(r#"{"data":{"id":17}}"#, Some("17"));
        check(r#"{"data":{"id":-1.50e2}}"#, Some("-1.50e2"));
        check(r#"{"data":{"id":true}}"#, Some("true"));
        check(r#"{"data":{"id":[ 1, { "a b": 2 } ]}}"#, Some(r#"[1,{"a b":2}]"#));
        check(r#"{"data":{"id":1,"id":2}}"#, Some("2"));
        check(r#"{"data":{"id":1,"id":null}}"#, None);
        check(r#"{"data":{"id":null}}"#, None);
        check(r#"{"data":{}}"#, None);
        check("[]", None);
        assert_eq!(key(r#""whole""#, &"".parse().unwrap()).as_deref(), Some("whole"));
    }

    #[test]
    fn a_long_key_is_its_digest() {
        let of = |length: usize| {
            let text = format!(r#"{{"id":"{}"}}"#, "k".repeat(length));
            key(&text, &"/id".parse().unwrap()).unwrap()
        };
        assert_eq!(*of(256), *"k".repeat(256));
        let long = of(257);
        assert!(long.starts_with("sha256:") && long.len() == 7 + 64, "{long}");
        assert_ne!(long, of(258));
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(&*digested(""), empty);
    }
}
