//! A key set as an issuer publishes it (RFC 7517, section 5). A key that is not for verifying, too weak or unknown is passed over and named;
//! the others work. A set without any usable key is no set, so an issuer's bad day does not replace a good one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::{BadKey, Key};

/// Keys of one set. Issuers have two to five; whoever has a hundred is no issuer of ours.
const KEYS_MAX: usize = 100;

/// The usable keys, in the order of the set.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<(Option<Box<str>>, Key)>,
    /// What was passed over, and why; for the log.
    pub(super) passed_over: Vec<String>,
}

/// Why a text is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSet {
    #[error("it is no JSON object with a list of `keys`")]
    Form,
    #[error("it has {0} keys, and {KEYS_MAX} are taken at most")]
    TooMany(usize),
    #[error("none of its keys can be used: {0}")]
    NoneUsable(String),
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The index of a key.
    Key(usize),
    /// Perhaps one that is newer than this set.
    Unknown,
    /// No name, and several keys.
    Unnamed,
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

/// What of a key is looked at. `x5c`, `x5u` and the like are not.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Why a key is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum PassedOver {
    #[error("it is no key as JSON Web Keys are")]
    Form,
    #[error("it is not for signatures")]
    Usage,
    #[error("its private part is published; its owner must replace it")]
    Private,
    #[error("its type or curve is unknown")]
    Type,
    #[error("another key before it has the same `kid`")]
    Twice,
    #[error("{0}")]
    Bad(#[from] BadKey),
}

impl KeySet {
    pub(super) fn read(text: &[u8]) -> Result<Self, BadSet> {
        let Written { keys: written } = serde_json::from_slice(text).map_err(|_| BadSet::Form)?;
        if written.len() > KEYS_MAX {
            return Err(BadSet::TooMany(written.len()));
        }
        let mut set = Self { keys: Vec::new(), passed_over: Vec::new() };
        for (number, value) in (1..).zip(written) {
            if let Err(why) = set.add(value) {
                set.passed_over.push(format!("key {number}: {why}"));
            }
        }
        match set.passed_over.is_empty() {
            _ if !set.keys.is_empty() => Ok(set),
            true => Err(BadSet::NoneUsable("it has none".to_owned())),
            false => Err(BadSet::NoneUsable(set.passed_over.join("; "))),
        }
    }

    fn add(&mut self, value: Value) -> Result<(), PassedOver> {
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| !value[*part].is_null())
        {
            return Err(PassedOver::Private);
        }
        let jwk: Jwk = serde_json::from_value(value).map_err(|_| PassedOver::Form)?;
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if jwk.usage.as_ref().is_some_and(|usage| usage != "sig")
            || !jwk.key_ops.as_ref().is_none_or(verifies)
        {
            return Err(PassedOver::Usage);
        }
        let key = jwk.key()?;
        let kid: Option<Box<str>> = jwk.kid.map(Into::into);
        if kid.is_some() && self.keys.iter().any(|(known, _)| *known == kid) {
            return Err(PassedOver::Twice);
        }
        self.keys.push((kid, key));
        Ok(())
    }

    /// The key of that name; without a name the only one.
    pub(super) fn find(&self, kid: Option<&str>) -> Named {
        let named = |(known, _): &(Option<Box<str>>, Key)| known.as_deref() == kid;
        match (kid, self.keys.len()) {
            (None, 1) => Named::Key(0),
            (None, _) => Named::Unnamed,
            (Some(_), _) => self.keys.iter().position(named).map_or(Named::Unknown, Named::Key),
        }
    }

    /// One that `find` has found in this set.
    pub(super) fn key(&self, index: usize) -> &Key {
        &self.keys[index].1
    }
}

impl Jwk {
    fn key(&self) -> Result<Key, PassedOver> {
        let algorithm = self.alg.as_deref();
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::rsa(&bytes(&self.n)?, &bytes(&self.e)?, algorithm),
            ("EC", Some("P-256")) => Key::p256(&self.point()?, algorithm),
            ("EC", Some("P-384")) => Key::p384(&self.point()?, algorithm),
            ("OKP", Some("Ed25519")) => Key::ed25519(&bytes(&self.x)?, algorithm),
            _ => return Err(PassedOver::Type),
        };
        Ok(key?)
    }

    fn point(&self) -> Result<Vec<u8>, PassedOver> {
        Ok([&[4], &*bytes(&self.x)?, &*bytes(&self.y)?].concat())
    }
}

