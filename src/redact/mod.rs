//! Takes secrets out of what leaves the process: logs, errors, answers, what is stored. A secret is found in each form in which it travels, and
//! `[secret]` stands in its place. Whatever holds a secret keeps it known here (`keep`), so nobody has to remember which secrets there are.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

mod forms;
mod known;

use self::forms::{FORM_BYTES_MIN, forms};
pub(crate) use self::known::{Kept, current, keep};

/// What stands where a secret stood.
const INSTEAD: &str = "[secret]";
/// Bits of the filter: with the 8,000 forms of 500 secrets, one place in eight is looked at twice.
const FILTER_BITS: usize = 1 << 16;
/// Bytes by which a place is judged; every form is longer.
const START_BYTES: usize = 4;
const _: () = assert!(START_BYTES <= FORM_BYTES_MIN);

/// Finds the forms of a set of secrets. One pass, whatever their number: most places are passed over after one look at a table.
pub(crate) struct Redactor {
    /// A bit for each start of a form.
    filter: Box<[u64]>,
    /// The forms by their first bytes, the longest first.
    by_start: HashMap<[u8; START_BYTES], Vec<Box<[u8]>>>,
}

impl Redactor {
    fn new<'v>(values: impl Iterator<Item = &'v str>) -> Self {
        let mut filter = vec![0; FILTER_BITS / 64].into_boxed_slice();
        let mut by_start: HashMap<_, Vec<Box<[u8]>>> = HashMap::new();
        for form in values.flat_map(forms) {
            let Some(start) = form.first_chunk::<START_BYTES>() else { continue };
            let bit = bit_of(*start);
            if let Some(word) = filter.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
            by_start.entry(*start).or_default().push(form.into_boxed_slice());
        }
        for forms in by_start.values_mut() {
            forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
            forms.dedup();
        }
        Self { filter, by_start }
    }

    /// The text without secrets.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.replaced(text.as_bytes()) {
            // What is taken out is whole characters, so nothing is lost here.
            Some(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
            None => Cow::Borrowed(text),
        }
    }

    /// The bytes without secrets; the same ones where there are none.
    pub(crate) fn bytes(&self, bytes: Bytes) -> Bytes {
        self.replaced(&bytes).map_or(bytes, Bytes::from)
    }

    /// `None`: there is no secret in it.
    pub(crate) fn replaced(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut replaced = Vec::new();
        let (mut copied, mut at) = (0, 0);
        while let Some(length) = self.next(bytes, &mut at) {
            replaced.extend_from_slice(&bytes[copied..at]);
            replaced.extend_from_slice(INSTEAD.as_bytes());
            at += length;
            copied = at;
        }
        if copied == 0 {
            return None;
        }
        replaced.extend_from_slice(&bytes[copied..]);
        Some(replaced)
    }

    /// Moves on to the next secret; its length.
    fn next(&self, bytes: &[u8], at: &mut usize) -> Option<usize> {
        while let Some(start) = bytes.get(*at..).and_then(<[u8]>::first_chunk::<START_BYTES>) {
            let bit = bit_of(*start);
            let is_candidate =
                self.filter.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0);
            if is_candidate
                && let Some(forms) = self.by_start.get(start)
                && let Some(form) = forms.iter().find(|form| bytes[*at..].starts_with(form))
            {
                return Some(form.len());
            }
            *at += 1;
        }
        None
    }
}

/// Knuth's multiplicative hash: the upper bits of the product.
fn bit_of(start: [u8; START_BYTES]) -> usize {
    (u32::from_le_bytes(start).wrapping_mul(2_654_435_761) >> 16) as usize
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk_canary+/7f3a\"é";

    fn redactor(values: &[&str]) -> Redactor {
        Redactor::new(values.iter().copied())
    }

    #[test]
    fn v13_a_secret_is_found_in_every_form_in_which_it_travels() {
        let redactor = redactor(&[KEY]);
        let json = serde_json::to_string(KEY).unwrap();
        let query: String = form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
        let percent =
            percent_encoding::utf8_percent_encode(KEY, percent_encoding::NON_ALPHANUMERIC);
        for text in [
            KEY.to_owned(),
            format!("Authorization: Bearer {KEY}, and again {KEY}"),
            json.clone(),
            serde_json::to_string(&format!("{{\"key\":{json}}}")).unwrap(),
            json.replace('/', "\\/"),
            format!("?a=1&key={query}"),
            percent.to_string(),
            percent.to_string().to_lowercase(),
            STANDARD.encode(KEY),
            STANDARD.encode(format!("user:{KEY}")),
            STANDARD.encode(format!("u:{KEY}:more")),
            URL_SAFE_NO_PAD.encode(format!("us:{KEY}x")),
            format!("{KEY:?}"),
        ] {
            let found = redactor.text(&text);
            assert!(found.contains(INSTEAD), "{text} → {found}");
            assert!(!found.contains("canary") && !found.contains("7f3a"), "{text} → {found}");
        }
    }

    #[test]
    fn what_holds_no_secret_is_the_same_and_what_surrounds_one_stays() {
        let redactor = redactor(&["abcdef", "abcdefgh", "short", ""]);
        assert!(matches!(redactor.text("abcde, short, é"), Cow::Borrowed("abcde, short, é")));
        assert_eq!(redactor.text("é abcdefgh/abcdef é"), "é [secret]/[secret] é");
        assert_eq!(redactor.text("abcabcdefabcdef"), "abc[secret][secret]");
        let bytes = Bytes::from_static(b"\xff abcdef \xfe");
        assert_eq!(redactor.bytes(bytes), Bytes::from_static(b"\xff [secret] \xfe"));
    }

    #[test]
    fn each_line_of_a_private_key_is_a_secret_and_its_label_is_none() {
        let (one, two) = ("MIIEvQIBADANBgkqhkiG9w0B", "AQEFAASCBKcwggSjAgEAAoIB");
        for line_end in ["\n", "\\n", "\r\n"] {
            let pem = ["-----BEGIN PRIVATE KEY-----", one, two, "-----END PRIVATE KEY-----"]
                .join(line_end);
            let redactor = redactor(&[&pem]);
            assert_eq!(redactor.text(&format!("x {two} y")), "x [secret] y");
            assert_eq!(redactor.text(&pem), INSTEAD);
            let label = "-----BEGIN PRIVATE KEY-----";
            assert_eq!(redactor.text(label), label);
        }
    }

    #[test]
    fn megabytes_are_searched_in_one_pass() {
        let values: Vec<String> = (0..500).map(|n| format!("sk_live_{n:016}")).collect();
        let redactor = Redactor::new(values.iter().map(String::as_str));
        let mut body = "{\"name\": \"sk_live_of nobody\", \"n\": 12345}".repeat(100_000);
        assert!(redactor.replaced(body.as_bytes()).is_none());
        body.push_str(&values[499]);
        assert!(redactor.text(&body).ends_with(INSTEAD));
    }

    proptest! {
        #[test]
        fn no_secret_is_left_wherever_it_stands(
            before in "\\PC{0,20}", secret in "[a-zA-Z0-9/+\"é ]{6,40}", after in "\\PC{0,20}",
        ) {
            let found = redactor(&[&secret]).text(&format!("{before}{secret}{after}")).into_owned();
            prop_assert!(!found.contains(&secret), "{}", found);
            prop_assert!(found.contains(INSTEAD));
        }
    }
}
