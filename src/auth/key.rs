//! One public key and the algorithms that it is for (RFC 7518, section 3.1). A token is judged by the algorithms of its key, never the other way
//! round: no key of ours is a secret, so `none` and HMAC are names that no key has.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::Invalid;
use super::jwt::Jwt;

/// Bits of a modulus: less can be broken, more takes long to verify. What ring takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of an exponent; everybody's is 65537.
const EXPONENT_BYTES_MAX: usize = 4;

/// A key that can verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    material: Material,
    /// The one algorithm that it is for.
    algorithm: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Both without zeros in front.
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    /// An uncompressed point.
    P256([u8; 65]),
    P384([u8; 97]),
    Ed25519([u8; 32]),
}

/// A kind of RSA signature.
struct Rsa {
    name: &'static str,
    parameters: &'static RsaParameters,
}

/// The first is that of a key which does not say: every issuer has it, and nobody leaves another unsaid.
static RSA: [Rsa; 6] = [
    Rsa { name: "RS256", parameters: &RSA_PKCS1_2048_8192_SHA256 },
    Rsa { name: "RS384", parameters: &RSA_PKCS1_2048_8192_SHA384 },
    Rsa { name: "RS512", parameters: &RSA_PKCS1_2048_8192_SHA512 },
    Rsa { name: "PS256", parameters: &RSA_PSS_2048_8192_SHA256 },
    Rsa { name: "PS384", parameters: &RSA_PSS_2048_8192_SHA384 },
    Rsa { name: "PS512", parameters: &RSA_PSS_2048_8192_SHA512 },
];

/// Why something is no key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKey {
    #[error(
        "its algorithm is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, or not one of its type"
    )]
    Algorithm,
    #[error("its modulus has not 2048 to 8192 bits")]
    Modulus,
    #[error("its exponent is not an odd number from 3 on")]
    Exponent,
    #[error("its point has another length than its curve's")]
    Point,
}

impl Key {
    /// With big-endian numbers. `algorithm`: as the key says; `None`: RS256.
    pub(super) fn rsa(
        modulus: &[u8],
        exponent: &[u8],
        algorithm: Option<&str>,
    ) -> Result<Self, BadKey> {
        let named = RSA.iter().find(|known| algorithm.is_none_or(|name| known.name == name));
        let algorithm = named.ok_or(BadKey::Algorithm)?.name;
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits =
            modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) || modulus.last().is_none_or(|last| last % 2 == 0) {
            return Err(BadKey::Modulus);
        }
        let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
        if !is_odd || exponent == [1] || exponent.len() > EXPONENT_BYTES_MAX {
            return Err(BadKey::Exponent);
        }
        let material = Material::Rsa { modulus: modulus.into(), exponent: exponent.into() };
        Ok(Self { material, algorithm })
    }

    /// An uncompressed point of P-256.
    pub(super) fn p256(point: &[u8], algorithm: Option<&str>) -> Result<Self, BadKey> {
        let material = Material::P256(uncompressed(point)?);
        Self::only("ES256", algorithm, material)
    }

    /// An uncompressed point of P-384.
    pub(super) fn p384(point: &[u8], algorithm: Option<&str>) -> Result<Self, BadKey> {
        let material = Material::P384(uncompressed(point)?);
        Self::only("ES384", algorithm, material)
    }

    pub(super) fn ed25519(point: &[u8], algorithm: Option<&str>) -> Result<Self, BadKey> {
        let material = Material::Ed25519(point.try_into().map_err(|_| BadKey::Point)?);
        // RFC 9864 names it by its curve.
        Self::only("EdDSA", algorithm.filter(|name| *name != "Ed25519"), material)
    }

    fn only(ours: &'static str, named: Option<&str>, material: Material) -> Result<Self, BadKey> {
        if named.is_some_and(|named| named != ours) {
            return Err(BadKey::Algorithm);
        }
        Ok(Self { material, algorithm: ours })
    }

    /// Whether it is for this algorithm.
    pub(super) fn is_for(&self, algorithm: &str) -> bool {
        self.algorithm == algorithm
    }

    /// Whether it has signed the token, by the algorithm that it is for.
    pub(super) fn verify(&self, jwt: &Jwt<'_>) -> Result<(), Invalid> {
        if !self.is_for(&jwt.algorithm) {
            return Err(Invalid::Algorithm);
        }
        let (signed, signature) = (jwt.signed, &*jwt.signature);
        let elliptic = |algorithm: &'static EcdsaVerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(algorithm, point).verify(signed, signature)
        };
        let verified = match &self.material {
            Material::Rsa { modulus, exponent } => {
                let named = RSA.iter().find(|known| known.name == self.algorithm);
                let parameters = named.ok_or(Invalid::Algorithm)?.parameters;
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, signed, signature)
            }
            Material::P256(point) => elliptic(&ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => elliptic(&ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(signed, signature)
            }
        };
        verified.map_err(|_| Invalid::Signature)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// `0x04` and both coordinates (SEC 1, section 2.3.3).