fn bytes(part: &Option<String>) -> Result<Vec<u8>, PassedOver> {
    let part = part.as_ref().ok_or(PassedOver::Form)?;
    URL_SAFE_NO_PAD.decode(part).map_err(|_| PassedOver::Form)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::key::tests::components;
    use super::*;

    /// A good key as an issuer publishes it.
    pub(in crate::auth) fn jwk(kid: &str) -> Value {
        let (n, e) = components();
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e })
    }

    fn with(changes: Value) -> Value {
        let (mut key, Value::Object(changes)) = (jwk("changed"), changes) else { panic!() };
        key.as_object_mut().unwrap().extend(changes);
        key.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        key
    }

    fn set(keys: &[Value]) -> Result<KeySet, BadSet> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a16_keys_that_cannot_be_used_are_passed_over_and_the_others_work() {
        let small = URL_SAFE_NO_PAD.encode([0xff; 64]);
        let bad = [
            (with(json!({ "use": "enc" })), "not for signatures"),
            (with(json!({ "key_ops": ["encrypt"] })), "not for signatures"),
            (with(json!({ "n": small })), "2048 to 8192 bits"),
            (with(json!({ "e": "AQ" })), "exponent"),
            (with(json!({ "kty": "XYZ" })), "type or curve"),
            (with(json!({ "kty": "oct", "k": "AAAA" })), "private"),
            (with(json!({ "kty": null })), "no key as"),
            (with(json!({ "kid": "good" })), "same `kid`"),
            (with(json!({ "d": "AAAA" })), "private part is published"),
            (with(json!({ "alg": "HS256" })), "algorithm"),
            (with(json!({ "alg": "RSA-OAEP" })), "algorithm"),
            (with(json!({ "n": "not base64url!" })), "no key as"),
            (with(json!({ "kty": "EC", "crv": "P-521", "alg": "ES512" })), "type or curve"),
            (json!("text"), "no key as"),
        ];
        for (key, why) in bad {
            let read = set(&[jwk("good"), key.clone(), jwk("other")]).unwrap();
            assert!(
                matches!(read.passed_over.as_slice(), [said] if said.contains(why)),
                "{read:?}"
            );
            assert!(matches!(read.find(Some("good")), Named::Key(0)));
            assert!(matches!(read.find(Some("other")), Named::Key(1)));
            assert_eq!(read.find(Some("changed")), Named::Unknown);
        }
        let fine = [json!({ "key_ops": ["verify"] }), json!({ "use": null, "alg": null })];
        for key in fine {
            assert!(set(&[with(key)]).unwrap().passed_over.is_empty());
        }
    }

    #[test]
    fn a15_what_is_no_set_or_has_no_usable_key_is_none() {
        let html = "<!doctype html><title>Not here</title>";
        for text in ["", "{}", "[]", "null", html, r#"{"keys":{}}"#, r#"{"keys":null}"#] {
            assert_eq!(KeySet::read(text.as_bytes()).unwrap_err(), BadSet::Form, "{text}");
        }
        let none = "none of its keys can be used: it has none";
        assert_eq!(set(&[]).unwrap_err().to_string(), none);
        assert!(matches!(set(&[with(json!({ "use": "enc" }))]), Err(BadSet::NoneUsable(_))));
        let many: Vec<Value> = (0..500).map(|number| jwk(&number.to_string())).collect();
        assert_eq!(set(&many).unwrap_err(), BadSet::TooMany(500));
        assert!(set(&many[..KEYS_MAX]).is_ok());
    }

    #[test]
    fn a4_a_name_leads_to_its_key_and_no_name_only_where_there_is_one_key() {
        let one = set(&[jwk("a")]).unwrap();
        assert!(matches!(one.find(None), Named::Key(0)));
        assert!(matches!(one.find(Some("a")), Named::Key(0)));
        assert_eq!(one.find(Some("b")), Named::Unknown);
        let two = set(&[jwk("a"), with(json!({ "kid": null }))]).unwrap();
        assert_eq!(two.find(None), Named::Unnamed);
        for kid in ["", "A", "../../dev/null", "' or 1=1 --"] {
            assert_eq!(two.find(Some(kid)), Named::Unknown, "{kid}");
        }
    }
}
