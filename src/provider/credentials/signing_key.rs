//! A private key that signs assertions (RFC 7519): RS256 with an RSA key, ES256 with a P-256 key. PEM as GitHub, Google and openssl write it; a
//! line break may be written as `\n`, since a variable often cannot hold one.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};

use super::error::{CredentialsError, KeyFault};
use crate::config::Secret;

/// A key, ready to sign.
pub(super) struct SigningKey {
    variable: Box<str>,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    pub(super) fn new(secret: &Secret) -> Result<Self, CredentialsError> {
        let pair = pair(secret.expose()).map_err(|fault| no_key(&secret.variable, fault))?;
        Ok(Self { variable: secret.variable.clone(), pair })
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &serde_json::Value) -> Result<String, CredentialsError> {
        let algorithm = match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        };
        let header = serde_json::json!({ "alg": algorithm, "typ": "JWT" });
        let encoded = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(claims));
        let signature = self.signature(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, CredentialsError> {
        // A signature needs chance that nobody can move, not even a test.
        let chance = SystemRandom::new();
        let failed = |_| no_key(&self.variable, KeyFault::Signing);
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &chance, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Pair::P256(pair) => Ok(pair.sign(&chance, message).map_err(failed)?.as_ref().to_vec()),
        }
    }
}

fn no_key(variable: &str, fault: KeyFault) -> CredentialsError {
    CredentialsError::NoKey { variable: variable.into(), fault }
}

fn pair(pem: &str) -> Result<Pair, KeyFault> {
    let der = der(pem).ok_or(KeyFault::NotPem)?;
    // PKCS#8, or PKCS#1 as GitHub gives it.
    if let Ok(pair) = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der)) {
        return Ok(Pair::Rsa(Box::new(pair)));
    }
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
        .map(|pair| Pair::P256(Box::new(pair)))
        .map_err(|_| KeyFault::Unknown)
}

/// What stands between the labels of the first private key (RFC 7468).
fn der(pem: &str) -> Option<Vec<u8>> {
    const LABEL_END: &str = "PRIVATE KEY-----";
    let (_, from) = pem.split_once("-----BEGIN ")?;
    let (_, from) = from.split_once(LABEL_END)?;
    let (inside, _) = from.split_once("-----END ")?;
    let inside: String = inside.replace("\\n", "").split_whitespace().collect();
    STANDARD.decode(inside).ok()
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const RSA: &str = include_str!("keys/rsa.pem");
    const RSA_PKCS1: &str = include_str!("keys/rsa_pkcs1.pem");
    const P256: &str = include_str!("keys/p256.pem");

    fn key(pem: &str) -> Result<SigningKey, CredentialsError> {
        SigningKey::new(&Secret::new("KEY", pem.to_owned()))
    }

    #[test]
    fn a_key_signs_in_every_form_in_which_it_is_handed_out() {
        let public = include_bytes!("keys/rsa.public.der");
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
        for pem in [
            RSA.to_owned(),
            RSA_PKCS1.to_owned(),
            RSA.replace('\n', "\\n"),
            RSA.replace('\n', "\r\n"),
        ] {
            let token = key(&pem).unwrap().sign(&serde_json::json!({ "iss": "é" })).unwrap();
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            public.verify(signed.as_bytes(), &signature).unwrap();
            let (header, claims) = signed.split_once('.').unwrap();
            assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"RS256","typ":"JWT"}"#);
            assert_eq!(URL_SAFE_NO_PAD.decode(claims).unwrap(), r#"{"iss":"é"}"#.as_bytes());
        }
        let token = key(P256).unwrap().sign(&serde_json::json!({})).unwrap();
        assert!(token.starts_with(&URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"JWT"}"#)));
    }

    #[test]
    fn what_is_no_key_is_told_by_its_variable_alone() {
        let check = |pem: &str, fault| {
            let Err(error) = key(pem) else { panic!("this is a key: {pem}") };
            assert_eq!(error, no_key("KEY", fault));
            assert_eq!(error.code(), "CONFIGURATION_ERROR");
        };
        let label = |inside: &str| {
            format!("-----BEGIN PRIVATE KEY-----\n{inside}\n-----END PRIVATE KEY-----\n")
        };
        check("", KeyFault::NotPem);
        check("canary", KeyFault::NotPem);
        check(&RSA[..400], KeyFault::NotPem);
        check(&label("é"), KeyFault::NotPem);
        check(&label("Y2FuYXJ5"), KeyFault::Unknown);
        check(&label(""), KeyFault::Unknown);
    }
}
