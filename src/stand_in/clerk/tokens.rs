//! Session tokens (<https://clerk.com/docs/guides/sessions/session-tokens>), right ones and, for tests of whoever verifies them, wrong ones: with any
//! claim changed or left out, unsigned, or signed by a trick.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::ids::Ids;
use super::keys::{Key, Keys};
use crate::clock::Millis;

/// Seconds that a token lives, as Clerk's do.
const LIFE: i64 = 60;
/// Seconds by which a token is valid before it was issued.
const LEEWAY: i64 = 10;

/// What `POST /_stand_in/token` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::stand_in) struct Order {
    /// The user; `user_ada` where nothing is said.
    user_id: Option<String>,
    session_id: Option<String>,
    /// Where the user's browser is, as the claim `azp`.
    azp: Option<String>,
    /// Seconds from now; negative ones have passed.
    expires_in: Option<i64>,
    /// In place of the claims that a token has, and beside them; null leaves one out.
    claims: Map<String, Value>,
    /// The same for the token's header. `"alg": "none"` is unsigned, `"HS256"` signed with the public key as if it were a shared one.
    header: Map<String, Value>,
    /// One bit of the signature is changed.
    bad_signature: bool,
}

impl Order {
    /// A right token of one session.
    pub(super) fn for_session(user: &Value, session: &str) -> Self {
        let user_id = user.as_str().map(str::to_owned);
        Self { user_id, session_id: Some(session.to_owned()), ..Self::default() }
    }
}

/// The token, and the public key as PEM for those who verify without a network.
pub(super) fn issue(
    keys: &Keys,
    issuer: &str,
    order: &Order,
    ids: &mut Ids,
    now: Millis,
) -> Result<Value, String> {
    let key = keys.current();
    let seconds = now.0.div_euclid(1000);
    let session = order.session_id.clone().unwrap_or_else(|| ids.next("sess_", 27));
    let mut claims = json!({
        "iss": issuer,
        "sub": order.user_id.as_deref().unwrap_or("user_ada"),
        "sid": session,
        "iat": seconds,
        "nbf": seconds - LEEWAY,
        "exp": seconds + order.expires_in.unwrap_or(LIFE),
        "jti": ids.hex("", 20),
        "sts": "active",
        "fva": [0, -1],
        "v": 2,
    });
    if let Some(azp) = &order.azp {
        claims["azp"] = azp.as_str().into();
    }
    change(&mut claims, &order.claims);
    let mut header =
        json!({ "alg": "RS256", "cat": "cl_B7d4PD111AAA", "kid": key.id(), "typ": "JWT" });
    change(&mut header, &order.header);
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let mut signature = sign(key, header["alg"].as_str(), signed.as_bytes())?;
    if order.bad_signature
        && let Some(byte) = signature.first_mut()
    {
        *byte ^= 1;
    }
    let token = format!("{signed}.{}", encode(signature));
    Ok(json!({ "token": token, "claims": claims, "public_key": key.to_pem() }))
}

fn change(object: &mut Value, changes: &Map<String, Value>) {
    let Value::Object(map) = object else { return };
    for (name, value) in changes {
        if value.is_null() {
            map.remove(name);
        } else {
            map.insert(name.clone(), value.clone());
        }
    }
}

fn sign(key: &Key, algorithm: Option<&str>, signed: &[u8]) -> Result<Vec<u8>, String> {
    match algorithm {
        Some("none") => Ok(Vec::new()),
        Some("HS256") => {
            let shared = hmac::Key::new(hmac::HMAC_SHA256, key.to_pem().as_bytes());
            Ok(hmac::sign(&shared, signed).as_ref().to_vec())
        }
        // Whatever else the header claims, there is one way to sign.
        _ => key.sign(signed).ok_or_else(|| "the token could not be signed".to_owned()),
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(order: &str) -> (Value, Value, String) {
        let order: Order = serde_json::from_str(order).unwrap();
        let now = Millis(1_700_000_000_000);
        let issued =
            issue(&Keys::new(), "http://localhost", &order, &mut Ids::new(1), now).unwrap();
        let token = issued["token"].as_str().unwrap().to_owned();
        let part = |index: usize| {
            let text = token.split('.').nth(index).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        (part(0), part(1), token.rsplit('.').next().unwrap().to_owned())
    }

    #[test]
    fn a_token_is_as_it_was_ordered() {
        let (header, claims, _) = issued("{}");
        assert_eq!(header["alg"], "RS256");
        assert_eq!(
            (&claims["sub"], &claims["iss"]),
            (&json!("user_ada"), &json!("http://localhost"))
        );
        assert_eq!(
            (&claims["nbf"], &claims["exp"]),
            (&json!(1_699_999_990), &json!(1_700_000_060))
        );
        let (_, claims, _) = issued(
            r#"{ "user_id": "u", "azp": "http://a", "expires_in": -5, "claims": { "email": "a@b", "sid": null } }"#,
        );
        assert_eq!(
            (&claims["sub"], &claims["azp"], &claims["exp"]),
            (&json!("u"), &json!("http://a"), &json!(1_699_999_995))
        );
        assert_eq!((&claims["email"], claims.get("sid")), (&json!("a@b"), None));
    }

    #[test]
    fn wrong_tokens_are_wrong_as_ordered() {
        let right = issued("{}").2;
        assert_ne!(issued(r#"{ "bad_signature": true }"#).2, right);
        let (header, _, signature) = issued(r#"{ "header": { "alg": "none", "kid": null } }"#);
        assert_eq!((header.get("kid"), signature.as_str()), (None, ""));
        assert_eq!(issued(r#"{ "header": { "alg": "HS256" } }"#).2.len(), 43);
    }
}
