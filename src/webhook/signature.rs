//! Keys, and the signatures that they make. A key is decoded once, keeps ring's precomputed state and never verifies anything when it
//! would be empty; comparing takes the same time wherever two signatures differ. Nothing here prints a secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Characters of an encoded signature, at most: SHA-256 in hex.
const SIGNATURE_LENGTH_MAX: usize = 64;

/// What begins so is a key for calling an API, which people put where the webhook's secret belongs.
const API_KEY_PREFIXES: [&str; 9] = [
    "sk_test_", "sk_live_", "pk_test_", "pk_live_", "rk_test_", "rk_live_", "sk-", "re_", "Bearer ",
];

/// How a signature is made of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Algorithm {
    /// RFC 2104 with SHA-256.
    HmacSha256,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    /// The usual alphabet, with padding.
    Base64,
    /// In lower case.
    Hex,
}

/// How a secret is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretForm {
    /// What the sender's secrets begin with; empty where they may be anything.
    pub(crate) prefix: Box<str>,
    /// What stands after that.
    pub(crate) encoding: SecretEncoding,
}

/// How the key is made of a secret's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SecretEncoding {
    /// The text as it stands, its prefix included.
    Raw,
    /// The prefix, which may be left out, and then base64.
    Base64,
}

/// A secret that cannot be used, by the variable that holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{variable}` {flaw}")]
pub(crate) struct Problem {
    /// The variable's name.
    pub(crate) variable: Box<str>,
    /// What is wrong with its value.
    pub(crate) flaw: Flaw,
}

/// What is wrong with a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// Nothing, or nothing but blanks: an empty key would let everybody sign.
    #[error("is empty")]
    Empty,
    /// As in a file of examples.
    #[error("has nothing after `{0}`")]
    OnlyPrefix(Box<str>),
    /// As a file that ends in a line break gives it.
    #[error("begins or ends with a blank or a line break; the secret itself has none")]
    Blanks,
    /// As `docker --env-file` leaves them.
    #[error("is in quotes; leave them out")]
    Quotes,
    /// A key of the same provider for something else.
    #[error(
        "begins with `{prefix}`: that is an API key, and the signing secret of a webhook begins with `{expected}`"
    )]
    ApiKey {
        /// By which it was recognised.
        prefix: &'static str,
        /// What the secret begins with.
        expected: Box<str>,
    },
    /// Cut off, mistyped or something else altogether; the prefix is what it begins with.
    #[error("is not a signing secret: `{0}` and then base64; copy it again")]
    NotBase64(Box<str>),
}

/// A secret made ready to sign and verify with.
pub(crate) struct Key(hmac::Key);

impl Key {
    /// The key that a secret stands for.
    pub(crate) fn read(
        algorithm: Algorithm,
        form: &SecretForm,
        secret: &Secret,
    ) -> Result<Self, Problem> {
        let bytes = decode(form, secret.expose())
            .map_err(|flaw| Problem { variable: secret.variable.clone(), flaw })?;
        let algorithm = match algorithm {
            Algorithm::HmacSha256 => hmac::HMAC_SHA256,
        };
        Ok(Self(hmac::Key::new(algorithm, &bytes)))
    }

    /// The signature over all parts, one after the other.
    pub(crate) fn sign<'a>(
        &self,
        parts: impl Iterator<Item = &'a [u8]>,
        encoding: Encoding,
    ) -> Signature {
        let mut context = hmac::Context::with_key(&self.0);
        parts.for_each(|part| context.update(part));
        Signature::encode(context.sign().as_ref(), encoding)
    }
}

/// A signature as it is written, without what stands before it.
pub(crate) struct Signature {
    text: [u8; SIGNATURE_LENGTH_MAX],
    length: usize,
}

impl Signature {
    fn encode(tag: &[u8], encoding: Encoding) -> Self {
        let mut text = [0; SIGNATURE_LENGTH_MAX];
        let length = match encoding {
            Encoding::Base64 => BASE64
                .encode_slice(tag, &mut text)
                .expect("32 bytes are 44 characters of base64, and there is room for 64"),
            Encoding::Hex => {
                for (byte, pair) in tag.iter().zip(text.chunks_exact_mut(2)) {
                    pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
                }
                2 * tag.len()
            }
        };
        Self { text, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// For the header that carries it.
    pub(crate) fn to_text(&self) -> String {
        self.as_bytes().iter().map(|byte| char::from(*byte)).collect()
    }

    /// Whether a delivery's signature is this one. Written forms are compared, so that there is one right way to write it; how long it
    /// takes tells nothing but whether the lengths agree.
    pub(crate) fn is(&self, claimed: &[u8]) -> bool {
        self.as_bytes().ct_eq(claimed).into()
    }
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble & 15)]
}

