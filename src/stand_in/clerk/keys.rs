//! The keys that sign session tokens, and the set that publishes them. They stand in the source for everybody to read, since nothing in the program can
//! make RSA keys: only a stand-in on this machine signs with them, and no real issuer's key set holds them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

/// Private keys (PKCS #8), and the names that tokens have for them.
const KEYS: [(&str, &str); 2] = [
    ("ins_stand_in_1", include_str!("keys/1.pem")),
    ("ins_stand_in_2", include_str!("keys/2.pem")),
];

/// One key.
pub(super) struct Key {
    id: &'static str,
    pair: RsaKeyPair,
}

impl Key {
    pub(super) fn id(&self) -> &'static str {
        self.id
    }

    /// A signature of RS256.
    pub(super) fn sign(&self, signed: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let padding = &RSA_PKCS1_SHA256;
        self.pair.sign(padding, &SystemRandom::new(), signed, &mut signature).ok()?;
        Some(signature)
    }

    /// As a key set has it (RFC 7517).
    pub(super) fn to_json(&self) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.pair.public());
        json!({
            "use": "sig",
            "kty": "RSA",
            "kid": self.id,
            "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode(public.n),
            "e": URL_SAFE_NO_PAD.encode(public.e),
        })
    }

    /// The public half as PEM, as Clerk's dashboard shows it: what `jwt_key_env` takes, and what a trick with HS256 signs with.
    pub(super) fn to_pem(&self) -> String {
        let text = STANDARD.encode(spki(self.pair.public_key().as_ref()));
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

/// All keys, and which of them signs.
pub(super) struct Keys {
    pairs: Vec<Key>,
    current: usize,
    /// A key is published once it has signed.
    published: usize,
}

impl Keys {
    pub(super) fn new() -> Self {
        let pairs = KEYS.map(|(id, pem)| Key { id, pair: read(pem) });
        Self { pairs: pairs.into(), current: 0, published: 1 }
    }

    pub(super) fn current(&self) -> &Key {
        &self.pairs[self.current]
    }

    pub(super) fn rotate(&mut self) {
        self.current = (self.current + 1) % self.pairs.len();
        self.published = self.published.max(self.current + 1);
    }

    /// Those that are published, the one that signs first.
    pub(super) fn set(&self) -> Value {
        let others = (0..self.published).filter(|index| *index != self.current);
        let keys: Vec<Value> = [self.current]
            .into_iter()
            .chain(others)
            .map(|index| self.pairs[index].to_json())
            .collect();
        json!({ "keys": keys })
    }
}

fn read(pem: &str) -> RsaKeyPair {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(text).expect("the files of this folder are PEM, as a test shows");
    RsaKeyPair::from_pkcs8(&der).expect("they are RSA keys, as a test shows")
}

/// A PKCS #1 public key as a `SubjectPublicKeyInfo` (RFC 5280, RFC 3279): the algorithm, and the key as a string of bits.
fn spki(key: &[u8]) -> Vec<u8> {
    const RSA: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = [&[0], key].concat();
    tagged(0x30, &[&RSA[..], &tagged(0x03, &bits)].concat())
}

/// DER: a tag, a length of two bytes, what it holds. Keys of 2,048 bits need no other length.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    [&[tag, 0x82, high, low], content].concat()
}

#[cfg(test)]
mod tests {
    use ring::signature::RSA_PKCS1_2048_8192_SHA256;

    use super::*;

    #[test]
    fn what_a_key_signs_is_verified_by_what_the_set_says() {
        let keys = Keys::new();
        let signature = keys.current().sign(b"text").unwrap();
        let set = keys.set();
        let number =
            |name: &str| URL_SAFE_NO_PAD.decode(set["keys"][0][name].as_str().unwrap()).unwrap();
        let public = RsaPublicKeyComponents { n: number("n"), e: number("e") };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, b"text", &signature).unwrap();
        assert!(public.verify(&RSA_PKCS1_2048_8192_SHA256, b"other", &signature).is_err());
    }

    #[test]
    fn a_key_is_published_once_it_signs_and_stays() {
        let mut keys = Keys::new();
        let ids = |keys: &Keys| {
            let set = keys.set();
            let ids = set["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["kid"].as_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(&keys), ["ins_stand_in_1"]);
        keys.rotate();
        assert_eq!(ids(&keys), ["ins_stand_in_2", "ins_stand_in_1"]);
        keys.rotate();
        assert_eq!(ids(&keys), ["ins_stand_in_1", "ins_stand_in_2"]);
    }
}