fn uncompressed<const LENGTH: usize>(point: &[u8]) -> Result<[u8; LENGTH], BadKey> {
    let point: [u8; LENGTH] = point.try_into().map_err(|_| BadKey::Point)?;
    if point[0] == 4 { Ok(point) } else { Err(BadKey::Point) }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    };

    use super::*;

    /// A key of nobody, for tests.
    pub(in crate::auth) fn rsa_pair() -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(include_bytes!("../../tests/vectors/keys/rsa_1.pk8")).unwrap()
    }

    /// Its modulus and exponent.
    pub(in crate::auth) fn components() -> (Vec<u8>, Vec<u8>) {
        let components: RsaPublicKeyComponents<Vec<u8>> = rsa_pair().public().into();
        (components.n, components.e)
    }

    /// Header and claims, ready to be signed.
    pub(in crate::auth) fn unsigned(header: &str, claims: &str) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    /// The whole token.
    pub(in crate::auth) fn joined(unsigned: &str, signature: &[u8]) -> String {
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn rsa_signature(encoding: &'static dyn RsaEncoding, unsigned: &str) -> Vec<u8> {
        let pair = rsa_pair();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), unsigned.as_bytes(), &mut signature).unwrap();
        signature
    }

    fn verify(key: &Key, token: &str) -> Result<(), Invalid> {
        key.verify(&Jwt::take_apart(token).unwrap())
    }

    fn header(algorithm: &str) -> String {
        unsigned(&format!(r#"{{"alg":"{algorithm}"}}"#), "{}")
    }

    static RSA_ENCODINGS: [(&str, &dyn RsaEncoding); 6] = [
        ("RS256", &RSA_PKCS1_SHA256),
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS512", &RSA_PKCS1_SHA512),
        ("PS256", &RSA_PSS_SHA256),
        ("PS384", &RSA_PSS_SHA384),
        ("PS512", &RSA_PSS_SHA512),
    ];

    #[test]
    fn a3_each_rsa_key_verifies_by_its_own_algorithm_and_by_no_other() {
        let (modulus, exponent) = components();
        for (name, encoding) in RSA_ENCODINGS {
            let unsigned = header(name);
            let token = joined(&unsigned, &rsa_signature(encoding, &unsigned));
            for (other, _) in RSA_ENCODINGS {
                let key = Key::rsa(&modulus, &exponent, Some(other)).unwrap();
                let expected = if other == name { Ok(()) } else { Err(Invalid::Algorithm) };
                assert_eq!(verify(&key, &token), expected, "{name} by a key for {other}");
            }
        }
        let key = Key::rsa(&modulus, &exponent, None).unwrap();
        assert!(key.is_for("RS256"), "one that does not say is for RS256");
    }

    #[test]
    fn a3_keys_of_curves_verify_by_the_algorithm_of_their_curve() {
        let random = SystemRandom::new();
        for (name, signing, of) in [
            ("ES256", &ECDSA_P256_SHA256_FIXED_SIGNING, Key::p256 as fn(&[u8], Option<&str>) -> _),
            ("ES384", &ECDSA_P384_SHA384_FIXED_SIGNING, Key::p384),
        ] {
            let pair = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(signing, pair.as_ref(), &random).unwrap();
            let key: Key = of(pair.public_key().as_ref(), None).unwrap();
            let unsigned = header(name);
            let signature = pair.sign(&random, unsigned.as_bytes()).unwrap();
            let signature = signature.as_ref();
            assert_eq!(verify(&key, &joined(&unsigned, signature)), Ok(()), "{name}");
            // A13: zeros, a length that is not the curve's, and DER, which other formats use.
            let zeros = vec![0; signature.len()];
            let half = signature.len() / 2;
            let byte = |length: usize| u8::try_from(length).unwrap();
            let mut der = vec![0x30, byte(signature.len() + 4), 2, byte(half)];
            der.extend_from_slice(&signature[..half]);
            der.extend([2, byte(half)]);
            der.extend_from_slice(&signature[half..]);
            for wrong in [zeros.as_slice(), &signature[1..], &signature[..half], &der] {
                assert_eq!(verify(&key, &joined(&unsigned, wrong)), Err(Invalid::Signature));
            }
            for other in ["RS256", "ES512", "EdDSA"] {
                assert_eq!(of(pair.public_key().as_ref(), Some(other)), Err(BadKey::Algorithm));
            }
        }
        let pair = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        let unsigned = header("EdDSA");
        let signature = pair.sign(unsigned.as_bytes());
        for named in [None, Some("EdDSA"), Some("Ed25519")] {
            let key = Key::ed25519(pair.public_key().as_ref(), named).unwrap();
            assert_eq!(verify(&key, &joined(&unsigned, signature.as_ref())), Ok(()));
            assert_eq!(verify(&key, &joined(&unsigned, &[0; 64])), Err(Invalid::Signature));
        }
    }

    #[test]
    fn a13_an_rsa_signature_of_the_wrong_length_or_of_zeros_is_none() {
        let (modulus, exponent) = components();
        let key = Key::rsa(&modulus, &exponent, None).unwrap();
        let unsigned = header("RS256");
        let good = rsa_signature(&RSA_PKCS1_SHA256, &unsigned);
        assert_eq!(verify(&key, &joined(&unsigned, &good)), Ok(()));
        let mut longer = good.clone();
        longer.push(0);
        let mut flipped = good.clone();
        flipped[100] ^= 1;
        for wrong in [&good[1..], &good[..255], &longer, &[0; 256], &flipped, &[0xff; 256]] {
            assert_eq!(verify(&key, &joined(&unsigned, wrong)), Err(Invalid::Signature));
        }
    }

    #[test]
    fn a1_a2_no_key_is_for_none_or_for_a_shared_secret() {
        let (modulus, exponent) = components();
        for name in ["none", "None", "nOnE", "NONE", "", "HS256", "HS512", "rs256"] {
            assert_eq!(Key::rsa(&modulus, &exponent, Some(name)), Err(BadKey::Algorithm), "{name}");
            let key = Key::rsa(&modulus, &exponent, None).unwrap();
            assert_eq!(verify(&key, &joined(&header(name), &[0; 256])), Err(Invalid::Algorithm));
        }
    }

    #[test]
    fn a16_a_key_that_is_weak_is_no_key() {
        let (modulus, exponent) = components();
        let rsa = |modulus: &[u8], exponent: &[u8]| Key::rsa(modulus, exponent, None);
        assert_eq!(rsa(&modulus[..64], &exponent), Err(BadKey::Modulus));
        assert_eq!(rsa(&[], &exponent), Err(BadKey::Modulus));
        assert_eq!(rsa(&[0xff; 1025], &exponent), Err(BadKey::Modulus));
        let mut even = modulus.clone();
        even[255] &= 0xfe;
        assert_eq!(rsa(&even, &exponent), Err(BadKey::Modulus));
        for wrong in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0], &[1; 5]] {
            assert_eq!(rsa(&modulus, wrong), Err(BadKey::Exponent), "{wrong:?}");
        }
        let padded = [&[0, 0], modulus.as_slice()].concat();
        assert_eq!(rsa(&padded, &[0, 1, 0, 1]), rsa(&modulus, &exponent));
        assert_eq!(Key::p256(&[4; 64], None), Err(BadKey::Point));
        assert_eq!(Key::p256(&[2; 65], None), Err(BadKey::Point));
        assert_eq!(Key::ed25519(&[0; 31], None), Err(BadKey::Point));
    }
}