fn decode(form: &SecretForm, text: &str) -> Result<Vec<u8>, Flaw> {
    if text.trim().is_empty() {
        return Err(Flaw::Empty);
    }
    if text.trim() != text {
        return Err(Flaw::Blanks);
    }
    if text.len() > 1
        && (text.starts_with('"') || text.starts_with('\''))
        && text.ends_with(['"', '\''])
    {
        return Err(Flaw::Quotes);
    }
    let rest = text.strip_prefix(&*form.prefix).unwrap_or(text);
    if rest.is_empty() {
        return Err(Flaw::OnlyPrefix(form.prefix.clone()));
    }
    let api_key = API_KEY_PREFIXES
        .into_iter()
        .find(|prefix| !form.prefix.is_empty() && text.starts_with(prefix));
    if let Some(prefix) = api_key {
        return Err(Flaw::ApiKey { prefix, expected: form.prefix.clone() });
    }
    match form.encoding {
        SecretEncoding::Raw => Ok(text.as_bytes().to_vec()),
        SecretEncoding::Base64 => {
            BASE64.decode(rest).map_err(|_| Flaw::NotBase64(form.prefix.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn whsec() -> SecretForm {
        SecretForm { prefix: "whsec_".into(), encoding: SecretEncoding::Base64 }
    }

    fn raw() -> SecretForm {
        SecretForm { prefix: "".into(), encoding: SecretEncoding::Raw }
    }

    fn key(form: &SecretForm, text: &str) -> Result<Key, String> {
        let secret = Secret::new("HOOK_SECRET", text.to_owned());
        Key::read(Algorithm::HmacSha256, form, &secret).map_err(|problem| problem.to_string())
    }

    fn refused(form: &SecretForm, text: &str) -> String {
        key(form, text).err().unwrap_or_else(|| panic!("{text:?} was taken"))
    }

    #[test]
    fn a_signature_is_the_hmac_of_rfc_4231() {
        let signed = |encoding| {
            key(&raw(), "Jefe")
                .unwrap()
                .sign([&b"what do ya want "[..], b"for nothing?"].into_iter(), encoding)
                .to_text()
        };
        assert_eq!(
            signed(Encoding::Hex),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(signed(Encoding::Base64), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    }

    #[test]
    fn the_prefix_of_an_encoded_secret_may_be_left_out() {
        let sign = |text: &str| {
            key(&whsec(), text).unwrap().sign([&b"x"[..]].into_iter(), Encoding::Hex).to_text()
        };
        assert_eq!(sign(WHSEC), sign(WHSEC.trim_start_matches("whsec_")));
    }

    #[test]
    fn w8_a_secret_that_cannot_be_meant_is_named_and_never_used() {
        for (text, expected) in [
            ("", "`HOOK_SECRET` is empty"),
            (" \t\n", "`HOOK_SECRET` is empty"),
            ("whsec_", "`HOOK_SECRET` has nothing after `whsec_`"),
            (
                &format!("{WHSEC}\n"),
                "`HOOK_SECRET` begins or ends with a blank or a line break; the secret itself has none",
            ),
            (
                &format!(" {WHSEC}"),
                "`HOOK_SECRET` begins or ends with a blank or a line break; the secret itself has none",
            ),
            (&format!("\"{WHSEC}\""), "`HOOK_SECRET` is in quotes; leave them out"),
            (&format!("'{WHSEC}'"), "`HOOK_SECRET` is in quotes; leave them out"),
            (
                "whsec_not base64!",
                "`HOOK_SECRET` is not a signing secret: `whsec_` and then base64; copy it again",
            ),
            (
                "whsec_MfKQ9",
                "`HOOK_SECRET` is not a signing secret: `whsec_` and then base64; copy it again",
            ),
            (
                "sk_test_abcdefgh",
                "`HOOK_SECRET` begins with `sk_test_`: that is an API key, and the signing secret of a webhook begins with `whsec_`",
            ),
        ] {
            assert_eq!(refused(&whsec(), text), expected);
        }
        assert_eq!(refused(&raw(), ""), "`HOOK_SECRET` is empty");
        // Where senders let people choose the secret, anything may be one.
        assert!(key(&raw(), "re_invented").is_ok());
    }

    #[test]
    fn w8_a_problem_never_shows_the_secret() {
        for text in ["whsec_sesame!", "\"sesame\"", "sesame ", "sk_live_sesame", "whsec_sesam"] {
            assert!(!refused(&whsec(), text).contains("sesam"), "{text}");
        }
    }

    #[test]
    fn w9_only_the_one_way_to_write_a_signature_is_equal() {
        let signature = Signature::encode(&[0xab; 32], Encoding::Hex);
        assert!(signature.is("ab".repeat(32).as_bytes()));
        for claimed in
            ["AB".repeat(32), "ab".repeat(31), "ab".repeat(33), String::new(), "ac".repeat(32)]
        {
            assert!(!signature.is(claimed.as_bytes()), "{claimed}");
        }
    }
}
