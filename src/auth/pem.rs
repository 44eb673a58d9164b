//! A public key as PEM (RFC 7468): `PUBLIC KEY`, which says its type (RFC 5480, RFC 8410), or `RSA PUBLIC KEY` (RFC 8017, appendix A.1.1). Variables
//! often hold it on one line, with `\n` in two characters for each line break. Nothing of the text is ever repeated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{BadKey, Key};
use crate::config::Secret;

/// Object identifiers, as DER has them.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Tags of DER (X.690).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// Why a text is no public key, as the end of a sentence that begins with the variable's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("is no public key in PEM; it begins with `-----BEGIN PUBLIC KEY-----`")]
    NotPem,
    #[error("holds a private key, which belongs to the issuer alone; take the public key")]
    Private,
    #[error("holds a certificate; take the public key that is in it")]
    Certificate,
    #[error("holds a damaged key; copy it again, with all its lines")]
    Damaged,
    #[error("holds a key of a type other than RSA, P-256, P-384 and Ed25519")]
    Type,
    #[error("holds a key that is not used: {0}")]
    Bad(#[from] BadKey),
}

/// The key that a variable holds.
pub(super) fn key(secret: &Secret) -> Result<Key, Flaw> {
    read(secret.expose())
}

fn read(text: &str) -> Result<Key, Flaw> {
    let text = text.trim().replace("\\n", "\n");
    let rest = text.strip_prefix("-----BEGIN ").ok_or(Flaw::NotPem)?;
    let (label, rest) = rest.split_once("-----").ok_or(Flaw::NotPem)?;
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        "CERTIFICATE" => return Err(Flaw::Certificate),
        private if private.ends_with("PRIVATE KEY") => return Err(Flaw::Private),
        _ => return Err(Flaw::NotPem),
    }
    let end = format!("-----END {label}-----");
    let body = rest.trim_end().strip_suffix(&*end).ok_or(Flaw::Damaged)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| Flaw::Damaged)?;
    if label == "RSA PUBLIC KEY" { rsa(&der) } else { typed(&der) }
}

/// A SubjectPublicKeyInfo.
fn typed(der: &[u8]) -> Result<Key, Flaw> {
    let mut info = whole(der, SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    let identifier = take(&mut algorithm, IDENTIFIER)?;
    let bits = take(&mut info, BIT_STRING)?;
    // A whole number of bytes: none of the last one's bits are unused.
    let bits = bits.strip_prefix(&[0]).filter(|_| info.is_empty()).ok_or(Flaw::Damaged)?;
    match identifier {
        RSA => rsa(bits),
        ELLIPTIC => match take(&mut algorithm, IDENTIFIER)? {
            P256 => Ok(Key::p256(bits, None)?),
            P384 => Ok(Key::p384(bits, None)?),
            _ => Err(Flaw::Type),
        },
        ED25519 => Ok(Key::ed25519(bits, None)?),
        _ => Err(Flaw::Type),
    }
}

/// An RSAPublicKey.
fn rsa(der: &[u8]) -> Result<Key, Flaw> {
    let mut numbers = whole(der, SEQUENCE)?;
    let modulus = take(&mut numbers, INTEGER)?;
    let exponent = take(&mut numbers, INTEGER)?;
    if numbers.is_empty() { Ok(Key::rsa(modulus, exponent, None)?) } else { Err(Flaw::Damaged) }
}

/// The content of the one element that these bytes are.
fn whole(der: &[u8], tag: u8) -> Result<&[u8], Flaw> {
    let mut rest = der;
    let content = take(&mut rest, tag)?;
    if rest.is_empty() { Ok(content) } else { Err(Flaw::Damaged) }
}

/// The content of the next element, which must have this tag; keys are shorter than 64 KiB.
fn take<'d>(rest: &mut &'d [u8], tag: u8) -> Result<&'d [u8], Flaw> {
    let (length, after): (usize, &'d [u8]) = match *rest {
        [found, ..] if *found != tag => return Err(Flaw::Damaged),
        [_, short @ 0..=0x7f, after @ ..] => ((*short).into(), after),
        [_, 0x81, long, after @ ..] => ((*long).into(), after),
        [_, 0x82, high, low, after @ ..] => (u16::from_be_bytes([*high, *low]).into(), after),
        _ => return Err(Flaw::Damaged),
    };
    let (content, after) = after.split_at_checked(length).ok_or(Flaw::Damaged)?;
    *rest = after;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::tests::components;
    use super::*;

    const PEM: &str = include_str!("../../tests/vectors/keys/rsa_1.pub.pem");
    const PKCS1: &str = include_str!("../../tests/vectors/keys/rsa_1.pkcs1.pem");
    const CURVE_256: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPpZLbj+dkVr99A/2MdKRWBuL3S8B\nQYCLvzYyugF/wAPOEFRyONr6uY9z7Hr9a7ZidEtEoAbA53L5HEaPYp47fA==\n-----END PUBLIC KEY-----";
    const EDWARDS: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAv/+MBjJwLkuiuMYwphuSRsp1/4VrNvbE1gmSM5NdhM8=\n-----END PUBLIC KEY-----";

    #[test]
    fn a_public_key_is_read_as_openssl_writes_it_and_on_one_line() {
        let (modulus, exponent) = components();
        let expected = Key::rsa(&modulus, &exponent, None).unwrap();
        let variants = [
            PEM.to_owned(),
            PKCS1.to_owned(),
            PEM.trim().replace('\n', "\\n"),
            PEM.replace('\n', "\r\n"),
            PEM.replace('\n', " "),
            PEM.replace('\n', ""),
        ];
        for text in variants {
            assert_eq!(read(&text).as_ref(), Ok(&expected), "{text}");
        }
        assert!(read(CURVE_256).unwrap().is_for("ES256"));
        assert!(read(EDWARDS).unwrap().is_for("EdDSA"));
    }

    #[test]
    fn what_is_no_public_key_is_told_apart() {
        let check = |text: &str, expected: Flaw| assert_eq!(read(text), Err(expected), "{text}");
        check("", Flaw::NotPem);
        check("MFkw", Flaw::NotPem);
        check("-----BEGIN PUBLIC KEY", Flaw::NotPem);
        check("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", Flaw::Private);
        check("-----BEGIN RSA PRIVATE KEY-----\nAAAA", Flaw::Private);
        check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", Flaw::Certificate);
        check(PEM.lines().next().unwrap(), Flaw::Damaged);
        check(&PEM.replacen("MII", "MI!", 1), Flaw::Damaged);
        let shorter: Vec<&str> =
            PEM.lines().enumerate().filter(|(line, _)| *line != 3).map(|(_, line)| line).collect();
        check(&shorter.join("\n"), Flaw::Damaged);
        let x25519 = EDWARDS.replace("MCowBQYDK2Vw", "MCowBQYDK2Vu");
        check(&x25519, Flaw::Type);
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..300_usize, byte: u8) {
            _ = typed(&bytes);
            _ = rsa(&bytes);
            let good = PEM.lines().filter(|line| !line.starts_with('-')).collect::<String>();
            let mut good = STANDARD.decode(good).unwrap();
            let index = at.min(good.len() - 1);
            good[index] = byte;
            _ = typed(&good);
        }
    }
}
